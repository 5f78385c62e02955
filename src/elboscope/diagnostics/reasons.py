"""Why a quantity cannot be asked of this model: each returns the reason, or nothing if it can."""

from __future__ import annotations

__all__ = [
    "GENERATOR",
    "NO_CLOSED_FORM",
    "is_generator",
    "no_density",
    "no_encoder",
    "no_gap",
    "no_likelihood",
    "no_weights",
    "not_gaussian",
]

from collections.abc import Mapping

from elboscope.core import Estimate

from .evidence import Evidence

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
