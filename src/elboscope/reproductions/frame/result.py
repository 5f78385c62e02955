"""A reproduction's outcome: rows, claims, notes, how it is kept, and the page of all.

``result.json`` is the record; ``result.md`` and the figures are made of the same content. Each
file is replaced in one rename, the record last: where it exists, the others are there too.
"""

from __future__ import annotations

__all__ = [
    "FORMAT",
    "HEADER",
    "Reproduction",
    "Row",
    "Scale",
    "blocks",
    "cells",
    "markdown",
    "meaning_of_errors",
    "plus_minus",
    "results",
    "tables",
    "update",
    "with_unit",
]

import json
import math
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from io import BytesIO
from itertools import groupby
from pathlib import Path
from typing import Literal

import matplotlib
from matplotlib.figure import Figure

from elboscope.core.files import replace_with

from .claims import Claim, Published

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
        failed: Names of runs that ended with an error and are excluded from every number.
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


# One number of ours beside the paper's, and how it is shown.


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
        unit: The unit of both values.
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


def cells(row: Row) -> tuple[str, ...]:
    """Returns the cells of a row, below ``HEADER``.

    Example:
        >>> cells(Row("VAE", "NLL", 86.71, 0.2, "sd over 4 runs", 3280, 5000, 10000))[2:6]
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


# Rows as tables in Markdown: one crossed of labels and quantities wherever that is nearly full.
#
# A crossed table leaves no place for a published number, so rows that have one stay in the long
# form, as do rows of differing K, n or epochs, which a number must never be without.

FULL = 0.6


def tables(rows: Sequence[Row]) -> list[str]:
    """Returns the lines of all tables of rows, and what stands behind each ±.

    Example:
        >>> rows = [Row(a, q, 1.0, 0.1, "se") for a in ("VAE", "AAE") for q in ("KL", "I")]
        >>> tables(rows)[2]
        '| VAE | 1.00 ± 0.10 | 1.00 ± 0.10 |'
    """
    lines, long_form = [], list[Row]()
    for block in blocks(rows):
        if _can_be_crossed(block):
            lines += _in_long_form(long_form) + _crossed(block)
            long_form = []
        else:
            long_form += block
    return [*lines, *_in_long_form(long_form), meaning_of_errors(rows), ""]


def blocks(rows: Sequence[Row]) -> list[list[Row]]:
    """Splits rows before each label whose quantities are others than those of the labels before.

    Example:
        >>> rows = [Row(a, q, 1.0, 0.1) for a, q in (("a", "KL"), ("b", "KL"), ("b all", "τ"))]
        >>> [[row.label for row in block] for block in blocks(rows)]
        [['a', 'b'], ['b all']]
    """
    found: list[list[Row]] = []
    for _, group in groupby(rows, key=lambda row: row.label):
        own = list(group)
        if found and _alike({r.quantity for r in found[-1]}, {r.quantity for r in own}):
            found[-1] += own
        else:
            found.append(own)
    return found


def _alike(a: set[str], b: set[str]) -> bool:
    return len(a & b) >= FULL * len(a | b)


def _can_be_crossed(block: Sequence[Row]) -> bool:
    labels, quantities = {row.label for row in block}, {row.quantity for row in block}
    once = len({(row.label, row.quantity) for row in block}) == len(block)
    counts = {_counts(row) for row in block}
    published = any(row.published is not None for row in block)
    return len(labels) > 1 < len(quantities) and once and len(counts) == 1 and not published


def _counts(row: Row) -> tuple[int | None, ...]:
    return (row.epochs, row.num_samples, row.num_data)


def _crossed(block: Sequence[Row]) -> list[str]:
    columns = list(dict.fromkeys(with_unit(row) for row in block))
    cells = {(row.label, with_unit(row)): plus_minus(row) for row in block}
    labels = dict.fromkeys(row.label for row in block)
    table = [(label, *(cells.get((label, column), "–") for column in columns)) for label in labels]
    lines = markdown(("", *columns), table)
    about = ", ".join(_about(block[0]))
    return [*lines, f"{about}.", ""] if about else lines


def _about(row: Row) -> Iterator[str]:
    for name, count in zip(("epochs: ", "K = ", "n = "), _counts(row), strict=True):
        if count is not None:
            yield f"{name}{count}"


def _in_long_form(rows: Sequence[Row]) -> list[str]:
    return markdown(HEADER, [cells(row) for row in rows]) if rows else []


def markdown(header: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> list[str]:
    """Returns the lines of a table, and an empty one below it.

    Example:
        >>> markdown(("a", "b"), [("1", "|")])
        ['| a | b |', '| --- | --- |', '| 1 | \\\\| |', '']
    """
    rule = tuple("---" for _ in header)
    cells = [[cell.replace("|", "\\|") for cell in row] for row in (header, rule, *rows)]
    return [*("| " + " | ".join(row) + " |" for row in cells), ""]


# The page of the results that are kept: made of their ``result.md``, never typed.
#
# ``python -m elboscope.reproductions.frame.result PAGE.md FOLDER`` replaces what stands between the
# two markers of the page by the results in the folder, one subfolder a run.

BEGIN, END = "<!-- results: begin -->", "<!-- results: end -->"


def results(folder: Path, linked_from: Path) -> str:
    """Returns the results below a folder as one text, their headings two levels lower.

    Args:
        folder: Its subfolders hold a ``result.md`` each.
        linked_from: The folder of the page, from which pictures are linked.

    Example:
        >>> results(Path("/nowhere"), Path("/"))
        'No result is kept yet.'
    """
    parts = [_part(path, linked_from) for path in sorted(folder.glob("*/result.md"))]
    return "\n\n".join(parts) or "No result is kept yet."


def _part(path: Path, linked_from: Path) -> str:
    text = path.read_text(encoding="utf-8").strip()
    text = re.sub(r"^#", "###", text, flags=re.MULTILINE)
    place = path.parent.resolve().relative_to(linked_from.resolve()).as_posix()
    return re.sub(r"(!\[[^\]]*\]\()", rf"\1{place}/", text)


def update(page: str, content: str) -> str:
    """Returns a page with other content between its markers.

    Example:
        >>> "new" in update(f"a {BEGIN} old {END} b", "new")
        True
    """
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{content}\n\n{END}{after}"


def main(page: Path, folder: Path) -> None:
    """Rewrites the page."""
    text = update(page.read_text(encoding="utf-8"), results(folder, page.parent))
    page.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:3]))
