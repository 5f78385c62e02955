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

__all__ = [
    "Disagreement",
    "MarginalKLComparison",
    "compare_marginal_kl",
    "marginal_kl_disagreements",
]

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import Literal, NamedTuple

from torch import Tensor

from elboscope.core import (
    ContractError,
    Estimate,
    InputError,
    LatentVariableModel,
    evaluating,
    seeded,
    standard_error,
)

from ..inputs import Inputs, prepared, require_positive
from ..streaming import Progress
from .aggregate import draw_aggregate
from .aggregate_parts import Parts, aggregate_inputs, split_aggregate
from .density import DENSITIES, MAX_STEPS, DensityFamily, density_kl_of
from .ratio import STANDARD, RatioClassifier, ratio_kl_of
from .surgery import (
    ElboSurgery,
    average_kl_of,
    information_of,
    marginal_kl_of,
    plain_marginal_kl_of,
)


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
    x_train: object = None,
    num_draws: int | None = None,
    classifier: RatioClassifier = STANDARD,
    densities: Sequence[DensityFamily] = DENSITIES,
    max_steps: int = MAX_STEPS,
    surgery: ElboSurgery | None = None,
    seed: int | None = None,
    condition: Tensor | None = None,
    condition_train: Tensor | None = None,
    progress: Progress | bool | None = None,
) -> MarginalKLComparison:
    r"""Estimates :math:`\mathrm{KL}(q(z) \| p(z))` by mixture, density ratio and density models.

    The mixture is over all of x, or of x_train where that is given. Everything that learns shares
    one split of the datapoints and one set of held-out draws, so that those differences are of
    pairs.

    Args:
        model: The model, with an encoder.
        x: Data, ``(N, *X)``; without x_train a quarter of them evaluates what was learned.
        x_train: Data for q_N and to learn on; what is learned is then evaluated on x.
        num_draws: S of the mixture; by default as many as take seconds, 1000 or more for flows.
        classifier: Layers and training of the classifier behind the density ratio.
        densities: Families of the density models.
        max_steps: Gradient steps of each density network at most.
        surgery: A surgery of the same data, whose mixture is taken and not drawn again.
        seed: Random seed; None picks one and records it.
        condition: One row per datapoint of x.
        condition_train: One row per datapoint of x_train.
        progress: Called with the draws of the mixture done and their number; True shows a bar.

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
        >>> few = es.latents.RatioClassifier((16,), max_steps=50)
        >>> found = es.latents.compare_marginal_kl(model, x, classifier=few, max_steps=20, seed=0)
        >>> found.best_bound.mean < model.marginal_kl().item() + 3 * found.best_bound.stderr
        True
    """
    require_positive("max_steps", max_steps)
    inputs = aggregate_inputs(model, prepared(model, x, condition), x_train, condition_train)
    unavailable: dict[str, str] = {}
    with evaluating(model), seeded(seed) as used:
        parts = split_aggregate(model, x, x_train, condition, condition_train)
        try:
            mixture = _mixture_of(surgery, inputs)
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
    progress: Progress | bool | None,
) -> _Mixture:
    draws = draw_aggregate(model, inputs, num_draws, seed, progress=progress)
    both = {"mixture": marginal_kl_of(draws), "mixture_plain": plain_marginal_kl_of(draws)}
    return _Mixture(both, average_kl_of(draws), information_of(draws))


def _mixture_of(surgery: ElboSurgery | None, inputs: Inputs) -> _Mixture | None:
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


# Which estimates of the marginal KL differ beyond their errors, and what follows from it.
#
# The mixture is on average no less than the population's KL(q(z) ‖ p(z)), a lower bound no more,
# and nothing places a density ratio. So a difference says something about an estimator or about
# the model, and what it says depends on the two kinds.

