r"""What Cremer et al. conclude from their table, and a verdict for every column that was run.

A claim is the sign of a difference, as their table prints it, or a difference beside a number of
nats. Differences are of the same images. Their error joins that of the images with what the
certificates of q* leave open: c nats, counted as two errors. Pairs that the table separates by less
than 0.2 nat are no claims.
"""

from __future__ import annotations

__all__ = ["column_claims", "gap_of"]

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Literal

import torch
from jaxtyping import Float64
from torch import Tensor

from .claims import ERRORS, Claim, Difference, agreement, difference, judged, verdict
from .gaps import Gaps
from .published import Published, references
from .suboptimality_columns import Column, Variant

NAME = "inference-suboptimality-table1"
SOURCE = "Cremer et al. 2018, Table 1, arXiv 1801.03558"
IMAGES = "training images"
SEPARATED = 0.2
# L[q*_Flow] − L[q*_FFG]: what flows are worth where the model needs them, and where not.
NEEDED, NOT_NEEDED = 10.0, 2.5
TOLERANCE = 1.0

Found = Mapping[Column, Gaps]


def gap_of(gaps: Gaps) -> Mapping[str, Float64[Tensor, " n"]]:
    """Returns the rows of the table."""
    return {
        "log p̂": gaps.log_px,
        "L[q*_Flow]": gaps.flow,
        "L[q*_FFG]": gaps.diagonal,
        "L[q]": gaps.elbo,
        "approximation gap": gaps.approximation,
        "amortisation gap": gaps.amortisation,
        "inference gap": gaps.inference,
    }


def column_claims(found: Found, *, published_schedule: bool) -> Iterator[Claim]:
    """Yields the claims of the columns that are there, on their training images.

    Args:
        found: Of each column.
        published_schedule: Whether log p̂ is to be that of the paper.
    """
    for column, gaps in found.items():
        yield _worth_of_flows(column, gaps)
    for column, gaps in found.items():
        yield _larger_part(column, gaps)
    for column in found:
        yield from _variants(column, found)
    if published_schedule:
        yield from (_agreement(column, gaps) for column, gaps in found.items())


def _worth_of_flows(column: Column, gaps: Gaps) -> Claim:
    """Flow-trained with annealing: more than 10 nats; all others: less than 2.5."""
    needed = column.q == "Flow" and column.variant != "No annealing"
    sign: Literal[1, -1] = 1 if needed else -1
    limit = NEEDED if needed else NOT_NEEDED
    words = "are worth more than" if needed else "are worth less than"
    delta = _widened(_difference(gaps.flow, gaps.diagonal), gaps, "flow", "diagonal")
    return _beside(f"{column}: flows {words} {limit:g} nats, L[q*_Flow] − L[q*_FFG]",
                   delta, limit, sign)  # fmt: skip


def _larger_part(column: Column, gaps: Gaps) -> Claim:
    """Which part the paper's column has as the larger one."""
    table = _published(column)
    sign = _sign(table["amortisation gap"].value - table["approximation gap"].value)
    parts = ("amortisation", "approximation")[::sign]
    text = f"{column}: the {parts[0]} gap is larger than the {parts[1]} gap"
    larger, smaller = (gaps.amortisation, gaps.approximation)[::sign]
    # q* enters both, with opposite signs: what it may lack counts twice.
    delta = _widened(_difference(larger, smaller), gaps, gaps.family, gaps.family)
    return judged(text, SOURCE, delta)


def _variants(column: Column, found: Found) -> Iterator[Claim]:
    """Regular against the larger encoder, and against no annealing."""
    for variant, quantity, words in (
        ("Large", "amortisation gap", "the larger encoder has {} amortisation gap"),
        ("No annealing", "log p̂", "without annealing log p̂ is {}"),
        ("No annealing", "amortisation gap", "without annealing the amortisation gap is {}"),
        ("No annealing", "worth of flows", "without annealing flows are worth {}"),
    ):
        other = column._replace(variant=_variant(variant))
        if column.variant == "Regular" and other in found:
            yield from _changed(column, other, found, quantity, words)


def _changed(
    column: Column, other: Column, found: Found, quantity: str, words: str
) -> Iterator[Claim]:
    ours = _quantity(quantity)
    theirs = _value(_published(other), quantity) - _value(_published(column), quantity)
    if abs(theirs) < SEPARATED or (quantity == "worth of flows" and column.q == "FFG"):
        return
    a, b = found[other], found[column]
    rows = a.rows[torch.isin(a.rows, b.rows)]
    kept_a, kept_b = (ours(g)[torch.isin(g.rows, rows)] for g in (a, b))
    delta = _difference(kept_a, kept_b)
    if quantity != "log p̂":
        for gaps in (a, b):
            both = ("flow", "diagonal") if quantity == "worth of flows" else (gaps.family,)
            delta = _widened(delta, gaps, *both)
    amounts = {"log p̂": ("lower", "higher"), "worth of flows": ("less", "more")}
    low, high = amounts.get(quantity, ("smaller", "larger"))
    amount = high if theirs > 0 else low
    article = f"a {amount}" if "has" in words else amount
    text = f"{column.data}, {column.q}: {words.format(article)}"
    yield judged(text, SOURCE, delta, _sign(theirs))


def _variant(name: str) -> Variant:
    return "Large" if name == "Large" else "No annealing"


def _quantity(name: str) -> Callable[[Gaps], Tensor]:
    if name == "worth of flows":
        return lambda gaps: gaps.flow - gaps.diagonal
    return lambda gaps: gap_of(gaps)[name]


def _value(table: Mapping[str, Published], quantity: str) -> float:
    if quantity == "worth of flows":
        return table["L[q*_Flow]"].value - table["L[q*_FFG]"].value
    return table[quantity].value


def _agreement(column: Column, gaps: Gaps) -> Claim:
    found = _difference(gaps.log_px, torch.zeros_like(gaps.log_px))
    published = _published(column)["log p̂"]
    text = f"log p̂ of {column} is {published}"
    return agreement(text, found.value, found.error, published, tolerance=TOLERANCE)


def _published(column: Column) -> Mapping[str, Published]:
    """A column of the paper's table; that of MNIST where it has none, as for digits."""
    table, like = references(NAME), column
    if f"{column}, log p̂" not in table:
        like = column._replace(data="MNIST")
    start = f"{like}, "
    return {key.removeprefix(start): n for key, n in table.items() if key.startswith(start)}


def _difference(a: Tensor, b: Tensor) -> Difference:
    return difference(a[None], b[None], data=IMAGES)


def _widened(found: Difference, gaps: Gaps, *families: str) -> Difference:
    """Adds what the certificates of these q* leave open; twice in full for one named twice."""
    open_ = [
        families.count(family) * gaps.within.get(family, math.nan) / ERRORS
        for family in set(families)
    ]
    return found._replace(error=math.hypot(found.error, *open_))


def _beside(text: str, found: Difference, limit: float, sign: Literal[1, -1]) -> Claim:
    """A difference against a number of nats instead of 0."""
    outcome = verdict(found.value - limit, found.error, sign)
    return Claim(text, SOURCE, outcome, f"{found} against {limit:g}", found.value, found.error)


def _sign(value: float) -> Literal[1, -1]:
    return 1 if value > 0 else -1
