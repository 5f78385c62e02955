"""A report is written whole or not at all, in a folder that is made for it."""

from __future__ import annotations

__all__ = ["replace_with"]

from pathlib import Path

from elboscope.core import InputError
from elboscope.training.atomic import replace_file


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
