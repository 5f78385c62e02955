"""A reproduction's outcome: rows, claims, what they must be read with, and how it is kept.

``result.json`` is the record; ``result.md`` and the figures are made of the same content. Each
file is replaced in one rename, the record last: where it exists, the others are there too.
"""

from __future__ import annotations

__all__ = ["FORMAT", "Reproduction", "Row", "Scale"]

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Literal

import matplotlib
from matplotlib.figure import Figure

from elboscope.report.writing import replace_with

from .claims import Claim
from .row import Row
from .tables import markdown, tables

FORMAT = 1
Scale = Literal["smoke", "cpu", "paper"]


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
        failed: Names of runs that ended with an error, and of which no number is.
    """

    name: str
    title: str
    scale: Scale
    rows: tuple[Row, ...]
    claims: tuple[Claim, ...]
    notes: tuple[str, ...] = ()
    provenance: Mapping[str, object] = field(default_factory=dict)
    figures: Mapping[str, Figure] = field(default_factory=dict)
    failed: tuple[str, ...] = ()

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
            **({"failed": list(self.failed)} if self.failed else {}),
        }
        cleaned = _finite(content)
        assert isinstance(cleaned, dict)
        return cleaned

    def to_markdown(self) -> str:
        """Returns the tables as Markdown."""
        lines = [f"# {self.title}", "", f"Scale `{self.scale}`.", ""]
        lines += tables(self.rows)
        verdicts = [(c.text, f"**{c.verdict}**", c.evidence, c.source) for c in self.claims]
        lines += markdown(("published claim", "here", "evidence", "source"), verdicts)
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
