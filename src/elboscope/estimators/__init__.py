"""Estimators: functions from a model and data to numbers that carry their doubt."""

from .importance import importance_sampling, prior_sampling
from .lower_bound import evidence_lower_bound, reconstruction

__all__ = [
    "evidence_lower_bound",
    "importance_sampling",
    "prior_sampling",
    "reconstruction",
]
