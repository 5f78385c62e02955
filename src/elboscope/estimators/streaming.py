"""How many samples each datapoint gets, how many are decoded at once, who is told of progress."""

from __future__ import annotations

__all__ = ["Progress", "Samples", "SharedProgress", "Streaming", "reporting"]

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from elboscope.core import Pieces

from .inputs import require_positive

BAR_WIDTH = 24
Progress = Callable[[int, int], None]
"""Called with (done, total) after every cell, so that a caller can draw a bar."""


@dataclass(frozen=True)
class Streaming:
    """How many samples each datapoint gets, and how many are decoded at once.

    Attributes:
        num_samples: K, the samples of each datapoint.
        seed: Random seed; None picks one.
        sample_chunk: Samples decoded at once, at most; by default a few thousand rows.
        batch_size: Datapoints decoded at once, at most; by default all that are drawn together.
        progress: Called with the work done and the total.

    Raises:
        InputError: A count is below one.
    """

    num_samples: int
    seed: int | None = None
    sample_chunk: int | None = None
    batch_size: int | None = None
    progress: Progress | None = None

    def __post_init__(self) -> None:
        require_positive("num_samples", self.num_samples)
        require_positive("batch_size", self.batch_size)
        require_positive("sample_chunk", self.sample_chunk)


class Samples(NamedTuple):
    """Which of the K samples a cell has, and how many of them are decoded at once."""

    start: int
    stop: int
    pieces: Pieces


def reporting(progress: Progress | bool | None) -> Progress | None:
    """Returns what is called after every block: ``True`` stands for a bar on standard error.

    Example:
        >>> reporting(None) is reporting(False) is None
        True
    """
    if isinstance(progress, bool):
        return _draw_bar() if progress else None
    return progress


def _draw_bar() -> Progress:
    began = time.monotonic()

    def draw(done: int, total: int) -> None:
        full = round(BAR_WIDTH * done / total)
        bar = "█" * full + "·" * (BAR_WIDTH - full)
        text = f"\r{bar} {done / total:4.0%} {time.monotonic() - began:6.1f} s"
        print(text, end="\n" if done >= total else "", file=sys.stderr, flush=True)

    return draw


class SharedProgress:
    """Reports the parts of the work as one: each gets its share of the whole."""

    TOTAL = 1000

    def __init__(self, progress: Progress | bool | None) -> None:
        self._progress, self._begun = reporting(progress), 0.0

    def part(self, share: float) -> Progress | None:
        """Returns what the next part is to call."""
        progress, begun = self._progress, self._begun
        self._begun += share
        if progress is None:
            return None
        return lambda done, total: progress(
            round(self.TOTAL * (begun + share * done / total)), self.TOTAL
        )
