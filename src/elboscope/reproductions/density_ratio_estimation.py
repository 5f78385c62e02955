r"""Estimation: a classifier learns to tell two fixed Gaussians apart, and its logit is believed.

.. math:: \widehat{\mathrm{KL}} = \mathbb{E}_p[T], \qquad
          \widehat{\mathrm{KL}} - \mathrm{KL}(p \| q) = \mathbb{E}_p[T - t^*], \quad
          t^* = \log \frac{p}{q}

The second form has the same mean on the same draws and, for a good T, a much smaller error: it is
what claims are judged by. Beside it stand two lower bounds with the same critic. All is measured
on draws that no classifier was trained on, the same at every look.
"""

from __future__ import annotations

__all__ = ["estimation", "looked_at"]

from collections.abc import Callable

import torch
from jaxtyping import Float, Float64
from torch import Tensor
from torch.distributions import MultivariateNormal

from elboscope.core import evaluating, seeded, standard_error
from elboscope.estimators.evaluation import blocks
from elboscope.estimators.ratio_bounds import Scores, ratio_bounds
from elboscope.models.factor_gaussian import draws
from elboscope.models.gaussian_pair import log_ratio_variance, optimal_logit
from elboscope.nn import mlp_discriminator
from elboscope.objectives import discriminator_loss, ratio_accuracy

from .density_ratio_plan import Pair, Plan, Size, gaussian_pair
from .density_ratio_runs import Course, Rows, run_course
from .sitting import Sitting
from .training import derived_seed

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
        seed: Of the pair, the classifier and all draws.
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
            return looked_at(pair, network, size.num_held_out)

    identity = {"size": size._asdict(), "rate": plan.rate, "batch_size": plan.batch_size}
    course = Course(
        name, network, adam, step, look, size.measured, derived_seed(name, seed), identity
    )
    return run_course(course, now)


def looked_at(pair: Pair, critic: Critic, num_draws: int) -> dict[str, float]:
    """Returns what a critic says of KL(p‖q), from the ambient random state.

    Args:
        pair: The Gaussians.
        critic: T, from draws to logits.
        num_draws: Of each side.

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
