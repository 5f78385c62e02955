r"""What Cremer et al. conclude from their curves, with a verdict for every model that was run.

The amortisation gap A of a model at its first and last checkpoint, on training and held-out images:

- held out, A grows with training; on training images it shrinks;
- held out, a larger encoder has the larger A at the end;
- A(held out) − A(training) at the end is larger than the same difference of the approximation gap;
- it has grown more than log p̂(training) − log p̂(held out): inference overfits more than p(x).

Differences on the same images are in pairs; those of training and held-out images are not. The
errors include what the certificates of q* leave open, c nats counted as two errors.
"""

from __future__ import annotations

__all__ = ["overfitting_claims"]

import math
from collections.abc import Callable, Iterator, Mapping

import torch
from torch import Tensor

from .claims import ERRORS, Claim, Difference, judged
from .gaps import Gaps

SOURCE = "Cremer et al. 2018, generalisation of inference, in words, arXiv 1801.03558"

Values = Callable[[Gaps], Tensor]
Splits = Mapping[str, Gaps]


def overfitting_claims(found: Mapping[str, Mapping[int, Splits]]) -> Iterator[Claim]:
    """Yields the claims.

    Args:
        found: By model, epoch and split.
    """
    for name, epochs in found.items():
        yield from _of_model(name, list(epochs.values()))
    if {"Regular", "Large encoder"} <= set(found):
        large, regular = (list(found[n].values())[-1] for n in ("Large encoder", "Regular"))
        delta = _grown(large["validation"], regular["validation"], _amortisation, "validation")
        text = "validation: the larger encoder has the larger amortisation gap at the end"
        yield judged(text, SOURCE, delta)


def _of_model(name: str, splits: list[Splits]) -> Iterator[Claim]:
    first, last = splits[0], splits[-1]
    grown = {s: _grown(last[s], first[s], _amortisation, s) for s in ("train", "validation")}
    yield judged(f"{name}: the amortisation gap of validation images grows with training", SOURCE,
                 grown["validation"])  # fmt: skip
    yield judged(f"{name}: the amortisation gap of training images shrinks with training", SOURCE,
                 grown["train"], -1)  # fmt: skip
    text = f"{name}: training and validation differ more in amortisation than in approximation"
    yield judged(text, SOURCE, _minus(*(_mean(_balance(last[s]), (2 * _open(last[s]),), s)
                                        for s in ("validation", "train"))))  # fmt: skip
    text = f"{name}: with training, inference overfits more than log p̂ does"
    yield judged(text, SOURCE, _minus(*(_grown(last[s], first[s], _amortised, s)
                                        for s in ("validation", "train"))))  # fmt: skip


def _amortisation(gaps: Gaps) -> Tensor:
    return gaps.amortisation


def _balance(gaps: Gaps) -> Tensor:
    """Amortisation − approximation, of the same image: L[q*] is in it twice."""
    return gaps.amortisation - gaps.approximation


def _amortised(gaps: Gaps) -> Tensor:
    """A + log p̂: what it grows by is what A grows by beyond what log p̂ falls by."""
    return gaps.amortisation + gaps.log_px


def _grown(a: Gaps, b: Gaps, values: Values, split: str) -> Difference:
    """a − b in pairs, of the images that both have."""
    rows = a.rows[torch.isin(a.rows, b.rows)]
    delta = values(a)[torch.isin(a.rows, rows)] - values(b)[torch.isin(b.rows, rows)]
    return _mean(delta, (_open(a), _open(b)), split)


def _open(gaps: Gaps) -> float:
    return gaps.within.get(gaps.family, math.nan) / ERRORS


def _mean(values: Tensor, open_: tuple[float, ...], split: str) -> Difference:
    n = len(values)
    error = (values.std() / math.sqrt(n)).item() if n > 1 else math.nan
    return Difference(values.mean().item(), math.hypot(error, *open_), 1, n, data=f"{split} images")


def _minus(a: Difference, b: Difference) -> Difference:
    """Of independent images."""
    return Difference(a.value - b.value, math.hypot(a.error, b.error), 1, a.num_data,
                      data="images of either kind")  # fmt: skip
