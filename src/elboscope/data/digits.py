"""Scikit-learn's handwritten digits: 1797 real 8 × 8 images that need no download.

The grey values are counts from 0 to 16 (each pixel is the number of set pixels in a 4 × 4 block of
a bitmap), so grey/16 is a Bernoulli probability in the literal sense.
"""

from __future__ import annotations

__all__ = ["digits"]

import torch

from .images import Images, split

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
