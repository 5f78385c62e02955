r"""The DCGAN for square images of 4·2ⁿ pixels: 4 × 4 kernels of stride 2, one layer for each n.

With maps (64, 128, 256) it draws 32 × 32 pixels, with (64, 128, 256, 512) 64 × 64. No biases
beside a batch normalisation, weights from N(0, 0.02²). The discriminator returns one logit a
datapoint: a mean over the batch, which some programs return, is no ratio of any datapoint.

A generator ends in a sigmoid for data in [0, 1], in a tanh for data in [−1, 1], or in nothing
where a likelihood reads its output. Batch normalisation couples the datapoints of a batch: leave
it out of a critic whose gradient is penalised (``norm="none"`` or ``"layer"``).

References:
    | Unsupervised Representation Learning with Deep Convolutional GANs (Radford et al., 2016),
      https://arxiv.org/abs/1511.06434
"""

from __future__ import annotations

__all__ = [
    "Norm",
    "Output",
    "color_mnist_discriminator",
    "color_mnist_encoder",
    "color_mnist_generator",
    "dcgan_discriminator",
    "dcgan_encoder",
    "dcgan_generator",
    "normalisation",
    "output_layer",
]

from itertools import pairwise
from typing import Literal, get_args

from torch import nn

from elboscope.core import InputError

Norm = Literal["batch", "layer", "none"]
Output = Literal["sigmoid", "tanh", "linear"]
MAPS = (64, 128, 256)
WEIGHT_SCALE = 0.02


def dcgan_generator(
    out_channels: int,
    latent_dim: int,
    maps: tuple[int, ...] = MAPS,
    side: int | None = None,
    output: Output = "sigmoid",
) -> nn.Sequential:
    """Returns a network from ``(N, latent_dim)`` to ``(N, out_channels, side, side)``.

    Args:
        out_channels: Channels of the image.
        latent_dim: d.
        maps: Channels of the layers, from the image to the code.
        side: 4·2ⁿ for n maps; None takes it from them.
        output: The last activation.

    Raises:
        InputError: A side that these maps do not make.

    Example:
        >>> import torch
        >>> dcgan_generator(3, 10, (4, 8))(torch.zeros(2, 10)).shape
        torch.Size([2, 3, 16, 16])
    """
    _require_side(maps, side)
    layers: list[nn.Module] = [nn.Unflatten(1, (latent_dim, 1, 1))]
    layers += [nn.ConvTranspose2d(latent_dim, maps[-1], 4, 1, 0, bias=False)]
    layers += [nn.BatchNorm2d(maps[-1]), nn.ReLU()]
    for before, after in pairwise(reversed(maps)):
        layers += [nn.ConvTranspose2d(before, after, 4, 2, 1, bias=False)]
        layers += [nn.BatchNorm2d(after), nn.ReLU()]
    last = nn.ConvTranspose2d(maps[0], out_channels, 4, 2, 1, bias=output == "linear")
    return _drawn(nn.Sequential(*layers, last, *output_layer(output)))


def dcgan_discriminator(
    in_channels: int,
    maps: tuple[int, ...] = MAPS,
    side: int | None = None,
    norm: Norm = "batch",
) -> nn.Sequential:
    """Returns a network from images to one logit a datapoint, ``(N,)``.

    Args:
        in_channels: Channels of the image.
        maps: Channels of the layers, from the image on; the first has no normalisation.
        side: 4·2ⁿ for n maps; None takes it from them.
        norm: "batch", "layer" or "none".

    Raises:
        InputError: A side that these maps do not take.

    Example:
        >>> import torch
        >>> dcgan_discriminator(3, (4, 8))(torch.zeros(2, 3, 16, 16)).shape
        torch.Size([2])
    """
    _require_side(maps, side)
    layers = _down(in_channels, maps, norm, nn.LeakyReLU(0.2))
    last = nn.Conv2d(maps[-1], 1, 4, 1, 0, bias=False)
    return _drawn(nn.Sequential(*layers, last, nn.Flatten(0)))


