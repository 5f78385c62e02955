"""What data this machine has: the table behind ``elboscope data``."""

from __future__ import annotations

__all__ = ["Availability", "available"]

from pathlib import Path
from typing import NamedTuple

from elboscope.core import InputError

from .brought import FOLDERS as FACES
from .brought import OMNIGLOT_FILE
from .color_mnist import NUM_TEST, NUM_TRAIN
from .locations import data_directory, locate
from .named import collect
from .official import OFFICIAL, OfficialSet


class Availability(NamedTuple):
    """One row: a set, where it is or how to get it, and whether its content is the official one.

    ``checksum_ok`` is None where there is nothing to check; ``problem`` is the one-line message
    where something is wrong, else empty.
    """

    name: str
    shape: tuple[int, ...]
    num_train: int
    num_test: int
    here: bool
    where: str
    checksum_ok: bool | None
    problem: str = ""


def available(data_dir: str | Path | None = None) -> list[Availability]:
    """Returns a row for every named set; reads and checks all files that are here.

    Nothing is downloaded. A damaged file becomes a row with its ``problem``, not an exception.

    Args:
        data_dir: Folder of data sets; None takes ELBOSCOPE_DATA, else the user's cache.

    Raises:
        InputError: The data directory is a file.

    Example:
        >>> rows = available("/nowhere")
        >>> [row.name for row in rows if row.here]
        ['digits', 'color_digits']
        >>> print(rows[1].where)
        not here: elboscope.data.mnist() fetches it (12 MB), or put its files into /nowhere/MNIST/raw
    """  # noqa: E501
    directory = data_directory(data_dir)
    digits = Availability(
        "digits", (1, 8, 8), 1438, 359, True, "embedded (scikit-learn)", checksum_ok=None
    )
    official = [_row(official, directory) for official in OFFICIAL]
    return [digits, *official, *_made_of(official), *_brought(directory)]


def _made_of(official: list[Availability]) -> list[Availability]:
    """Sets made of others: here where those are."""
    grey = next(row for row in official if row.name == "mnist")
    where = "made of mnist" if grey.here else "not here: it is made of mnist"
    ours = Availability(
        "color_digits", (3, 8, 8), 5000, 1000, True, "made of digits", checksum_ok=None
    )
    theirs = (grey.here, where, grey.checksum_ok, grey.problem)
    return [ours, Availability("color_mnist", (3, 28, 28), NUM_TRAIN, NUM_TEST, *theirs)]


def _brought(directory: Path) -> list[Availability]:
    """Sets that the user has to bring; they have no checksum to compare with."""
    characters = next(iter(sorted(directory.glob(f"*/{OMNIGLOT_FILE}"))), directory / OMNIGLOT_FILE)
    faces = next((p for p in (directory / f for f in FACES) if p.is_dir()), directory / FACES[0])
    sizes = (("omniglot", (1, 28, 28), 24_345, 8_070), ("celeba", (3, 64, 64), 162_770, 19_962))
    return [
        Availability(*size, path.exists(), _place(path), None)
        for size, path in zip(sizes, (characters, faces), strict=True)
    ]


def _place(path: Path) -> str:
    return str(path) if path.exists() else f"not here, and not downloaded: put it at {path}"


def _row(official: OfficialSet, directory: Path) -> Availability:
    here, where, ok, problem = True, "", True, ""
    try:
        found = locate(official, directory)
        where = found.places
        if found.files or found.archive:
            collect(official, directory, download=False)
        else:
            here, where = False, _how_to_get(official, directory)
    except InputError as error:
        ok, problem, where = False, str(error), where or str(directory)
    size = (official.name, official.shape, official.num_train, official.num_test)
    return Availability(*size, here, where, ok if here else None, problem)


def _how_to_get(official: OfficialSet, directory: Path) -> str:
    return (
        f"not here: elboscope.data.{official.name}() fetches it ({official.megabytes} MB), "
        f"or put its files into {directory / official.folders[0]}"
    )
