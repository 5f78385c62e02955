"""IDX, the format of MNIST and Fashion-MNIST: unsigned bytes in an array of a stated shape.

Layout: two zero bytes, a type code (8: unsigned byte), the number of axes, each axis as a
big-endian 32-bit integer, then the values in row-major order, and nothing after them.
"""

from __future__ import annotations

__all__ = ["parse_idx", "read_idx"]

import math
import struct
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from elboscope.core import InputError

from .content import AGAIN, read_content

UNSIGNED_BYTE = 8
MAX_AXES = 4


def read_idx(path: str | Path) -> UInt8[np.ndarray, "..."]:
    """Reads an IDX file of unsigned bytes, plain or gzip.

    It checks the form, not the checksum: the named sets do that on top.

    Args:
        path: The file.

    Returns:
        The array, of the shape the header states.

    Raises:
        InputError: Unreadable, truncated, too long, empty, another format or another type.

    References:
        LeCun, Cortes, Burges (1998). The MNIST database of handwritten digits.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     path = Path(folder, "three-idx1-ubyte")
        ...     _ = path.write_bytes(bytes([0, 0, 8, 1, 0, 0, 0, 3, 7, 8, 9]))
        ...     read_idx(path)
        array([7, 8, 9], dtype=uint8)
    """
    return parse_idx(read_content(path), str(path))


def parse_idx(data: bytes, path: str) -> UInt8[np.ndarray, "..."]:
    """Turns the bytes of an IDX file into its array; ``path`` is what messages call it."""
    shape = _shape(data, path)
    start, num_values = 4 + 4 * len(shape), math.prod(shape)
    if num_values == 0:
        raise InputError(
            path, expected="at least one value", got=f"an empty array of shape {shape}", do=AGAIN
        )
    if len(data) != start + num_values:
        word = "truncated" if len(data) < start + num_values else "too long"
        raise InputError(
            path,
            expected=f"{start + num_values} bytes for shape {shape}",
            got=f"{len(data)} ({word})",
            do=AGAIN,
        )
    return np.frombuffer(data, np.uint8, offset=start).reshape(shape)


def _shape(data: bytes, path: str) -> tuple[int, ...]:
    if len(data) < 4:
        raise InputError(
            path, expected="an IDX header", got=f"{len(data)} bytes (truncated)", do=AGAIN
        )
    zeros, code, axes = data[:2], data[2], data[3]
    if zeros != b"\0\0" or not 1 <= axes <= MAX_AXES:
        raise InputError(
            path,
            expected=f"the IDX magic number 00 00 08 and 1 to {MAX_AXES} axes",
            got=data[:4].hex(" "),
            do="Is this an IDX file? Arrays are read from .npy and .npz.",
        )
    if code != UNSIGNED_BYTE:
        raise InputError(
            path,
            expected="IDX values of type 08 (unsigned byte)",
            got=f"type {code:02x}",
            do="Store the values as unsigned bytes, or as .npy.",
        )
    if len(data) < 4 + 4 * axes:
        raise InputError(
            path,
            expected=f"an IDX header of {4 + 4 * axes} bytes",
            got=f"{len(data)} (truncated)",
            do=AGAIN,
        )
    return struct.unpack(f">{axes}I", data[4 : 4 + 4 * axes])
