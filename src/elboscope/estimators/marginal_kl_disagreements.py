r"""Which estimates of the marginal KL differ beyond their errors, and what follows from it.

The mixture is on average no less than the population's KL(q(z) ‖ p(z)), a lower bound no more,
and nothing places a density ratio. So a difference says something about an estimator or about the
model, and what it says depends on the two kinds.
"""

from __future__ import annotations

__all__ = ["Disagreement", "marginal_kl_disagreements"]

import math
from collections.abc import Iterator, Mapping
from itertools import permutations
from typing import Literal, NamedTuple

from elboscope.core import Estimate, standard_error

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


class Disagreement(NamedTuple):
    """Two estimates of the marginal KL that differ by more than their errors.

    Attributes:
        higher: The name of the larger one.
        lower: The name of the smaller one.
        difference: In nats, positive.
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
    return "mixture" if "mixture_size" in estimate.settings else "ratio"


def _comparable(a: Estimate, b: Estimate) -> bool:
    """The plain form of the mixture is held against the other form alone."""
    plain = any(e.method.startswith("plain") for e in (a, b))
    return not plain or _kind(a) == _kind(b)


def _stderr_of_difference(a: Estimate, b: Estimate) -> float:
    """Of pairs where both are of the same held-out draws; of this mixture for its two forms."""
    if _kind(a) == _kind(b) == "mixture":
        return math.hypot(a.mc_error_of_mean, b.mc_error_of_mean)
    held_out = "evaluated_on" in a.settings and "evaluated_on" in b.settings
    if not (held_out and a.data_id == b.data_id and len(a.values) == len(b.values)):
        return math.hypot(a.stderr, b.stderr)
    prior_errors = [_number(e.settings.get("prior_error", 0.0)) for e in (a, b)]
    return math.hypot(standard_error(a.values - b.values), *prior_errors)


def _number(value: object) -> float:
    return float(value) if isinstance(value, (int, float)) else 0.0
