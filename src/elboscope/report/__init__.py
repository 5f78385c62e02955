"""From a model and data to verdicts, and from verdicts to a page, a file and a table."""

from .diagnosing import diagnose, provenance
from .diagnosis import Diagnosis
from .findings_json import SCHEMA
from .quantities import IS_NOT, estimates_of
from .writing import replace_with

__all__ = [
    "IS_NOT",
    "SCHEMA",
    "Diagnosis",
    "diagnose",
    "estimates_of",
    "provenance",
    "replace_with",
]
