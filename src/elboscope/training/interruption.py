"""Ctrl-C and SIGTERM end training between two steps, never within one."""

from __future__ import annotations

__all__ = ["Interruption", "TrainingInterrupted", "interruptible"]

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

NAMES = {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "SIGTERM"}


class TrainingInterrupted(KeyboardInterrupt):
    """Training was stopped from outside, after saving; the text says how to continue.

    Args:
        reason: "Ctrl-C" or "SIGTERM".
        step: Steps taken.
        epoch: The same in epochs.
        folder: Where the state was saved, if anywhere.
    """

    def __init__(self, reason: str, step: int, epoch: float, folder: Path | None) -> None:
        self.reason, self.step, self.epoch, self.folder = reason, step, epoch, folder
        where = (
            f"saved in {folder}. Continue with the same command and --resume, "
            "or the same call of train with resume=True."
            if folder
            else "not saved, for no folder was given."
        )
        super().__init__(f"Stopped by {reason} at epoch {epoch:.2f} (step {step}); {where}")


@dataclass
class Interruption:
    """Whether an end was asked for, and by what; empty while nobody did."""

    reason: str = ""


@contextmanager
def interruptible() -> Iterator[Interruption]:
    """Notes a first Ctrl-C or SIGTERM instead of raising; a second one raises at once.

    Outside the main thread signals cannot be caught, and they keep their usual meaning.

    Example:
        >>> import os, signal
        >>> with interruptible() as stop:
        ...     os.kill(os.getpid(), signal.SIGINT)
        ...     stop.reason
        'Ctrl-C'
    """
    stop = Interruption()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def note(number: int, frame: FrameType | None) -> None:
        if stop.reason:
            raise KeyboardInterrupt
        stop.reason = NAMES[signal.Signals(number)]

    before = {number: signal.signal(number, note) for number in NAMES}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)
