"""TensorBoard events beside ``metrics.csv``, where TensorBoard is installed."""

from __future__ import annotations

__all__ = ["Tracker", "open_tracker"]

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from .metrics import Row

Tracker = Callable[[Row], None]

MISSING = "no TensorBoard events: TensorBoard is not installed (pip install 'elboscope[track]')"


@contextmanager
def open_tracker(folder: Path | None, start: int, notes: list[str]) -> Iterator[Tracker]:
    """Yields a function that writes a row's numbers as scalars at the row's step.

    Args:
        folder: Where; ``None`` for nowhere.
        start: The step training starts from: events of later steps, left by a killed process,
            are marked as superseded.
        notes: Takes the sentence that TensorBoard is missing, said once.

    Example:
        >>> with open_tracker(None, 0, []) as track:
        ...     track({"step": 1.0})
    """
    if folder is None:
        yield lambda row: None
        return
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        notes.append(MISSING)
        yield lambda row: None
        return
    writer = SummaryWriter(str(folder), purge_step=start + 1 if start else None)

    def track(row: Row) -> None:
        for name, value in row.items():
            if name != "step" and not math.isnan(value):
                writer.add_scalar(name, value, int(row["step"]))

    try:
        yield track
    finally:
        writer.close()
