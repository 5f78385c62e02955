"""Files that are either the old ones or the new ones, whatever happens in between."""

from __future__ import annotations

__all__ = [
    *("expanded", "only_process", "output_folder", "readable", "replace_file", "replace_with"),
    *("require_same", "to_disk", "unwritable"),
]

import errno
import fcntl
import glob
import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from . import InputError


def replace_file(path: Path, write: Callable[[Path], object]) -> None:
    """Writes a file aside in the same folder, brings it to disk, and renames it into place.

    A process killed at any moment leaves the old file or the new one. What it wrote aside
    (``.NAME.PID.part``) is removed by the next attempt, what an error left of it at once. Two
    processes may write the same file: the last one wins, with the whole of its content.
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
    _remove_left(path)
    aside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with aside.open("wb") as held:
            fcntl.flock(held, fcntl.LOCK_SH)  # while it is held, no one takes it for left behind
            mode = aside.stat().st_mode
            write(aside)
            aside.chmod(mode)
            to_disk(aside)
            os.replace(aside, path)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise
    to_disk(path.parent)


def _remove_left(path: Path) -> None:
    """Removes what killed processes wrote aside: no one holds the lock of it."""
    for left in path.parent.glob(f".{glob.escape(path.name)}.*part"):
        try:
            with left.open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                left.unlink(missing_ok=True)
        except OSError:  # it is being written, or its writer has just renamed it
            continue


def to_disk(path: Path) -> None:
    """Waits until a file's content, or a folder's entries, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def only_process(folder: Path, name: str = ".lock") -> Iterator[None]:
    """Holds the folder's lock; the operating system releases it when the process ends, however.

    Args:
        folder: The folder.
        name: The file in it that is locked.

    Raises:
        InputError: Another process holds it.

    Example:
        >>> import tempfile
        >>> with only_process(Path(tempfile.mkdtemp())):
        ...     pass
    """
    with _own_file(folder / name) as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            lock.seek(0)
            raise InputError(
                str(folder),
                expected="a folder that no other process is writing",
                got=f"one that process {lock.read().strip() or '?'} is writing in",
                do="Wait for it, stop it, or choose another folder.",
            ) from error
        lock.truncate(0)
        lock.write(f"{os.getpid()}\n")
        lock.flush()
        yield


def _own_file(path: Path) -> TextIO:
    """Opens a file to be overwritten, unless it is a link: in a folder of others it leads away."""
    try:
        number = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666)
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
        raise InputError(
            str(path), expected="a file", got="a link to another place", do="Remove the link."
        ) from error
    return os.fdopen(number, "r+", encoding="utf-8")


def output_folder(folder: str | os.PathLike[str], name: str = "--out") -> Path:
    """Returns a folder that results may go to, where a mistake in typing would hurt no one.

    Args:
        folder: As it was typed; a leading ``~`` is the home folder.
        name: What the user calls it.

    Raises:
        InputError: It is empty, the root, the current folder's parent, or further up.

    Example:
        >>> output_folder("runs/a").as_posix()
        'runs/a'
        >>> output_folder("..")
        Traceback (most recent call last):
        elboscope.core.errors.InputError: --out: expected a folder for the results of this ...
    """
    path, text = expanded(folder), os.fspath(folder)
    got = ""
    if not text.strip():
        got = "an empty name"
    elif path.resolve() in Path.cwd().resolve().parents or path.resolve().parent == path.resolve():
        got = f"{text!r}, which contains the current folder"
    if got:
        raise InputError(
            name,
            expected="a folder for the results of this command",
            got=got,
            do="Name one of its own, such as runs/a.",
        )
    return path


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
        expected, do = (
            "a path that can be written",
            "Choose another folder, or change its permissions.",
        )
        raise unwritable(path, error, expected, do) from error
    return path


def unwritable(path: Path, error: OSError, expected: str, do: str) -> InputError:
    """Returns the error of a path that the operating system does not let be written.

    Example:
        >>> unwritable(Path("a"), OSError(28, "No space left"), "a path", "Choose another.").got
        'OSError: No space left'
    """
    got = f"{type(error).__name__}: {error.strerror or error}"
    return InputError(str(path), expected=expected, got=got, do=do)


def require_same(
    saved: Mapping[str, object], now: Mapping[str, object], begun: str, do: str
) -> None:
    """Raises unless what is asked now is what an earlier sitting was begun with.

    Args:
        saved: What was written then, read back from JSON.
        now: What is asked now.
        begun: What was begun, in words.
        do: What to do where they differ.

    Raises:
        InputError: The first name whose value differs.

    Example:
        >>> require_same({"seed": 1}, {"seed": 2}, "the run", "Begin again.")
        Traceback (most recent call last):
        elboscope.core.errors.InputError: seed: expected 1, with which the run was begun; got 2. ...
    """
    for name in sorted({*saved, *now}):
        before, after = saved.get(name), json.loads(json.dumps(now.get(name)))
        if before != after:
            expected = f"{before!r}, with which {begun} was begun"
            raise InputError(name, expected=expected, got=repr(after), do=do)


def readable(path: Path) -> Path:
    """Returns the path of a file that can be read to its end: no pipe or device.

    Raises:
        OSError: It is none.

    Example:
        >>> readable(Path("/dev/null"))
        Traceback (most recent call last):
        OSError: [Errno 22] not a regular file: '/dev/null'
    """
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    return path


def expanded(path: str | os.PathLike[str]) -> Path:
    """Returns a path with ``~`` and ``~name`` replaced.

    Raises:
        InputError: No such user, or text that can be no path.

    Example:
        >>> expanded("runs/a").as_posix()
        'runs/a'
        >>> expanded("~no_such_user/a.npy")
        Traceback (most recent call last):
        elboscope.core.errors.InputError: ~no_such_user/a.npy: expected a path; got the home ...
    """
    got = ""
    try:
        found = Path(path).expanduser()
        if b"\0" in os.fsencode(found):
            got = "a text with a zero byte"
    except (RuntimeError, UnicodeError) as error:
        got = "no text" if isinstance(error, UnicodeError) else "the home folder of no known user"
    except TypeError:
        got = f"{type(path).__name__} {path!r}"
    if got:
        shown = ascii(path)[1:-1] if isinstance(path, str) else "the path"
        raise InputError(shown, expected="a path", got=got)
    return found
