"""What a diagnosis returns: verdicts, the estimates behind them, and the evidence behind those."""

from __future__ import annotations

__all__ = ["Diagnosis", "diagnose", "judge", "provenance"]

import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import torch
import xarray as xr
from torch import Tensor

from elboscope.core import Estimate, Finding, InputError, Sampled, data_id
from elboscope.core.estimate import VERSION
from elboscope.core.files import replace_with
from elboscope.data import as_tensor
from elboscope.diagnostics import CHECKS, Budget, Evidence, Progress, estimates_of, gather_evidence

from .findings_json import findings_json
from .tables import datatree, estimates_dataframe, netcdf


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
        >>> from dataclasses import replace
        >>> import elboscope as es
        >>> model = es.models.LinearGaussian.instance_1()
        >>> x, _ = model.sample(40, seed=0)
        >>> budget = replace(es.diagnostics.QUICK, num_temperatures=0, num_optimised=0)
        >>> diagnosis = es.report.diagnose(model, x, budget=budget)
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
        from .html import page  # draws: matplotlib and bokeh are loaded only for a page

        return replace_with(Path(path), page(self.findings, self.estimates, self.evidence))

    def to_json(self) -> str:
        """Returns verdicts and numbers as JSON of schema ``elboscope.findings/1``."""
        return findings_json(self.findings, self.estimates, self.evidence)

    def save_json(self, path: str | Path) -> Path:
        """Writes :meth:`to_json` as a whole or not at all."""
        return replace_with(Path(path), self.to_json() + "\n")

    def to_dataframe(self) -> pd.DataFrame:
        """Returns one row an estimate, with its value, its errors and its side."""
        return estimates_dataframe(self.estimates)

    def to_datatree(self) -> xr.DataTree:
        """Returns every value of every estimate, labelled, as a tree that ArviZ and xarray open."""
        return datatree(self.findings, self.estimates, self.evidence)

    def save_datatree(self, path: str | Path) -> Path:
        """Writes :meth:`to_datatree` as one netCDF file, as a whole or not at all."""
        return replace_with(Path(path), netcdf(self.to_datatree()))

    def _repr_html_(self) -> str:
        """The verdicts as a small table, for notebooks."""
        from .html import notebook_table

        return notebook_table(self.findings)

    def __str__(self) -> str:
        return "\n".join(map(str, self.findings))


# The whole way from a model and data to verdicts: convert, compute once, check.


def diagnose(
    model: Sampled,
    x: object,
    *,
    x_train: object | None = None,
    history: Sequence[Mapping[str, float]] | None = None,
    budget: Budget | str = "standard",
    seed: int = 0,
    condition: Tensor | None = None,
    condition_train: Tensor | None = None,
    images: object | None = None,
    settings: Mapping[str, object] | None = None,
    progress: Progress | None = None,
    keep_in: str | Path | None = None,
    resume: bool = False,
) -> Diagnosis:
    """Finds out what is wrong with a model on held-out data.

    Every number is computed once, at β = 1; every check is a function of those numbers. What
    cannot be computed is *unavailable* with its reason, and no other method replaces it.

    Args:
        model: Any object with ``prior()``, ``decode(z)`` and, for most checks, ``encode(x)``; or a
            generator with ``generate(z)`` instead of both, of which little can be measured.
        x: Held-out data: Tensor, array, Dataset, DataLoader or 8-bit images.
        x_train: The data the model was fitted to, for the overfitting check.
        history: Rows of the training's metrics, for the divergence check.
        budget: How much to spend: "quick", "standard" or "thorough".
        seed: Random seed of all draws; the caller's random state is left alone.
        condition: One row per row of x, for a conditional model.
        condition_train: The same for ``x_train``.
        images: What x shows, in [0, 1], where x is a binary draw of grey images: samples are then
            scored against these; by default against x.
        settings: What is known about the run (data's name, binarisation, KL weight), to be
            printed with the numbers.
        progress: Called as ``progress(stage, done, total)``; nothing is printed.
        keep_in: A folder in which each quantity is written down when it is done, in
            ``unfinished/``, which may be deleted afterwards.
        resume: Go on with what an earlier call wrote there; the numbers are those of one call,
            bit for bit on a CPU with as many threads.

    Returns:
        Verdicts, estimates and evidence.

    Raises:
        InputError: x or x_train cannot be used as data; the budget has another name; the folder
            cannot be written, or what is unfinished there is of another model, data, budget or
            seed.
        ContractError: A structural breach of the model's contract.
        Interrupted: Ctrl-C came; ``es.report.judge(stop.evidence)`` is the diagnosis until then.

    Example:
        >>> import elboscope as es
        >>> model = es.models.LinearGaussian.instance_1()
        >>> x, _ = model.sample(40, seed=0)
        >>> diagnosis = diagnose(model, x, budget="quick")
        >>> [finding.check for finding in diagnosis.findings][:2]
        ['divergence', 'likelihood scale']
    """
    batch = as_tensor(x)
    train = None if x_train is None else as_tensor(x_train, name="x_train").x
    if train is not None and train.shape[1:] != batch.x.shape[1:]:
        raise InputError(
            "x_train",
            expected=f"datapoints of shape {tuple(batch.x.shape[1:])}, like those of x",
            got=str(tuple(train.shape[1:])),
        )
    known = {"data_id": data_id(batch.x), "conversion": batch.treatment, **dict(settings or {})}
    evidence = gather_evidence(
        model,
        batch.x,
        x_train=train,
        history=history or (),
        budget=budget,
        seed=seed,
        condition=condition,
        condition_train=condition_train,
        images=None if images is None else as_tensor(images, name="images").x,
        settings={**known, **provenance()},
        progress=progress,
        keep_in=None if keep_in is None else Path(keep_in),
        resume=resume,
    )
    return judge(evidence)


def judge(evidence: Evidence) -> Diagnosis:
    """Returns the verdicts on what was computed; a check whose numbers are missing says so.

    Args:
        evidence: All of it, or what was done when a diagnosis was stopped.

    Example:
        >>> from dataclasses import replace
        >>> import elboscope as es
        >>> model = es.models.LinearGaussian.instance_1()
        >>> x, _ = model.sample(40, seed=0)
        >>> budget = replace(es.diagnostics.QUICK, num_temperatures=0, num_optimised=0)
        >>> evidence = es.diagnostics.gather_evidence(model, x, budget=budget)
        >>> judge(evidence)["divergence"].severity
        'ok'
    """
    findings = tuple(check(evidence) for check in CHECKS)
    return Diagnosis(findings, estimates_of(evidence), evidence)


def provenance() -> dict[str, str]:
    """Returns the versions that made a number.

    Example:
        >>> sorted(provenance())
        ['elboscope', 'python', 'system', 'torch']
    """
    return {
        "elboscope": VERSION,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
    }
