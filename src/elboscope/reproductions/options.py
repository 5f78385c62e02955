"""What a reproduction can be told beside its scale, its folder and its seed."""

from __future__ import annotations

__all__ = ["Options", "Progress", "Workers"]

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from elboscope.sweeps.executor import Executor

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
