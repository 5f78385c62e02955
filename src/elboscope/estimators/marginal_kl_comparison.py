r"""Three kinds of estimate of KL(q(z) ‖ p(z)) side by side, and which of them disagree.

- *mixture*: all N posteriors; exact for q_N up to Monte Carlo error, and on average no less than
  the population's KL, since KL is convex and E q_N = q;
- *density ratio*: a classifier; no bound. Its critic also gives two lower bounds;
- *density models* of q(z): lower bounds on the population's KL.

So the population's KL lies between the best lower bound and the mixture, both up to their errors,
and nothing places the ratio. What a difference beyond the errors says is spelled out by
:func:`marginal_kl_disagreements`.
"""

from __future__ import annotations

__all__ = ["MarginalKLComparison", "compare_marginal_kl"]

import math
from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from elboscope.core import (
    ContractError,
    Estimate,
    InputError,
    LatentVariableModel,
    evaluating,
    seeded,
)

from .aggregate_draws import draw_aggregate
from .aggregate_parts import Parts, split_aggregate
from .density_kl import DENSITIES, MAX_STEPS, density_kl_of
from .evaluation import Progress, prepared, require_positive
from .marginal_kl import marginal_kl_of, plain_marginal_kl_of
from .marginal_kl_disagreements import Disagreement, marginal_kl_disagreements
from .mutual_information import information_of
from .ratio_classifier import RatioClassifier
from .ratio_kl import STANDARD, ratio_kl_of
from .surgery import average_kl_of


@dataclass(frozen=True, eq=False)
class MarginalKLComparison:
    """All estimates of KL(q(z) ‖ p(z)) of one model, in nats.

    Attributes:
        estimates: By name: ``mixture``, ``mixture_plain``, ``ratio``, ``donsker_varadhan``,
            ``nwj``, ``gmm``, ``maf``, ``lstm``; each names its own side.
        kl: The rate, average KL(q(z|x) ‖ p(z)); None where it is unavailable.
        mutual_information: I(n; z) of the mixture; None where it is unavailable.
        log_n: Its ceiling.
        unavailable: Why an estimate is missing, by name.
    """

    estimates: Mapping[str, Estimate]
    kl: Estimate | None
    mutual_information: Estimate | None
    log_n: float
    unavailable: Mapping[str, str]

    @property
    def interval(self) -> tuple[float, float] | None:
        """(avgKL − log N, or 0, avgKL), which contains KL(q_N ‖ p) whatever the draws were."""
        if self.kl is None:
            return None
        return max(0.0, self.kl.mean - self.log_n), self.kl.mean

    @property
    def best_bound(self) -> Estimate:
        """The largest lower bound: the most that is shown of the population's KL.

        It is picked on the draws it is reported on, a maximum of a few values that share most of
        their error: where they are near each other it is optimistic by a fraction of that.
        """
        bounds = [e for e in self.estimates.values() if e.side == "lower"]
        return max(bounds, key=lambda e: e.mean)

    @property
    def disagreements(self) -> tuple[Disagreement, ...]:
        """The pairs that differ beyond their errors."""
        return marginal_kl_disagreements(self.estimates)

    def __str__(self) -> str:
        lines = [f"{name:17} {estimate}" for name, estimate in self.estimates.items()]
        if self.interval is not None and self.mutual_information is not None:
            low, high = self.interval
            lines.append(
                f"KL(q_N ‖ p) in [{low:.2f}, {high:.2f}]; mutual information "
                f"{self.mutual_information.mean:.2f} of at most log N = {self.log_n:.2f}"
            )
        lines += [f"{name}: unavailable, {reason}" for name, reason in self.unavailable.items()]
        return "\n".join([*lines, *map(str, self.disagreements)])


def compare_marginal_kl(
    model: LatentVariableModel,
    x: object,
    *,
    x_held_out: object = None,
    num_draws: int | None = None,
    classifier: RatioClassifier = STANDARD,
    max_steps: int = MAX_STEPS,
    seed: int | None = None,
    condition: Tensor | None = None,
    condition_held_out: Tensor | None = None,
    progress: Progress | None = None,
) -> MarginalKLComparison:
    r"""Estimates :math:`\mathrm{KL}(q(z) \| p(z))` by mixture, density ratio and density models.

    The mixture is over all of x. Everything that learns shares one split of the datapoints and
    one set of held-out draws, so that those differences are of pairs.

    Args:
        model: The model, with an encoder.
        x: Data.
        x_held_out: Data to evaluate what was learned on; by default a quarter of x.
        num_draws: S of the mixture; by default as many as take seconds, 1000 or more for flows.
        classifier: Of the density ratio.
        max_steps: Gradient steps of each density network at most.
        seed: Of all draws and fits.
        condition: One row per datapoint of x.
        condition_held_out: One row per datapoint of x_held_out.
        progress: Called with the draws of the mixture done and their number.

    Returns:
        The estimates by name, and why one is missing.

    Raises:
        InputError: Fewer than twenty datapoints; draws that are not finite.

    References:
        | Distribution Matching in Variational Inference (Rosca et al., 2018),
          https://arxiv.org/abs/1802.06847

    Example:
        >>> import elboscope as es
        >>> model = es.models.LinearGaussian.instance_2()
        >>> x, _ = model.sample(400, seed=0)
        >>> few = es.RatioClassifier((16,), max_steps=50)
        >>> found = es.compare_marginal_kl(model, x, classifier=few, max_steps=20, seed=0)
        >>> found.best_bound.mean < model.marginal_kl().item() + 3 * found.best_bound.stderr
        True
    """
    require_positive("max_steps", max_steps)
    inputs = prepared(model, x, condition)
    estimates: dict[str, Estimate] = {}
    unavailable: dict[str, str] = {}
    kl = information = None
    with evaluating(model), seeded(seed) as used:
        parts = split_aggregate(model, x, x_held_out, condition, condition_held_out)
        try:
            draws = draw_aggregate(model, inputs, num_draws, used, progress=progress)
        except ContractError as error:
            unavailable["mixture"] = str(error)
        else:
            kl, information = average_kl_of(draws), information_of(draws)
            estimates["mixture"] = marginal_kl_of(draws)
            estimates["mixture_plain"] = plain_marginal_kl_of(draws)
        estimates |= ratio_kl_of(parts, used, classifier)._asdict()
        _add_densities(estimates, unavailable, parts, used, max_steps)
    return MarginalKLComparison(estimates, kl, information, math.log(len(inputs.x)), unavailable)


def _add_densities(
    estimates: dict[str, Estimate],
    unavailable: dict[str, str],
    parts: Parts,
    seed: int,
    max_steps: int,
) -> None:
    for family in DENSITIES:
        try:
            estimates[family] = density_kl_of(parts, family, seed, max_steps=max_steps)
        except InputError as error:
            unavailable[family] = str(error)
