"""What a scale means for the synthetic density ratios, and the pairs of Gaussians.

A pair is drawn anew for each seed: x = Aw + b with ten factors a dimension, entries of A with the
variance 1/m, those of b with the variance one. Its divergence grows with the dimension by itself,
so beside this *natural* regime stand two in which it is the same for every dimension. Where q is
learned, a second start gives it the mean of p: only a covariance is left to be learned.

A file of its own because runs are kept apart from what is said of them.
"""

from __future__ import annotations

__all__ = [
    "CPU",
    "PAPER",
    "REGIMES",
    "SMOKE",
    "STARTS",
    "Pair",
    "Plan",
    "Size",
    "divergences",
    "estimation",
    "gaussian_pair",
    "learning",
    "look_at",
]

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import NamedTuple

import torch
from jaxtyping import Float, Float64
from torch import Tensor
from torch.distributions import MultivariateNormal

from elboscope.core import InputError, evaluating, seeded, standard_error
from elboscope.estimators.inputs import blocks
from elboscope.estimators.latents.ratio import Scores, ratio_bounds
from elboscope.models import GAN
from elboscope.models.exact.gaussian_pair import (
    FactorGaussian,
    draws,
    gaussian_kl,
    log_ratio_variance,
    optimal_logit,
    random_gaussian,
    rescaled,
)
from elboscope.nn import mlp_discriminator
from elboscope.objectives import discriminator_loss, ratio_accuracy
from elboscope.training.data import Minibatch
from elboscope.training.games.adversarial import GANGame
from elboscope.training.games.step import adversarial_step, game_optimizer

from ..frame.course import Course, Rows, run_course
from ..frame.sitting import Sitting
from ..frame.training import derived_seed

REGIMES: Mapping[str, float | None] = {"natural": None, "KL 1": 1.0, "KL 10": 10.0}
STARTS = ("natural", "equal means")
"""Where q begins when it is learned: anywhere, or with the mean of p."""
FACTORS_PER_DIM = 10


@dataclass(frozen=True, kw_only=True)
class Size:
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


@dataclass(frozen=True, kw_only=True)
class Plan:
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
PAPER = Plan(
    sizes=tuple(
        Size(dim=n, hidden=4 * (width,), measured=DECADES, learning_steps=1_000_000)
        for n, width in ((1, 1000), (10, 1000), (100, 5500), (1000, 5500))
    ),
    num_seeds=10,
    rate=1e-4,
    every=100,
)
_NARROW = Size(dim=1, hidden=4 * (64,), measured=(100, 300, 1000, 3000), learning_steps=4000)
CPU = replace(
    PAPER,
    sizes=(
        _NARROW,
        replace(_NARROW, dim=10),
        replace(_NARROW, dim=100),
        replace(_NARROW, dim=1000, measured=(30, 100), learning_steps=0, num_held_out=5000),
    ),
    num_seeds=5,
    rate=1e-3,
)
SMOKE = replace(
    CPU,
    sizes=tuple(
        Size(dim=n, hidden=(8, 8), measured=(10, 40), learning_steps=40, num_held_out=2000)
        for n in (1, 2)
    ),
    num_seeds=2,
    every=10,
    batch_size=32,
)


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
        seed: Random seed of the reproduction's run.
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


# Estimation: a classifier learns to tell two fixed Gaussians apart, and its logit is believed.
#
# .. math:: \widehat{\mathrm{KL}} = \mathbb{E}_p[T], \qquad
#           \widehat{\mathrm{KL}} - \mathrm{KL}(p \| q) = \mathbb{E}_p[T - t^*], \quad
#           t^* = \log \frac{p}{q}
#
# The second form has the same mean on the same draws and, for a good T, a much smaller error: it
# is what claims are judged by. Beside it stand two lower bounds with the same critic. All is
# measured on draws that no classifier was trained on, the same at every look.

BETAS = (0.5, 0.9)
DRAWN_AT_ONCE = 10_000
# Draws that pick the bounds' ceiling, as a share of those that make them.
CHOOSING = 5

Critic = Callable[[Tensor], Tensor]


