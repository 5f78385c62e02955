"""A data set in memory: two tensors, where they came from, and the checksum of what they hold.

A likelihood is a number about particular data. Two numbers may be compared only when the data
behind them are the same to the last bit, so a set carries the SHA-256 of its content: of shape,
dtype and bytes of the training and test tensors, in this order. The split is part of it.
"""

from __future__ import annotations

__all__ = [
    "Images",
    "content_checksum",
    "inflated",
    "most_bytes",
    "read_archive",
    "read_content",
    "sha256",
    "split",
    "too_long",
    "write_aside",
]

import gzip
import hashlib
import os
import tarfile
import zlib
from collections.abc import Collection
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import IO, cast

import torch
from jaxtyping import Float, Integer
from torch import Tensor

from elboscope.core import InputError, seeded
from elboscope.core.files import readable


@dataclass(frozen=True, eq=False, repr=False)
class Images:
    """Training and test data with their provenance.

    The name says images because most sets are; ``from_file`` fills it with any arrays.

    Args:
        name: What the set is called in reports.
        train: Training data, ``(N_train, *X)``.
        test: Test data, ``(N_test, *X)``.
        source: Where the data came from: a folder, a file, a package.
        value_range: Smallest and largest value that can occur (named sets and 8-bit images) or
            that does occur (other arrays).
        treatment: What was done to the stored values.
        train_labels: Classes, or None. No estimator uses them.
        test_labels: Classes, or None.
        validation: Data of a validation part of the set's own, or None; ``treatment`` says which.
        checksum: SHA-256 of the content; computed, not given.

    Example:
        >>> x = torch.tensor([[0.0, 1.0], [0.5, 0.5], [1.0, 0.0]])
        >>> images = Images("toy", x[:2], x[2:], source="a docstring", value_range=(0.0, 1.0))
        >>> images.data_shape, images.in_unit_interval
        ((2,), True)
        >>> print(images)
        toy: 2 train + 1 test of shape (2,), values in [0, 1], from a docstring, sha256 ...
    """

    name: str
    train: Float[Tensor, "N_train *X"]
    test: Float[Tensor, "N_test *X"]
    source: str
    value_range: tuple[float, float]
    treatment: str = "as stored"
    train_labels: Integer[Tensor, " N_train"] | None = None
    test_labels: Integer[Tensor, " N_test"] | None = None
    validation: Float[Tensor, "N_validation *X"] | None = None
    checksum: str = field(init=False)

    def __post_init__(self) -> None:
        parts = [part for part in (self.train, self.test, self.validation) if part is not None]
        object.__setattr__(self, "checksum", content_checksum(*parts))

    @property
    def data_shape(self) -> tuple[int, ...]:
        """Shape ``X`` of one datapoint."""
        return tuple(self.train.shape[1:])

    @property
    def in_unit_interval(self) -> bool:
        """Whether a Bernoulli likelihood (or a binarisation) can take the values."""
        low, high = self.value_range
        return low >= 0.0 and high <= 1.0

    def __str__(self) -> str:
        low, high = self.value_range
        own = "" if self.validation is None else f" {len(self.validation)} validation +"
        return (
            f"{self.name}: {len(self.train)} train +{own} {len(self.test)} test of shape "
            f"{self.data_shape}, values in [{low:g}, {high:g}], from {self.source}, "
            f"sha256 {self.checksum[:12]}"
        )

    __repr__ = __str__


def content_checksum(*tensors: Tensor) -> str:
    """Returns the SHA-256 (64 hexadecimal digits) over shape, dtype and bytes of the tensors.

    Example:
        >>> content_checksum(torch.zeros(2)) == content_checksum(torch.zeros(1), torch.zeros(1))
        False
    """
    digest = hashlib.sha256()
    for tensor in tensors:
        array = tensor.detach().cpu().contiguous().numpy()
        digest.update(f"{array.shape} {array.dtype};".encode())
        digest.update(array.data if array.size else b"")
    return digest.hexdigest()


