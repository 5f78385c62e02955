"""Verdicts and rows of the synthetic density ratios.

The unit of a claim is a seed: a pair of Gaussians, a classifier and draws of its own. Its error is
that of the mean over seeds, which holds what the held-out draws add.
"""

from __future__ import annotations

__all__ = [
    "Estimated",
    "Learned",
    "estimation_rows",
    "learning_notes",
    "learning_rows",
    "ratio_claims",
]

from collections.abc import Iterator, Mapping, Sequence

import torch
from jaxtyping import Float64
from torch import Tensor

from .claims import Claim, Difference, difference, judged
from .density_ratio_runs import Look, Rows
from .result import Row

SOURCE = "Rosca et al. 2018, appendix D, in words, arXiv 1802.06847"
# From this dimension on the paper's learning diverges.
DIVERGES = 100

Estimated = Mapping[tuple[int, str], Sequence[Rows]]
"""The rows of each seed, by dimension and regime."""
Learned = Mapping[tuple[int, str], Sequence[Rows]]
"""The rows of each seed, by dimension and start."""


def ratio_claims(estimated: Estimated, learned: Learned) -> list[Claim]:
    """Returns a verdict for each dimension and regime, and for each dimension that was learned.

    Args:
        estimated: Rows of the estimation; the last of each is judged.
        learned: Rows of the learning; KL(q‖p) at the end is compared with that at the start, by
            its logarithm: at the start it differs between pairs by a factor of a hundred.
    """
    claims = []
    for (n, regime), runs in estimated.items():
        what = "" if regime == "natural" else f" ({regime})"
        text = f"n = {n}{what}: the classifier's estimate is below the true KL(p‖q)"
        claims.append(judged(text, SOURCE, _mean(_last(runs, "error")), sign=-1))
    for (n, start), runs in learned.items():
        what = f"n = {n}" if start == "natural" else f"n = {n} ({start} at the start)"
        change = _mean(_last(runs, "reverse").log() - _first(runs, "reverse").log(), "of log KL")
        if n < DIVERGES:
            claims.append(judged(f"{what}: learning lowers the true KL(q‖p)", SOURCE, change, -1))
        else:
            text = f"{what}: learning diverges, the true KL(q‖p) does not fall"
            claims.append(judged(text, SOURCE, change))
    return claims


def estimation_rows(estimated: Estimated) -> Iterator[Row]:
    """Yields what each classifier says at the end, the truth, and the optimal logit's answer."""
    names = {
        "true KL(p‖q)": "kl",
        "estimate E_p[T]": "estimate",
        "estimate − true KL": "error",
        "mean of t* − true KL": "check",
        "Donsker–Varadhan bound": "dv",
        "NWJ bound": "nwj",
    }
    for (n, regime), runs in estimated.items():
        for quantity, key in names.items():
            values = _check(runs) if key == "check" else _last(runs, key)
            yield _row(f"estimation, n = {n}, {regime}", quantity, values)


def learning_rows(learned: Learned) -> Iterator[Row]:
    """Yields the true divergences before and after learning, and what the classifier says."""
    names = {
        "true KL(q‖p)": "reverse",
        "of which the means": "reverse_of_means",
        "of which the covariances": "reverse_of_covariances",
        "true KL(p‖q)": "forward",
        "log-determinant of AAᵀ": "log_det",
    }
    for (n, start), runs in learned.items():
        label = f"learning, n = {n}, {start}"
        for quantity, key in names.items():
            yield _row(label, f"{quantity}, start", _first(runs, key))
            yield _row(label, f"{quantity}, end", _last(runs, key))
        yield _row(label, "estimate −E_q[T], end", _last(runs, "estimate"))
        lowest = torch.tensor([min(row["reverse"] for row in rows) for rows in runs]).double()
        yield _row(label, "true KL(q‖p), lowest on the way", lowest[:, None])


def learning_notes(learned: Learned) -> Iterator[str]:
    """Yields what each part of the divergence did, beside what the classifier says of the whole."""
    for (n, start), runs in learned.items():
        parts = {"means": "reverse_of_means", "covariances": "reverse_of_covariances"}
        ends = {
            name: f"{_first(runs, key).mean():.3g} to {_last(runs, key).mean():.3g}"
            for name, key in parts.items()
        }
        yield (
            f"Learning, n = {n}, {start}: the part of KL(q‖p) of the means went from "
            f"{ends['means']} nats, that of the covariances from {ends['covariances']}; the "
            f"classifier says {_last(runs, 'estimate').mean():.2f} of the whole at the end."
        )


def _check(runs: Sequence[Rows]) -> Float64[Tensor, "S 1"]:
    return _last(runs, "optimal") - _last(runs, "kl")


def _row(label: str, quantity: str, values: Float64[Tensor, "S 1"]) -> Row:
    several, flat = len(values) > 1, values[:, 0]
    return Row(
        label,
        quantity,
        flat.mean().item(),
        flat.std().item() if several else float("nan"),
        f"sd over {len(values)} seeds" if several else "",
        unit="units" if quantity.startswith("log-determinant") else "nats",
        per_seed=tuple(flat.tolist()),
    )


def _mean(values: Float64[Tensor, "S 1"], unit: str = "nats") -> Difference:
    return difference(values, torch.zeros_like(values), unit=unit)


def _last(runs: Sequence[Rows], key: str) -> Float64[Tensor, "S 1"]:
    return torch.tensor([[_value(rows[-1], key)] for rows in runs], dtype=torch.float64)


def _first(runs: Sequence[Rows], key: str) -> Float64[Tensor, "S 1"]:
    return torch.tensor([[_value(rows[0], key)] for rows in runs], dtype=torch.float64)


def _value(row: Look, key: str) -> float:
    if key == "reverse_of_covariances":
        return row["reverse"] - row["reverse_of_means"]
    return row[key]