def dcgan_encoder(
    in_channels: int, out_features: int, maps: tuple[int, ...] = MAPS, side: int | None = None
) -> nn.Sequential:
    """Returns the generator, transposed: from images to ``(N, out_features)``, linear at the end.

    Example:
        >>> import torch
        >>> dcgan_encoder(3, 6, (4, 8))(torch.zeros(2, 3, 16, 16)).shape
        torch.Size([2, 6])
    """
    _require_side(maps, side)
    layers = _down(in_channels, maps, "batch", nn.ReLU())
    return _drawn(nn.Sequential(*layers, nn.Conv2d(maps[-1], out_features, 4, 1, 0), nn.Flatten()))


def _down(channels: int, maps: tuple[int, ...], norm: Norm, act: nn.Module) -> list[nn.Module]:
    layers: list[nn.Module] = [nn.Conv2d(channels, maps[0], 4, 2, 1, bias=False), act]
    for before, after in pairwise(maps):
        layers += [nn.Conv2d(before, after, 4, 2, 1, bias=False), *normalisation(norm, after), act]
    return layers


def normalisation(norm: Norm, maps: int) -> list[nn.Module]:
    """Returns the layer that normalises maps, or none.

    Raises:
        InputError: An unknown word.

    Example:
        >>> type(normalisation("layer", 8)[0]).__name__, normalisation("none", 8)
        ('GroupNorm', [])
    """
    if norm not in get_args(Norm):
        raise InputError("norm", expected=f"one of {', '.join(get_args(Norm))}", got=repr(norm))
    if norm == "none":
        return []
    return [nn.BatchNorm2d(maps) if norm == "batch" else nn.GroupNorm(1, maps)]


def output_layer(output: Output) -> list[nn.Module]:
    """Returns the last activation of a generator, or none.

    Raises:
        InputError: An unknown word.

    Example:
        >>> output_layer("tanh")
        [Tanh()]
    """
    if output not in get_args(Output):
        known = ", ".join(get_args(Output))
        raise InputError("output", expected=f"one of {known}", got=repr(output))
    if output == "linear":
        return []
    return [nn.Sigmoid() if output == "sigmoid" else nn.Tanh()]


def _require_side(maps: tuple[int, ...], side: int | None) -> None:
    made = 4 * 2 ** len(maps)
    if not maps or side not in (None, made):
        got = f"{side} pixels, {len(maps)} maps" if maps else "no maps"
        raise InputError("maps", expected=f"n maps for sides of 4·2ⁿ, here {made}", got=got,
                         do="Give one map for each halving of the side.")  # fmt: skip


def _drawn(network: nn.Sequential) -> nn.Sequential:
    for layer in network:
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.normal_(layer.weight, 0.0, WEIGHT_SCALE)
        elif isinstance(layer, nn.BatchNorm2d | nn.GroupNorm):
            nn.init.normal_(layer.weight, 1.0, WEIGHT_SCALE)
    return network


# Networks for ColorMNIST and other images of a side divisible by four: kernels of 5 × 5.
#
# Generator: a linear layer to a quarter of the side, then transposed convolutions of stride 2, 1
# and 2. Encoder: the same, transposed. Discriminator: five convolutions of stride 2, 1, 2, 1, 2
# with 8, 16, 32, 64, 64 maps and leaky ReLUs, and one linear logit.
#
# References:
#     | Distribution Matching in Variational Inference (Rosca et al., 2018), appendix E,
#       https://arxiv.org/abs/1802.06847; sizes of the discriminator from the α-GAN
#       (https://arxiv.org/abs/1706.04987), where the paper does not tell them.

COLOR_MNIST_MAPS = (32, 64)
DISCRIMINATOR_MAPS = (8, 16, 32, 64, 64)
DISCRIMINATOR_STRIDES = (2, 1, 2, 1, 2)


