"""The one training loop: steps, and what may happen between two of them.

Every run is trained by it: :func:`~elboscope.training.train`, whose run folder has a row an epoch,
and :func:`~elboscope.training.train_in_slices`, whose sittings end by the clock and whose steps
are replayed as captured graphs. What differs between them is a :class:`Course`: how a step is
taken, when the losses are looked at, and what is written. The loop decides the order: look, end
the epoch, save, stop. Nothing that is not finite is ever saved.
"""

from __future__ import annotations

__all__ = ["Course", "take_steps"]

from typing import Protocol, runtime_checkable

from .checkpoint import TrainingState
from .steps import Interruption


@runtime_checkable
class Course(Protocol):
    """A run in progress, as the loop sees it."""

    @property
    def state(self) -> TrainingState:
        """The counters; the loop advances ``step``."""
        ...

    @property
    def steps_per_epoch(self) -> int:
        """T."""
        ...

    def over(self) -> str:
        """Returns why no step remains to be taken, or an empty text."""
        ...

    def advance(self) -> bool:
        """Takes a step; False if the model's numbers no longer allow one."""
        ...

    def late(self) -> bool:
        """Whether this sitting's time is over."""
        ...

    def due(self, ends_epoch: bool) -> bool:
        """Whether the state is to be saved."""
        ...

    def fault(self, ends_epoch: bool, saves: bool) -> str:
        """Looks at losses and weights, where it is time to: returns what is not finite."""
        ...

    def diverge(self, fault: str) -> str:
        """Puts the last finite state back and returns how the run ended."""
        ...

    def end_epoch(self) -> None:
        """Writes the epoch's row."""
        ...

    def save(self) -> None:
        """Writes the checkpoint."""
        ...


def take_steps(course: Course, stop: Interruption) -> str:
    """Takes steps until something ends the run or the sitting; returns what did.

    Args:
        course: The run.
        stop: Whether an end was asked for from outside; the state is saved first.

    Returns:
        What ``course.over()`` or ``course.diverge(…)`` said, "interrupted" or "to be continued".
    """
    ended = course.over()
    while not ended:
        if not course.advance():
            return course.diverge("")
        course.state.step += 1
        ends_epoch = course.state.step % course.steps_per_epoch == 0
        late = course.late()
        saves = course.due(ends_epoch) or late or bool(stop.reason)
        if fault := course.fault(ends_epoch, saves):
            return course.diverge(fault)
        if ends_epoch:
            course.end_epoch()
        if saves:
            course.save()
        ended = course.over() or ("interrupted" if stop.reason else "")
        ended = ended or ("to be continued" if late else "")
    return ended
