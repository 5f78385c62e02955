"""A diagnosis as tables: rows of the page, a data frame, a data tree that ArviZ opens.

Groups: ``estimates/NAME`` (values and their diagnostics over ``datapoint``, ``draw`` or ``unit``,
with method, side and errors as attributes), ``posterior`` (the posterior mean of each
datapoint), ``observed_data``, ``low_posterior`` (draws of the prior), ``training`` and
``findings``.
"""

from __future__ import annotations

__all__ = ["Row", "datatree", "estimates_dataframe", "netcdf", "number", "row_of", "scale_rows"]

import json
import math
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import xarray as xr
from numpy.typing import NDArray
from torch import Tensor

from elboscope.core import Estimate, Finding, Side
from elboscope.diagnostics import NUMBERS, Evidence, ImpliedScale, reasons_of
from elboscope.diagnostics.quantities import number_rows
from elboscope.diagnostics.quantities.latents import POSTERIOR_MEANS
from elboscope.diagnostics.quantities.prior import LOW_POSTERIOR
from elboscope.diagnostics.quantity import Show
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
    variables: dict[str, Any] = {}
    for name in names:
        values = [float(row.get(name, math.nan)) for row in evidence.history]
        free = name.replace("/", ".")  # a slash is a path in a tree
        while free != name and (free in names or free in variables):
            free += "."
        variables[free] = ("row", np.array(values), {} if free == name else {"column": name})
    return xr.Dataset(variables)


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


# Estimates as rows of a table: every number with its errors, its side, K, n and its trust.

_SIDES: dict[Side, str] = {
    "lower": "lower bound",
    "upper": "upper bound",
    "unbiased": "unbiased",
    "none": "no bound",
}
_MARKS: dict[Side, str] = {"lower": "≥", "upper": "≤", "unbiased": "", "none": "≈"}
_COUNTS = {"datapoint": "datapoints", "draw": "draws", "unit": "units", "split": "splits",
           "group": "groups", "pair": "pairs", "seed": "critics"}  # fmt: skip


@dataclass(frozen=True)
class Row:
    """One line of a table, as text.

    Attributes:
        quantity: What was estimated.
        value: The mark of its side, the value, ± its standard error, the unit.
        side: On which side of the truth its expectation lies, in words.
        mc_error: The Monte Carlo part of the error, the data held fixed.
        samples: K, or the temperatures and chains of AIS; a dash where nothing was sampled.
        count: n, and of what.
        trust: k̂ and ESS where importance weights are used.
        method: How it was estimated.
        is_not: What the number does not say.
    """

    quantity: str
    value: str
    side: str = ""
    mc_error: str = "–"
    samples: str = "–"
    count: str = "–"
    trust: str = "–"
    method: str = ""
    is_not: str = ""


def number(value: float, stderr: float | None = None, *, nonnegative: bool = False) -> str:
    """Formats a value to the digits that its error leaves meaning.

    Example:
        >>> number(-89.8512, 0.2123), number(float("nan")), number(-0.02, 0.1, nonnegative=True)
        ('−89.85 ± 0.21', 'NaN', '0 within the error (−0.02 ± 0.10)')
    """
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else ("∞" if value > 0 else "−∞")
    if stderr is None or not math.isfinite(stderr):
        return f"{value:.4g}".replace("-", "−")
    digits = 4 if stderr <= 0 else min(8, max(2, 1 - math.floor(math.log10(stderr))))
    shown = f"{value:.{digits}f} ± {stderr:.{digits}f}".replace("-", "−")
    within = nonnegative and value < 0 and -value <= 2 * stderr
    return f"0 within the error ({shown})" if within else shown


