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
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

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
from .density_kl import DENSITIES, MAX_STEPS, DensityFamily, density_kl_of
from .evaluation import Inputs, Progress, prepared, require_positive
from .marginal_kl import marginal_kl_of, plain_marginal_kl_of
from .marginal_kl_disagreements import Disagreement, marginal_kl_disagreements
from .mutual_information import information_of
from .ratio_classifier import RatioClassifier
from .ratio_kl import STANDARD, ratio_kl_of
from .surgery import ElboSurgery, average_kl_of


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
    densities: Sequence[DensityFamily] = DENSITIES,
    max_steps: int = MAX_STEPS,
    surgery: ElboSurgery | None = None,
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
        densities: Families of the density models.
        max_steps: Gradient steps of each density network at most.
        surgery: Of the same x, where it is at hand: its mixture is then taken, not drawn again.
        seed: Of all draws and fits.
        condition: One row per datapoint of x.
        condition_held_out: One row per datapoint of x_held_out.
        progress: Called with the draws of the mixture done and their number.

    Returns:
        The estimates by name, and why one is missing.

    Raises:
        InputError: Fewer than twenty datapoints; draws that are not finite; the surgery of other
            data.

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
    unavailable: dict[str, str] = {}
    with evaluating(model), seeded(seed) as used:
        parts = split_aggregate(model, x, x_held_out, condition, condition_held_out)
        try:
            mixture = _given_mixture(surgery, inputs)
            mixture = mixture or _mixture(model, inputs, num_draws, used, progress)
        except ContractError as error:
            unavailable["mixture"] = str(error)
            mixture = _Mixture({}, None, None)
        estimates = dict(mixture.estimates)
        estimates |= ratio_kl_of(parts, used, classifier)._asdict()
        _add_densities(estimates, unavailable, parts, used, densities, max_steps)
    log_n = math.log(len(inputs.x))
    return MarginalKLComparison(
        estimates, mixture.kl, mixture.mutual_information, log_n, unavailable
    )


class _Mixture(NamedTuple):
    estimates: dict[str, Estimate]
    kl: Estimate | None
    mutual_information: Estimate | None


def _mixture(
    model: LatentVariableModel,
    inputs: Inputs,
    num_draws: int | None,
    seed: int,
    progress: Progress | None,
) -> _Mixture:
    draws = draw_aggregate(model, inputs, num_draws, seed, progress=progress)
    both = {"mixture": marginal_kl_of(draws), "mixture_plain": plain_marginal_kl_of(draws)}
    return _Mixture(both, average_kl_of(draws), information_of(draws))


def _given_mixture(surgery: ElboSurgery | None, inputs: Inputs) -> _Mixture | None:
    if surgery is None:
        return None
    if surgery.marginal_kl.data_id != inputs.data_id:
        raise InputError("surgery", expected="that of x", got="that of other data")
    both = {"mixture": surgery.marginal_kl, "mixture_plain": surgery.marginal_kl_plain}
    return _Mixture(both, surgery.kl, surgery.mutual_information)


def _add_densities(
    estimates: dict[str, Estimate],
    unavailable: dict[str, str],
    parts: Parts,
    seed: int,
    densities: Sequence[DensityFamily],
    max_steps: int,
) -> None:
    for family in densities:
        try:
            estimates[family] = density_kl_of(parts, family, seed, max_steps=max_steps)
        except InputError as error:
            unavailable[family] = str(error)
