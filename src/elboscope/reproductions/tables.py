"""Rows as tables in Markdown: one crossed of labels and quantities wherever that is nearly full.

A crossed table leaves no place for a published number, so rows that have one stay in the long
form, as do rows of differing K, n or epochs, which a number must never be without.
"""

from __future__ import annotations

__all__ = ["blocks", "markdown", "tables"]

from collections.abc import Iterator, Sequence
from itertools import groupby

from .row import HEADER, Row, meaning_of_errors, plus_minus, shown, with_unit

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
    return markdown(HEADER, [shown(row) for row in rows]) if rows else []


def markdown(header: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> list[str]:
    """Returns the lines of a table, and an empty one below it.

    Example:
        >>> markdown(("a", "b"), [("1", "|")])
        ['| a | b |', '| --- | --- |', '| 1 | \\\\| |', '']
    """
    rule = tuple("---" for _ in header)
    cells = [[cell.replace("|", "\\|") for cell in row] for row in (header, rule, *rows)]
    return [*("| " + " | ".join(row) + " |" for row in cells), ""]