def row_of(key: str, estimate: Estimate) -> Row:
    """Returns the row of an estimate; ``key`` finds its title and what the number is not.

    Args:
        key: Its name in the diagnosis; one of no known number is shown as its mean.
        estimate: The estimate.

    Example:
        >>> v = torch.tensor([-1.0, -2.0])
        >>> e = Estimate.per_datapoint("log p(x)", "exact", v, v * 0, "lower")
        >>> row_of("log_px", e).value, row_of("log_px", e).side
        ('≥ −1.50 ± 0.50 nats', 'lower bound')
    """
    number = NUMBERS.get(key)
    title, is_not = (number.title, number.is_not) if number else (estimate.name, "")
    show = number.show if number else "mean"
    total = estimate.axis == "unit" and show == "mean"
    return Row(
        quantity=title + (", total" if total else ""),
        value=_value(show, estimate),
        side=_SIDES[estimate.side],
        mc_error=_mc_error(show, estimate),
        samples=_samples(estimate),
        count=f"{len(estimate.values)} {_COUNTS[estimate.axis]}",
        trust=_trust(estimate),
        method=estimate.method,
        is_not=is_not,
    )


def _samples(estimate: Estimate) -> str:
    """K; temperatures and chains where there is annealing."""
    parts = [str(estimate.num_samples)] if estimate.num_samples is not None else []
    if estimate.num_temperatures is not None:
        parts.append(f"T={estimate.num_temperatures}, C={estimate.num_chains}")
    return "; ".join(parts) or "–"


def _value(show: Show, estimate: Estimate) -> str:
    if show == "count":
        active = int((estimate.values > 0.01).sum())
        return f"{active} of {len(estimate.values)} above 0.01"
    if show == "range":
        values = estimate.values.double()
        return f"{number(values.min().item())} to {number(values.max().item())} nats"
    value = estimate.total if estimate.axis == "unit" else estimate.mean
    shown = number(value, estimate.stderr, nonnegative=estimate.nonnegative)
    return f"{_MARKS[estimate.side]} {shown} {estimate.measured_in}".lstrip()


def _mc_error(show: Show, estimate: Estimate) -> str:
    if show != "mean" or not len(estimate.values):
        return "–"
    error = estimate.mc_error_of_mean
    error *= len(estimate.values) if estimate.axis == "unit" else 1
    return f"{error:.2g}" if error > 0 else ("none" if error == 0 else "unknown")


def _trust(estimate: Estimate) -> str:
    """The tail index and the effective sample size of the importance weights."""
    khat, ess = estimate.diagnostics.get("khat"), estimate.diagnostics.get("ess")
    parts = [] if khat is None else [_khat(khat.double())]
    if ess is not None and len(ess):
        parts.append(f"ESS median {ess.double().median().item():.0f}")
    return "; ".join(part for part in parts if part) or "–"


def _khat(khat: Tensor) -> str:
    known = khat[~khat.isnan()]
    if not len(known):
        return "k̂ unknown"
    bad = (known >= 0.7).double().mean().item()
    highest = torch.clamp(known.max(), min=-9.99).item()
    share = f"{bad:.1%} ≥ 0.7" if bad else "none ≥ 0.7"
    return f"k̂ at most {highest:.2f}, {share}".replace("-", "−")


def scale_rows(scale: ImpliedScale | None) -> list[Row]:
    """Returns the declared and the implied σ² of a Gaussian decoder, or b of a Laplace one.

    Args:
        scale: What was measured; ``None`` for other decoders.
    """
    if scale is None:
        return []
    ratio = number(scale.ratio, scale.ratio_stderr)
    laplace = scale.family == "Laplace"
    name, error = ("b", "absolute") if laplace else ("σ²", "squared")
    return [
        Row(
            f"implied {name}",
            f"≈ {number(scale.implied, scale.implied_stderr)}",
            "no bound",
            method=f"mean {error} error per value, z ~ q(z|x)",
            is_not="Not the noise of the data: the errors of this decoder.",
        ),
        Row(
            f"declared {name}",
            number(scale.declared),
            "exact",
            method=("the decoder's b" if laplace else "the decoder's variance")
            + ("" if scale.constant else ", mean over values"),
            is_not="Not estimated: what the model states.",
        ),
        Row(
            "mean of |x − μ| / b" if laplace else "mean of (x − μ)² / σ²",
            f"≈ {ratio}",
            "no bound",
            method="1 where the scale is right",
            is_not="Not a likelihood: each value on its own.",
        ),
    ]
