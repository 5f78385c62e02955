"""One sitting of a long reproduction: its folder, its clock, and how it ends and goes on.

A reproduction's folder holds ``state/``: what was asked (``asked.json``), the seconds spent, and
whatever its parts keep there. A sitting that runs out of time, or is stopped by Ctrl-C, leaves
the state of the last moment at which it was whole; the next one, with ``resume``, goes on.
"""

from __future__ import annotations

__all__ = ["Sitting", "Unfinished", "sitting", "sitting_of_one_run"]

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from elboscope.core import InputError
from elboscope.report.writing import replace_with
from elboscope.training.atomic import only_process

from .options import Options, Progress

ASKED, CLOCK = "asked.json", "seconds.json"


class Unfinished(Exception):  # noqa: N818 (no error: the work goes on)
    """A slice of time is over and the work is not; the text says how to go on."""


@dataclass
class Sitting:
    """Where a reproduction keeps its state, and how much time is left.

    Attributes:
        folder: ``state/``, where parts of the work are kept.
        deadline: When the slice ends, on the monotonic clock; infinite without slices.
        progress: Told what is being done.
        before: Seconds of the sittings before.
    """

    folder: Path
    deadline: float
    progress: Progress | None
    before: float
    began: float = field(default_factory=lambda: time.monotonic())

    @property
    def seconds(self) -> float:
        """Time spent, all sittings together."""
        return self.before + time.monotonic() - self.began

    def say(self, stage: str, done: int, total: int) -> None:
        """Tells the progress, if anybody listens."""
        if self.progress is not None:
            self.progress(stage, done, total)

    @property
    def left(self) -> float:
        """Seconds until the slice is over."""
        return self.deadline - time.monotonic()

    def unfinished(self, before: str) -> Unfinished:
        """Returns the exception that says where the slice ended, and how to go on."""
        return Unfinished(
            f"The slice of time ended at {before}, after {self.seconds:.0f} s in all; the "
            f"state is in {self.folder}. Continue with the same command and --resume."
        )

    def require_time(self, what: str) -> None:
        """Ends the sitting here if its time is over.

        Raises:
            Unfinished: It is.
        """
        if self.left <= 0:
            raise self.unfinished(what)

    def pause_before(self, what: str, name: str) -> None:
        """Ends the sitting here if its time is over, but no second time: what follows is whole.

        A sitting too short for reading the state would otherwise never come further.

        Args:
            what: What follows.
            name: Of the file that remembers the pause.

        Raises:
            Unfinished: The time is over, and was not before.
        """
        if not (self.folder / name).is_file():
            self.keep(name, "")
            self.require_time(what)

    def keep(self, name: str, content: str | bytes) -> Path:
        """Writes a file of the state, whole or not at all."""
        return replace_with(self.folder / name, content)


@contextmanager
def sitting(
    out: Path, asked: Mapping[str, object], options: Options, progress: Progress | None
) -> Iterator[Sitting]:
    """Opens the folder of a reproduction, for one process at a time, and keeps the time.

    Args:
        out: The folder; made if missing.
        asked: What must not change between sittings: name, scale, seed, data, settings.
        options: Whether to resume, and the length of a slice.
        progress: Told what is being done.

    Raises:
        InputError: The folder holds other files or another run, or one that was not to be
            resumed; another process works in it.
        KeyboardInterrupt: Ctrl-C came; the text says how to go on.

    Example:
        >>> import tempfile
        >>> with sitting(Path(tempfile.mkdtemp()), {"seed": 0}, Options(), None) as now:
        ...     now.left, now.folder.name
        (inf, 'state')
    """
    state = out / "state"
    _require_usable(out, state / ASKED, asked, resume=options.resume)
    try:
        state.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        got = error.strerror or str(error)
        raise InputError(str(out), expected="a folder that can be written", got=got) from error
    with only_process(state):
        replace_with(state / ASKED, json.dumps(asked, indent=1))
        length = options.slice_seconds
        deadline = float("inf") if length is None else time.monotonic() + length
        with _timed(state, state / CLOCK, deadline, progress) as now:
            yield now


@contextmanager
def sitting_of_one_run(
    out: Path, asked: Mapping[str, object], name: str, progress: Progress | None
) -> Iterator[Sitting]:
    """Opens the folder of a reproduction that another process holds, for one run of many.

    Args:
        out: The folder, in which :func:`sitting` was called before.
        asked: What must be the same as there.
        name: Of the run; its folder in the state has a clock of its own.
        progress: Told what is being done.

    Raises:
        InputError: The folder is not that of this reproduction.
        KeyboardInterrupt: Ctrl-C came; the text says how to go on.
    """
    state = out / "state"
    if not (state / ASKED).is_file():
        expected = "the folder of a reproduction that was begun"
        raise InputError(str(out), expected=expected, got="another", do="Begin it with --workers.")
    _require_same(json.loads((state / ASKED).read_text()), asked, out)
    (state / name).mkdir(exist_ok=True)
    with _timed(state, state / name / CLOCK, float("inf"), progress) as now:
        yield now


@contextmanager
def _timed(
    state: Path, clock: Path, deadline: float, progress: Progress | None
) -> Iterator[Sitting]:
    before = float(json.loads(clock.read_text())) if clock.is_file() else 0.0
    now = Sitting(state, deadline, progress, before)
    try:
        yield now
    except KeyboardInterrupt as stop:
        if str(stop):  # it was raised by the training, which says where it stands
            raise
        text = f"Stopped by Ctrl-C; the state is in {state}. Continue with --resume."
        raise KeyboardInterrupt(text) from stop
    finally:
        replace_with(clock, json.dumps(round(now.seconds, 3)))


def _require_usable(out: Path, marker: Path, asked: Mapping[str, object], *, resume: bool) -> None:
    if out.exists() and not out.is_dir():
        raise InputError(str(out), expected="a folder", got="a file", do="Name another with --out.")
    if not out.exists() or not any(out.iterdir()):
        return
    if not marker.is_file():
        got = "a folder with other files"
        expected = "a new or empty folder, or one of an earlier reproduction"
        raise InputError(str(out), expected=expected, got=got, do="Name another with --out.")
    if not resume:
        raise InputError(
            str(out),
            expected="a new or empty folder",
            got="one in which this was begun before",
            do="Continue it with --resume, or name another with --out.",
        )
    _require_same(json.loads(marker.read_text()), asked, out)


def _require_same(saved: Mapping[str, object], asked: Mapping[str, object], out: Path) -> None:
    for name in sorted({*saved, *asked}):
        before, now = saved.get(name), json.loads(json.dumps(asked.get(name)))
        if before != now:
            raise InputError(
                name,
                expected=f"{before!r}, with which {out} was begun",
                got=repr(now),
                do="Resume with the same options, or name another folder with --out.",
            )
