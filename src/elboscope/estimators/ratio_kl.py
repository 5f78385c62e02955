r"""The marginal KL from a classifier's density ratio, and two lower bounds with the same critic.

With T(z) the logit of a classifier between q(z) and p(z), on draws it was not trained on:

.. math:: \widehat{\mathrm{KL}} = \mathbb{E}_{q}[T], \qquad
          \mathrm{KL} \ge \mathbb{E}_{q}[T] - \log \mathbb{E}_{p}[e^{T}]
          \ \text{(Donsker–Varadhan)}, \qquad
          \mathrm{KL} \ge \mathbb{E}_{q}[T] - \mathbb{E}_{p}[e^{T - 1}] \ \text{(NWJ)}

The first is *no bound*: an overconfident classifier says any number, and published ones do. The
other two hold for every T, but their E_p[e^T] rests on the few prior draws where T is large, and
a critic whose peaks no draw has met would be believed. So T is cut at a ceiling M, which the part
that chooses picks, and 3e^M/S, what S draws may miss with 95 % (the rule of three), is added to
the mean of e^T. Then

- Donsker–Varadhan: the added term exceeds the upward bias e^M/(2S·mean) of −log of a mean, so
  that the bound holds in expectation too;
- NWJ with T − c + 1 for T, c the logarithm of that sum on *other* draws: unbiased for its bound.

Neither exceeds log(S/3) + 1: no lower bound from S draws can be trusted beyond O(log S)
(McAllester and Stratos, 2018). For a larger KL only a density model gives one.
"""

from __future__ import annotations

__all__ = ["DensityRatioKL", "marginal_kl_by_ratio", "ratio_kl_of"]

import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import NamedTuple

import torch
from jaxtyping import Float64
from torch import Tensor

from elboscope.core import (
    Estimate,
    LatentVariableModel,
    Side,
    evaluating,
    seeded,
    standard_error,
)

from .aggregate_draws import averages
from .aggregate_parts import Parts, split_aggregate
from .evaluation import blocks
from .ratio_bounds import Scores, ratio_bounds
from .ratio_classifier import Critic, RatioClassifier, fitted_classifier

STANDARD = RatioClassifier()
PRIOR_DRAWS, DRAWN_AT_ONCE = 100_000, 10_000


class DensityRatioKL(NamedTuple):
    """KL(q(z) ‖ p(z)) by one classifier, in nats.

    Attributes:
        ratio: Mean logit on held-out draws of q(z): no bound.
        donsker_varadhan: A lower bound with the same critic, cut at a ceiling.
        nwj: The bound of Nguyen, Wainwright and Jordan with the same critic.
    """

    ratio: Estimate
    donsker_varadhan: Estimate
    nwj: Estimate


def marginal_kl_by_ratio(
    model: LatentVariableModel,
    x: object,
    classifier: RatioClassifier = STANDARD,
    *,
    x_held_out: object = None,
    seed: int | None = None,
    condition: Tensor | None = None,
    condition_held_out: Tensor | None = None,
) -> DensityRatioKL:
    r"""Estimates :math:`\mathrm{KL}(q(z) \| p(z))` by a classifier, with two lower bounds beside.

    The ratio is not a bound, in either direction: read it with the bounds. It needs draws of
    q(z) and p(z) only, so that it exists for posteriors without a density.

    Args:
        model: The model, with an encoder.
        x: Data. Half trains the classifier, a quarter stops it, a quarter evaluates.
        classifier: Its layers and its training; the value depends on them.
        x_held_out: Data to evaluate on; then two thirds of x train and one third stops.
        seed: Of the split, the draws and the training.
        condition: One row per datapoint of x.
        condition_held_out: One row per datapoint of x_held_out.

    Returns:
        The ratio and the bounds, per datapoint of the evaluated part. Their ``stderr`` contains
        the error of the prior draws.

    Raises:
        InputError: Fewer than twenty datapoints; draws that are not finite.

    References:
        | Distribution Matching in Variational Inference (Rosca et al., 2018),
          https://arxiv.org/abs/1802.06847, algorithm 3
        | Estimating divergence functionals and the likelihood ratio by convex risk minimization
          (Nguyen, Wainwright, Jordan, 2010), https://arxiv.org/abs/0809.0853
        | Formal Limitations on the Measurement of Mutual Information (McAllester, Stratos, 2018),
          https://arxiv.org/abs/1811.04251

    Example:
        >>> import elboscope as es
        >>> model = es.models.LinearGaussian.instance_1()
        >>> x, _ = model.sample(400, seed=0)
        >>> by_ratio = es.marginal_kl_by_ratio(model, x, es.RatioClassifier((8,)), seed=0)
        >>> [estimate.side for estimate in by_ratio]
        ['none', 'lower', 'lower']
    """
    with evaluating(model), seeded(seed) as used:
        parts = split_aggregate(model, x, x_held_out, condition, condition_held_out)
        return ratio_kl_of(parts, used, classifier)


def ratio_kl_of(parts: Parts, seed: int, classifier: RatioClassifier = STANDARD) -> DensityRatioKL:
    """From draws in three parts to the three estimates; inside ``core.seeded``."""
    critic, ended = fitted_classifier(parts, classifier)
    settings = {"seed": seed, **parts.settings, **asdict(classifier), **ended._asdict()}
    widths = "-".join(map(str, classifier.hidden)) or "linear"
    return with_critic(parts, critic, f"classifier {widths}", settings)


def with_critic(
    parts: Parts, critic: Critic, name: str, settings: Mapping[str, object]
) -> DensityRatioKL:
    """From any T(z) to its ratio estimate and bounds; inside ``core.seeded``."""
    choosing = Scores(critic(parts.choose.z), _on_prior(parts, critic))
    held_out = Scores(critic(parts.evaluate.z), _on_prior(parts, critic))
    bounds = ratio_bounds(choosing, held_out)
    record = {**settings, "prior_draws": PRIOR_DRAWS, "ceiling": bounds.ceiling}

    def estimate(method: str, values: Tensor, side: Side, prior_error: float) -> Estimate:
        return _estimate(parts, f"{method}, {name}", values, side, prior_error, record)

    return DensityRatioKL(
        estimate("density ratio (no bound)", held_out.q, "none", 0.0),
        estimate(
            "Donsker–Varadhan", bounds.donsker_varadhan, "lower", bounds.donsker_varadhan_error
        ),
        estimate("NWJ", bounds.nwj, "lower", bounds.nwj_error),
    )


def _on_prior(parts: Parts, critic: Critic) -> Float64[Tensor, " P"]:
    chunks = blocks(PRIOR_DRAWS, DRAWN_AT_ONCE)
    return torch.cat([critic(parts.prior_draws(r.stop - r.start)) for r in chunks])


def _estimate(
    parts: Parts,
    method: str,
    values: Float64[Tensor, " S"],
    side: Side,
    prior_error: float,
    settings: Mapping[str, object],
) -> Estimate:
    """Values per held-out datapoint; the error of the prior draws is shared by all of them."""
    a = averages(values, parts.evaluate.which, parts.evaluate.size)
    shared = len(a.values) * prior_error**2
    estimand = "the population's KL(q‖p)" + (", bounded from below" if side == "lower" else "")
    return Estimate(
        "KL(q(z) ‖ p(z))",
        method,
        a.values,
        (a.mc_stderr.square() + shared).sqrt(),
        side,
        math.hypot(standard_error(a.values), prior_error),
        settings={**settings, "prior_error": prior_error, "estimand": estimand},
        data_id=parts.data_id,
        nonnegative=True,
    )
