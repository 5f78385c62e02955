"""Thresholds against numbers with an error: decided, or honestly undecided.

A number exceeds a threshold when it does so by two standard errors (about 97.5 % one-sided, for
one check; a page of ten checks at one error would cry wolf on every healthy sixth). Between,
the verdict is *undecided*. What several checks decide alike stands here too: how large a gap is
beside the KL term, and whether importance weights can be trusted.
"""

from __future__ import annotations

__all__ = [
    "BAD_SHARE",
    "ERRORS",
    "USUAL_K",
    "Check",
    "Invariant",
    "breach",
    "check",
    "contradicted",
    "exceeds",
    "gap_thresholds",
    "graded",
    "prior_excess",
    "rate_of",
    "share",
    "unavailable",
    "usable_threshold",
    "weights_usable",
]

import functools
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from torch import Tensor

from elboscope.core import Estimate, Finding, Severity

from .evidence import Evidence, Missing
from .quantities.likelihood import ELBO, KL

ERRORS = 2.0
# What must hold is broken beyond so many errors, and beyond the rounding of float32 sums.
BREACH, ROUNDING = 3.0, 1e-5

Invariant = Callable[[Evidence], Iterable[str]]
"""From the evidence to the breaches of what must hold, in words."""


class Check:
    """A check: a pure function from the evidence to a finding.

    A quantity that it asks for and that was not computed makes it *unavailable*, with the reason.

    Attributes:
        name: Its name on the page and in the files.
        asked_in: The question of the report that it answers.
    """

    __name__: str

    def __init__(
        self,
        name: str,
        asked_in: str,
        judge: Callable[[Evidence], Finding],
        invariants: tuple[Invariant, ...] = (),
    ) -> None:
        functools.update_wrapper(self, judge)
        self.name, self.asked_in, self._judge = name, asked_in, judge
        self._invariants = invariants

    def __call__(self, evidence: Evidence) -> Finding:
        """Returns the verdict; *undecided* where its numbers contradict each other."""
        try:
            finding = self._judge(evidence)
        except Missing as missing:
            return unavailable(self.name, missing)
        breaches = [text for invariant in self._invariants for text in invariant(evidence)]
        return contradicted(finding, breaches) if breaches else finding

    def __repr__(self) -> str:
        return f"<Check: {self.name}>"


def check(
    name: str, *, asked_in: str = "", invariants: tuple[Invariant, ...] = ()
) -> Callable[[Callable[[Evidence], Finding]], Check]:
    """Makes a check of a function.

    Args:
        name: Its name on the page and in the files.
        asked_in: The question of the report that it answers, by its key; empty for one that
            stands among the other checks.
        invariants: What must hold of its numbers whatever the model is. Where one is breached,
            the verdict is a contradiction, *undecided*, and never a result.

    Example:
        >>> from elboscope.diagnostics.quantities.likelihood import BOUND_GAP
        >>> @check("my own")
        ... def my_own(evidence):
        ...     return Finding("my own", "ok", f"{evidence[BOUND_GAP].mean:.2f} nats.")
        >>> my_own.name
        'my own'
    """
    return lambda judge: Check(name, asked_in, judge, invariants)


def contradicted(finding: Finding, breaches: Sequence[str]) -> Finding:
    """Returns the finding as a contradiction: what it concluded stands behind it, undecided."""
    return replace(
        finding,
        severity="undecided",
        summary=f"Contradiction: {'; '.join(breaches)}. No conclusion is drawn. It read: "
        f"{finding.summary}",
        evidence={**finding.evidence, "contradictions": tuple(breaches)},
        action="A bound is broken, by the model (does it keep the contract? es.check_model(model, "
        "x)) or by elboscope: please report it with findings.json.",
    )


def breach(name: str, excess: float, error: float, scale: float = 1.0) -> str:
    """Says by how much a number lies beyond what is possible; nothing within three errors.

    Args:
        name: What is broken, in words.
        excess: By how much, in nats; negative where it is not.
        error: Its standard error.
        scale: The size of what was subtracted, whose rounding is no breach.

    Example:
        >>> breach("the ELBO exceeds log p̂", 0.5, 0.1), breach("", 0.2, 0.1)
        ('the ELBO exceeds log p̂ by 0.5 ± 0.1 nats', '')
    """
    rounding = ROUNDING * max(abs(scale), 1.0)
    if not math.isfinite(excess) or not excess > BREACH * _known(error) + rounding:
        return ""
    return f"{name} by {excess:.3g} ± {_known(error):.2g} nats"


def _known(error: float) -> float:
    return error if math.isfinite(error) else 0.0


def unavailable(check: str, missing: Missing) -> Finding:
    """Returns the finding of a check that misses a quantity."""
    numbers = {"missing": missing.name, "reason": missing.reason}
    return Finding(check, "unavailable", str(missing), numbers)


