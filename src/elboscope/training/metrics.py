"""``metrics.csv``: one row an epoch, in full precision, that can be cut back to a checkpoint."""

from __future__ import annotations

__all__ = ["COLUMNS", "Row", "append_row", "read_rows", "write_rows"]

import csv
import math
from collections.abc import Iterable
from io import StringIO
from pathlib import Path

from .atomic import replace_file

Row = dict[str, float]

# Columns that depend on the clock, last; all others repeat bit for bit.
COLUMNS = (
    "step",
    "epoch",
    "train_bound",  # mean over the epoch's datapoints, nats; parameters move while it is taken
    "loss",
    "validation_elbo",  # at β = 1, nats, one fixed draw of data and noise
    "validation_kl",
    "weight",  # β or λ of the objective
    "learning_rate",
    "seconds",
    "samples_per_s",
)


def _line(values: Iterable[object]) -> str:
    text = StringIO()
    csv.writer(text, lineterminator="\n").writerow(values)
    return text.getvalue()


def _cells(row: Row, columns: Iterable[str]) -> list[str]:
    """Returns shortest texts that read back as the same numbers; missing ones and NaN are empty."""
    values = [row.get(name, math.nan) for name in columns]
    return ["" if math.isnan(value) else repr(value) for value in values]


def append_row(path: Path, row: Row, columns: tuple[str, ...] = COLUMNS) -> None:
    """Appends one row in a single write."""
    with path.open("a", encoding="utf-8") as file:
        file.write(_line(_cells(row, columns)))


def write_rows(path: Path, rows: Iterable[Row], columns: tuple[str, ...] = COLUMNS) -> None:
    """Replaces the file by its header and these rows."""
    text = _line(columns) + "".join(_line(_cells(row, columns)) for row in rows)
    replace_file(path, lambda aside: aside.write_text(text, encoding="utf-8"))


def read_rows(path: Path) -> list[Row]:
    """Returns the complete rows; a last line that a killed process left unfinished is ignored.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "metrics.csv"
        >>> write_rows(path, [{"step": 18.0, "epoch": 1.0, "train_bound": -0.1}])
        >>> [row["train_bound"] for row in read_rows(path)]
        [-0.1]
    """
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    complete = [line for line in lines if line.endswith("\n")]
    return [
        {name: float(cell) if cell else math.nan for name, cell in row.items()}
        for row in csv.DictReader(complete)
    ]
