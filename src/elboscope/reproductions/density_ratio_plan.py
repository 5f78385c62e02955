"""What a scale means for the synthetic density ratios, and the pairs of Gaussians.

A pair is drawn anew for each seed: x = Aw + b with ten factors a dimension, entries of A with the
variance 1/m, those of b with the variance one. Its divergence grows with the dimension by itself,
so beside this *natural* regime stand two in which it is the same for every dimension. Where q is
learned, a second start gives it the mean of p: only a covariance is left to be learned.
"""

from __future__ import annotations

__all__ = ["PLANS", "REGIMES", "STARTS", "Pair", "Plan", "Size", "gaussian_pair"]

from collections.abc import Mapping
from typing import NamedTuple

import torch
from jaxtyping import Float64
from torch import Tensor
from torch.distributions import MultivariateNormal

from elboscope.models.factor_gaussian import rescaled
from elboscope.models.gaussian_pair import gaussian_kl, random_gaussian

from .result import Scale
from .training import derived_seed

REGIMES: Mapping[str, float | None] = {"natural": None, "KL 1": 1.0, "KL 10": 10.0}
STARTS = ("natural", "equal means")
"""Where q begins when it is learned: anywhere, or with the mean of p."""
FACTORS_PER_DIM = 10


class Size(NamedTuple):
    """What is done in one dimension.

    Attributes:
        dim: n.
        hidden: Widths of the classifier's hidden layers.
        measured: Steps after which an estimate is made; the last ends the training.
        learning_steps: Steps of each player where q is learned; 0: it is not.
        num_held_out: Draws of each side behind an estimate.
    """

    dim: int
    hidden: tuple[int, ...]
    measured: tuple[int, ...]
    learning_steps: int
    num_held_out: int = 100_000


class Plan(NamedTuple):
    """What a scale means.

    Attributes:
        sizes: One a dimension.
        num_seeds: Each with Gaussians, a classifier and draws of its own.
        rate: Adam's, of both players.
        every: Steps between two looks at what is learned.
        batch_size: Draws of each side in a step.
    """

    sizes: tuple[Size, ...]
    num_seeds: int
    rate: float
    every: int
    batch_size: int = 128


DECADES = (100, 1000, 10_000, 100_000, 1_000_000)
PLANS: Mapping[Scale, Plan] = {
    "smoke": Plan(
        (Size(1, (8, 8), (10, 40), 40, 2000), Size(2, (8, 8), (10, 40), 40, 2000)),
        num_seeds=2,
        rate=1e-3,
        every=10,
        batch_size=32,
    ),
    "cpu": Plan(
        (
            Size(1, (64,) * 4, (100, 300, 1000, 3000), 4000),
            Size(10, (64,) * 4, (100, 300, 1000, 3000), 4000),
            Size(100, (64,) * 4, (100, 300, 1000, 3000), 4000),
            Size(1000, (64,) * 4, (30, 100), 0, 5000),
        ),
        num_seeds=5,
        rate=1e-3,
        every=100,
    ),
    "paper": Plan(
        (
            Size(1, (1000,) * 4, DECADES, 1_000_000),
            Size(10, (1000,) * 4, DECADES, 1_000_000),
            Size(100, (5500,) * 4, DECADES, 1_000_000),
            Size(1000, (5500,) * 4, DECADES, 1_000_000),
        ),
        num_seeds=10,
        rate=1e-4,
        every=100,
    ),
}


class Pair(NamedTuple):
    """Two Gaussians in float64."""

    p: MultivariateNormal
    q: MultivariateNormal

    @property
    def kl(self) -> Float64[Tensor, ""]:
        """KL(p‖q), in nats."""
        return gaussian_kl(self.p, self.q)


def gaussian_pair(dim: int, regime: str, seed: int, device: torch.device | None = None) -> Pair:
    """Returns the pair of a seed.

    Args:
        dim: n.
        regime: One of ``REGIMES``.
        seed: Of the reproduction's run.
        device: Where it is to be used.

    Example:
        >>> round(gaussian_pair(10, "KL 10", 0).kl.item(), 9)
        10.0
    """
    p, q = (
        random_gaussian(
            dim, factors_per_dim=FACTORS_PER_DIM, seed=derived_seed(f"{name}, n = {dim}", seed)
        )
        for name in "pq"
    )
    target = REGIMES[regime]
    pair = Pair(p, q if target is None else rescaled(p, q, target))
    return pair if device is None else Pair(*(_on(device, law) for law in pair))


def _on(device: torch.device, law: MultivariateNormal) -> MultivariateNormal:
    return MultivariateNormal(law.loc.to(device), scale_tril=law.scale_tril.to(device))
