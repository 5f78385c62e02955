r"""Objectives as settings: which bound, and how its weight moves with training time.

Each is a frozen dataclass called as ``objective(model, x, epoch) -> Bound``. It joins a function
of :mod:`elboscope.objectives`, where the formula lives, to a schedule. The reported value is
always a bound at β = 1, also where the loss weighs the KL otherwise.
"""

from __future__ import annotations

__all__ = [
    "CIWAE",
    "ELBO",
    "IWAE",
    "MIWAE",
    "PIWAE",
    "AnnealedEntropy",
    "BetaELBO",
    "BetaTCVAE",
    "DReG",
    "FreeBits",
    "KLWeight",
    "Objective",
    "ScoreFunction",
    "StickingTheLanding",
    "WakePhase",
]

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Literal

from jaxtyping import Float
from torch import Tensor

from elboscope import objectives
from elboscope.core import Bound, InputError, LatentVariableModel
from elboscope.objectives import MinibatchEstimator

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


# Importance-weighted objectives as settings: K samples, M groups, and which gradient follows.
#
# Each is :mod:`elboscope.objectives`' function of the same meaning with its counts filled in.
# What is logged is the bound, whatever surrogate the encoder descends.


@dataclass(frozen=True)
class IWAE(Objective):
    """The importance-weighted bound.

    Args:
        num_samples: K.

    References:
        | Importance Weighted Autoencoders (Burda et al., 2016), arXiv 1509.00519

    Example:
        >>> IWAE(50).weight(0.0)
        1.0
    """

    num_samples: int = 5

    def __post_init__(self) -> None:
        _require_counts(num_samples=self.num_samples)

    def __call__(self, model: LatentVariableModel, x: Float[Tensor, "B *X"], epoch: float) -> Bound:
        """Returns the bound of K samples."""
        return objectives.iwae(model, x, self.num_samples)


@dataclass(frozen=True)
class MIWAE(Objective):
    """The mean of M importance-weighted bounds of K samples each.

    Args:
        num_outer: M.
        num_samples: K.

    References:
        | Tighter Variational Bounds are Not Necessarily Better (Rainforth et al., 2018),
          arXiv 1802.04537

    Example:
        >>> MIWAE(num_outer=8, num_samples=8).settled(0.0)
        True
    """

    num_outer: int = 8
    num_samples: int = 8

    def __post_init__(self) -> None:
        _require_counts(num_outer=self.num_outer, num_samples=self.num_samples)

    def __call__(self, model: LatentVariableModel, x: Float[Tensor, "B *X"], epoch: float) -> Bound:
        """Returns the mean of M bounds."""
        return objectives.miwae(model, x, self.num_outer, self.num_samples)


@dataclass(frozen=True)
class PIWAE(Objective):
    """The encoder follows MIWAE(M, K), the decoder IWAE with MK samples, the same ones.

    Args:
        num_outer: M of the encoder's bound.
        num_samples: K of the encoder's bound.

    References:
        | Tighter Variational Bounds are Not Necessarily Better (Rainforth et al., 2018),
          arXiv 1802.04537

    Example:
        >>> PIWAE(8, 8).num_outer
        8
    """

    num_outer: int = 8
    num_samples: int = 8

    def __post_init__(self) -> None:
        _require_counts(num_outer=self.num_outer, num_samples=self.num_samples)

    def __call__(self, model: LatentVariableModel, x: Float[Tensor, "B *X"], epoch: float) -> Bound:
        """Returns the bound of MK samples, and the encoder's loss beside it."""
        return objectives.piwae(model, x, self.num_outer, self.num_samples)


@dataclass(frozen=True)
class CIWAE(Objective):
    """β · ELBO + (1 − β) · L_K.

    Args:
        num_samples: K.
        beta: The share of the ELBO, in [0, 1]; no β-VAE's β.

    References:
        | Tighter Variational Bounds are Not Necessarily Better (Rainforth et al., 2018),
          arXiv 1802.04537

    Example:
        >>> CIWAE(64, beta=0.5).beta
        0.5
    """

    num_samples: int = 64
    beta: float = 0.5

    def __post_init__(self) -> None:
        _require_counts(num_samples=self.num_samples)
        _require_share(beta=self.beta)

    def __call__(self, model: LatentVariableModel, x: Float[Tensor, "B *X"], epoch: float) -> Bound:
        """Returns the mixture of the two bounds."""
        return objectives.ciwae(model, x, self.num_samples, self.beta)


@dataclass(frozen=True)
class StickingTheLanding(Objective):
    """The bound of K samples with the path derivative, biased for K > 1.

    Args:
        num_samples: K.

    References:
        | Sticking the Landing (Roeder et al., 2017), arXiv 1703.09194

    Example:
        >>> StickingTheLanding().num_samples
        1
    """

    num_samples: int = 1

    def __post_init__(self) -> None:
        _require_counts(num_samples=self.num_samples)

    def __call__(self, model: LatentVariableModel, x: Float[Tensor, "B *X"], epoch: float) -> Bound:
        """Returns the bound of K samples, and the encoder's surrogate."""
        return objectives.sticking_the_landing(model, x, self.num_samples)


