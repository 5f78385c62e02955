"""Downloads of the official sets: written aside, checked, and only then renamed into place.

A download that fails, is interrupted or delivers other bytes leaves no file behind. The checksum
is taken of the uncompressed content, so it does not matter which mirror answered, nor over which
protocol.
"""

from __future__ import annotations

__all__ = ["fetch"]

from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory

from elboscope.core import InputError

from .content import read_archive, read_content, write_aside
from .locations import check_content
from .official import OfficialSet

CHUNK_BYTES = 1 << 20
TIMEOUT_SECONDS = 30.0


def fetch(official: OfficialSet, names: Iterable[str], directory: Path) -> None:
    """Downloads files of a set into its folder below a data directory.

    Args:
        official: The set.
        names: Which of its files; an archive brings them all.
        directory: The data directory; created if need be.

    Raises:
        InputError: The directory cannot be written, or no mirror delivers the official content.
            Nothing is left half-written.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix=".download-", dir=directory) as aside:
            _into_place(_fetched(official, list(names), Path(aside)), directory, official)
    except OSError as error:
        raise InputError(
            str(directory),
            expected="a data directory that can be written",
            got=error.strerror or str(error),
            do="Name another with data_dir or ELBOSCOPE_DATA.",
        ) from error


def _fetched(official: OfficialSet, names: list[str], aside: Path) -> list[Path]:
    if official.archive is None:
        return [_from_mirrors(official, f"{name}.gz", (name,), aside)[0] for name in names]
    return _from_mirrors(official, official.archive, tuple(official.files), aside)


def _from_mirrors(
    official: OfficialSet, remote: str, names: tuple[str, ...], aside: Path
) -> list[Path]:
    reasons = []
    for mirror in official.mirrors:
        try:
            return _from_mirror(official, mirror + remote, names, aside)
        except (OSError, InputError) as error:
            reasons.append(f"{mirror + remote}: {_reason(error)}")
    raise InputError(
        f"download of {official.name}",
        expected=f"{remote} from one of {len(official.mirrors)} mirrors",
        got="; ".join(reasons),
        do=f"Check the connection, or put the files into {official.folders[0]} below the data "
        "directory (data_dir, ELBOSCOPE_DATA).",
    )


def _from_mirror(
    official: OfficialSet, address: str, names: tuple[str, ...], aside: Path
) -> list[Path]:
    import pooch

    remote = Path(address).name
    got = aside / f"{remote}.part"
    download = pooch.HTTPDownloader(chunk_size=CHUNK_BYTES, timeout=TIMEOUT_SECONDS)
    download(address, str(got), None)
    if official.archive is None:
        check_content(official, names[0], read_content(got), remote)
        return [write_aside(aside / remote, got.read_bytes())]
    contents = read_archive(got, names)
    for name, data in contents.items():
        check_content(official, name, data, f"{remote}, {name}")
    return [write_aside(aside / name, data) for name, data in contents.items()]


def _into_place(files: list[Path], directory: Path, official: OfficialSet) -> None:
    folder = directory / official.folders[0]
    folder.mkdir(parents=True, exist_ok=True)
    for file in files:
        file.replace(folder / file.name)


def _reason(error: Exception) -> str:
    text = (
        f"{error.expected} expected, {error.got}" if isinstance(error, InputError) else str(error)
    )
    return text if len(text) <= 160 else f"{text[:157]}..."
