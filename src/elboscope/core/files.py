"""Files that are either the old ones or the new ones, whatever happens in between."""

from __future__ import annotations

__all__ = ["only_process", "replace_file", "replace_with", "to_disk"]

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from . import InputError


def replace_file(path: Path, write: Callable[[Path], object]) -> None:
    """Writes a file aside in the same folder, brings it to disk, and renames it into place.

    A process killed at any moment leaves the old file or the new one. What it wrote aside
    (``.NAME.part``) is overwritten by the next attempt; what an error left of it is removed.
    The file has the permissions of any new file, whatever the writer sets.

    Args:
        path: The file.
        write: Writes the new content to the path that it is given.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "a.txt"
        >>> replace_file(path, lambda aside: aside.write_text("new"))
        >>> path.read_text(), len(list(path.parent.iterdir()))
        ('new', 1)
    """
    aside = path.with_name(f".{path.name}.part")
    try:
        aside.unlink(missing_ok=True)
        aside.touch()
        mode = aside.stat().st_mode
        write(aside)
        aside.chmod(mode)
        to_disk(aside)
        os.replace(aside, path)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise
    to_disk(path.parent)


def to_disk(path: Path) -> None:
    """Waits until a file's content, or a folder's entries, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def only_process(folder: Path) -> Iterator[None]:
    """Holds the folder's lock; the operating system releases it when the process ends, however.

    Raises:
        InputError: Another process holds it.

    Example:
        >>> import tempfile
        >>> with only_process(Path(tempfile.mkdtemp())):
        ...     pass
    """
    import fcntl

    with (folder / ".lock").open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            lock.seek(0)
            raise InputError(
                str(folder),
                expected="a run folder that no other process is writing",
                got=f"one that process {lock.read().strip() or '?'} is training in",
                do="Wait for it, stop it, or choose another folder.",
            ) from error
        lock.truncate(0)
        lock.write(f"{os.getpid()}\n")
        lock.flush()
        yield


# A report is written whole or not at all, in a folder that is made for it.


def replace_with(path: Path, content: str | bytes) -> Path:
    """Writes a file aside, brings it to disk, and renames it into place.

    Args:
        path: The file; missing folders above it are made.
        content: All of it; text is written as UTF-8.

    Returns:
        The path.

    Raises:
        InputError: The path is a folder, or its folder cannot be written.

    Example:
        >>> import tempfile
        >>> path = replace_with(Path(tempfile.mkdtemp()) / "new" / "a.txt", "text")
        >>> path.read_text(), len(list(path.parent.iterdir()))
        ('text', 1)
    """
    if path.is_dir():
        raise InputError(
            str(path),
            expected="the path of a file",
            got="a folder",
            do=f"Name the file: {path / 'report.html'}.",
        )
    body = content.encode() if isinstance(content, str) else content
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, lambda aside: aside.write_bytes(body))
    except OSError as error:
        raise InputError(
            str(path),
            expected="a path that can be written",
            got=f"{type(error).__name__}: {error.strerror or error}",
            do="Choose another folder, or change its permissions.",
        ) from error
    return path
