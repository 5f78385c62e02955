"""What is computed of a model, said once, and the checks: pure functions of that evidence."""

from .budget import QUICK, STANDARD, THOROUGH, Budget, budget_named
from .checks import CHECKS
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
from .decision import Check, check
from .evidence import Evidence, ImpliedScale, Missing, is_generator
from .gather import Interrupted, Progress, gather_evidence
from .quantities import NUMBERS, QUANTITIES, estimates_of, reasons_of, title_of
from .quantity import Number, Quantity, Subject

__all__ = [
    "CHECKS",
    "NUMBERS",
    "QUANTITIES",
    "QUICK",
    "STANDARD",
    "THOROUGH",
    "Budget",
    "Check",
    "Evidence",
    "ImpliedScale",
    "Interrupted",
    "Missing",
    "Number",
    "Progress",
    "Quantity",
    "Subject",
    "UnitRow",
    "bound_tightness",
    "budget_named",
    "check",
    "divergence",
    "estimates_of",
    "gather_evidence",
    "inference_gap",
    "is_generator",
    "likelihood_certificate",
    "likelihood_scale",
    "likelihood_trust",
    "low_posterior",
    "low_posterior_verdict",
    "overfitting",
    "posterior_collapse",
    "prior_hole",
    "reasons_of",
    "sample_quality",
    "title_of",
    "unit_table",
]
