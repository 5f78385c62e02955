r"""Convolutional networks for square images of a side divisible by four (8, 28, 32 pixels).

Two convolutions of stride 2 bring an image of side s to s/4; a linear layer does the rest, and the
decoder is the mirror image. A kernel of 4 with stride 2 covers every pixel equally often, which
a kernel of 3 does not (checkerboards). Parameters, no probability.
"""

from __future__ import annotations

__all__ = ["conv_decoder", "conv_encoder"]

from torch import nn

from elboscope.core import InputError

from .mlp import Activation, activation


def conv_encoder(
    data_shape: tuple[int, ...],
    out_features: int,
    channels: tuple[int, int] = (32, 64),
    nonlinearity: Activation = "leaky_relu",
) -> nn.Sequential:
    """Returns a network from images ``(N, *data_shape)`` to ``(N, out_features)``.

    Args:
        data_shape: Channels, height, width; the last two divisible by 4.
        out_features: Twice the latent dimension, for a mean and a log-variance.
        channels: Of the two convolutions.
        nonlinearity: The activation's name.

    Raises:
        InputError: A shape that cannot be halved twice.

    Example:
        >>> import torch
        >>> conv_encoder((1, 8, 8), 4)(torch.zeros(3, 1, 8, 8)).shape
        torch.Size([3, 4])
    """
    colours, height, width = _image(data_shape)
    first, second = channels
    return nn.Sequential(
        nn.Conv2d(colours, first, 4, stride=2, padding=1),
        activation(nonlinearity),
        nn.Conv2d(first, second, 4, stride=2, padding=1),
        activation(nonlinearity),
        nn.Flatten(),
        nn.Linear(second * (height // 4) * (width // 4), out_features),
    )


def conv_decoder(
    in_features: int,
    data_shape: tuple[int, ...],
    channels: tuple[int, int] = (32, 64),
    nonlinearity: Activation = "leaky_relu",
) -> nn.Sequential:
    """Returns a network from ``(N, in_features)`` to ``(N, *data_shape)``, unbounded outputs.

    Args:
        in_features: The latent dimension.
        data_shape: Channels, height, width; the last two divisible by 4.
        channels: As in the encoder, used in reverse.
        nonlinearity: The activation's name.

    Raises:
        InputError: A shape that cannot be halved twice.

    Example:
        >>> import torch
        >>> conv_decoder(2, (1, 28, 28))(torch.zeros(3, 2)).shape
        torch.Size([3, 1, 28, 28])
    """
    colours, height, width = _image(data_shape)
    first, second = channels
    return nn.Sequential(
        nn.Linear(in_features, second * (height // 4) * (width // 4)),
        activation(nonlinearity),
        nn.Unflatten(1, (second, height // 4, width // 4)),
        nn.ConvTranspose2d(second, first, 4, stride=2, padding=1),
        activation(nonlinearity),
        nn.ConvTranspose2d(first, colours, 4, stride=2, padding=1),
    )


def _image(data_shape: tuple[int, ...]) -> tuple[int, int, int]:
    if len(data_shape) != 3 or data_shape[1] % 4 or data_shape[2] % 4:
        raise InputError(
            "data_shape",
            expected="(channels, height, width) with sides divisible by 4",
            got=str(tuple(data_shape)),
            do="Pad the images, or use mlp_vae.",
        )
    return data_shape[0], data_shape[1], data_shape[2]
