"""Bytes of files, plain or gzip: read whole, and named when they are not what they should be."""

from __future__ import annotations

__all__ = ["read_archive", "read_content", "sha256", "write_aside"]

import gzip
import hashlib
import os
import tarfile
import zlib
from collections.abc import Collection
from pathlib import Path

from elboscope.core import InputError

GZIP_MAGIC = b"\x1f\x8b"
AGAIN = "Delete it and load again, or copy it anew."


def read_content(path: str | Path) -> bytes:
    """Returns a file's uncompressed bytes; gzip is recognised by its first two bytes.

    Raises:
        InputError: The file cannot be read, or its gzip stream is incomplete or damaged.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     _ = Path(folder, "a.gz").write_bytes(gzip.compress(b"grey"))
        ...     read_content(Path(folder, "a.gz"))
        b'grey'
    """
    try:
        data = Path(path).read_bytes()
        return gzip.decompress(data) if data.startswith(GZIP_MAGIC) else data
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise _damaged(path, "a complete gzip file", error) from error
    except OSError as error:
        raise _unreadable(path, error) from error


def read_archive(path: str | Path, names: Collection[str]) -> dict[str, bytes]:
    """Returns the bytes of the named members of a .tar.gz, found by their last path component.

    Nothing is unpacked to disk, so the paths inside the archive cannot do harm.

    Raises:
        InputError: The archive cannot be read, is damaged, or lacks a member.
    """
    try:
        with tarfile.open(path, "r:*") as archive:
            found = {
                Path(member.name).name: _member(archive, member)
                for member in archive
                if member.isfile() and Path(member.name).name in names
            }
    except (tarfile.TarError, gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise _damaged(path, "a complete .tar.gz", error) from error
    except OSError as error:
        raise _unreadable(path, error) from error
    for name in names:
        if name not in found:
            raise InputError(
                str(path), expected=f"the member {name}", got="an archive without it", do=AGAIN
            )
    return found


def sha256(data: bytes) -> str:
    """Returns the SHA-256 of some bytes in hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def write_aside(path: Path, data: bytes) -> Path:
    """Writes and flushes a file in a folder of temporaries, ready to be renamed into place."""
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    return path


def _member(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    stream = archive.extractfile(member)
    data = stream.read() if stream is not None else b""
    if len(data) != member.size:
        raise EOFError(f"{member.name} ends after {len(data)} of {member.size} bytes")
    return data


def _damaged(path: str | Path, expected: str, error: Exception) -> InputError:
    return InputError(
        str(path), expected=expected, got=f"a truncated or damaged one ({error})", do=AGAIN
    )


def _unreadable(path: str | Path, error: OSError) -> InputError:
    return InputError(
        str(path),
        expected="a readable file",
        got=error.strerror or str(error),
        do="Check the path and its permissions.",
    )
