r"""OMNIGLOT as Burda et al. resized it: 24 345 + 8 070 handwritten characters of 28 × 28.

It is one MATLAB file, ``chardata.mat``, which the user has to bring: it has no official place to
download it from. Its images are stored column by column, so rows and columns are exchanged here.

References:
    | Importance Weighted Autoencoders (Burda et al., 2016), https://arxiv.org/abs/1509.00519
    | Human-level concept learning through probabilistic program induction (Lake et al., 2015)
"""

from __future__ import annotations

__all__ = ["OMNIGLOT_FILE", "omniglot"]

import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from elboscope.core import InputError

from .images import Images
from .locations import VARIABLE, data_directory

OMNIGLOT_FILE = "chardata.mat"
SIDE, SHUFFLE = 28, 123
HEADER = b"MATLAB 5.0"
FOLDERS = ("OMNIGLOT", "omniglot", "Omniglot", "")


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
    path = _found(data_dir) if file is None else Path(file).expanduser()
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


def _found(data_dir: str | Path | None) -> Path:
    directory = data_directory(data_dir)
    places = [directory / folder / OMNIGLOT_FILE for folder in FOLDERS]
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
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    try:
        with path.open("rb") as file:
            if file.read(len(HEADER)) != HEADER:
                raise MatReadError("another kind of file")
        content: Mapping[str, object] = loadmat(str(path), variable_names=("data", "testdata"))
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
    if not isinstance(array, np.ndarray) or rows != SIDE**2 or not array.size:
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
    return values.reshape(-1, SIDE, SIDE).transpose(1, 2).unsqueeze(1).contiguous()