@dataclass(frozen=True)
class DReG(Objective):
    """The bound of K samples with the doubly reparameterised gradient.

    Args:
        num_samples: K.
        alpha: The share of the wake phase: 0 for IWAE's gradient, 1 for the wake phase's.

    References:
        | Doubly Reparameterized Gradient Estimators (Tucker et al., 2018), arXiv 1810.04152

    Example:
        >>> DReG(64).alpha
        0.0
    """

    num_samples: int = 64
    alpha: float = 0.0

    def __post_init__(self) -> None:
        _require_counts(num_samples=self.num_samples)
        _require_share(alpha=self.alpha)

    def __call__(self, model: LatentVariableModel, x: Float[Tensor, "B *X"], epoch: float) -> Bound:
        """Returns the bound of K samples, and the encoder's surrogate."""
        return objectives.dreg(model, x, self.num_samples, self.alpha)


@dataclass(frozen=True)
class WakePhase(Objective):
    """Reweighted wake-sleep: the encoder descends KL(p(z|x) ‖ q(z|x)).

    Args:
        num_samples: K ≥ 2.

    References:
        | Reweighted Wake-Sleep (Bornschein and Bengio, 2015), arXiv 1406.2751

    Example:
        >>> WakePhase(10).num_samples
        10
    """

    num_samples: int = 5

    def __post_init__(self) -> None:
        _require_counts(2, num_samples=self.num_samples)

    def __call__(self, model: LatentVariableModel, x: Float[Tensor, "B *X"], epoch: float) -> Bound:
        """Returns the bound of K samples, and the encoder's surrogate."""
        return objectives.wake_phase(model, x, self.num_samples)


@dataclass(frozen=True)
class ScoreFunction(Objective):
    """The ELBO by the score function with leave-one-out baselines: for any posterior.

    Args:
        num_samples: K ≥ 2.

    References:
        | Buy 4 REINFORCE Samples, Get a Baseline for Free! (Kool et al., 2019), ICLR workshop

    Example:
        >>> ScoreFunction(4).num_samples
        4
    """

    num_samples: int = 4

    def __post_init__(self) -> None:
        _require_counts(2, num_samples=self.num_samples)

    def __call__(self, model: LatentVariableModel, x: Float[Tensor, "B *X"], epoch: float) -> Bound:
        """Returns the ELBO, and the encoder's surrogate."""
        return objectives.score_function(model, x, self.num_samples)


def _require_counts(least: int = 1, **values: int) -> None:
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise InputError(name, expected=f"a whole number ≥ {least}", got=repr(value))


def _require_share(**values: float) -> None:
    for name, value in values.items():
        if not 0 <= value <= 1:
            raise InputError(name, expected="a number in [0, 1]", got=repr(value))


# β-TCVAE as a setting: which part of the KL weighs more, and how the weight warms up.


@dataclass(frozen=True)
class BetaTCVAE(Objective):
    r"""E log p(x|z) − α·I − β·TC − γ·(dimension-wise KL), from the minibatch.

    A minibatch of one datapoint, which may end an epoch, has no other posterior to compare with
    and follows the ELBO.

    Args:
        dataset_size: N, the number of training datapoints: the estimators need it.
        beta: Weight of the total correlation.
        alpha: Weight of the mutual information.
        gamma: Weight of the dimension-wise KL.
        estimator: "mss", or "mws" as in most published experiments.
        warm_up_epochs: Epochs in which β rises from 0; 0: none.

    References:
        | Isolating Sources of Disentanglement (Chen et al., 2018), arXiv 1802.04942

    Example:
        >>> BetaTCVAE(dataset_size=60_000, beta=6.0, warm_up_epochs=10.0).weight(5.0)
        3.0
    """

    dataset_size: int
    beta: float = 6.0
    alpha: float = 1.0
    gamma: float = 1.0
    estimator: MinibatchEstimator = "mss"
    warm_up_epochs: float = 0.0

    def __post_init__(self) -> None:
        N = self.dataset_size
        if isinstance(N, bool) or not isinstance(N, int) or N < 2:
            raise InputError("dataset_size", expected="a whole number ≥ 2", got=repr(N))
        for name in ("beta", "alpha", "gamma", "warm_up_epochs"):
            value = getattr(self, name)
            if not (value >= 0 and math.isfinite(value)):
                raise InputError(name, expected="a finite number ≥ 0", got=repr(value))

    def __call__(self, model: LatentVariableModel, x: Float[Tensor, "B *X"], epoch: float) -> Bound:
        """Returns the ELBO, and the loss with weighted parts."""
        if len(x) == 1:
            return objectives.elbo(model, x)
        return objectives.beta_tcvae(
            model,
            x,
            self.dataset_size,
            self.weight(epoch),
            alpha=self.alpha,
            gamma=self.gamma,
            estimator=self.estimator,
        )

    def weight(self, epoch: float) -> float:
        """Returns β at this time."""
        return linear_warm_up(epoch, self.warm_up_epochs, end=self.beta)

    def settled(self, epoch: float) -> bool:
        """Whether β has reached its final value."""
        return self.weight(epoch) >= self.beta
