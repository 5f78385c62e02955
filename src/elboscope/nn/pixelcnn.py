r"""The gated PixelCNN: numbers for every pixel from the pixels before it, in one pass.

.. math:: p(x \mid z) = \prod_i p(x_i \mid x_{<i}, z), \qquad
          y = \tanh(W_f * x + V_f z) \odot \sigma(W_g * x + V_g z)

in raster order, and within a pixel in the order of the channels. Two stacks of convolutions make
sure that each output sees *all* pixels before it and none after: the vertical stack sees the rows
above in full width, the horizontal stack the pixels to the left in the same row; the horizontal
stack takes in the vertical one shifted down by a row. A single stack of masked squares would
leave a blind spot to the upper right. In the first layer the pixel itself is masked (type A);
later layers see their own position (type B), where features belong to channels in turn.

Parameters, no probability: the distribution is in :mod:`elboscope.models.pixelcnn`.
"""

from __future__ import annotations

__all__ = ["GatedPixelCNN"]

from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import conv2d, pad

from elboscope.core import InputError

Mask = Literal["A", "B"]


class GatedPixelCNN(nn.Module):
    """From an image and a vector z to n numbers for every value, each from the values before it.

    Args:
        data_shape: Channels, height, width.
        latent_dim: d, the length of z.
        num_outputs: n, the numbers for each value; they leave as n·C channels.
        hidden: Feature maps of each stack, a multiple of the channels.
        kernels: Odd sizes of the kernels, one a layer; the first layer is of type A.

    Raises:
        InputError: No image shape, no layer, an even kernel, or features that the channels do
            not divide.

    References:
        | Pixel Recurrent Neural Networks (van den Oord et al., 2016),
          https://arxiv.org/abs/1601.06759
        | Conditional Image Generation with PixelCNN Decoders (van den Oord et al., 2016),
          https://arxiv.org/abs/1606.05328

    Example:
        >>> network = GatedPixelCNN((1, 8, 8), latent_dim=2, hidden=4, kernels=(5, 3))
        >>> network(torch.zeros(3, 1, 8, 8), torch.zeros(3, 2)).shape
        torch.Size([3, 1, 8, 8])
    """

    def __init__(
        self,
        data_shape: tuple[int, ...],
        latent_dim: int,
        num_outputs: int = 1,
        hidden: int = 32,
        kernels: tuple[int, ...] = (9, 7, 5, 3),
    ) -> None:
        super().__init__()
        _require(data_shape, hidden, kernels)
        colours = data_shape[0]
        widths = [colours] + [hidden] * (len(kernels) - 1)
        self.layers = nn.ModuleList(
            _GatedLayer(width, hidden, latent_dim, kernel, colours, "B" if i else "A")
            for i, (width, kernel) in enumerate(zip(widths, kernels, strict=True))
        )
        self.mix = _Masked(hidden, hidden, 1, colours, "B")
        self.out = _Masked(hidden, num_outputs * colours, 1, colours, "B", interleaved=True)

    def forward(
        self, x: Float[Tensor, "N C H W"], z: Float[Tensor, "N d"]
    ) -> Float[Tensor, "N nC H W"]:
        """Returns the numbers of all values, those of value i from x before i and z."""
        return self.along_rows(x, self.from_above(x, z))

    def from_above(
        self, x: Float[Tensor, "N C H W"], z: Float[Tensor, "N d"]
    ) -> list[Float[Tensor, "N gates H W"]]:
        """Returns what the vertical stack tells each row, layer by layer: rows above it, and z."""
        told = []
        for layer in self.layers:
            assert isinstance(layer, _GatedLayer)
            x, here = layer.from_above(x, z)
            told.append(here)
        return told

    def along_rows(
        self, x: Float[Tensor, "N C H W"], told: Sequence[Tensor]
    ) -> Float[Tensor, "N nC H W"]:
        """Returns the numbers of all values of some rows, given what these rows were told."""
        for layer, here in zip(self.layers, told, strict=True):
            assert isinstance(layer, _GatedLayer)
            x = layer.along_rows(x, here)
        numbers: Tensor = self.out(self.mix(x.relu()).relu())
        return numbers


class _GatedLayer(nn.Module):
    """One layer of both stacks."""

    def __init__(
        self, width: int, hidden: int, latent_dim: int, kernel: int, colours: int, mask: Mask
    ) -> None:
        super().__init__()
        self.reach, self.is_first = kernel // 2, mask == "A"
        self.above = nn.Conv2d(width, 2 * hidden, (kernel // 2 + 1, kernel))
        self.left = _Masked(width, 2 * hidden, kernel // 2 + 1, colours, mask, gates=2)
        self.down = nn.Conv2d(2 * hidden, 2 * hidden, 1)
        self.across = _Masked(hidden, hidden, 1, colours, "B")
        self.from_z = nn.Linear(latent_dim, 4 * hidden)

    def from_above(self, x: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the next layer's vertical features, and what the horizontal stack is told."""
        r = self.reach
        for_vertical, for_horizontal = self.from_z(z)[..., None, None].chunk(2, dim=1)
        v = self.above(pad(x, (r, r, r, 0)))  # rows up to this one
        before = pad(v, (0, 0, 1, 0))[:, :, :-1]  # rows above this one
        return _gated(v + for_vertical), self.down(before) + for_horizontal

    def along_rows(self, x: Tensor, told: Tensor) -> Tensor:
        """Returns the next layer's horizontal features."""
        new: Tensor = self.across(_gated(self.left(pad(x, (self.reach, 0, 0, 0))) + told))
        return new if self.is_first else x + new


def _gated(features: Tensor) -> Tensor:
    f, g = features.chunk(2, dim=1)
    return f.tanh() * g.sigmoid()


class _Masked(nn.Conv2d):
    """A convolution along a row whose last column is masked by channels.

    Features belong to colours in blocks; with gates, each half has all colours; interleaved
    outputs belong to colours in turn.
    """

    def __init__(
        self,
        width: int,
        outputs: int,
        kernel: int,
        colours: int,
        mask: Mask,
        *,
        gates: int = 1,
        interleaved: bool = False,
    ) -> None:
        super().__init__(width, outputs, (1, kernel))
        source = torch.arange(width) * colours // width
        if interleaved:
            target = torch.arange(outputs) % colours
        else:
            target = (torch.arange(outputs // gates) * colours // (outputs // gates)).repeat(gates)
        allowed = source < target[:, None] if mask == "A" else source <= target[:, None]
        own = torch.ones_like(self.weight)
        own[..., -1] = allowed[:, :, None].to(own)
        self.mask: Tensor
        self.register_buffer("mask", own, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Returns the masked convolution."""
        return conv2d(x, self.weight * self.mask, self.bias)


def _require(data_shape: tuple[int, ...], hidden: int, kernels: tuple[int, ...]) -> None:
    if len(data_shape) != 3:
        got = str(tuple(data_shape))
        raise InputError("data_shape", expected="(channels, height, width)", got=got)
    if hidden < 1 or hidden % data_shape[0]:
        raise InputError(
            "hidden",
            expected=f"a multiple of the {data_shape[0]} channels, since features belong to them",
            got=repr(hidden),
        )
    if not kernels or any(kernel < 1 or kernel % 2 == 0 for kernel in kernels):
        raise InputError("kernels", expected="one or more odd sizes", got=repr(tuple(kernels)))
