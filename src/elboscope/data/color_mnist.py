r"""Three digits in red, green and blue: ColorMNIST, or Stacked MNIST, with 1000 known modes.

Each datapoint takes three images, drawn independently and with replacement, as its channels, so
that all 1000 triples of classes are equally likely and modes can be counted. The index stream is
SHAKE-256 of the seed and the part's name: the same on every machine and version, and its first n
triples do not depend on how many are taken. Training triples are of training digits alone.

References:
    | Unrolled Generative Adversarial Networks (Metz et al., 2017),
      https://arxiv.org/abs/1611.02163
    | Distribution Matching in Variational Inference (Rosca et al., 2018),
      https://arxiv.org/abs/1802.06847
"""

from __future__ import annotations

__all__ = ["color_digits", "color_mnist", "stack_digits"]

import hashlib
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor

from elboscope.core import InputError

from .images import Images
from .named import digits, mnist

NUM_TRAIN, NUM_TEST = 50_000, 10_000
CHANNELS = 3


def color_mnist(
    data_dir: str | Path | None = None,
    download: bool = True,
    *,
    num_train: int = NUM_TRAIN,
    num_test: int = NUM_TEST,
    seed: int = 0,
) -> Images:
    """Returns ColorMNIST: triples of MNIST digits, grey values in [0, 1], (3, 28, 28).

    The default 50 000 + 10 000 triples take 560 MB. Not the digits on coloured backgrounds that
    other papers call Colored MNIST.

    Args:
        data_dir: As in ``mnist``.
        download: Whether missing files may be fetched.
        num_train: Triples of training digits.
        num_test: Triples of test digits.
        seed: Random seed of the triples: which digits each is made of.

    Returns:
        The set; labels are the modes 0 … 999, red being the hundreds.

    Raises:
        InputError: As in ``mnist``; a part without triples.

    Example:
        >>> color_mnist("/nowhere", download=False)
        Traceback (most recent call last):
        elboscope.core.errors.InputError: mnist: expected train-images-idx3-ubyte ...
    """
    return stack_digits(mnist(data_dir, download), "color_mnist", num_train, num_test, seed)


def color_digits(num_train: int = 5000, num_test: int = 1000, seed: int = 0) -> Images:
    """Returns triples of the embedded 8 × 8 digits: ColorMNIST's form without a download.

    Args:
        num_train: Triples of training digits.
        num_test: Triples of test digits.
        seed: Random seed of the triples; the digits are split as in ``digits()``.

    Raises:
        InputError: A part without triples.

    Example:
        >>> images = color_digits(100, 20)
        >>> images.data_shape, len(images.train), int(images.train_labels.max()) < 1000
        ((3, 8, 8), 100, True)
    """
    return stack_digits(digits(), "color_digits", num_train, num_test, seed)


def stack_digits(images: Images, name: str, num_train: int, num_test: int, seed: int) -> Images:
    """Returns triples of the images of a set of grey digits.

    Args:
        images: Grey images with one channel and labels 0 … 9.
        name: Name of the new set.
        num_train: Triples of training images.
        num_test: Triples of test images.
        seed: Random seed of the triples: which digits each is made of.

    Raises:
        InputError: Images in colour or without labels; a part without triples.
    """
    if images.data_shape[0] != 1 or images.train_labels is None or images.test_labels is None:
        raise InputError(
            images.name,
            expected="grey images (1, H, W) with labels",
            got=f"shape {images.data_shape}" + ("" if images.train_labels is not None else
                                                ", no labels"),
        )  # fmt: skip
    for what, count in (("num_train", num_train), ("num_test", num_test)):
        if count < 1:
            raise InputError(what, expected="at least 1", got=repr(count))
    train = triples(len(images.train), num_train, seed, "train")
    test = triples(len(images.test), num_test, seed, "test")
    return Images(
        name,
        images.train[train, 0],
        images.test[test, 0],
        source=f"{images.source}; {num_train} + {num_test} triples of seed {seed}",
        value_range=images.value_range,
        treatment=f"{images.treatment}; three images as red, green and blue",
        train_labels=_modes(images.train_labels[train]),
        test_labels=_modes(images.test_labels[test]),
    )


def triples(num_images: int, count: int, seed: int, part: str) -> Int64[Tensor, "count 3"]:
    """Returns the indices of each triple, from the stream of (seed, part).

    Example:
        >>> bool((triples(60_000, 2, 0, "train") == triples(60_000, 9, 0, "train")[:2]).all())
        True
    """
    stream = hashlib.shake_256(f"stacked digits {seed} {part}".encode())
    words = np.frombuffer(stream.digest(8 * CHANNELS * count), dtype="<u8")
    return torch.from_numpy((words % num_images).astype(np.int64)).reshape(count, CHANNELS)


def _modes(labels: Int64[Tensor, "n 3"]) -> Int64[Tensor, " n"]:
    return labels @ torch.tensor([100, 10, 1])
