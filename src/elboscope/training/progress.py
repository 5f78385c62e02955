"""A progress bar with nats and samples per second, only where one was asked for."""

from __future__ import annotations

__all__ = ["Reporter", "reporting"]

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from torch import Tensor

# Seconds between two readings of a bound: each waits for the device.
PERIOD = 0.25


@dataclass
class Reporter:
    """Shows where training is, at most a few times a second.

    Attributes:
        show: Takes (epochs done, text); ``None`` shows nothing.
        say: Takes a sentence.
    """

    show: Callable[[float, str], None] | None = None
    say: Callable[[str], None] | None = None
    _next: float = 0.0

    def step(self, epoch: float, value: Tensor, rate: float, held_out: float | None) -> None:
        """Reports a step; the bound is read from the device only when it will be shown."""
        if self.show is None or (now := time.monotonic()) < self._next:
            return
        self._next = now + PERIOD
        text = f"{value.mean().item():9.2f} nats  {rate:8,.0f} samples/s"
        valid = "" if held_out is None or math.isnan(held_out) else f"  held out {held_out:.2f}"
        self.show(epoch, text + valid)

    def played(self, epoch: float, measured: Mapping[str, Tensor], rate: float) -> None:
        """Reports a step of a game: the players' losses, which are no bounds."""
        if self.show is None or (now := time.monotonic()) < self._next:
            return
        self._next = now + PERIOD
        losses = {k.removesuffix("_loss"): v for k, v in measured.items() if k.endswith("_loss")}
        text = "  ".join(f"{name} {value.item():.3g}" for name, value in losses.items())
        self.show(epoch, f"{text}  {rate:8,.0f} samples/s")

    def note(self, text: str) -> None:
        """Says a sentence once."""
        if self.say is not None:
            self.say(text)


@contextmanager
def reporting(epochs: int, enabled: bool) -> Iterator[Reporter]:
    """Yields the reporter: a rich progress bar on standard error, or silence.

    Example:
        >>> with reporting(3, enabled=False) as reporter:
        ...     reporter.note("nobody hears this")
    """
    if not enabled:
        yield Reporter()
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("epoch"),
        MofNCompleteColumn(),
        BarColumn(),
        TextColumn("{task.fields[numbers]}", markup=False),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("training", total=epochs, numbers="")
        yield Reporter(
            lambda epoch, text: bar.update(task, completed=int(epoch), numbers=text),
            lambda text: bar.console.print(text, markup=False, highlight=False),
        )
