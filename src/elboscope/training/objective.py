r"""Objectives as settings: which bound, and how its weight moves with training time.

Each is a frozen dataclass called as ``objective(model, x, epoch) -> Bound``. It joins a function
of :mod:`elboscope.objectives`, where the formula lives, to a schedule. The reported value is
always a bound at β = 1, also where the loss weighs the KL otherwise.
"""

from __future__ import annotations

__all__ = [
    "ELBO",
    "AnnealedEntropy",
    "BetaELBO",
    "FreeBits",
    "KLWeight",
    "Objective",
]

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Literal

from jaxtyping import Float
from torch import Tensor

from elboscope import objectives
from elboscope.core import Bound, InputError, LatentVariableModel

from .schedules import cyclical, entropy_annealing, linear_warm_up


class Objective(ABC):
    """What training maximises, at a time in epochs."""

    @abstractmethod
    def __call__(self, model: LatentVariableModel, x: Float[Tensor, "B *X"], epoch: float) -> Bound:
        """Returns the bound per datapoint and the loss to follow."""

    def weight(self, epoch: float) -> float:
        """Returns the weight in force (β, λ, the KL's weight): 1 for a plain bound."""
        return 1.0

    def settled(self, epoch: float) -> bool:
        """Whether warm-up is over, so that weights may be selected by their held-out bound."""
        return True


@dataclass(frozen=True)
class ELBO(Objective):
    """The evidence lower bound.

    Args:
        analytic_kl: Use the closed form of KL(q(z|x) ‖ p(z)); else everything is sampled, as
            a posterior or prior without one requires.

    Example:
        >>> ELBO().weight(3.0)
        1.0
    """

    analytic_kl: bool = True

    def __call__(self, model: LatentVariableModel, x: Float[Tensor, "B *X"], epoch: float) -> Bound:
        """Returns the ELBO."""
        bound = objectives.elbo_analytic_kl if self.analytic_kl else objectives.elbo
        return bound(model, x)


@dataclass(frozen=True)
class BetaELBO(Objective):
    r"""E log p(x|z) − β·KL, with β constant, warmed up from 0, or cyclical.

    Args:
        beta: β of Higgins et al., multiplying the KL (some papers use its reciprocal).
        warm_up_epochs: Epochs of a linear rise from 0 to β; 0: none.
        cycle_epochs: Length of one cycle, half of it rising; 0: no cycles.
        analytic_kl: Use the closed form of KL(q(z|x) ‖ p(z)); else it is sampled, as a flow needs.

    References:
        | beta-VAE (Higgins et al., 2017), ICLR
        | Cyclical Annealing Schedule (Fu et al., 2019), arXiv 1903.10145

    Example:
        >>> BetaELBO(warm_up_epochs=10.0).weight(5.0), BetaELBO(cycle_epochs=10.0).weight(12.5)
        (0.5, 0.5)
    """

    beta: float = 1.0
    warm_up_epochs: float = 0.0
    cycle_epochs: float = 0.0
    analytic_kl: bool = True

    def __post_init__(self) -> None:
        _require_nonnegative(beta=self.beta, warm_up_epochs=self.warm_up_epochs)
        if self.warm_up_epochs and self.cycle_epochs:
            raise InputError(
                "objective",
                expected="warm_up_epochs or cycle_epochs",
                got="both",
                do="A cycle begins with a warm-up of its own.",
            )

    def __call__(self, model: LatentVariableModel, x: Float[Tensor, "B *X"], epoch: float) -> Bound:
        """Returns the ELBO, and the β-weighted loss."""
        kl: Literal["analytic", "sampled"] = "analytic" if self.analytic_kl else "sampled"
        return objectives.beta_elbo(model, x, self.weight(epoch), kl=kl)

    def weight(self, epoch: float) -> float:
        """Returns β at this time."""
        if self.cycle_epochs:
            return cyclical(epoch, self.cycle_epochs, end=self.beta)
        return linear_warm_up(epoch, self.warm_up_epochs, end=self.beta)

    def settled(self, epoch: float) -> bool:
        """Whether β has reached its final value (that of a plateau, with cycles)."""
        return self.weight(epoch) >= self.beta


@dataclass(frozen=True)
class KLWeight(Objective):
    r"""kl_weight · KL + squared error, as many programs write it, with what it implies.

    With the error summed over pixels this is an ELBO of a Gaussian decoder of variance
    :math:`\sigma^2 = w/2`; with the mean over D pixels, of :math:`wD/2`.

    Args:
        kl_weight: w.
        reduction: "sum" or "mean" of the squared error over a datapoint's D values.

    Example:
        >>> KLWeight(0.01, "mean").implied_variance(784)
        3.92
    """

    kl_weight: float = 1.0
    reduction: Literal["sum", "mean"] = "sum"

    def __post_init__(self) -> None:
        _require_nonnegative(kl_weight=self.kl_weight)

    def __call__(self, model: LatentVariableModel, x: Float[Tensor, "B *X"], epoch: float) -> Bound:
        """Returns the ELBO at the implied variance, and the weighted loss."""
        return objectives.kl_weighted(model, x, self.kl_weight, self.reduction)

    def weight(self, epoch: float) -> float:
        """Returns the KL's weight."""
        return self.kl_weight

    def implied_variance(self, num_values: int) -> float:
        """Returns σ² of the Gaussian decoder for which the loss is an ELBO.

        Args:
            num_values: D, the values of one datapoint.
        """
        return objectives.implied_variance(self.kl_weight, self.reduction, num_values)


@dataclass(frozen=True)
class FreeBits(Objective):
    """The ELBO, with each latent unit's KL counted as no less than a few free nats.

    Args:
        nats: λ of Kingma et al., per unit.

    References:
        | Improving Variational Inference with IAF (Kingma et al., 2016), arXiv 1606.04934

    Example:
        >>> FreeBits(0.25).settled(0.0)
        True
    """

    nats: float = 0.25

    def __post_init__(self) -> None:
        _require_nonnegative(nats=self.nats)

    def __call__(self, model: LatentVariableModel, x: Float[Tensor, "B *X"], epoch: float) -> Bound:
        """Returns the ELBO with its unclamped KL, and the clamped loss."""
        return objectives.free_bits(model, x, self.nats)


@dataclass(frozen=True)
class AnnealedEntropy(Objective):
    r"""E[log p(x, z) − λ log q(z|x)], with λ = min(1, epoch/epochs) in steps of an epoch.

    Args:
        epochs: Epochs until λ = 1.

    References:
        | Inference Suboptimality in VAEs (Cremer et al., 2018), arXiv 1801.03558

    Example:
        >>> AnnealedEntropy(400.0).weight(0.5)
        0.0025
    """

    epochs: float = 100.0

    def __post_init__(self) -> None:
        _require_nonnegative(epochs=self.epochs)

    def __call__(self, model: LatentVariableModel, x: Float[Tensor, "B *X"], epoch: float) -> Bound:
        """Returns the ELBO, and the annealed loss."""
        return objectives.annealed_entropy(model, x, self.weight(epoch))

    def weight(self, epoch: float) -> float:
        """Returns λ."""
        return entropy_annealing(epoch, self.epochs)

    def settled(self, epoch: float) -> bool:
        """Whether λ = 1."""
        return self.weight(epoch) >= 1.0


def _require_nonnegative(**values: float) -> None:
    for name, value in values.items():
        if not (value >= 0 and math.isfinite(value)):
            raise InputError(name, expected="a finite number ≥ 0", got=repr(value))
