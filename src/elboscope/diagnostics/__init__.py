"""Checks: each a pure function from the shared evidence to a finding."""

from .budget import QUICK, STANDARD, THOROUGH, Budget, budget_named
from .evidence import Evidence, ImpliedScale
from .gather import gather_evidence

__all__ = [
    "QUICK",
    "STANDARD",
    "THOROUGH",
    "Budget",
    "Evidence",
    "ImpliedScale",
    "budget_named",
    "gather_evidence",
]
