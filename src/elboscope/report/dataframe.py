"""The estimates of a diagnosis as a table."""

from __future__ import annotations

__all__ = ["estimates_dataframe"]

from collections.abc import Mapping

import pandas as pd

from elboscope.core import Estimate


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
        estimate.settings.get("num_samples"),
        estimate.method,
        estimate.measured_in,
    ]
