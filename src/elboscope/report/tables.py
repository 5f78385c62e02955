"""Every value of a diagnosis, labelled, in one netCDF file that xarray and ArviZ open.

Groups: ``estimates/NAME`` (values and their diagnostics over ``datapoint``, ``draw`` or ``unit``,
with method, side and errors as attributes), ``posterior`` (the posterior mean of each
datapoint), ``observed_data``, ``low_posterior`` (draws of the prior), ``training`` and
``findings``.
"""

from __future__ import annotations

__all__ = ["datatree", "estimates_dataframe", "netcdf"]

import json
import math
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray
from torch import Tensor

from elboscope.core import Estimate, Finding
from elboscope.diagnostics import Evidence, reasons_of
from elboscope.diagnostics.quantities import number_rows
from elboscope.diagnostics.quantities.latents import POSTERIOR_MEANS
from elboscope.diagnostics.quantities.prior import LOW_POSTERIOR
from elboscope.estimators import LowSampleAnalysis

from .findings_json import SCHEMA, plain


def datatree(
    findings: Sequence[Finding], estimates: Mapping[str, Estimate], evidence: Evidence
) -> xr.DataTree:
    """Returns the tree.

    ``posterior`` holds ``z_mean``, one posterior *mean* a datapoint, in ArviZ's dimensions
    (chain, draw) with the datapoints as draws: they are not draws of one posterior, and no
    convergence statistic means anything for them.

    Args:
        findings: The verdicts.
        estimates: The numbers, by name.
        evidence: Everything that was computed.
    """
    root = {"schema": SCHEMA, "settings": _json(evidence.settings)}
    groups = {"/": xr.Dataset(attrs={**root, "skipped": _json(reasons_of(evidence))})}
    rows = number_rows(evidence)
    groups |= {f"/estimates/{key}": _estimate(e, rows.get(key)) for key, e in estimates.items()}
    if POSTERIOR_MEANS in evidence:
        groups["/posterior"] = _posterior(evidence[POSTERIOR_MEANS])
    groups["/observed_data"] = _observed(evidence)
    if LOW_POSTERIOR in evidence:
        groups["/low_posterior"] = _low_posterior(evidence[LOW_POSTERIOR])
    if evidence.history:
        groups["/training"] = _training(evidence)
    if findings:
        groups["/findings"] = _findings(findings)
    return xr.DataTree.from_dict(groups)


def netcdf(tree: xr.DataTree) -> bytes:
    """Returns the tree as the bytes of a netCDF file."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tree.nc"
        tree.to_netcdf(path, engine="h5netcdf")
        return path.read_bytes()


def _json(value: object) -> str:
    return json.dumps(plain(value), ensure_ascii=False)


def _numpy(values: Tensor) -> NDArray[Any]:
    array: NDArray[Any] = values.detach().cpu().numpy()
    return array


def _estimate(estimate: Estimate, rows: Tensor | None) -> xr.Dataset:
    columns = {"value": estimate.values, "mc_stderr": estimate.mc_stderr, **estimate.diagnostics}
    variables = {name: (estimate.axis, _numpy(values)) for name, values in columns.items()}
    count = np.arange(len(estimate.values)) if rows is None else _numpy(rows)
    return xr.Dataset(
        variables,
        coords={estimate.axis: count},
        attrs={
            "name": estimate.name,
            "method": estimate.method,
            "side": estimate.side,
            "unit": estimate.measured_in,
            "stderr": estimate.stderr,
            "data_id": estimate.data_id,
            "settings": _json(estimate.settings),
        },
    )


def _posterior(means: Tensor) -> xr.Dataset:
    z = _numpy(means)
    coords = {"chain": [0], "draw": np.arange(z.shape[0]), "latent": np.arange(z.shape[1])}
    note = "posterior mean of each datapoint; draw counts datapoints"
    return xr.Dataset(
        {"z_mean": (("chain", "draw", "latent"), z[None], {"description": note})}, coords=coords
    )


def _observed(evidence: Evidence) -> xr.Dataset:
    x = _numpy(evidence.x)
    dimensions = ("datapoint", *(f"x_dim_{i}" for i in range(x.ndim - 1)))
    return xr.Dataset({"x": (dimensions, x)}, coords={"datapoint": np.arange(len(x))})


def _low_posterior(found: LowSampleAnalysis) -> xr.Dataset:
    """All prior draws with their log-densities, and the ELBOs that were compared."""
    drawn = {"log_q": found.samples.log_q, "log_p": found.samples.log_p}
    variables = {name: ("prior_draw", _numpy(values)) for name, values in drawn.items()}
    variables |= {
        f"elbo_{name.replace(' ', '_')}": (f"{name.replace(' ', '_')}_datapoint", _numpy(values))
        for name, values in found.elbo.items()
    }
    note = {"uncovered": found.samples.uncovered, "settings": _json(found.settings)}
    return xr.Dataset(variables, attrs={**note, "auroc": found.separation.auroc})


def _training(evidence: Evidence) -> xr.Dataset:
    names = dict.fromkeys(name for row in evidence.history for name in row)
    columns = {name: [float(r.get(name, math.nan)) for r in evidence.history] for name in names}
    return xr.Dataset({name: ("row", np.array(values)) for name, values in columns.items()})


def _findings(findings: Sequence[Finding]) -> xr.Dataset:
    fields = ("severity", "summary", "action")
    text = {name: ("check", [getattr(f, name) for f in findings]) for name in fields}
    evidence = {"evidence": ("check", [_json(f.evidence) for f in findings])}
    return xr.Dataset({**text, **evidence}, coords={"check": [f.check for f in findings]})


# The estimates of a diagnosis as a table.


def estimates_dataframe(estimates: Mapping[str, Estimate]) -> pd.DataFrame:
    """Returns one row an estimate, indexed by its name in the diagnosis.

    ``value`` is the mean, except for quantities per latent unit, where it is the total (and
    ``stderr`` and ``mc_stderr`` are the total's).

    Args:
        estimates: Estimates by name.

    Example:
        >>> import torch
        >>> v = torch.tensor([-1.0, -2.0])
        >>> e = Estimate.per_datapoint("log p(x)", "exact", v, v * 0, "unbiased")
        >>> estimates_dataframe({"log_px": e}).loc["log_px", "value"]
        np.float64(-1.5)
    """
    rows = {key: _row(estimate) for key, estimate in estimates.items()}
    columns = ["name", "value", "stderr", "mc_stderr", "side", "axis", "n", "num_samples", "method",
               "unit"]  # fmt: skip
    table = pd.DataFrame.from_dict(rows, orient="index", columns=columns)
    return table.rename_axis("estimate")


def _row(estimate: Estimate) -> list[object]:
    total = estimate.axis == "unit"
    n = len(estimate.values)
    return [
        estimate.name,
        estimate.total if total else estimate.mean,
        estimate.stderr,
        estimate.mc_error_of_mean * (n if total else 1),
        estimate.side,
        estimate.axis,
        n,
        estimate.num_samples,
        estimate.method,
        estimate.measured_in,
    ]
