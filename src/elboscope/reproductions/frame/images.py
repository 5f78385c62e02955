r"""The images of the reproductions: grey values to train on, one binary draw to evaluate.

In Burda et al. and what follows them a pixel's grey value is a Bernoulli probability. Training
draws binary images afresh at each use; test numbers are all measured on one draw, fixed by
seed 0, the same for all models of a table.
"""

from __future__ import annotations

__all__ = ["BinaryImages", "Images", "load_binary_images", "load_images", "load_omniglot"]

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from elboscope.core import InputError
from elboscope.data import Binarisation, digits, fashion_mnist, mnist, omniglot
from elboscope.data.images import Images as GreyImages
from elboscope.data.images import content_checksum

from .result import Scale
from .sitting import Options

BINARISATION = Binarisation("dynamic", seed=0)
SMOKE_TRAIN, SMOKE_TEST = 200, 50
CPU_TEST = 1000


class Images(NamedTuple):
    """Training and test images of one table.

    Attributes:
        name: Name of the data set.
        train: Grey values, ``(N, 1, H, W)``.
        test: Binary, one fixed draw.
        checksum: Checksum of both parts, as they are used.
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
        InputError: MNIST is unavailable.

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


# The images of Cremer et al.: made binary once, for training and evaluation alike.
#
# MNIST in the fixed binarisation of Larochelle and Murray, for which ours is one draw of x ~
# Bernoulli(grey) by a seed, since their files are unavailable: log-likelihoods of two draws
# differ by tenths of a nat. Fashion-MNIST is 1 where grey > 0.5. The gaps of the paper are those
# of the *first training images*; the test images stand beside them.

BINARISATIONS: Mapping[str, Binarisation] = {
    "digits": Binarisation("fixed", seed=0),
    "MNIST": Binarisation("fixed", seed=0),
    "Fashion": Binarisation("threshold"),
}
# Training data do not share the noise of the test data.
TRAIN_STREAM = 1


class BinaryImages(NamedTuple):
    """Training, held-out and test images of one data set.

    Attributes:
        name: Name of the data set.
        train: Bytes, 0 or 255, ``(N, 1, H, W)``.
        held_out: 0 or 1: training images that were set aside, if any were.
        test: 0 or 1.
        binarisation: The rule.
        checksum: Checksum of all parts, as they are used.
    """

    name: str
    train: UInt8[Tensor, "N 1 H W"]
    held_out: Float[Tensor, "m 1 H W"]
    test: Float[Tensor, "n 1 H W"]
    binarisation: str
    checksum: str

    def first_of_train(self, n: int) -> Float[Tensor, "n 1 H W"]:
        """Returns the first n training images as 0 and 1."""
        return self.train[:n].float() / 255

    def record(self) -> Mapping[str, object]:
        """Returns what is saved beside a number."""
        return {
            "name": self.name,
            "num_train": len(self.train),
            "num_held_out": len(self.held_out),
            "binarisation": self.binarisation,
            "sha256": self.checksum,
        }


def load_binary_images(
    name: str, options: Options, *, num_train: int | None = None
) -> BinaryImages:
    """Returns a data set, binary.

    Args:
        name: "digits", "MNIST" or "Fashion".
        options: Where the data are.
        num_train: The images trained on are the first of the training images; the others are
            set aside. By default all.

    Raises:
        InputError: Another name; the data are unavailable.

    Example:
        >>> images = load_binary_images("digits", Options(), num_train=200)
        >>> len(images.train), images.train.unique().tolist(), images.test.unique().tolist()
        (200, [0, 255], [0.0, 1.0])
    """
    found, rule = _grey(name, options), BINARISATIONS[name]
    train = rule.fixed_draw(found.train, stream=TRAIN_STREAM)
    kept, held_out = train[:num_train], train[len(train[:num_train]) :]
    test = rule.fixed_draw(found.test)
    content = (kept.mul(255).to(torch.uint8), held_out, test)
    return BinaryImages(name, *content, str(rule), content_checksum(*content))


def _grey(name: str, options: Options) -> GreyImages:
    match name:
        case "digits":
            return digits()
        case "MNIST":
            return mnist(options.data_dir)
        case "Fashion":
            return fashion_mnist(options.data_dir)
    raise InputError("data", expected=f"one of {', '.join(BINARISATIONS)}", got=repr(name))
