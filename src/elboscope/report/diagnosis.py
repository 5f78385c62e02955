"""What a diagnosis returns: verdicts, the estimates behind them, and the evidence behind those."""

from __future__ import annotations

__all__ = ["Diagnosis"]

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import xarray as xr

from elboscope.core import Estimate, Finding
from elboscope.diagnostics.evidence import Evidence

from .writing import replace_with


@dataclass(frozen=True, eq=False)
class Diagnosis:
    """Verdicts about a model on one data set.

    It is about the model, the data and the budget it was made with; another data set, or more
    samples, can change a verdict, and *undecided* ones are expected to.

    Attributes:
        findings: One verdict a check.
        estimates: Every number, by name.
        evidence: Everything that was computed, and why the rest was not.

    Example:
        >>> import elboscope as es
        >>> model = es.models.LinearGaussian.instance_1()
        >>> x, _ = model.sample(40, seed=0)
        >>> diagnosis = es.report.diagnose(model, x, budget="quick")
        >>> diagnosis["divergence"].severity
        'ok'
    """

    findings: tuple[Finding, ...]
    estimates: Mapping[str, Estimate]
    evidence: Evidence

    def __getitem__(self, check: str) -> Finding:
        """Returns the verdict of a check.

        Raises:
            KeyError: No such check was made.
        """
        for finding in self.findings:
            if finding.check == check:
                return finding
        raise KeyError(f"{check!r}; checks made: {', '.join(f.check for f in self.findings)}")

    def save(self, path: str | Path) -> Path:
        """Writes the report: one HTML file that needs no other file and no network.

        Args:
            path: Where; missing folders are made, an existing file is replaced as a whole.

        Returns:
            The path.
        """
        from .html import page

        return replace_with(Path(path), page(self))

    def to_json(self) -> str:
        """Returns verdicts and numbers as JSON of schema ``elboscope.findings/1``."""
        from .findings_json import findings_json

        return findings_json(self)

    def save_json(self, path: str | Path) -> Path:
        """Writes :meth:`to_json` as a whole or not at all."""
        return replace_with(Path(path), self.to_json() + "\n")

    def to_dataframe(self) -> pd.DataFrame:
        """Returns one row an estimate, with its value, its errors and its side."""
        from .dataframe import estimates_dataframe

        return estimates_dataframe(self.estimates)

    def to_datatree(self) -> xr.DataTree:
        """Returns every value of every estimate, labelled, as a tree that ArviZ and xarray open."""
        from .datatree import datatree

        return datatree(self)

    def save_datatree(self, path: str | Path) -> Path:
        """Writes :meth:`to_datatree` as one netCDF file, as a whole or not at all."""
        from .datatree import netcdf

        return replace_with(Path(path), netcdf(self.to_datatree()))

    def _repr_html_(self) -> str:
        """The verdicts as a small table, for notebooks."""
        from .html import notebook_table

        return notebook_table(self)

    def __str__(self) -> str:
        return "\n".join(map(str, self.findings))
