r"""The images of the reproductions: grey values to train on, one binary draw to evaluate.

In Burda et al. and what follows them a pixel's grey value is a Bernoulli probability. Training
draws binary images afresh at each use; every test number is of one draw, fixed by seed 0, the
same for all models of a table. OMNIGLOT is the ``chardata.mat`` of Burda et al.: 24 345 training
and 8 070 test images of 28 × 28, stored column by column.
"""

from __future__ import annotations

__all__ = ["Images", "load_images", "load_omniglot"]

import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from elboscope.core import InputError
from elboscope.data import Binarisation, digits, mnist
from elboscope.data.images import content_checksum

from .options import Options
from .result import Scale

BINARISATION = Binarisation("dynamic", seed=0)
SMOKE_TRAIN, SMOKE_TEST = 200, 50
CPU_TEST = 1000
HEADER = b"MATLAB 5.0"


class Images(NamedTuple):
    """Training and test images of one table.

    Attributes:
        name: Of the data set.
        train: Grey values, ``(N, 1, H, W)``.
        test: Binary, one fixed draw.
        checksum: Of both, as they are used.
    """

    name: str
    train: Float[Tensor, "N 1 H W"]
    test: Float[Tensor, "n 1 H W"]
    checksum: str

    def record(self) -> Mapping[str, object]:
        """Returns what is saved beside a number."""
        return {
            "name": self.name,
            "num_train": len(self.train),
            "num_test": len(self.test),
            "binarisation": str(BINARISATION),
            "sha256": self.checksum,
        }


def load_images(scale: Scale, options: Options) -> Images:
    """Returns 200 embedded digits at the smoke scale, else MNIST; 1000 test images at cpu.

    Args:
        scale: The scale.
        options: Where MNIST is.

    Raises:
        InputError: MNIST is neither there nor to be had.

    Example:
        >>> images = load_images("smoke", Options())
        >>> images.train.shape[0], images.test.unique().tolist()
        (200, [0.0, 1.0])
    """
    if scale == "smoke":
        found = digits()
        return _used("digits", found.train[:SMOKE_TRAIN], found.test[:SMOKE_TEST])
    found = mnist(options.data_dir)
    return _used("mnist", found.train, found.test[: CPU_TEST if scale == "cpu" else None])


def load_omniglot(path: Path, scale: Scale) -> Images:
    """Returns OMNIGLOT from the file of Burda et al., whole at the paper's scale.

    Args:
        path: ``chardata.mat``, with ``data`` and ``testdata`` of 784 rows, a column an image.
        scale: 200 and 50 images at smoke, 1000 test images at cpu.

    Raises:
        InputError: No such file, or another content.
    """
    content = _read_mat(path)
    train, test = (_columns(content, key, path) for key in ("data", "testdata"))
    if scale == "smoke":
        return _used("omniglot", train[:SMOKE_TRAIN], test[:SMOKE_TEST])
    return _used("omniglot", train, test[: CPU_TEST if scale == "cpu" else None])


def _used(name: str, train: Tensor, test: Tensor) -> Images:
    binary = BINARISATION.fixed_draw(test)
    return Images(name, train, binary, content_checksum(train, binary))


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
            do="Name the file with --omniglot FILE, or leave OMNIGLOT out.",
        ) from error
    return content


def _columns(content: Mapping[str, object], key: str, path: Path) -> Tensor:
    array = content.get(key)
    if not isinstance(array, np.ndarray) or array.ndim != 2 or array.shape[0] != 28 * 28:
        shape = f"shape {array.shape}" if isinstance(array, np.ndarray) else "no such array"
        raise InputError(
            f"{path}, {key}", expected="an array of 784 rows, a column an image", got=shape
        )
    values = torch.from_numpy(np.ascontiguousarray(array.T, dtype=np.float32))
    if not bool(((values >= 0) & (values <= 1)).all()):
        got = f"{values.min().item():g} to {values.max().item():g}"
        raise InputError(f"{path}, {key}", expected="grey values in [0, 1]", got=got)
    return values.reshape(-1, 28, 28).transpose(1, 2).unsqueeze(1).contiguous()
