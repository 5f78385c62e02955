"""Sets by name: MNIST, Fashion-MNIST and CIFAR-10, found or fetched and checked; and digits.

Every byte is checked against the official SHA-256 before a number is made of it.
"""

from __future__ import annotations

__all__ = ["cifar10", "collect", "digits", "fashion_mnist", "mnist"]

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor

from elboscope.core import InputError

from .images import Images, read_archive, read_content, split
from .locations import VARIABLE, check_content, data_directory, fetch, locate
from .official import CIFAR10, FASHION_MNIST, MNIST, OfficialSet, parse_cifar_batch, parse_idx

SCALED = "8-bit values scaled by 1/255"


def mnist(data_dir: str | Path | None = None, download: bool = True) -> Images:
    """Returns MNIST: 60 000 + 10 000 handwritten digits, grey values in [0, 1], (1, 28, 28).

    Not binary: choose a ``Binarisation``. The training set is whole; take a validation part from
    its end where a table's split asks for one.

    Args:
        data_dir: Folder of data sets; None takes ELBOSCOPE_DATA, else the user's cache. Both
            ``MNIST/raw/`` (torchvision's layout) and the files directly in it are found, plain
            or gzip.
        download: Whether missing files may be fetched (12 MB).

    Returns:
        The set, with labels.

    Raises:
        InputError: Files missing and unavailable, truncated, or with another checksum.

    References:
        LeCun, Bottou, Bengio, Haffner (1998). Gradient-based learning applied to document
        recognition.

    Example:
        >>> mnist("/nowhere", download=False)
        Traceback (most recent call last):
        elboscope.core.errors.InputError: mnist: expected train-images-idx3-ubyte (plain or .gz) in /nowhere/MNIST/raw; got 4 of 4 files missing. ...
    """  # noqa: E501
    return _idx_set(MNIST, data_dir, download)


def fashion_mnist(data_dir: str | Path | None = None, download: bool = True) -> Images:
    """Returns Fashion-MNIST: 60 000 + 10 000 articles of clothing, in MNIST's form.

    Args:
        data_dir: As in ``mnist``; the folder is ``FashionMNIST/raw/``.
        download: Whether missing files may be fetched (31 MB).

    Returns:
        The set, with labels.

    Raises:
        InputError: As in ``mnist``.

    References:
        Xiao, Rasul, Vollgraf (2017). Fashion-MNIST. arXiv 1708.07747.

    Example:
        >>> fashion_mnist("/nowhere", download=False)
        Traceback (most recent call last):
        elboscope.core.errors.InputError: fashion_mnist: expected train-images-idx3-ubyte ... in /nowhere/FashionMNIST/raw; got 4 of 4 files missing. ...
    """  # noqa: E501
    return _idx_set(FASHION_MNIST, data_dir, download)


def cifar10(data_dir: str | Path | None = None, download: bool = True) -> Images:
    """Returns CIFAR-10: 50 000 + 10 000 colour photographs, values in [0, 1], (3, 32, 32).

    Reads the binary version (``cifar-10-batches-bin/`` or ``cifar-10-binary.tar.gz``), never the
    pickled one.

    Args:
        data_dir: As in ``mnist``.
        download: Whether missing files may be fetched (170 MB).

    Returns:
        The set, with labels.

    Raises:
        InputError: As in ``mnist``.

    References:
        Krizhevsky (2009). Learning multiple layers of features from tiny images.

    Example:
        >>> cifar10("/nowhere", download=False)
        Traceback (most recent call last):
        elboscope.core.errors.InputError: cifar10: expected data_batch_1.bin ... in /nowhere/cifar-10-batches-bin; got 6 of 6 files missing. ...
    """  # noqa: E501
    contents, source = collect(CIFAR10, data_dir, download)
    batches = {name: parse_cifar_batch(data, name) for name, data in contents.items()}
    parts = [batches[name] for name in sorted(batches) if name != "test_batch.bin"]
    test = batches["test_batch.bin"]
    return Images(
        CIFAR10.name,
        _scaled(np.concatenate([part.images for part in parts])),
        _scaled(test.images),
        source=source,
        value_range=(0.0, 1.0),
        treatment=SCALED,
        train_labels=_labels(np.concatenate([part.labels for part in parts])),
        test_labels=_labels(test.labels),
    )


