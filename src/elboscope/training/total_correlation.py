"""β-TCVAE as a setting: which part of the KL weighs more, and how the weight warms up."""

from __future__ import annotations

__all__ = ["BetaTCVAE"]

import math
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from elboscope import objectives
from elboscope.core import Bound, InputError, LatentVariableModel
from elboscope.objectives import MinibatchEstimator

from .objective import Objective
from .schedules import linear_warm_up


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