def estimation(
    size: Size, regime: str, plan: Plan, seed: int, now: Sitting, device: torch.device
) -> Rows:
    """Trains the classifier of one pair; returns a row a look, all values in nats.

    Args:
        size: Dimension, classifier, steps.
        regime: Which pair, one of ``REGIMES``.
        plan: The scale's.
        seed: Random seed of the pair, the classifier and all draws.
        now: The sitting; its end is kept within a step.
        device: Where to train.

    Raises:
        Unfinished: The slice of time is over.
    """
    name = f"estimation, n = {size.dim}, {regime}, seed {seed}"
    pair = gaussian_pair(size.dim, regime, seed, device)
    with seeded(derived_seed(f"classifier, n = {size.dim}", seed)):
        network = mlp_discriminator((size.dim,), size.hidden).to(device)
    adam = torch.optim.Adam(network.parameters(), lr=plan.rate, betas=BETAS, fused=True)

    def step() -> None:
        adam.zero_grad(set_to_none=True)
        x, y = draws(pair.p, plan.batch_size), draws(pair.q, plan.batch_size)
        discriminator_loss(network(x), network(y)).backward()
        adam.step()

    def look(step: int) -> dict[str, float]:
        with evaluating(network), seeded(derived_seed(f"held out, {name}", seed)):
            return look_at(pair, network, size.num_held_out)

    identity = {"size": asdict(size), "rate": plan.rate, "batch_size": plan.batch_size}
    course = Course(
        name, network, adam, step, look, size.measured, derived_seed(name, seed), identity
    )
    return run_course(course, now)


