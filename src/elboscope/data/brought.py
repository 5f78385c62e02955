r"""Sets that the user brings: the faces of CelebA, and the characters of Omniglot.

CelebA: aligned faces from the user's folder, cropped and reduced to 64 × 64.

The 202 599 aligned pictures are 178 × 218. Papers crop them differently and rarely say how, and
densities of different crops are not comparable: the crop is part of ``treatment``. The default is
the centre 140 × 140, which holds the face and little else; 128 and 108 are other common choices.
The official split is that of ``list_eval_partition.txt``, read where it lies beside the folder of
pictures; without it the same split goes by number: 1 … 162 770 train, … 182 637 validation, the
rest test. Which of the two it was is part of ``source``.

References:
    | Deep Learning Face Attributes in the Wild (Liu et al., 2015), arXiv 1411.7766
    | Wasserstein Auto-Encoders (Tolstikhin et al., 2018), arXiv 1711.01558: the crop of 140
"""

from __future__ import annotations

__all__ = ["OMNIGLOT_FILE", "celeba", "omniglot"]

import math
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from elboscope.core import InputError
from elboscope.core.files import expanded, readable

from .folder import read_picture
from .images import Images
from .locations import VARIABLE, data_directory

FOLDERS = ("celeba/img_align_celeba", "CelebA/img_align_celeba", "img_align_celeba")
LAST_TRAIN, LAST_VALIDATION = 162_770, 182_637
CROP, SIDE = 140, 64
PARTITION = "list_eval_partition.txt"


def celeba(
    folder: str | Path | None = None,
    *,
    data_dir: str | Path | None = None,
    crop: int = CROP,
    side: int = SIDE,
    num_train: int | None = None,
    num_test: int | None = None,
    num_validation: int | None = None,
) -> Images:
    """Returns CelebA: faces in colour, values in [0, 1], (3, 64, 64).

    Whole, its training part takes 8 GB: ``num_train=20_000`` takes one. Nothing is downloaded.

    Args:
        folder: Folder of the aligned pictures ``000001.jpg`` …; None looks for ``img_align_celeba``
            in the data directory and its folder ``celeba``.
        data_dir: As in ``mnist``.
        crop: Side of the centre square that is kept, in pixels.
        side: Side it is reduced to, by averaging over areas.
        num_train: The first so many training pictures; None: all there are.
        num_test: The first so many test pictures.
        num_validation: The first so many validation pictures; 0 leaves the part out.

    Raises:
        InputError: No such folder, no pictures of either part, one that is too small or damaged.

    Example:
        >>> celeba("/nowhere")
        Traceback (most recent call last):
        elboscope.core.errors.InputError: celeba: expected a folder of pictures 000001.jpg ...
    """
    place = _found(data_dir) if folder is None else expanded(folder)
    for name, value in (("crop", crop), ("side", side)):
        if value < 1:
            raise InputError(name, expected="a positive number of pixels", got=repr(value))
    counts = {"num_train": num_train, "num_test": num_test, "num_validation": num_validation}
    for name, count in counts.items():
        if count is not None and count < (0 if name == "num_validation" else 1):
            raise InputError(name, expected="how many of the first pictures", got=repr(count))
    numbered = _numbered(place)
    (train, validation, test), split = _parts(place, numbered)
    train, validation = train[:num_train], validation[:num_validation]
    test = test[:num_test]
    if not train or not test:
        raise InputError(
            str(place),
            expected=f"pictures 1 to {LAST_TRAIN} and from {LAST_VALIDATION + 1} on",
            got=f"{len(train)} training and {len(test)} test pictures",
            do="CelebA's official split goes by the numbers of the files: keep them.",
        )
    return Images(
        "celeba",
        _read(train, crop, side),
        _read(test, crop, side),
        source=f"{place}, official split {split}",
        value_range=(0.0, 1.0),
        treatment=f"centre {crop} × {crop} reduced to {side} × {side} by area, scaled by 1/255",
        validation=_read(validation, crop, side) if validation else None,
    )


def _parts(
    place: Path, numbered: list[tuple[int, Path]]
) -> tuple[tuple[list[Path], list[Path], list[Path]], str]:
    """Training, validation and test pictures, and by what they were told apart."""
    folders = (place, place.parent, place.parent / "Eval")
    lists = [folder / PARTITION for folder in folders]
    found = next((path for path in lists if path.is_file()), None)
    told = {} if found is None else _partition(found)
    parts: tuple[list[Path], list[Path], list[Path]] = ([], [], [])
    for n, path in numbered:
        by_number = (n > LAST_TRAIN) + (n > LAST_VALIDATION)
        part = by_number if found is None else told.get(n)
        if part is None:
            raise InputError(
                str(found), expected=f"a line for {path.name}", got="none",
                do="Take the list that came with these pictures.",
            )  # fmt: skip
        parts[part].append(path)
    return parts, "by number" if found is None else f"of {PARTITION}"