ERRORS = 3.0
# Differences that are exact but of no consequence, such as what the rule of three adds, in nats.
LEAST = 0.01
Kind = Literal["mixture", "ratio", "bound"]
MEANING: dict[tuple[Kind, Kind], str] = {
    ("mixture", "bound"): "the bound misses part of q(z), or the mixture of N posteriors "
    "overstates the population's KL: the truth lies between",
    ("mixture", "ratio"): "the classifier sees less than there is, or the mixture of N "
    "posteriors overstates the population's KL",
    ("ratio", "mixture"): "the classifier is overconfident: on average the mixture is no less "
    "than the population's KL",
    ("ratio", "bound"): "the excess of the ratio over the bound is not proven",
    ("bound", "ratio"): "the classifier sees too little: a lower bound proves more",
    ("bound", "bound"): "the first describes q(z) better: the second misses at least this much",
    ("bound", "mixture"): "both cannot be right but by chance: on average the mixture is no less "
    "than the population's KL, a lower bound no more",
    ("mixture", "mixture"): "two forms of one quantity: one of the two has a heavy tail",
}


@dataclass(frozen=True)
class Disagreement:
    """Two estimates of the marginal KL that differ by more than their errors.

    Attributes:
        higher: The name of the larger one.
        lower: The name of the smaller one.
        difference: The difference in nats, positive.
        stderr: Its standard error, of the pairs where both are of the same draws.
        meaning: What follows from it.
    """

    higher: str
    lower: str
    difference: float
    stderr: float
    meaning: str

    def __str__(self) -> str:
        amount = f"{self.difference:.2f} ± {self.stderr:.2f} nats"
        return f"{self.higher} − {self.lower} = {amount}: {self.meaning}."


def marginal_kl_disagreements(
    estimates: Mapping[str, Estimate], errors: float = ERRORS
) -> tuple[Disagreement, ...]:
    """Returns which estimates of the marginal KL differ beyond their errors, and what it means.

    It compares every pair (the plain mixture with the other mixture alone), so that among many
    one in a few hundred differs by chance. Less than a hundredth of a nat is never told.

    Args:
        estimates: By name, as :func:`compare_marginal_kl` returns them.
        errors: How many standard errors of the difference count.

    Example:
        >>> import torch
        >>> zero = torch.zeros(2)
        >>> a = Estimate("KL", "maf", zero + 5, zero, "lower", 0.1)
        >>> b = Estimate("KL", "classifier", zero + 2, zero, "none", 0.1)
        >>> print(*marginal_kl_disagreements({"maf": a, "ratio": b}))
        maf − ratio = 3.00 ± 0.14 nats: the classifier sees too little: a lower bound proves more.
    """
    return tuple(_disagreements(estimates, errors))


def _disagreements(estimates: Mapping[str, Estimate], errors: float) -> Iterator[Disagreement]:
    for (a, first), (b, second) in permutations(estimates.items(), 2):
        if not _comparable(first, second):
            continue
        difference = first.mean - second.mean
        stderr = _stderr_of_difference(first, second)
        if difference > max(LEAST, errors * stderr):
            meaning = MEANING[_kind(first), _kind(second)]
            yield Disagreement(a, b, difference, stderr, meaning)


def _kind(estimate: Estimate) -> Kind:
    if estimate.side == "lower":
        return "bound"
    return "ratio" if estimate.mixture_size is None else "mixture"


def _comparable(a: Estimate, b: Estimate) -> bool:
    """The plain form of the mixture is held against the other form alone."""
    plain = any(e.method.startswith("plain") for e in (a, b))
    return not plain or _kind(a) == _kind(b)


def _stderr_of_difference(a: Estimate, b: Estimate) -> float:
    """Paired where both use the same held-out draws, or are the two forms of one mixture."""
    if _kind(a) == _kind(b) == "mixture":
        return math.hypot(a.mc_error_of_mean, b.mc_error_of_mean)
    paired = a.held_out and b.held_out and a.data_id == b.data_id
    if not (paired and len(a.values) == len(b.values)):
        return math.hypot(a.stderr, b.stderr)
    return math.hypot(standard_error(a.values - b.values), a.shared_stderr, b.shared_stderr)
