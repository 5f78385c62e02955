"""Images from a sampler or a user, brought to one form and checked: (N, C, H, W) in [0, 1]."""

from __future__ import annotations

__all__ = ["as_images", "drawn_images"]

import torch
from jaxtyping import Float
from torch import Tensor

from elboscope.core import InputError
from elboscope.data import as_tensor
from elboscope.data.inputs import require_range

from .evaluation import blocks
from .independent_critic import Sampler

DRAWN_AT_ONCE = 1000


def drawn_images(sampler: Sampler, n: int, like: Tensor) -> Float[Tensor, "n C H W"]:
    """Returns n images of the data's shape, on its device, drawn a thousand at a time.

    Raises:
        InputError: What the sampler returns is no tensor, or of another shape or range.

    Example:
        >>> drawn_images(lambda n: torch.zeros(n, 8, 8), 2, torch.ones(5, 1, 8, 8)).shape
        torch.Size([2, 1, 8, 8])
    """
    if not callable(sampler) or hasattr(sampler, "prior"):
        got, do = f"a {type(sampler).__name__}", "Of a model: es.sampler_of(model)."
        raise InputError("sampler", expected="a function n → Tensor", got=got, do=do)
    with torch.no_grad():
        parts = [sampler(len(range(n)[rows])) for rows in blocks(n, DRAWN_AT_ONCE)]
    if not all(isinstance(part, Tensor) for part in parts):
        got = f"a {type(parts[0]).__name__}"
        raise InputError("sampler", expected="a function n → Tensor", got=got)
    expected = f"n → images of shape (n, {', '.join(map(str, like.shape[1:]))})"
    if len({part.shape[1:] for part in parts}) > 1 or not parts[0].ndim:
        got = " and ".join(sorted({str(tuple(part.shape)) for part in parts}))
        raise InputError("sampler", expected=expected, got=f"shape {got}")
    samples = as_images(torch.cat(parts), "samples").to(like)
    if samples.shape != (n, *like.shape[1:]):
        got = f"shape {tuple(samples.shape)} for n = {n}"
        raise InputError("sampler", expected=expected, got=got)
    return samples


def as_images(given: object, name: str) -> Float[Tensor, "N C H W"]:
    """Returns images in [0, 1] as float32, with an axis for their channels.

    Raises:
        InputError: Another shape or range.

    Example:
        >>> as_images(torch.ones(2, 8, 8), "x").shape
        torch.Size([2, 1, 8, 8])
    """
    x = as_tensor(given, name=name).x
    x = x[:, None] if x.ndim == 3 else x
    if x.ndim != 4:
        got = f"shape {tuple(x.shape)}"
        raise InputError(name, expected="images (N, C, H, W) or (N, H, W)", got=got)
    require_range(x, 0.0, 1.0, name=name, do="Scale the images to [0, 1].")
    return x.float()
