"""Samples side by side in one picture: a grid of tiles, nothing else drawn."""

from __future__ import annotations

__all__ = ["plot_sample_grid", "sample_grid_data"]

import math
from io import BytesIO

import numpy as np
from jaxtyping import Float, UInt8
from matplotlib.image import imsave
from torch import Tensor

from elboscope.core import InputError

from .images import as_images, value_range

# Small images are enlarged by a whole factor until their side is at least this, in pixels.
TILE_SIDE = 56
GAP = 2
PAPER = 255


def sample_grid_data(x: Float[Tensor, "n *X"]) -> UInt8[np.ndarray, "height width 3"]:
    """Returns one 8-bit RGB picture of all samples, row by row, as square as it can be.

    Args:
        x: Samples that look like images; grey values beyond [0, 1] are stretched together.

    Raises:
        InputError: The samples do not look like images.

    Example:
        >>> import torch
        >>> sample_grid_data(torch.rand(6, 1, 8, 8)).shape  # two rows of three tiles
        (114, 172, 3)
    """
    tiles = as_images(x, value_range(x), largest=512)
    if tiles is None:
        raise InputError(
            "samples",
            expected="images: (C, H, W), (H, W), or a flat square of at least 8 × 8",
            got=f"shape {tuple(x.shape[1:])}",
            do="Draw numbers in Python: model.decode(model.prior().sample((64,))).mean.",
        )
    factor = math.ceil(TILE_SIDE / max(tiles.shape[1:3]))
    return _laid_out(tiles.repeat(factor, axis=1).repeat(factor, axis=2))


def _laid_out(tiles: UInt8[np.ndarray, "n h w 3"]) -> UInt8[np.ndarray, "height width 3"]:
    n, h, w, _ = tiles.shape
    columns = math.ceil(math.sqrt(n))
    rows = math.ceil(n / columns)
    picture = np.full((rows * (h + GAP) - GAP, columns * (w + GAP) - GAP, 3), PAPER, np.uint8)
    for i, tile in enumerate(tiles):
        top, left = (i // columns) * (h + GAP), (i % columns) * (w + GAP)
        picture[top : top + h, left : left + w] = tile
    return picture


def plot_sample_grid(picture: UInt8[np.ndarray, "height width 3"]) -> bytes:
    """Returns the picture as the bytes of a PNG file.

    Example:
        >>> plot_sample_grid(np.zeros((4, 4, 3), dtype=np.uint8))[1:4]
        b'PNG'
    """
    buffer = BytesIO()
    imsave(buffer, picture, format="png")
    return buffer.getvalue()
