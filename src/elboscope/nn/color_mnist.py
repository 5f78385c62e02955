r"""Networks for ColorMNIST and other images of a side divisible by four: kernels of 5 × 5.

Generator: a linear layer to a quarter of the side, then transposed convolutions of stride 2, 1
and 2. Encoder: the same, transposed. Discriminator: five convolutions of stride 2, 1, 2, 1, 2
with 8, 16, 32, 64, 64 maps and leaky ReLUs, and one linear logit.

References:
    | Distribution Matching in Variational Inference (Rosca et al., 2018), appendix E,
      https://arxiv.org/abs/1802.06847; sizes of the discriminator from the α-GAN
      (https://arxiv.org/abs/1706.04987), where the paper does not tell them.
"""

from __future__ import annotations

__all__ = ["color_mnist_discriminator", "color_mnist_encoder", "color_mnist_generator"]

from torch import nn

from elboscope.core import InputError

from .dcgan import Norm, Output, normalisation, output_layer

MAPS = (32, 64)
DISCRIMINATOR_MAPS = (8, 16, 32, 64, 64)
DISCRIMINATOR_STRIDES = (2, 1, 2, 1, 2)


def color_mnist_generator(
    data_shape: tuple[int, ...],
    latent_dim: int,
    maps: tuple[int, int] = MAPS,
    output: Output = "sigmoid",
) -> nn.Sequential:
    """Returns a network from ``(N, latent_dim)`` to ``(N, *data_shape)``.

    Args:
        data_shape: Channels, height, width; the sides divisible by 4.
        latent_dim: d.
        maps: Of the layer near the image, and of those near the code.
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
    data_shape: tuple[int, ...], out_features: int, maps: tuple[int, int] = MAPS
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
        *_down(colours, few, 2, "batch", nn.ReLU()),
        *_down(few, many, 1, "batch", nn.ReLU()),
        *_down(many, many, 2, "batch", nn.ReLU()),
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
        maps: Of up to five convolutions; the first has no normalisation.
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
        layers += _down(before, after, stride, norm if index else "none", nn.LeakyReLU(0.2))
        before, h, w = after, -(-h // stride), -(-w // stride)
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(before * h * w, 1), nn.Flatten(0))


def _down(before: int, after: int, stride: int, norm: Norm, act: nn.Module) -> list[nn.Module]:
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
