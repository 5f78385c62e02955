r"""Small networks that classify images, and the features that they classify by.

``features(x)`` is the penultimate layer, ``forward(x)`` the logits: one linear layer apart. Sample
metrics compare data and samples by these features and by the log-softmax of the logits.

:class:`ConvClassifier` halves its maps after each convolution: a few minutes on one core.
:class:`ResidualClassifier` is a residual network of nine layers for a GPU.

References:
    | Deep Residual Learning for Image Recognition (He et al., 2016),
      https://arxiv.org/abs/1512.03385
"""

from __future__ import annotations

__all__ = ["ConvClassifier", "ResidualClassifier"]

from itertools import pairwise

from jaxtyping import Float
from torch import Tensor, nn

SMALLEST = 2


class ConvClassifier(nn.Module):
    """Convolution 3 × 3, batch norm, ReLU, max-pooling, once for each map; then two linear layers.

    Args:
        image_shape: (C, H, W).
        maps: Of the convolutions, from the image on. Maps of under 4 pixels are not halved.
        num_features: Width of the penultimate layer.
        num_classes: Of the logits.

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
        num_classes: Of the logits.

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