def _partition(file: Path) -> dict[int, int]:
    """Lines such as ``000001.jpg 0``: 0 is training, 1 validation, 2 test."""
    told: dict[int, int] = {}
    for line in file.read_text(encoding="utf-8", errors="replace").splitlines():
        name, _, part = line.strip().partition(" ")
        stem = name.partition(".")[0]
        if not (stem.isdecimal() and part.strip() in ("0", "1", "2")):
            raise InputError(
                str(file), expected="lines such as '000001.jpg 0', the part 0, 1 or 2",
                got=repr(line[:40]), do="Take list_eval_partition.txt of CelebA, or remove it.",
            )  # fmt: skip
        told[int(stem)] = int(part)
    return told


def _found(data_dir: str | Path | None) -> Path:
    directory = data_directory(data_dir)
    places = [directory / folder for folder in FOLDERS]
    return next((place for place in places if place.is_dir()), places[0])


def _numbered(place: Path) -> list[tuple[int, Path]]:
    files = [*place.glob("*.jpg"), *place.glob("*.png")] if place.is_dir() else []
    numbered = sorted((int(path.stem), path) for path in files if path.stem.isdecimal())
    if not numbered:
        raise InputError(
            "celeba",
            expected=f"a folder of pictures 000001.jpg … in {place}",
            got="no such pictures" if place.is_dir() else "no such folder",
            do="It is not downloaded: unpack img_align_celeba.zip there, or name the right folder "
            f"(data_dir, {VARIABLE}).",
        )
    return numbered


def _read(paths: list[Path], crop: int, side: int) -> Float[Tensor, "n 3 side side"]:
    x = torch.empty(len(paths), 3, side, side)
    for i, path in enumerate(paths):
        x[i] = _reduced(_centre(read_picture(path), crop, path), side)
    return x


def _centre(pixels: UInt8[np.ndarray, "C H W"], crop: int, path: Path) -> Tensor:
    _, height, width = pixels.shape
    if min(height, width) < crop:
        raise InputError(
            str(path), expected=f"at least {crop} × {crop} pixels", got=f"{width} × {height}",
            do="Choose a smaller crop.",
        )  # fmt: skip
    top, left = (height - crop) // 2, (width - crop) // 2
    square = pixels[:, top : top + crop, left : left + crop]
    return torch.from_numpy(np.broadcast_to(square, (3, crop, crop)).astype(np.float32)) / 255


def _reduced(square: Float[Tensor, "3 crop crop"], side: int) -> Float[Tensor, "3 side side"]:
    """Averages over areas: every source pixel counts equally."""
    weights = _area_weights(square.shape[1], side)
    return weights @ square @ weights.T


def _area_weights(crop: int, side: int) -> Float[Tensor, "side crop"]:
    edges = torch.arange(side + 1, dtype=torch.float64) * (crop / side)
    pixel = torch.arange(crop, dtype=torch.float64)
    upper = torch.minimum(edges[1:, None], pixel + 1)
    lower = torch.maximum(edges[:-1, None], pixel)
    return ((upper - lower).clamp(min=0) * (side / crop)).float()


# OMNIGLOT as Burda et al. resized it: 24 345 + 8 070 handwritten characters of 28 × 28.
#
# It is one MATLAB file, ``chardata.mat``, which the user has to bring: it has no official place
# to download it from. Its images are stored column by column, so rows and columns are exchanged
# here.
#
# References:
#     | Importance Weighted Autoencoders (Burda et al., 2016), https://arxiv.org/abs/1509.00519
#     | Human-level concept learning through probabilistic program induction (Lake et al., 2015)

OMNIGLOT_FILE = "chardata.mat"
OMNIGLOT_SIDE, SHUFFLE = 28, 123
OMNIGLOT_PARTS = ("data", "testdata")
MOST_VALUES = 2 * 784 * 24_345  # twice the larger part
HEADER = b"MATLAB 5.0"
OMNIGLOT_FOLDERS = ("OMNIGLOT", "omniglot", "Omniglot", "")


