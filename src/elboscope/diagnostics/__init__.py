"""Checks: each a pure function from the shared evidence to a finding."""

from collections.abc import Callable

from elboscope.core import Finding

from .budget import QUICK, STANDARD, THOROUGH, Budget, budget_named
from .checks.bound_tightness import bound_tightness
from .checks.divergence import divergence
from .checks.inference_gap import inference_gap
from .checks.likelihood_certificate import likelihood_certificate
from .checks.likelihood_scale import likelihood_scale
from .checks.likelihood_trust import likelihood_trust
from .checks.low_posterior import low_posterior, low_posterior_verdict
from .checks.overfitting import overfitting
from .checks.posterior_collapse import UnitRow, posterior_collapse, unit_table
from .checks.prior_hole import prior_hole
from .checks.sample_quality import sample_quality
from .evidence import Evidence, ImpliedScale
from .gather import gather_evidence

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
