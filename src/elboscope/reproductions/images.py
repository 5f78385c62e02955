r"""The images of the reproductions: grey values to train on, one binary draw to evaluate.

In Burda et al. and what follows them a pixel's grey value is a Bernoulli probability. Training
draws binary images afresh at each use; every test number is of one draw, fixed by seed 0, the
same for all models of a table.
"""

from __future__ import annotations

__all__ = ["Images", "load_images", "load_omniglot"]

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor

from elboscope.data import Binarisation, digits, mnist, omniglot
from elboscope.data.images import content_checksum

from .options import Options
from .result import Scale

BINARISATION = Binarisation("dynamic", seed=0)
SMOKE_TRAIN, SMOKE_TEST = 200, 50
CPU_TEST = 1000


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
    found = omniglot(path)
    if scale == "smoke":
        return _used("omniglot", found.train[:SMOKE_TRAIN], found.test[:SMOKE_TEST])
    return _used("omniglot", found.train, found.test[: CPU_TEST if scale == "cpu" else None])


def _used(name: str, train: Tensor, test: Tensor) -> Images:
    binary = BINARISATION.fixed_draw(test)
    return Images(name, train, binary, content_checksum(train, binary))
