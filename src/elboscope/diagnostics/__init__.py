"""Checks: each a pure function from the shared evidence to a finding."""

from collections.abc import Callable

from elboscope.core import Finding

from .bound_tightness import bound_tightness
from .budget import QUICK, STANDARD, THOROUGH, Budget, budget_named
from .divergence import divergence
from .evidence import Evidence, ImpliedScale
from .gather import gather_evidence
from .inference_gap import inference_gap
from .likelihood_certificate import likelihood_certificate
from .likelihood_scale import likelihood_scale
from .likelihood_trust import likelihood_trust
from .low_posterior import low_posterior, low_posterior_verdict
from .overfitting import overfitting
from .posterior_collapse import posterior_collapse
from .prior_hole import prior_hole
from .sample_quality import sample_quality
from .unit_table import UnitRow, unit_table

__all__ = [
    "CHECKS",
    "QUICK",
    "STANDARD",
    "THOROUGH",
    "Budget",
    "Evidence",
    "ImpliedScale",
    "UnitRow",
    "bound_tightness",
    "budget_named",
    "divergence",
    "gather_evidence",
    "inference_gap",
    "likelihood_certificate",
    "likelihood_scale",
    "likelihood_trust",
    "low_posterior",
    "low_posterior_verdict",
    "overfitting",
    "posterior_collapse",
    "prior_hole",
    "sample_quality",
    "unit_table",
]

# In the order in which they are read: what makes later numbers meaningless comes first.
CHECKS: tuple[Callable[[Evidence], Finding], ...] = (
    divergence,
    likelihood_scale,
    likelihood_trust,
    likelihood_certificate,
    bound_tightness,
    inference_gap,
    posterior_collapse,
    prior_hole,
    low_posterior,
    sample_quality,
    overfitting,
)
