"""Files that are either the old ones or the new ones, whatever happens in between."""

from __future__ import annotations

__all__ = ["replace_with"]

import os
import tempfile
from pathlib import Path

from elboscope.core import InputError


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
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, aside = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    except OSError as error:
        raise InputError(
            str(path),
            expected="a path that can be written",
            got=f"{type(error).__name__}: {error.strerror}",
            do="Choose another folder, or change its permissions.",
        ) from error
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(aside, 0o644 & ~_umask())
        os.replace(aside, path)
    except BaseException:
        Path(aside).unlink(missing_ok=True)
        raise
    return path


def _umask() -> int:
    """The process's mask, which can only be read by setting it."""
    mask = os.umask(0o022)
    os.umask(mask)
    return mask