def split(num_data: int, test_fraction: float, seed: int, name: str) -> tuple[Tensor, Tensor]:
    """Returns the indices of training and test data: a uniformly random split, fixed by its seed.

    Both index tensors are sorted, so that the data keep their order within each part.

    Args:
        num_data: How many datapoints there are.
        test_fraction: Share of the test data, in (0, 1); each part gets at least one datapoint.
        seed: Seed of the permutation.
        name: What an error message calls the data.

    Example:
        >>> train, test = split(10, 0.2, seed=0, name="toy")
        >>> len(train), len(test), sorted(torch.cat([train, test]).tolist()) == list(range(10))
        (8, 2, True)
    """
    if not 0.0 < test_fraction < 1.0:
        raise InputError(
            "test_fraction",
            expected="a number between 0 and 1, both excluded",
            got=repr(test_fraction),
            do="0.2 keeps a fifth of the data for testing.",
        )
    if num_data < 2:
        raise InputError(
            name,
            expected="at least 2 datapoints, one to train and one to test",
            got=str(num_data),
            do="Give more data, or read them whole with elboscope.data.read_array.",
        )
    num_test = min(max(round(test_fraction * num_data), 1), num_data - 1)
    with seeded(seed):
        order = torch.randperm(num_data)
    return order[num_test:].sort().values, order[:num_test].sort().values


# Bytes of files, plain or gzip: read whole, and named when they are not what they should be.

GZIP_MAGIC = b"\x1f\x8b"
# A small gzip can stand for any amount of zeros: pictures shrink to a fifth, binary ones to 1/30.
ALWAYS_BYTES, MOST_RATIO = 1 << 28, 100
CHUNK = 1 << 20
AGAIN = "Delete it and load again, or copy it anew."


def most_bytes(path: Path) -> int:
    """Returns how many bytes a compressed file may hold: 256 MiB, or 100 times its own size."""
    return max(ALWAYS_BYTES, MOST_RATIO * path.stat().st_size)


def inflated(stream: IO[bytes], most: int, path: str | Path) -> bytes:
    """Reads a stream that is being decompressed, and stops where it grows beyond all sense.

    Args:
        stream: What is decompressed while it is read.
        most: The most bytes that its content may have.
        path: What messages call it.

    Raises:
        InputError: It holds more.

    Example:
        >>> inflated(BytesIO(bytes(9)), 8, "a.gz")
        Traceback (most recent call last):
        elboscope.core.errors.InputError: a.gz: expected at most 8 bytes when decompressed; got ...
    """
    parts, size = [], 0
    while part := stream.read(min(CHUNK, most + 1 - size)):
        parts.append(part)
        size += len(part)
        if size > most:
            raise too_long(path, most)
    return b"".join(parts)


def too_long(path: str | Path, most: int) -> InputError:
    """Returns the error of a compressed file that holds more than :func:`most_bytes`."""
    return InputError(
        str(path),
        expected=f"at most {most:,} bytes when decompressed",
        got="more, which were not read",
        do="If you made the file and it is right, save the data uncompressed.",
    )


def read_content(path: str | Path) -> bytes:
    """Returns a file's uncompressed bytes; gzip is recognised by its first two bytes.

    Raises:
        InputError: The file cannot be read; its gzip stream is incomplete, damaged or too long.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     _ = Path(folder, "a.gz").write_bytes(gzip.compress(b"grey"))
        ...     read_content(Path(folder, "a.gz"))
        b'grey'
    """
    try:
        with readable(Path(path)).open("rb") as file:
            if not file.peek(2).startswith(GZIP_MAGIC):
                return file.read()
            with gzip.GzipFile(fileobj=file) as stream:
                return inflated(cast(IO[bytes], stream), most_bytes(Path(path)), path)
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
        content = BytesIO(read_content(path))  # members that are skipped count as well
        with tarfile.open(fileobj=content, mode="r:") as archive:
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
