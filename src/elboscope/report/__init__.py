"""From a model and data to verdicts, and from verdicts to a page, a file and a table."""

from elboscope.core.files import replace_with
from elboscope.diagnostics import estimates_of

from .diagnosis import Diagnosis, diagnose, judge, provenance
from .findings_json import SCHEMA

__all__ = ["SCHEMA", "Diagnosis", "diagnose", "estimates_of", "judge", "provenance", "replace_with"]
