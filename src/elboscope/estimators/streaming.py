"""Work in blocks: how many samples at once, of how many datapoints, and who is told of progress."""

from __future__ import annotations

__all__ = [
    "BATCH_SIZE",
    "Progress",
    "SharedProgress",
    "Streaming",
    "default_chunk",
    "reporting",
]

import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

from elboscope.core import GenerativeModel, values_per_sample

from .inputs import Inputs, blocks, require_positive

BAR_WIDTH = 24
Progress = Callable[[int, int], None]
"""Called with (done, total) after every block, so that a caller can draw a bar."""

BATCH_SIZE = 256
# Samples × datapoints of one decoded block: rows of the matrix products inside the decoder. A few
# thousand keep a layer's activations in a CPU's cache and still fill its vector units.
BLOCK_ROWS = 2**12
# No block's decoded data exceed this many elements, however large one datapoint is: 4 MB, which a
# CPU's cache still holds (1.8 times the speed of 16 MB); a GPU is full well before.
BLOCK_ELEMENTS = 2**20


@dataclass(frozen=True)
class Streaming:
    """How many samples each datapoint gets, and in which blocks they are decoded.

    Attributes:
        num_samples: K, the samples of each datapoint.
        seed: Random seed; None picks one.
        sample_chunk: Samples decoded at once; by default a few thousand rows.
        batch_size: Datapoints taken at once, by default 256.
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

    def fitted(self, model: GenerativeModel, inputs: Inputs) -> Streaming:
        """Returns the same with the sizes of its blocks decided for a model and its data."""
        B = min(self.batch_size or BATCH_SIZE, len(inputs.x))
        if self.sample_chunk is not None:
            chunk = self.sample_chunk
        else:
            chunk = default_chunk(B, values_per_sample(model, inputs.x, inputs.condition))
        return replace(self, sample_chunk=min(self.num_samples, chunk), batch_size=B)

    @property
    def blocks(self) -> Mapping[str, object]:
        """The sizes of the blocks, for the settings of an estimate."""
        return {"sample_chunk": self.sample_chunk, "batch_size": self.batch_size}

    def rows(self, inputs: Inputs) -> Iterator[slice]:
        """Yields the blocks of datapoints."""
        return blocks(len(inputs.x), self.batch_size or BATCH_SIZE)

    def samples(self) -> Iterator[slice]:
        """Yields the blocks of samples."""
        return blocks(self.num_samples, self.sample_chunk or self.num_samples)


def default_chunk(batch: int, values: int) -> int:
    """Returns how many samples to decode at once, each of so many values, for some datapoints."""
    return max(1, min(BLOCK_ROWS // batch, BLOCK_ELEMENTS // (batch * values)))


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
