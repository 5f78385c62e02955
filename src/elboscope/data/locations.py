"""Where the official sets lie on this machine, and whether what lies there is what it should be.

Two sets may share their file names (MNIST and Fashion-MNIST do), so a file directly in the data
directory belongs to the set whose checksum it has. A file with an unknown checksum is reported, not
passed over.
"""

from __future__ import annotations

__all__ = ["Found", "check_content", "data_directory", "fetch", "locate"]

import os
from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from elboscope.core import InputError
from elboscope.core.files import expanded

from .images import read_archive, read_content, sha256, write_aside
from .official import OFFICIAL, OfficialSet

VARIABLE = "ELBOSCOPE_DATA"
SHARED_FOLDERS = ("", "raw")  # may hold the files of either of two sets


class Found(NamedTuple):
    """The files of a set that are here, by name, and the archive with all of them, if any."""

    files: dict[str, Path]
    archive: Path | None

    def missing(self, official: OfficialSet) -> list[str]:
        """Names of the files that are neither here nor in the archive."""
        return [] if self.archive else [name for name in official.files if name not in self.files]

    @property
    def places(self) -> str:
        """The folders (or the archive) the files come from."""
        folders = {str(path.parent) for path in self.files.values()}
        return ", ".join(sorted(folders | ({str(self.archive)} if self.archive else set())))


def data_directory(data_dir: str | Path | None = None) -> Path:
    """Returns the data directory: the argument, else ELBOSCOPE_DATA, else the user's cache.

    It need not exist yet; a download creates it.

    Raises:
        InputError: The path is a file.

    Example:
        >>> data_directory("/data/sets").as_posix()
        '/data/sets'
    """
    chosen = data_dir or os.environ.get(VARIABLE) or _user_cache()
    path = expanded(chosen)
    if path.exists() and not path.is_dir():
        raise InputError(
            str(path),
            expected="a data directory",
            got="a file",
            do=f"Name the folder that holds the sets (data_dir, or {VARIABLE}).",
        )
    return path


def locate(official: OfficialSet, directory: Path) -> Found:
    """Finds the files of a set in the usual layouts below a data directory.

    Raises:
        InputError: A file that might belong to the set cannot be read.
    """
    files = {}
    for name in official.files:
        places = (
            directory / folder / file
            for folder in official.folders
            for file in (name, f"{name}.gz")
        )
        here = next((path for path in places if _belongs(path, name, official, directory)), None)
        if here is not None:
            files[name] = here
    archive = None
    if official.archive is not None and len(files) < len(official.files):
        places = (directory / folder / official.archive for folder in official.folders)
        archive = next((path for path in places if path.is_file()), None)
    return Found(files, archive)


def check_content(official: OfficialSet, name: str, data: bytes, path: str) -> None:
    """Raises an InputError unless the bytes are the official content of the named file."""
    expected = official.files[name]
    do = "Delete the file and load again: it is then fetched from the official place."
    if len(data) != expected.num_bytes:
        word = "truncated" if len(data) < expected.num_bytes else "too long"
        raise InputError(
            path,
            expected=f"{expected.num_bytes} bytes of {official.name}'s {name}",
            got=f"{len(data)} ({word})",
            do=do,
        )
    digest = sha256(data)
    if digest != expected.sha256:
        owner = _owner(name, digest)
        raise InputError(
            path,
            expected=f"{official.name}'s {name} with SHA-256 {expected.sha256[:12]}…",
            got=f"{digest[:12]}…" + (f", which is {owner}'s" if owner else ""),
            do=do,
        )


def _belongs(path: Path, name: str, official: OfficialSet, directory: Path) -> bool:
    if not path.is_file():
        return False
    if path.parent not in {directory / folder for folder in SHARED_FOLDERS}:
        return True
    if not any(name in other.files for other in OFFICIAL if other.name != official.name):
        return True
    return _owner(name, sha256(read_content(path))) in (None, official.name)


def _owner(name: str, digest: str) -> str | None:
    for other in OFFICIAL:
        if name in other.files and other.files[name].sha256 == digest:
            return other.name
    return None


def _user_cache() -> str:
    import pooch

    return str(pooch.os_cache("elboscope"))


# Downloads of the official sets: written aside, checked, and only then renamed into place.
#
# A download that fails, is interrupted or delivers other bytes leaves no file behind. The
# checksum is taken of the uncompressed content, so it does not matter which mirror answered, nor
# over which protocol.

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
