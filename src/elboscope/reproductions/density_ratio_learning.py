r"""Learning: a Gaussian q follows the logit of a classifier that is trained at the same time.

.. math:: \min_{A, b}\; -\mathbb{E}_{w}[T(Aw + b)], \qquad
          T \approx \log \frac{p}{q} \;\Rightarrow\; -\mathbb{E}_q[T] \approx \mathrm{KL}(q \| p)

is the generator's reverse-KL loss; classifier and generator take one step each in turn. What the
game is after is known at every moment: both divergences are computed from A and b in float64, by
Cholesky factors, and the part of KL(q‖p) that the means make stands beside.
"""

from __future__ import annotations

__all__ = ["divergences", "learning"]

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.distributions import MultivariateNormal

from elboscope.core import InputError, evaluating, seeded, standard_error
from elboscope.models import GAN
from elboscope.models.factor_gaussian import FactorGaussian, draws
from elboscope.models.gaussian_pair import gaussian_kl
from elboscope.nn import mlp_discriminator
from elboscope.training.adversarial import adversarial_step, game_optimizer
from elboscope.training.games_of_samples import GANGame
from elboscope.training.minibatches import Minibatch

from .density_ratio_plan import FACTORS_PER_DIM, Plan, Size, gaussian_pair
from .density_ratio_runs import Course, Rows, run_course
from .sitting import Sitting
from .training import derived_seed

BETAS = (0.5, 0.9)
ONLINE_DRAWS = 10_000


def learning(
    size: Size, start: str, plan: Plan, seed: int, now: Sitting, device: torch.device
) -> Rows:
    """Plays the game of one pair; returns a row a look, all values in nats.

    Args:
        size: Dimension, classifier, steps.
        start: One of ``STARTS``: whether q begins with a mean of its own or with that of p.
        plan: The scale's.
        seed: Of the pair, the classifier and all draws: p is that of the estimation, and q begins
            as the other Gaussian of that pair.
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
            return _looked_at(gan, p)

    identity = {"size": size._asdict(), "rate": plan.rate, "batch_size": plan.batch_size}
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


def _looked_at(gan: GAN, p: MultivariateNormal) -> dict[str, float]:
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
