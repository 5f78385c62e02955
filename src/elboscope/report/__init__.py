"""From a model and data to verdicts, and from verdicts to a page, a file and a table."""

from elboscope.core.files import replace_with

from .diagnosis import Diagnosis, diagnose, provenance
from .findings_json import SCHEMA
from .quantities import IS_NOT, estimates_of

__all__ = [
    "IS_NOT",
    "SCHEMA",
    "Diagnosis",
    "diagnose",
    "estimates_of",
    "provenance",
    "replace_with",
]
