"""What data this machine has: the table behind ``elboscope data``."""

from __future__ import annotations

__all__ = ["Availability", "available"]

from pathlib import Path
from typing import NamedTuple

from elboscope.core import InputError

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
        >>> [(row.name, row.here) for row in rows]
        [('digits', True), ('mnist', False), ('fashion_mnist', False), ('cifar10', False)]
        >>> print(rows[1].where)
        not here: elboscope.data.mnist() fetches it (12 MB), or put its files into /nowhere/MNIST/raw
    """  # noqa: E501
    directory = data_directory(data_dir)
    digits = Availability(
        "digits", (1, 8, 8), 1438, 359, True, "embedded (scikit-learn)", checksum_ok=None
    )
    return [digits, *(_row(official, directory) for official in OFFICIAL)]


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
