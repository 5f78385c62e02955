"""A reproduction's outcome: rows, claims, what they must be read with, and how it is kept.

``result.json`` is the record; ``result.md`` and the figures are made of the same content. Each
file is replaced in one rename, the record last: where it exists, the others are there too.
"""

from __future__ import annotations

__all__ = ["FORMAT", "Reproduction", "Row", "Scale", "meaning_of_errors", "shown"]

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Literal

import matplotlib
from matplotlib.figure import Figure

from elboscope.report.writing import replace_with

from .claims import Claim
from .published import Published

FORMAT = 1
Scale = Literal["smoke", "cpu", "paper"]


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


@dataclass(frozen=True, eq=False)
class Reproduction:
    """Our numbers beside the paper's, and a verdict for each of its claims.

    Attributes:
        name: As on the command line.
        title: What is reproduced, with its source.
        scale: "smoke", "cpu" or "paper".
        rows: Numbers.
        claims: Verdicts.
        notes: What was done otherwise than in the paper, and what a number is not.
        provenance: Device, versions, seed, epochs, wall time, data; see ``provenance``.
        figures: By file name, without an ending.
    """

    name: str
    title: str
    scale: Scale
    rows: tuple[Row, ...]
    claims: tuple[Claim, ...]
    notes: tuple[str, ...] = ()
    provenance: Mapping[str, object] = field(default_factory=dict)
    figures: Mapping[str, Figure] = field(default_factory=dict)

    def record(self) -> dict[str, object]:
        """Returns what ``result.json`` holds; numbers that are not finite are null."""
        content = {
            "format": FORMAT,
            "name": self.name,
            "title": self.title,
            "scale": self.scale,
            "rows": [asdict(row) for row in self.rows],
            "claims": [asdict(claim) for claim in self.claims],
            "notes": list(self.notes),
            "provenance": dict(self.provenance),
            "figures": sorted(self.figures),
        }
        cleaned = _finite(content)
        assert isinstance(cleaned, dict)
        return cleaned

    def to_markdown(self) -> str:
        """Returns the tables as Markdown."""
        lines = [f"# {self.title}", "", f"Scale `{self.scale}`.", ""]
        lines += _table(HEADER, [shown(row) for row in self.rows])
        lines += [meaning_of_errors(self.rows), ""]
        verdicts = [(c.text, f"**{c.verdict}**", c.evidence, c.source) for c in self.claims]
        lines += _table(("published claim", "here", "evidence", "source"), verdicts)
        lines += [f"![{name}]({name}.svg)\n" for name in sorted(self.figures)]
        lines += [f"- {note}" for note in self.notes]
        lines += ["", *(f"    {line}" for line in _flat(self.provenance)), ""]
        return "\n".join(lines)

    def save(self, folder: Path) -> Path:
        """Writes the figures, ``result.md`` and last ``result.json``, each whole or not at all.

        Returns:
            The path of ``result.json``.

        Raises:
            InputError: The folder cannot be written.
        """
        for name, figure in self.figures.items():
            for kind in ("svg", "png"):
                replace_with(folder / f"{name}.{kind}", _drawn(figure, kind, name))
        replace_with(folder / "result.md", self.to_markdown())
        text = json.dumps(self.record(), indent=1, ensure_ascii=False, allow_nan=False)
        return replace_with(folder / "result.json", text + "\n")


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
    ours = f"{row.value:.2f} ± {row.error:.2f}" if math.isfinite(row.error) else f"{row.value:.2f}"
    if math.isnan(row.value):
        ours = "all noise"  # nothing could be fitted, or no draw had a value
    unit = "" if row.unit == "units" else f" [{row.unit}]"
    counts = (_count(row.epochs), _count(row.num_samples), _count(row.num_data))
    return (row.label, row.quantity + unit, ours, *counts, *beside)


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


def _table(header: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> list[str]:
    rule = tuple("---" for _ in header)
    cells = [[cell.replace("|", "\\|") for cell in row] for row in (header, rule, *rows)]
    return [*("| " + " | ".join(row) + " |" for row in cells), ""]


def _flat(content: Mapping[str, object], prefix: str = "") -> Iterator[str]:
    """Yields a line for each entry, those of inner mappings below their name."""
    for key, value in content.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        elif value not in ("", None):
            yield f"{prefix}{key}: {value}"


def _finite(value: object) -> object:
    """Returns the value with null for numbers that JSON does not know, and lists for tuples."""
    match value:
        case float():
            return value if math.isfinite(value) else None
        case Mapping():
            return {str(key): _finite(entry) for key, entry in value.items()}
        case list() | tuple():
            return [_finite(entry) for entry in value]
    return value


def _drawn(figure: Figure, kind: str, name: str) -> bytes:
    buffer = BytesIO()
    metadata = {"Date": None} if kind == "svg" else None
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
        figure.savefig(buffer, format=kind, facecolor="white", dpi=150, metadata=metadata)
    return buffer.getvalue()