def look_at(pair: Pair, critic: Critic, num_draws: int) -> dict[str, float]:
    """Returns what a critic says of KL(p‖q), from the ambient random state.

    Args:
        pair: The Gaussians.
        critic: T, from draws to logits.
        num_draws: Draws of each side.

    Returns:
        The estimate, its difference from the truth, both with errors; the mean of t* on the same
        draws, and its error by theory; two lower bounds; the accuracy of the critic.
    """
    num_choosing = max(20, num_draws // CHOOSING)
    choosing = Scores(_scored(pair.p, critic, num_choosing), _scored(pair.q, critic, num_choosing))
    T, optimal = _beside_optimal(pair, critic, num_draws)
    held_out = Scores(T, _scored(pair.q, critic, num_draws))
    bounds = ratio_bounds(choosing, held_out)
    return {
        "kl": pair.kl.item(),
        "estimate": T.mean().item(),
        "stderr": standard_error(T),
        "error": (T - optimal).mean().item(),
        "error_stderr": standard_error(T - optimal),
        "optimal": optimal.mean().item(),
        "optimal_stderr": (log_ratio_variance(*pair) / num_draws).sqrt().item(),
        "dv": bounds.donsker_varadhan.mean().item(),
        "nwj": bounds.nwj.mean().item(),
        "accuracy": ratio_accuracy(held_out.q, held_out.p).item(),
    }


def _scored(law: MultivariateNormal, critic: Critic, num_draws: int) -> Float64[Tensor, " S"]:
    rows = blocks(num_draws, DRAWN_AT_ONCE)
    return torch.cat([critic(draws(law, r.stop - r.start)).double() for r in rows])


def _beside_optimal(
    pair: Pair, critic: Critic, num_draws: int
) -> tuple[Float64[Tensor, " S"], Float64[Tensor, " S"]]:
    """T and t* on the same draws of p."""

    def both(x: Float[Tensor, "S n"]) -> tuple[Tensor, Tensor]:
        return critic(x).double(), optimal_logit(x.double(), *pair)

    rows = blocks(num_draws, DRAWN_AT_ONCE)
    T, optimal = zip(*(both(draws(pair.p, r.stop - r.start)) for r in rows), strict=True)
    return torch.cat(T), torch.cat(optimal)


# Learning: a Gaussian q follows the logit of a classifier that is trained at the same time.
#
# .. math:: \min_{A, b}\; -\mathbb{E}_{w}[T(Aw + b)], \qquad
#           T \approx \log \frac{p}{q} \;\Rightarrow\; -\mathbb{E}_q[T] \approx \mathrm{KL}(q \| p)
#
# is the generator's reverse-KL loss; classifier and generator take one step each in turn. What
# the game is after is known at every moment: both divergences are computed from A and b in
# float64, by Cholesky factors, and the part of KL(q‖p) that the means make stands beside.

ONLINE_DRAWS = 10_000


def learning(
    size: Size, start: str, plan: Plan, seed: int, now: Sitting, device: torch.device
) -> Rows:
    """Plays the game of one pair; returns a row a look, all values in nats.

    Args:
        size: Dimension, classifier, steps.
        start: One of ``STARTS``: whether q begins with a mean of its own or with that of p.
        plan: The scale's.
        seed: Random seed of the pair, the classifier and all draws: p is that of the estimation,
            and q begins as the other Gaussian of that pair.
        now: The sitting; its end is kept within a step.
        device: Where to train.

    Raises:
        Unfinished: The slice of time is over.
    """
    of_start = "" if start == "natural" else f", {start}"
    name = f"learning, n = {size.dim}{of_start}, seed {seed}"
    p = gaussian_pair(size.dim, "natural", seed, device).p
    gan = _untrained(size, seed).to(device)
    if start == "equal means":
        gan.generator.get_parameter("b").data.copy_(p.loc)
    game = GANGame(loss="reverse_kl")
    adam = game_optimizer(game, gan, plan.rate, BETAS)
    play = adversarial_step(gan, game, adam)

    def look(step: int) -> dict[str, float]:
        with evaluating(gan), seeded(derived_seed(f"look, {name}", seed)):
            return _look_at(gan, p)

    identity = {"size": asdict(size), "rate": plan.rate, "batch_size": plan.batch_size}
    course = Course(
        name,
        gan,
        adam,
        lambda: play(Minibatch(draws(p, plan.batch_size), 0.0)),
        look,
        range(0, size.learning_steps + 1, plan.every),
        derived_seed(name, seed),
        identity,
    )
    return run_course(course, now)


def _untrained(size: Size, seed: int) -> GAN:
    """The game before its first step; its generator is the q of the natural pair."""
    n, of_q = size.dim, derived_seed(f"q, n = {size.dim}", seed)
    q = FactorGaussian.random(n, factors_per_dim=FACTORS_PER_DIM, seed=of_q)
    with seeded(derived_seed(f"classifier, n = {n}", seed)):
        network = mlp_discriminator((n,), size.hidden)
    return GAN(q, network, latent_shape=(FACTORS_PER_DIM * n,), data_shape=(n,))


def _look_at(gan: GAN, p: MultivariateNormal) -> dict[str, float]:
    generator = gan.generator
    assert isinstance(generator, FactorGaussian)
    found = {"log_det": generator.log_det(), **divergences(generator, p)}
    x: Tensor = gan.generate(gan.prior().sample(torch.Size((ONLINE_DRAWS,))))
    T: Tensor = gan.discriminator(x).double()
    return {**found, "estimate": -T.mean().item(), "stderr": standard_error(T)}


def divergences(generator: FactorGaussian, p: MultivariateNormal) -> Mapping[str, float]:
    r"""Returns both divergences of a generator's law q and p; infinite where q is singular.

    The part of KL(q‖p) that the means make is :math:`\tfrac12 \|L^{-1}(b - \mu_p)\|^2`.

    Example:
        >>> zero = torch.zeros(1)
        >>> p = FactorGaussian(torch.ones(1, 1), zero).law()
        >>> divergences(FactorGaussian(torch.ones(1, 1), zero + 2), p)["reverse_of_means"]
        2.0
    """
    try:
        q = generator.law()
    except InputError:
        inf = float("inf")
        return {"reverse": inf, "forward": inf, "reverse_of_means": inf}
    shift = torch.linalg.solve_triangular(p.scale_tril, (q.loc - p.loc)[:, None], upper=False)
    return {
        "reverse": gaussian_kl(q, p).item(),
        "forward": gaussian_kl(p, q).item(),
        "reverse_of_means": 0.5 * shift.square().sum().item(),
    }
