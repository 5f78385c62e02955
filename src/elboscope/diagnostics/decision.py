"""Thresholds against numbers with an error: decided, or honestly undecided.

A number exceeds a threshold when it does so by two standard errors (about 97.5 % one-sided, for
one check; a page of ten checks at one error would cry wolf on every healthy sixth). Between,
the verdict is *undecided*.
"""

from __future__ import annotations

__all__ = ["exceeds", "graded", "needs"]

import math

from elboscope.core import Finding, Severity

from .evidence import Evidence

ERRORS = 2.0


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


def needs(check: str, evidence: Evidence, *names: str) -> Finding | None:
    """The finding *unavailable*, if one of these fields is missing, with its reason."""
    for name in names:
        if getattr(evidence, name) is None:
            reason = evidence.skipped.get(name, "it was not computed")
            return Finding(
                check,
                "unavailable",
                f"{QUANTITIES.get(name, name)} is missing: {reason.rstrip('.')}.",
                {"missing": name, "reason": reason},
            )
    return None


QUANTITIES = {
    "log_px": "log p(x)",
    "log_likelihood": "Annealed importance sampling",
    "elbo": "The ELBO",
    "bound_gap": "The gap log p(x) − ELBO",
    "inference_gap": "The best posterior of each datapoint",
    "kl": "KL(q(z|x)‖p(z))",
    "unit_kl": "The KL per unit",
    "active_units": "The variance of the posterior means",
    "surgery": "The aggregate posterior",
    "low_posterior": "Samples from where q(z) hardly goes",
    "sample_quality": "A score of samples",
    "scale": "The decoder's variance",
    "train_log_px": "log p(x) of the training data",
    "train_elbo": "The ELBO of the training data",
}
