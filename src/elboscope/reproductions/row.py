"""One number of ours beside the paper's, and how it is shown."""

from __future__ import annotations

__all__ = ["HEADER", "Row", "meaning_of_errors", "plus_minus", "shown", "with_unit"]

import math
from collections.abc import Sequence
from dataclasses import dataclass

from .published import Published


@dataclass(frozen=True)
class Row:
    """One number of ours beside the paper's.

    Attributes:
        label: What it is of: "1 layer, IWAE k=50".
        quantity: What it is: "NLL".
        value: Ours.
        error: Its error.
        error_kind: What the error is: "se over 1000 images" or "sd over 4 seeds".
        epochs: Passes over the data in our training; ``None`` where nothing was trained.
        num_samples: K; ``None`` where nothing was sampled.
        num_data: Test images; ``None`` where there are none.
        published: The paper's number, if it has one.
        unit: Of both.
        per_seed: Our value of each seed, where there are several.
    """

    label: str
    quantity: str
    value: float
    error: float
    error_kind: str = ""
    epochs: int | None = None
    num_samples: int | None = None
    num_data: int | None = None
    published: Published | None = None
    unit: str = "nats"
    per_seed: tuple[float, ...] = ()


HEADER = ("", "quantity", "ours", "epochs", "K", "n", "paper", "its epochs", "source")


def shown(row: Row) -> tuple[str, ...]:
    """Returns the cells of a row, below ``HEADER``.

    Example:
        >>> shown(Row("VAE", "NLL", 86.71, 0.2, "sd over 4 runs", 3280, 5000, 10000))[2:6]
        ('86.71 ± 0.20', '3280', '5000', '10000')
    """
    published, beside = row.published, ("–", "–", "–")
    if published is not None:
        beside = (str(published), _count(published.epochs), published.source)
    counts = (_count(row.epochs), _count(row.num_samples), _count(row.num_data))
    return (row.label, with_unit(row), plus_minus(row), *counts, *beside)


def with_unit(row: Row) -> str:
    """Returns the quantity with its unit.

    Example:
        >>> with_unit(Row("VAE", "NLL", 86.71, 0.2))
        'NLL [nats]'
    """
    return row.quantity if row.unit == "units" else f"{row.quantity} [{row.unit}]"


def plus_minus(row: Row) -> str:
    """Returns value and error, with a second digit of an error that is small.

    Example:
        >>> plus_minus(Row("VAE", "NLL", 86.71, 0.2)), plus_minus(Row("VAE", "gap", 0.5, 0.0031))
        ('86.71 ± 0.20', '0.5000 ± 0.0031')
    """
    if math.isnan(row.value):
        return "all noise"  # nothing could be fitted, or no draw had a value
    if not math.isfinite(row.error):
        return f"{row.value:.2f}"
    digits = 2 if row.error == 0 else min(4, max(2, 1 - math.floor(math.log10(abs(row.error)))))
    return f"{row.value:.{digits}f} ± {row.error:.{digits}f}"


def meaning_of_errors(rows: Sequence[Row]) -> str:
    """Returns what stands behind each ±, ours and the papers'.

    Example:
        >>> meaning_of_errors([Row("VAE", "NLL", 86.71, 0.2, "sd over 4 runs")])
        '± of ours: sd over 4 runs (NLL).'
    """
    ours: dict[str, dict[str, None]] = {}
    for row in rows:
        if row.error_kind:
            ours.setdefault(row.error_kind, {})[row.quantity] = None
    parts = [f"{kind} ({', '.join(quantities)})" for kind, quantities in ours.items()]
    text = f"± of ours: {'; '.join(parts)}." if parts else ""
    theirs = {r.published.error_kind for r in rows if r.published and r.published.error_kind}
    return f"{text} ± of the paper: {'; '.join(sorted(theirs))}." if theirs else text


def _count(value: int | None) -> str:
    return "–" if value is None else str(value)
