"""Thresholds against numbers with an error: decided, or honestly undecided.

A number exceeds a threshold when it does so by two standard errors (about 97.5 % one-sided, for
one check; a page of ten checks at one error would cry wolf on every healthy sixth). Between,
the verdict is *undecided*.
"""

from __future__ import annotations

__all__ = [
    "GENERATOR",
    "NO_CLOSED_FORM",
    "exceeds",
    "graded",
    "is_generator",
    "needs",
    "no_density",
    "no_encoder",
    "no_gap",
    "no_likelihood",
    "no_weights",
    "not_gaussian",
]

import math
from collections.abc import Mapping

from elboscope.core import Estimate, Finding, Severity

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


# Why a quantity cannot be asked of this model: each returns the reason, or nothing if it can.

GENERATOR = "a GAN has no encoder q(z|x), and its p(x|z) has no density"
NO_CLOSED_FORM = "KL(q(z|x) ‖ p(z)) has no closed form for these distributions"


def is_generator(evidence: Evidence) -> bool:
    """Whether it maps noise to data and nothing else: its p(x|z) is all on one x."""
    c = evidence.capabilities
    return c.likelihood == "PointMass" and not c.has_encoder


def no_encoder(evidence: Evidence) -> str:
    """What needs q(z|x)."""
    c = evidence.capabilities
    if c.has_encoder:
        return ""
    return "; ".join(c.problems) or (
        GENERATOR if is_generator(evidence) else "the model has no encoder"
    )


def no_density(evidence: Evidence) -> str:
    """What needs log q(z|x)."""
    c = evidence.capabilities
    if no_encoder(evidence) or c.has_posterior_density:
        return no_encoder(evidence)
    refused = "; ".join(p for p in c.problems if "q(z|x)" in p)
    return refused or f"the posterior ({c.posterior}) can be sampled but has no density"


def no_likelihood(evidence: Evidence) -> str:
    """What needs log p(x|z) at this x."""
    c = evidence.capabilities
    if not c.in_support:
        outside = next((p for p in c.problems if "support" in p), "x lies outside the support")
        return f"{outside}; a value of log p(x|z) would be a cross-entropy, not a likelihood"
    if c.has_likelihood:
        return ""
    refused = "; ".join(c.problems) or (GENERATOR if is_generator(evidence) else "")
    return refused or f"the decoder ({c.likelihood or 'none'}) has no density"


def no_weights(evidence: Evidence) -> str:
    """What needs importance weights: of q's own draws, which some score without a density."""
    own = evidence.capabilities.scores_own_draws
    return ("" if own else no_density(evidence)) or no_likelihood(evidence)


def no_gap(elbo: Estimate | None, log_px: Estimate | None, skipped: Mapping[str, str]) -> str:
    """What needs both log p(x) and the ELBO; the reason of the one that is missing."""
    missing = [n for n, e in (("elbo", elbo), ("log_px", log_px)) if e is None]
    if not missing:
        return ""
    return f"it needs log p(x) and the ELBO: {skipped.get(missing[0], 'one is missing')}"


def not_gaussian(evidence: Evidence) -> str:
    """What needs a Gaussian decoder, or a Laplace one."""
    family = evidence.capabilities.likelihood
    if family in ("Normal", "Laplace"):
        return ""
    return f"the likelihood is {family or 'unknown'}, not Gaussian"
