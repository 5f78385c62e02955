"""Samples side by side in one picture: a grid of tiles, nothing else drawn."""

from __future__ import annotations

__all__ = [
    "ImageRange",
    "as_images",
    "image_layout",
    "plot_sample_grid",
    "png_uri",
    "sample_grid_data",
    "value_range",
]

import base64
import math
from io import BytesIO
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, UInt8
from matplotlib.image import imsave
from numpy.typing import NDArray
from torch import Tensor

from elboscope.core import InputError

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


# Datapoints as small pictures: when data look like images, and as PNG inside a page.
#
# A tensor is shown as an image when its shape says so: ``(H, W)``, ``(C, H, W)`` with one or
# three channels, or a flat vector whose length is the square of eight or more. Anything else
# stays numbers. Values in [0, 1] are shown as they are; others are stretched to the range of the
# whole set, never image by image, so that brightness can be compared.

# A vector of four numbers is not a picture, though it is a square.
SMALLEST_FLAT_SIDE = 8


class ImageRange(NamedTuple):
    """The values that are shown as black and as white."""

    low: float
    high: float


def image_layout(data_shape: tuple[int, ...]) -> tuple[int, int, int] | None:
    """Returns (C, H, W) if a datapoint of this shape looks like an image, else None.

    Example:
        >>> image_layout((784,)), image_layout((3, 32, 32)), image_layout((50,))
        ((1, 28, 28), (3, 32, 32), None)
    """
    match data_shape:
        case (size,) if size >= SMALLEST_FLAT_SIDE**2 and math.isqrt(size) ** 2 == size:
            return 1, math.isqrt(size), math.isqrt(size)
        case (height, width) if min(height, width) >= 4:
            return 1, height, width
        case (channels, height, width) if channels in (1, 3) and min(height, width) >= 4:
            return channels, height, width
    return None


def value_range(x: Tensor) -> ImageRange:
    """Returns [0, 1] if all values lie in it, else the smallest and the largest finite value.

    Example:
        >>> value_range(torch.tensor([0.2, 0.7])), value_range(torch.tensor([-1.0, 3.0]))
        (ImageRange(low=0.0, high=1.0), ImageRange(low=-1.0, high=3.0))
    """
    finite = x.detach()[torch.isfinite(x)]
    if not finite.numel():
        return ImageRange(0.0, 1.0)
    low, high = float(finite.min()), float(finite.max())
    if (low >= 0 and high <= 1) or low == high:
        return ImageRange(0.0, 1.0)
    return ImageRange(low, high)


def as_images(
    x: Float[Tensor, "n *X"], limits: ImageRange, largest: int = 64
) -> NDArray[np.uint8] | None:
    """Returns 8-bit RGB pictures (n, H, W, 3), or None if the data are not images.

    Args:
        x: Datapoints.
        limits: What is black and what is white; NaN is shown as black.
        largest: Longer sides are reduced by an integer factor, by averaging.

    Example:
        >>> as_images(torch.ones(2, 64), ImageRange(0.0, 1.0)).shape
        (2, 8, 8, 3)
    """
    layout = image_layout(tuple(x.shape[1:]))
    if layout is None:
        return None
    channels, height, width = layout
    pixels = x.detach().float().cpu().reshape(len(x), channels, height, width)
    pixels = (pixels - limits.low) / (limits.high - limits.low)
    pixels = pixels.nan_to_num(0.0, 1.0, 0.0).clamp(0, 1)
    factor = math.ceil(max(height, width) / largest)
    if factor > 1:
        pixels = torch.nn.functional.avg_pool2d(pixels, factor, ceil_mode=True)
    pixels = pixels.expand(-1, 3, -1, -1).permute(0, 2, 3, 1)
    rgb: NDArray[np.uint8] = (pixels * 255).round().to(torch.uint8).numpy()
    return rgb


def png_uri(image: NDArray[np.uint8]) -> str:
    """Returns one picture (H, W, 3) as a data URI, which needs no file beside the page.

    Example:
        >>> png_uri(np.zeros((4, 4, 3), dtype=np.uint8))[:22]
        'data:image/png;base64,'
    """
    buffer = BytesIO()
    imsave(buffer, image, format="png", pil_kwargs={"optimize": True})
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