def color_mnist_generator(
    data_shape: tuple[int, ...],
    latent_dim: int,
    maps: tuple[int, int] = COLOR_MNIST_MAPS,
    output: Output = "sigmoid",
) -> nn.Sequential:
    """Returns a network from ``(N, latent_dim)`` to ``(N, *data_shape)``.

    Args:
        data_shape: Channels, height, width; the sides divisible by 4.
        latent_dim: d.
        maps: Channels of the layer near the image, and of those near the code.
        output: The last activation.

    Raises:
        InputError: Other sides.

    Example:
        >>> import torch
        >>> color_mnist_generator((3, 28, 28), 10, (4, 8))(torch.zeros(2, 10)).shape
        torch.Size([2, 3, 28, 28])
    """
    colours, h, w = _quarter(data_shape)
    few, many = maps
    return nn.Sequential(
        nn.Linear(latent_dim, many * h * w),
        nn.BatchNorm1d(many * h * w),
        nn.ReLU(),
        nn.Unflatten(1, (many, h, w)),
        *_up(many, many, 2, 1),
        *_up(many, few, 1, 0),
        nn.ConvTranspose2d(few, colours, 5, 2, 2, 1),
        *output_layer(output),
    )


def color_mnist_encoder(
    data_shape: tuple[int, ...], out_features: int, maps: tuple[int, int] = COLOR_MNIST_MAPS
) -> nn.Sequential:
    """Returns a network from ``(N, *data_shape)`` to ``(N, out_features)``.

    Example:
        >>> import torch
        >>> color_mnist_encoder((3, 8, 8), 6, (4, 8))(torch.zeros(2, 3, 8, 8)).shape
        torch.Size([2, 6])
    """
    colours, h, w = _quarter(data_shape)
    few, many = maps
    return nn.Sequential(
        *_halve(colours, few, 2, "batch", nn.ReLU()),
        *_halve(few, many, 1, "batch", nn.ReLU()),
        *_halve(many, many, 2, "batch", nn.ReLU()),
        nn.Flatten(),
        nn.Linear(many * h * w, out_features),
    )


def color_mnist_discriminator(
    data_shape: tuple[int, ...],
    maps: tuple[int, ...] = DISCRIMINATOR_MAPS,
    norm: Norm = "batch",
) -> nn.Sequential:
    """Returns a network from images to one logit a datapoint, ``(N,)``.

    Args:
        data_shape: Channels, height, width.
        maps: Channels of up to five convolutions; the first has no normalisation.
        norm: "batch", "layer" or "none"; not "batch" where its gradient is penalised.

    Example:
        >>> import torch
        >>> color_mnist_discriminator((3, 28, 28))(torch.zeros(2, 3, 28, 28)).shape
        torch.Size([2])
    """
    channels, h, w = data_shape
    layers: list[nn.Module] = []
    before = channels
    for index, (after, stride) in enumerate(zip(maps, DISCRIMINATOR_STRIDES, strict=False)):
        layers += _halve(before, after, stride, norm if index else "none", nn.LeakyReLU(0.2))
        before, h, w = after, -(-h // stride), -(-w // stride)
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(before * h * w, 1), nn.Flatten(0))


def _halve(before: int, after: int, stride: int, norm: Norm, act: nn.Module) -> list[nn.Module]:
    layer = nn.Conv2d(before, after, 5, stride, 2, bias=norm != "batch")
    return [layer, *normalisation(norm, after), act]


def _up(before: int, after: int, stride: int, more: int) -> list[nn.Module]:
    layer = nn.ConvTranspose2d(before, after, 5, stride, 2, more, bias=False)
    return [layer, nn.BatchNorm2d(after), nn.ReLU()]


def _quarter(data_shape: tuple[int, ...]) -> tuple[int, int, int]:
    if len(data_shape) != 3 or data_shape[1] % 4 or data_shape[2] % 4:
        raise InputError(
            "data_shape",
            expected="(channels, height, width) with sides divisible by 4",
            got=str(tuple(data_shape)),
            do="Pad the images.",
        )
    return data_shape[0], data_shape[1] // 4, data_shape[2] // 4
