"""A folder of pictures as one array of unsigned bytes, ``(N, C, H, W)``.

Pictures are taken in the order of their paths, subfolders included. Only 8-bit grey and colour are
read: converting 16-bit or floating-point pictures would clip them without a word.
"""

from __future__ import annotations

__all__ = ["read_folder", "read_picture"]

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import UInt8

from elboscope.core import InputError
from elboscope.core.files import readable

if TYPE_CHECKING:
    from PIL.Image import Image

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff", ".gif"})
GREY_MODES = frozenset({"1", "L"})
COLOUR_MODES = frozenset({"RGB", "P"})
ALPHA_MODES = frozenset({"RGBA", "LA", "PA"})


def read_folder(path: str | Path) -> UInt8[np.ndarray, "N C H W"]:
    """Reads every picture in a folder and its subfolders.

    All grey gives C = 1, otherwise all become C = 3. All must have the same size.

    Raises:
        InputError: Pillow is missing, no picture is there, one is damaged, transparent, of more
            than 8 bits or of another size.
    """
    if Path(path).resolve() == Path(path).resolve().parent:
        raise InputError(str(path), expected="a folder of pictures", got="the root of all folders")
    paths = sorted(
        file
        for file in Path(path).rglob("*")
        if file.suffix.lower() in SUFFIXES and not file.name.startswith(".")
    )
    if not paths:
        raise InputError(
            str(path),
            expected="pictures (" + ", ".join(sorted(SUFFIXES)) + ")",
            got="a folder without any",
            do="Name the folder that holds them, or its parent.",
        )
    arrays = [read_picture(file) for file in paths]
    for file, array in zip(paths, arrays, strict=True):
        if array.shape[1:] != arrays[0].shape[1:]:
            raise InputError(
                str(file),
                expected=f"{_size(arrays[0])} pixels like {paths[0].name}",
                got=_size(array),
                do="Crop or resize the pictures to one size.",
            )
    channels = max(len(array) for array in arrays)
    return np.stack([np.broadcast_to(a, (channels, *a.shape[1:])) for a in arrays])


def read_picture(file: Path) -> UInt8[np.ndarray, "C H W"]:
    """Reads one picture of 8 bits, grey or in colour.

    Raises:
        InputError: It is damaged, transparent, or of more bits; Pillow is missing.
    """
    image_module = _pillow(file)
    try:
        with _no_bombs(image_module), image_module.open(readable(file)) as image:
            image.load()
            pixels = np.asarray(_eight_bit(image, file))
    except InputError:
        raise
    except (
        OSError,
        SyntaxError,
        ValueError,
        image_module.DecompressionBombError,
        image_module.DecompressionBombWarning,
    ) as error:
        raise InputError(
            str(file),
            expected="a complete picture",
            got=f"one that Pillow cannot read ({error})",
            do="Remove it or write it anew.",
        ) from error
    return pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)


@contextmanager
def _no_bombs(image_module: Any) -> Iterator[None]:
    """Pillow warns of pictures over 89 million pixels, and refuses twice as many: refuse both."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", image_module.DecompressionBombWarning)
        yield


def _eight_bit(image: Image, file: Path) -> Image:
    transparent = image.mode in ALPHA_MODES or "transparency" in image.info
    if image.mode not in GREY_MODES | COLOUR_MODES | ALPHA_MODES:
        raise InputError(
            str(file),
            expected="a grey or colour picture of 8 bits",
            got=f"Pillow's mode {image.mode}",
            do="Convert it to 8 bits, or save the values as .npy.",
        )
    if transparent and image.convert("RGBA").getchannel("A").getextrema() != (255, 255):
        raise InputError(
            str(file),
            expected="an opaque picture",
            got="one with transparent pixels",
            do="Put it on a background first.",
        )
    return image.convert("L" if image.mode in GREY_MODES | {"LA"} else "RGB")


def _size(array: UInt8[np.ndarray, "C H W"]) -> str:
    return f"{array.shape[2]} × {array.shape[1]}"


def _pillow(file: Path) -> Any:
    try:
        from PIL import Image
    except ImportError as error:
        raise InputError(
            str(file),
            expected="Pillow, which reads pictures",
            got="an environment without it",
            do="Install elboscope[images], or save the pictures as one .npy array.",
        ) from error
    return Image