def collect(
    official: OfficialSet, data_dir: str | Path | None, download: bool
) -> tuple[dict[str, bytes], str]:
    """Returns the checked contents of all files of a set, by name, and where they were.

    Args:
        official: The set.
        data_dir: As in ``mnist``.
        download: Whether missing files may be fetched.

    Raises:
        InputError: As in ``mnist``.
    """
    directory = data_directory(data_dir)
    found = locate(official, directory)
    missing = found.missing(official)
    if missing and not download:
        raise _not_here(official, missing, directory)
    if missing:
        fetch(official, missing, directory)
        found = locate(official, directory)
    contents = {name: read_content(path) for name, path in found.files.items()}
    names = {name: str(path) for name, path in found.files.items()}
    if found.archive is not None:
        inside = [name for name in official.files if name not in contents]
        contents |= read_archive(found.archive, inside)
        names |= {name: f"{found.archive}, {name}" for name in inside}
    for name, data in contents.items():
        check_content(official, name, data, names[name])
    return contents, found.places


def _idx_set(official: OfficialSet, data_dir: str | Path | None, download: bool) -> Images:
    contents, source = collect(official, data_dir, download)
    arrays = {name: parse_idx(data, name) for name, data in contents.items()}
    return Images(
        official.name,
        _scaled(arrays["train-images-idx3-ubyte"][:, None]),
        _scaled(arrays["t10k-images-idx3-ubyte"][:, None]),
        source=source,
        value_range=(0.0, 1.0),
        treatment=SCALED,
        train_labels=_labels(arrays["train-labels-idx1-ubyte"]),
        test_labels=_labels(arrays["t10k-labels-idx1-ubyte"]),
    )


def _scaled(pixels: UInt8[np.ndarray, "N C H W"]) -> Float[Tensor, "N C H W"]:
    return torch.from_numpy(pixels.astype(np.float32)).div_(255)


def _labels(labels: UInt8[np.ndarray, " N"]) -> Int64[Tensor, " N"]:
    return torch.from_numpy(labels.astype(np.int64))


def _not_here(official: OfficialSet, missing: list[str], directory: Path) -> InputError:
    hint = ""
    if official.pickled and any(directory.glob(f"**/{official.pickled}")):
        hint = f" ({official.pickled} is here, but pickles execute code and are not read)"
    return InputError(
        official.name,
        expected=f"{missing[0]} (plain or .gz) in {directory / official.folders[0]}",
        got=f"{len(missing)} of {len(official.files)} files missing{hint}",
        do=f"Name the right folder (data_dir, {VARIABLE}), or allow the download of "
        f"{official.megabytes} MB (download=True).",
    )


# Scikit-learn's handwritten digits: 1797 real 8 × 8 images that need no download.
#
# The grey values are counts from 0 to 16 (each pixel is the number of set pixels in a 4 × 4 block
# of a bitmap), so grey/16 is a Bernoulli probability in the literal sense.

MAX_GREY = 16


def digits(test_fraction: float = 0.2, seed: int = 0) -> Images:
    r"""Returns the embedded digits, ``x = grey / 16`` of shape (1, 8, 8), split by a seed.

    Not MNIST: other writers, eight pixels a side, and values near 20 nats instead of 90.

    Args:
        test_fraction: Share of the test images; 0.2 gives 1438 train and 359 test.
        seed: Seed of the split. Numbers of two splits are not comparable.

    Returns:
        The set, with labels 0 to 9.

    Raises:
        InputError: A test fraction outside (0, 1).

    References:
        Alpaydin, Kaynak (1998). Optical recognition of handwritten digits. UCI repository.

    Example:
        >>> images = digits()
        >>> tuple(images.train.shape), tuple(images.test.shape), float(images.train.max())
        ((1438, 1, 8, 8), (359, 1, 8, 8), 1.0)
    """
    from sklearn.datasets import load_digits

    bunch = load_digits()
    x = torch.from_numpy(bunch.images).float().div_(MAX_GREY).unsqueeze(1)
    labels = torch.from_numpy(bunch.target).long()
    train, test = split(len(x), test_fraction, seed, "digits")
    return Images(
        "digits",
        x[train],
        x[test],
        source=f"scikit-learn, split with seed {seed}",
        value_range=(0.0, 1.0),
        treatment=f"grey values scaled by 1/{MAX_GREY}",
        train_labels=labels[train],
        test_labels=labels[test],
    )