def exceeds(value: float, error: float, threshold: float) -> bool | None:
    """Whether value ≥ threshold; ``None`` if the threshold lies within the error.

    Example:
        >>> exceeds(1.0, 0.1, 0.7), exceeds(1.0, 0.2, 0.7), exceeds(0.1, 0.1, 0.7)
        (True, None, False)
    """
    if value - ERRORS * error >= threshold:
        return True
    return False if value + ERRORS * error < threshold else None


def graded(value: float, error: float, *, warning: float, problem: float) -> Severity:
    """The severity of a number that is bad when large, given its error.

    A value between the two thresholds, whose error reaches the upper one, is a warning: that
    much is decided.

    Example:
        >>> [graded(v, 0.1, warning=1.0, problem=2.0) for v in (0.5, 1.1, 1.5, 1.9, 2.5)]
        ['ok', 'undecided', 'warning', 'warning', 'problem']
    """
    if math.isnan(value) or math.isnan(error):
        return "undecided"
    if exceeds(value, error, problem):
        return "problem"
    if exceeds(value, error, warning):
        return "warning"
    return "ok" if exceeds(value, error, warning) is False else "undecided"


# How large a gap between log p(x) and a bound is, beside the nats that the code carries.

# A gap is large beside the nats that the code carries. Published VAEs on MNIST lose 2–3 nats beside
# a KL term of about 25 (Cremer et al., Table 1): a tenth. Half as much again is worth a look; a
# half means that the encoder's error costs as much as half of what it conveys.
WARNING_SHARE, PROBLEM_SHARE = 0.15, 0.5
# Where the code carries next to nothing, shares say nothing: below a fifth of a nat a gap is no
# subject. From two nats on it is worth a look whatever the KL: published models differ by less.
LEAST_NATS, MOST_NATS, PROBLEM_NATS = 0.2, 2.0, 2.0


def gap_thresholds(rate: float) -> tuple[float, float]:
    """Returns from how many nats on a gap is a warning and a problem, beside the rate.

    Args:
        rate: The average KL(q(z|x) ‖ p(z)): nats that the code carries.

    Example:
        >>> gap_thresholds(10.0), gap_thresholds(0.0), gap_thresholds(25.0)
        ((1.5, 5.0), (0.2, 2.0), (2.0, 12.5))
    """
    return (
        max(LEAST_NATS, min(WARNING_SHARE * rate, MOST_NATS)),
        max(PROBLEM_NATS, PROBLEM_SHARE * rate),
    )


def rate_of(evidence: Evidence) -> float:
    """Returns the mean KL, in closed form or as the ELBO sampled it; 0 where neither is known."""
    closed, elbo = evidence.get(KL), evidence.get(ELBO)
    if closed is not None:
        return closed.mean
    kl = None if elbo is None else elbo.diagnostics.get("kl")
    return 0.0 if kl is None else kl.double().mean().item()


# Whether importance weights can be trusted.

# k̂ ≥ 0.7: "impractical to use" (Vehtari et al.); at small K already 1 − 1/log₁₀ K.
UNUSABLE_K = 0.7
# A fitted k̂ scatters by about (1 + k)/√M around k, M = 3√K weights in the tail: 0.1 at K = 5000,
# 0.14 at K = 1000. A fifth of the datapoints at ≥ 0.7 is more than such noise.
BAD_SHARE = 0.2
# The K of an estimate that does not say it.
USUAL_K = 5000


def usable_threshold(K: int | None) -> float:
    """Returns min(0.7, 1 − 1/log₁₀ K), above which K weights are not enough.

    Example:
        >>> round(usable_threshold(100), 3), usable_threshold(5000)
        (0.5, 0.7)
    """
    return min(UNUSABLE_K, 1 - 1 / math.log10(max(K or USUAL_K, 11)))


def share(bad: Tensor) -> tuple[float, float]:
    """Returns the share of datapoints and its binomial error (of n + 2: never zero)."""
    n = len(bad)
    share = bad.double().mean().item()
    smoothed = (share * n + 1) / (n + 2)
    return share, math.sqrt(smoothed * (1 - smoothed) / (n + 2))


def weights_usable(log_px: Estimate) -> bool:
    """Whether no fifth of the datapoints has unusable weights; AIS has none."""
    khat = log_px.diagnostics.get("khat")
    if khat is None or not len(khat):
        return True
    bad = khat >= usable_threshold(log_px.num_samples)
    return exceeds(*share(bad), BAD_SHARE) is not True


def prior_excess(log_px: Estimate, prior: Estimate | None) -> tuple[float, float] | None:
    """Returns by how much sampling the prior decidedly exceeds sampling q, with the error.

    A posterior of too small a support has harmless weights; only another sampler can tell.

    Args:
        log_px: log p̂(x) by samples of q.
        prior: The same by samples of the prior, if it is known.
    """
    if prior is None:
        return None
    excess, error = prior.mean - log_px.mean, math.hypot(prior.stderr, log_px.stderr)
    return (excess, error) if exceeds(excess, error, 0.0) else None
