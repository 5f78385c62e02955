"""Your own data from a file: .npy, .npz, or a folder of images. Nothing is ever unpickled.

Real values of any range are allowed, because a Gaussian model takes them; the range that occurs is
recorded. 8-bit values become x/255 (methods and message: ``as_tensor``).
"""

from __future__ import annotations

__all__ = ["NAMES", "from_file", "load", "read_array"]

import struct
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from tokenize import TokenError
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from elboscope.core import InputError
from elboscope.core.files import expanded

from .brought import celeba, omniglot
from .color_mnist import color_digits, color_mnist
from .folder import read_folder
from .images import Images, most_bytes, split, too_long
from .inputs import Batch, as_tensor, nearest
from .named import cifar10, digits, fashion_mnist, mnist

PAIRS = (("train", "test"), ("x_train", "x_test"), ("X_train", "X_test"))
SINGLE = ("x", "X", "data", "images", "arr_0")
BROKEN = (
    ValueError, EOFError, OSError, SyntaxError, TokenError, MemoryError, OverflowError, KeyError,
    TypeError, RuntimeError, struct.error, zlib.error, zipfile.BadZipFile,
)  # fmt: skip
# What NumPy and zipfile were seen to raise for damaged .npy and .npz files.


def from_file(path: str | Path, *, test_fraction: float = 0.2, seed: int = 0) -> Images:
    """Returns your own data with a training and a test part.

    A .npz with ``train`` and ``test`` (or ``x_train`` and ``x_test``) is split already; everything
    else is split at random by the seed. To use an array whole, see ``read_array``.

    Args:
        path: A .npy, a .npz or a folder of images (needs Pillow).
        test_fraction: Share of the test data where the file has no split.
        seed: Seed of that split.

    Returns:
        The set; ``value_range`` is (0, 1) for 8-bit and boolean values and otherwise the range
        that occurs; ``treatment`` says what was done to the values.

    Raises:
        InputError: Missing, damaged, objects instead of numbers, NaN, too few datapoints, parts of
            different shapes, several arrays without a known name.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     np.save(Path(folder, "x.npy"), np.arange(20.0).reshape(10, 2))
        ...     images = from_file(Path(folder, "x.npy"))
        >>> len(images.train), len(images.test), images.value_range, images.treatment
        (8, 2, (0.0, 19.0), 'float64 as given')
    """
    path = _existing(path)
    if path.suffix == ".npz":
        arrays = _load_npz(path)
        for pair in PAIRS:
            if set(pair) <= set(arrays):
                return _ready_split(path, arrays, pair)
    batch = read_array(path)
    train, test = split(len(batch.x), test_fraction, seed, str(path))
    return _images(
        path, batch.x[train], batch.x[test], batch.treatment, f"{path}, split with seed {seed}"
    )


def read_array(path: str | Path) -> Batch:
    """Returns all data of a .npy, a .npz with one array, or a folder of images, unsplit.

    Args:
        path: The file. Of several arrays in a .npz, the one named x, X, data, images or arr_0.

    Returns:
        The data ``(N, *X)`` and what was done to them.

    Raises:
        InputError: As in ``from_file``.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     np.save(Path(folder, "x.npy"), np.array([[0, 255]], dtype=np.uint8))
        ...     read_array(Path(folder, "x.npy"))
        Batch(x=tensor([[0., 1.]]), treatment='8-bit values scaled by 1/255')
    """
    path = _existing(path)
    if path.is_dir():
        return as_tensor(read_folder(path), name=str(path))
    if path.suffix == ".npz":
        return _single(path, _load_npz(path))
    if path.suffix != ".npy":
        raise InputError(
            str(path),
            expected="a .npy, a .npz or a folder of images",
            got=f"'{path.suffix}'" if path.suffix else "a file without suffix",
            do="Write the array with numpy.save.",
        )
    return as_tensor(_load_npy(path), name=str(path))


def _existing(path: str | Path) -> Path:
    path = expanded(path)
    if not path.exists():
        siblings = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
        raise InputError(
            str(path),
            expected="a file or folder that exists",
            got="nothing there",
            do=nearest(path.name, siblings),
        )
    if not path.is_dir() and not path.is_file():
        raise InputError(str(path), expected="a file or a folder", got="a pipe or a device")
    return path


def _load_npy(path: Path) -> NDArray[Any]:
    try:
        array = np.load(path, allow_pickle=False)
    except BROKEN as error:
        raise _broken(path, error) from error
    if not isinstance(array, np.ndarray):
        raise InputError(
            str(path), expected="a .npy file", got="a .npz archive", do="Rename it to .npz."
        )
    return array


