r"""Plain networks: perceptrons :math:`h_{l+1} = f(W_l h_l + b_l)`, convolutions, classifiers.

Parameters, no probability.
"""

from __future__ import annotations

__all__ = [
    "Activation",
    "ConvClassifier",
    "ResidualClassifier",
    "activation",
    "conv_decoder",
    "conv_encoder",
    "mlp",
]

from itertools import pairwise
from typing import Literal, get_args

from jaxtyping import Float
from torch import Tensor, nn

from elboscope.core import InputError

Activation = Literal["relu", "leaky_relu", "elu", "silu", "gelu", "softplus", "tanh"]


def activation(name: Activation) -> nn.Module:
    """Returns a new activation; leaky ReLU has slope 0.2.

    Raises:
        InputError: An unknown name.

    Example:
        >>> activation("tanh")
        Tanh()
    """
    made: dict[str, nn.Module] = {
        "relu": nn.ReLU(),
        "leaky_relu": nn.LeakyReLU(0.2),
        "elu": nn.ELU(),
        "silu": nn.SiLU(),
        "gelu": nn.GELU(),
        "softplus": nn.Softplus(),
        "tanh": nn.Tanh(),
    }
    if name not in made:
        known = ", ".join(get_args(Activation))
        raise InputError("activation", expected=f"one of {known}", got=repr(name))
    return made[name]


def mlp(
    in_features: int,
    hidden: tuple[int, ...],
    out_features: int,
    nonlinearity: Activation = "relu",
) -> nn.Sequential:
    """Returns linear layers with an activation between each two, and none after the last.

    Args:
        in_features: Width of the input.
        hidden: Widths of the hidden layers; ``()`` gives one linear layer.
        out_features: Width of the output.
        nonlinearity: The activation's name.

    Example:
        >>> mlp(4, (3,), 2)
        Sequential(
          (0): Linear(in_features=4, out_features=3, bias=True)
          (1): ReLU()
          (2): Linear(in_features=3, out_features=2, bias=True)
        )
    """
    widths = (in_features, *hidden, out_features)
    layers = [
        layer for a, b in pairwise(widths) for layer in (nn.Linear(a, b), activation(nonlinearity))
    ]
    return nn.Sequential(*layers[:-1])


# Convolutional networks for square images of a side divisible by four (8, 28, 32 pixels).
#
# Two convolutions of stride 2 bring an image of side s to s/4; a linear layer does the rest, and
# the decoder is the mirror image. A kernel of 4 with stride 2 covers every pixel equally often,
# which a kernel of 3 does not (checkerboards). Parameters, no probability.


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
        channels: Output channels of the two convolutions.
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


# Small networks that classify images, and the features that they classify by.
#
# ``features(x)`` is the penultimate layer, ``forward(x)`` the logits: one linear layer apart.
# Sample metrics compare data and samples by these features and by the log-softmax of the logits.
#
# :class:`ConvClassifier` halves its maps after each convolution: a few minutes on one core.
# :class:`ResidualClassifier` is a residual network of nine layers for a GPU.
#
# References:
#     | Deep Residual Learning for Image Recognition (He et al., 2016),
#       https://arxiv.org/abs/1512.03385

SMALLEST = 2


class ConvClassifier(nn.Module):
    """Convolution 3 × 3, batch norm, ReLU, max-pooling, once for each map; then two linear layers.

    Args:
        image_shape: (C, H, W).
        maps: Channels of each convolution, from the image on. Feature maps whose shorter side is
            under 4 pixels are not halved.
        num_features: Width of the penultimate layer.
        num_classes: Number of classes; each gets a logit.

    Example:
        >>> import torch
        >>> network = ConvClassifier((1, 8, 8), (4, 8), 16, 10)
        >>> x = torch.zeros(2, 1, 8, 8)
        >>> network.features(x).shape, network(x).shape
        (torch.Size([2, 16]), torch.Size([2, 10]))
    """

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        maps: tuple[int, ...],
        num_features: int,
        num_classes: int,
    ) -> None:
        super().__init__()
        channels, *sides = image_shape
        layers: list[nn.Module] = []
        for before, after in pairwise((channels, *maps)):
            layers += [nn.Conv2d(before, after, 3, 1, 1, bias=False), nn.BatchNorm2d(after)]
            layers += [nn.ReLU(inplace=True)]
            if min(sides) >= 2 * SMALLEST:
                layers += [nn.MaxPool2d(2)]
                sides = [side // 2 for side in sides]
        width = maps[-1] * sides[0] * sides[1]
        self.body = nn.Sequential(
            *layers,
            nn.Flatten(),
            nn.Linear(width, num_features, bias=False),
            nn.BatchNorm1d(num_features),
            nn.ReLU(inplace=True),
        )
        self.head = nn.Linear(num_features, num_classes)

    def features(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B f"]:
        """Returns the penultimate layer, values ≥ 0."""
        features: Tensor = self.body(x)
        return features

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B y"]:
        """Returns the logits."""
        logits: Tensor = self.head(self.features(x))
        return logits


class ResidualClassifier(nn.Module):
    """Nine layers for 32 × 32 images: convolutions of w, 2w, 4w, 8w maps with two residual blocks.

    Args:
        image_shape: (C, H, W), sides of at least 16.
        width: w.
        num_classes: Number of classes; each gets a logit.

    Example:
        >>> import torch
        >>> ResidualClassifier((3, 32, 32), 4, 10)(torch.zeros(2, 3, 32, 32)).shape
        torch.Size([2, 10])
    """

    def __init__(self, image_shape: tuple[int, int, int], width: int, num_classes: int) -> None:
        super().__init__()
        w = width
        self.body = nn.Sequential(
            _convolution(image_shape[0], w),
            _convolution(w, 2 * w, pool=True),
            _Residual(2 * w),
            _convolution(2 * w, 4 * w, pool=True),
            _convolution(4 * w, 8 * w, pool=True),
            _Residual(8 * w),
            nn.AdaptiveMaxPool2d(1),
            nn.Flatten(),
        )
        self.head = nn.Linear(8 * w, num_classes)

    def features(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B f"]:
        """Returns the penultimate layer, values ≥ 0."""
        features: Tensor = self.body(x)
        return features

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B y"]:
        """Returns the logits."""
        logits: Tensor = self.head(self.features(x))
        return logits


class _Residual(nn.Module):
    """x + f(x), with two convolutions."""

    def __init__(self, maps: int) -> None:
        super().__init__()
        self.f = nn.Sequential(_convolution(maps, maps), _convolution(maps, maps))

    def forward(self, x: Float[Tensor, "B w H W"]) -> Float[Tensor, "B w H W"]:
        out: Tensor = x + self.f(x)
        return out


def _convolution(before: int, after: int, pool: bool = False) -> nn.Sequential:
    layers: list[nn.Module] = [nn.Conv2d(before, after, 3, 1, 1, bias=False)]
    layers += [nn.BatchNorm2d(after), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers, *([nn.MaxPool2d(2)] if pool else []))