def omniglot(
    file: str | Path | None = None,
    *,
    data_dir: str | Path | None = None,
    num_validation: int = 0,
) -> Images:
    """Returns OMNIGLOT from the user's ``chardata.mat``: grey values in [0, 1], (1, 28, 28).

    Not binary: choose a ``Binarisation``. Nothing is downloaded.

    Args:
        file: The file; None looks for it in the data directory and its folder ``OMNIGLOT``.
        data_dir: As in ``mnist``.
        num_validation: How many of the training images become the validation part: the last
            after a shuffle with numpy's ``RandomState(123)``; 1345 is usual.

    Raises:
        InputError: No such file, or another content; no image left to train on.

    Example:
        >>> omniglot("/nowhere/chardata.mat")
        Traceback (most recent call last):
        elboscope.core.errors.InputError: /nowhere/chardata.mat: expected the chardata.mat of ...
    """
    path = _omniglot_found(data_dir) if file is None else expanded(file)
    content = _read_mat(path)
    train, test = (_columns(content, key, path) for key in ("data", "testdata"))
    if not 0 <= num_validation < len(train):
        raise InputError(
            "num_validation", expected=f"0 to {len(train) - 1}", got=repr(num_validation)
        )
    order = np.random.RandomState(SHUFFLE).permutation(len(train))
    held = torch.from_numpy(order[len(train) - num_validation :])
    kept = torch.from_numpy(np.sort(order[: len(train) - num_validation]))
    own = f"; validation: the last {num_validation} after RandomState({SHUFFLE}).permutation"
    return Images(
        "omniglot",
        train[kept],
        test,
        source=str(path),
        value_range=(0.0, 1.0),
        treatment="grey values as stored, rows and columns exchanged"
        + (own if num_validation else ""),
        validation=train[held] if num_validation else None,
    )


def _omniglot_found(data_dir: str | Path | None) -> Path:
    directory = data_directory(data_dir)
    places = [directory / folder / OMNIGLOT_FILE for folder in OMNIGLOT_FOLDERS]
    for path in places:
        if path.is_file():
            return path
    raise InputError(
        "omniglot",
        expected=f"{OMNIGLOT_FILE} of Burda et al. in {places[0].parent}",
        got="no such file",
        do=f"It is not downloaded: put it there, or name the right folder (data_dir, {VARIABLE}).",
    )


def _read_mat(path: Path) -> Mapping[str, object]:
    from scipy.io import loadmat, whosmat
    from scipy.io.matlab import MatReadError

    try:
        with readable(path).open("rb") as file:
            if file.read(len(HEADER)) != HEADER:
                raise MatReadError("another kind of file")
        sizes = {name: shape for name, shape, _ in whosmat(str(path))}
        if any(math.prod(sizes.get(name, ())) > MOST_VALUES for name in OMNIGLOT_PARTS):
            raise MatReadError(f"more than {MOST_VALUES:,} values, which were not read")
        content: Mapping[str, object] = loadmat(str(path), variable_names=OMNIGLOT_PARTS)
    except (OSError, ValueError, TypeError, IndexError, MatReadError, zlib.error) as error:
        raise InputError(
            str(path),
            expected="the chardata.mat of Burda et al., a MATLAB 5 file",
            got=getattr(error, "strerror", None) or " ".join(str(error).split()) or "damage",
            do="Name the right file (--omniglot FILE where a reproduction takes one), or leave "
            "OMNIGLOT out.",
        ) from error
    return content


def _columns(content: Mapping[str, object], key: str, path: Path) -> Float[Tensor, "N 1 28 28"]:
    array = content.get(key)
    rows = array.shape[0] if isinstance(array, np.ndarray) and array.ndim == 2 else 0
    if not isinstance(array, np.ndarray) or rows != OMNIGLOT_SIDE**2 or not array.size:
        shape = f"shape {array.shape}" if isinstance(array, np.ndarray) else "no such array"
        raise InputError(
            f"{path}, {key}", expected="an array of 784 rows, a column an image", got=shape
        )
    if array.dtype.kind not in "buif":
        got = "cells" if array.dtype.kind == "O" else f"{array.dtype} values"
        raise InputError(f"{path}, {key}", expected="real grey values in [0, 1]", got=got)
    if not bool(((array >= 0) & (array <= 1)).all()):
        got = f"{float(array.min()):g} to {float(array.max()):g}"
        raise InputError(f"{path}, {key}", expected="grey values in [0, 1]", got=got)
    values = torch.from_numpy(np.ascontiguousarray(array.T, dtype=np.float32))
    return (
        values.reshape(-1, OMNIGLOT_SIDE, OMNIGLOT_SIDE).transpose(1, 2).unsqueeze(1).contiguous()
    )