def _load_npz(path: Path) -> dict[str, NDArray[Any]]:
    try:
        with zipfile.ZipFile(path) as members:
            if sum(member.file_size for member in members.infolist()) > most_bytes(path):
                raise too_long(path, most_bytes(path))
        with np.load(path, allow_pickle=False) as archive:
            arrays = {key: archive[key] for key in archive.files}
    except InputError:
        raise
    except BROKEN as error:
        raise _broken(path, error) from error
    for key, array in arrays.items():
        if not isinstance(array, np.ndarray):  # a member that is no .npy comes as bytes
            raise InputError(
                f"{path}[{key}]", expected="an array", got="other bytes", do="Use numpy.savez."
            )
    return arrays


def _single(path: Path, arrays: Mapping[str, NDArray[Any]]) -> Batch:
    keys = list(arrays) if len(arrays) == 1 else [key for key in SINGLE if key in arrays]
    if not keys:
        names = ", ".join(arrays) or "none"
        raise InputError(
            str(path),
            expected="one array, or one named x, or two named train and test",
            got=f"arrays {names}",
            do="Save the data with numpy.savez(path, x=...).",
        )
    return as_tensor(arrays[keys[0]], name=f"{path}[{keys[0]}]")


def _ready_split(path: Path, arrays: Mapping[str, NDArray[Any]], keys: tuple[str, str]) -> Images:
    train, test = (as_tensor(arrays[key], name=f"{path}[{key}]") for key in keys)
    if train.x.shape[1:] != test.x.shape[1:] or train.treatment != test.treatment:
        raise InputError(
            f"{path}[{keys[1]}]",
            expected=f"datapoints like {keys[0]}'s: {tuple(train.x.shape[1:])}, {train.treatment}",
            got=f"{tuple(test.x.shape[1:])}, {test.treatment}",
            do="Give both parts the same shape and type.",
        )
    return _images(path, train.x, test.x, train.treatment, str(path))


def _images(
    path: Path,
    train: Float[Tensor, "N_train *X"],
    test: Float[Tensor, "N_test *X"],
    treatment: str,
    source: str,
) -> Images:
    low, high = 0.0, 1.0
    if not treatment.startswith(("8-bit", "booleans")):
        low = min(float(train.min()), float(test.min()))
        high = max(float(train.max()), float(test.max()))
    return Images(path.name, train, test, source, (low, high), treatment)


def _broken(path: Path, error: Exception) -> InputError:
    if "Object arrays" in str(error) or "pickle" in str(error):
        return InputError(
            str(path),
            expected=f"a {path.suffix} file of numbers",
            got="objects, pickled data or another format, which is never unpickled",
            do="Save a numeric array: numpy.save(path, x.astype('float32')).",
        )
    return InputError(
        str(path),
        expected=f"a complete {path.suffix} file",
        got=f"a truncated or damaged one ({type(error).__name__}: {error})",
        do="Write it again with numpy.",
    )


# One door for data by name or by path, as the command line and configurations speak of them.

NAMES = (
    *("digits", "mnist", "fashion_mnist", "cifar10", "color_digits", "color_mnist"),
    *("omniglot", "celeba"),
)


def load(
    name_or_path: str | Path, data_dir: str | Path | None = None, download: bool = True
) -> Images:
    """Returns a data set by its name, or your own from a path.

    A name is taken before a file of the same name; write ``./mnist`` for the file. Case, hyphens
    and underscores do not matter: "Fashion-MNIST" is "fashion_mnist".

    Args:
        name_or_path: "digits", "mnist", "fashion_mnist", "cifar10", "color_digits",
            "color_mnist", "omniglot", "celeba", or a path ``from_file`` reads.
        data_dir: Folder of data sets; see ``mnist``.
        download: Whether missing files may be fetched.

    Raises:
        InputError: An unknown name (with the nearest valid one), or what the loader raises.

    Example:
        >>> load("digits").data_shape
        (1, 8, 8)
        >>> load("mnits")
        Traceback (most recent call last):
        elboscope.core.errors.InputError: data: expected one of digits, ... Did you mean 'mnist'?
    """
    match {_plain(name): name for name in NAMES}.get(_plain(str(name_or_path))):
        case "digits":
            return digits()
        case "mnist":
            return mnist(data_dir, download)
        case "fashion_mnist":
            return fashion_mnist(data_dir, download)
        case "cifar10":
            return cifar10(data_dir, download)
        case "color_digits":
            return color_digits()
        case "color_mnist":
            return color_mnist(data_dir, download)
        case "omniglot":
            return omniglot(data_dir=data_dir)
        case "celeba":
            return celeba(data_dir=data_dir)
    if _looks_like_path(name_or_path):
        return from_file(name_or_path)
    raise InputError(
        "data",
        expected=f"one of {', '.join(NAMES)}, or the path of a .npy, .npz or folder of images",
        got=repr(str(name_or_path)),
        do=nearest(name_or_path, NAMES),
    )


def _plain(name: str) -> str:
    return name.lower().replace("-", "").replace("_", "")


def _looks_like_path(name: str | Path) -> bool:
    path = Path(name)
    return isinstance(name, Path) or len(path.parts) > 1 or path.suffix != "" or path.exists()
