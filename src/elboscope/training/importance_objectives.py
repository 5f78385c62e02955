r"""Importance-weighted objectives as settings: K samples, M groups, and which gradient follows.

Each is :mod:`elboscope.objectives`' function of the same meaning with its counts filled in. What
is logged is the bound, whatever surrogate the encoder descends.
"""

from __future__ import annotations

__all__ = [
    "CIWAE",
    "IWAE",
    "MIWAE",
    "PIWAE",
    "DReG",
    "ScoreFunction",
    "StickingTheLanding",
    "WakePhase",
]

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from elboscope import objectives
from elboscope.core import Bound, InputError, LatentVariableModel

from .objective import Objective


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
