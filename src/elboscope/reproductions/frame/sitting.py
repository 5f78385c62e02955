"""One sitting of a long reproduction: its folder, its clock, and how it ends and goes on.

A reproduction's folder holds ``state/``: what was asked (``asked.json``), the seconds spent, and
whatever its parts keep there. A sitting that runs out of time, or is stopped by Ctrl-C, leaves
the state of the last moment at which it was whole; the next one, with ``resume``, goes on.
"""

from __future__ import annotations

__all__ = [
    "Options",
    "Progress",
    "Sitting",
    "Unfinished",
    "Workers",
    "device_name",
    "provenance",
    "sitting",
    "sitting_of_one_run",
    "training_device",
]

import json
import platform
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import torch

from elboscope.core import InputError
from elboscope.core.files import only_process, replace_with, require_same
from elboscope.sweeps.executor import Executor

from .result import Scale

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
            name: Name of the file that remembers the pause.

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
        name: Name of the run; its folder in the state has a clock of its own.
        progress: Told what is being done.

    Raises:
        InputError: The folder is not that of this reproduction.
        KeyboardInterrupt: Ctrl-C came; the text says how to go on.
    """
    state = out / "state"
    if not (state / ASKED).is_file():
        expected = "the folder of a reproduction that was begun"
        raise InputError(str(out), expected=expected, got="another", do="Begin it with --workers.")
    _require_asked(state / ASKED, asked, out)
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
    _require_asked(marker, asked, out)


def _require_asked(marker: Path, asked: Mapping[str, object], out: Path) -> None:
    do = "Resume with the same options, or name another folder with --out."
    require_same(json.loads(marker.read_text()), asked, str(out), do)


# What a reproduction can be told beside its scale, its folder and its seed.

Progress = Callable[[str, int, int], None]
"""Called with what is being done, how much of it is done, and how much there is."""


@dataclass(frozen=True)
class Workers:
    """Independent runs as processes of their own.

    Attributes:
        executor: Where they run, and how many at a time.
        command: Trains and scores one run, with the number of the run put behind it.
    """

    executor: Executor
    command: tuple[str, ...]


@dataclass(frozen=True)
class Options:
    """Where data are, and how long one sitting lasts.

    Attributes:
        data_dir: Folder of data sets; ``None`` takes ELBOSCOPE_DATA, else the user's cache.
        omniglot: A ``chardata.mat`` of Burda et al.; ``None`` leaves OMNIGLOT out.
        columns: Which columns of inference-suboptimality-table1, by name; all if empty.
        resume: Whether to continue what was begun in the folder.
        slice_seconds: After this time a sitting saves its state and ends; ``None`` never does.
        workers: Who trains independent runs; ``None``: this process, one after another.
    """

    data_dir: Path | None = None
    omniglot: Path | None = None
    columns: tuple[str, ...] = ()
    resume: bool = False
    slice_seconds: float | None = None
    workers: Workers | None = None


# What a result must be read with: machine, versions, seed, training, time, data.


def training_device(scale: Scale) -> torch.device:
    """Returns the accelerator for the paper's scale, if there is one; else the CPU.

    Example:
        >>> training_device("smoke")
        device(type='cpu')
    """
    use = scale == "paper" and torch.cuda.is_available()
    return torch.device("cuda" if use else "cpu")


def device_name(device: torch.device) -> str:
    """Returns the name of the processor behind a device."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"CPU, {_processor()}, {torch.get_num_threads()} threads"


def _processor() -> str:
    listed = Path("/proc/cpuinfo")
    lines = listed.read_text().splitlines() if listed.is_file() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())


def provenance(
    *,
    seed: int,
    device: torch.device,
    wall_seconds: float,
    epochs: int | None,
    data: Mapping[str, object],
    settings: Mapping[str, object],
) -> dict[str, object]:
    """Returns the record that is saved beside every number.

    Args:
        seed: Random seed from which all randomness of the run comes.
        device: Where it ran.
        wall_seconds: How long, all sittings together.
        epochs: Passes over the training data; ``None`` where nothing was trained.
        data: Name, checksum, number of images, binarisation.
        settings: What else the numbers depend on.

    Example:
        >>> record = provenance(seed=0, device=torch.device("cpu"), wall_seconds=1.0, epochs=None,
        ...                     data={}, settings={})
        >>> sorted(record)[:4]
        ['data', 'device', 'epochs', 'finished']
    """
    versions = {name: version(name) for name in ("elboscope", "torch", "numpy")}
    return {
        "device": device_name(device),
        "versions": {"python": platform.python_version(), **versions},
        "seed": seed,
        "epochs": epochs,
        "wall_seconds": round(wall_seconds, 1),
        "finished": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "data": dict(data),
        "settings": dict(settings),
    }
