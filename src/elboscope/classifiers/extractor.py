r"""What sample metrics need of a classifier: features to compare, and log p(y|x) to count by.

Every number computed from them is about *this* classifier: another one gives another Inception
Score of the same images. So it has a name and a measured test error, and both are printed with
each score. :class:`PerChannel` reads a colour image as three grey ones,

.. math:: p(y_r, y_g, y_b \mid x) = p(y_r \mid x_r)\, p(y_g \mid x_g)\, p(y_b \mid x_b)

with 1000 classes: the modes of Stacked MNIST.

References:
    Unrolled Generative Adversarial Networks (Metz et al., 2017), https://arxiv.org/abs/1611.02163
"""

from __future__ import annotations

__all__ = ["Classifier", "Extracted", "Extractor", "PerChannel"]

from dataclasses import dataclass
from typing import NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import log_softmax

from elboscope.core import InputError, evaluating

AT_ONCE = 500
CHANNELS = 3


class Extracted(NamedTuple):
    """Features ``(N, f)`` and log p(y|x) in nats, ``(N, C)``."""

    features: Float[Tensor, "N f"]
    log_probs: Float[Tensor, "N y"]


@runtime_checkable
class Extractor(Protocol):
    """A classifier as sample metrics see it; any object with these is one."""

    @property
    def name(self) -> str:
        """What it is called beside a score."""
        ...

    @property
    def test_error(self) -> float:
        """The share of test images it gets wrong, or NaN where nobody measured it."""
        ...

    def __call__(self, images: Tensor) -> Extracted:
        """Features and log-probabilities of images ``(N, C, H, W)`` in [0, 1]."""
        ...


@dataclass(frozen=True, eq=False)
class Classifier:
    """A network with ``features(x)`` and ``head(features)``, in evaluation mode.

    Args:
        network: The two, as in :class:`elboscope.nn.ConvClassifier`.
        name: What it is called beside a score.
        image_shape: (C, H, W) that it takes.
        test_error: Measured on images that it was not trained on.

    Example:
        >>> import elboscope as es
        >>> network = es.nn.ConvClassifier((1, 8, 8), (4,), 6, 10)
        >>> features, log_probs = Classifier(network, "untrained", (1, 8, 8))(torch.zeros(2, 1, 8, 8))
        >>> features.shape, round(log_probs.exp().sum().item(), 4)
        (torch.Size([2, 6]), 2.0)
    """  # noqa: E501

    network: nn.Module
    name: str
    image_shape: tuple[int, ...]
    test_error: float = float("nan")

    def __call__(self, images: Tensor) -> Extracted:
        """Features and log-probabilities of images in [0, 1].

        Raises:
            InputError: Images of another shape.
        """
        _require_shape(images, self.image_shape, self.name)
        weight = next(self.network.parameters())
        with evaluating(self.network):
            parts = [self._part(part.to(weight)) for part in images.split(AT_ONCE)]
        features, log_probs = (
            torch.cat(part).to(images.device) for part in zip(*parts, strict=True)
        )
        return Extracted(features, log_probs)

    def _part(self, x: Float[Tensor, "B C H W"]) -> Extracted:
        features = self.network.features(x)  # type: ignore[operator]
        return Extracted(features, log_softmax(self.network.head(features), 1))  # type: ignore[operator]


@dataclass(frozen=True, eq=False)
class PerChannel:
    """A classifier of grey images, applied to red, green and blue: C³ classes.

    Args:
        classifier: Of images with one channel.

    Example:
        >>> import elboscope as es
        >>> three = PerChannel(es.classifiers.digits_classifier())
        >>> three(torch.zeros(2, 3, 8, 8)).log_probs.shape, three.name
        (torch.Size([2, 1000]), 'digits classifier per channel')
    """

    classifier: Extractor

    @property
    def name(self) -> str:
        """The classifier's name, per channel."""
        return f"{self.classifier.name} per channel"

    @property
    def test_error(self) -> float:
        """The share of triples with a mistake, if mistakes are independent: 1 − (1 − e)³."""
        return 1 - (1 - self.classifier.test_error) ** CHANNELS

    def __call__(self, images: Tensor) -> Extracted:
        """Features side by side, and the log-probabilities of all triples; red: the hundreds.

        Raises:
            InputError: Images without three channels.
        """
        if images.ndim != 4 or images.shape[1] != CHANNELS:
            got = f"shape {tuple(images.shape[1:])}"
            raise InputError("images", expected="three channels, (N, 3, H, W)", got=got)
        n = len(images)
        features, log_probs = self.classifier(images.flatten(0, 1)[:, None])
        red, green, blue = log_probs.view(n, CHANNELS, -1).unbind(1)
        triples = red[:, :, None, None] + green[:, None, :, None] + blue[:, None, None, :]
        return Extracted(features.reshape(n, -1), triples.reshape(n, -1))


def _require_shape(images: Tensor, shape: tuple[int, ...], name: str) -> None:
    if tuple(images.shape[1:]) != tuple(shape):
        raise InputError(
            "images",
            expected=f"shape {tuple(shape)}, which the {name} takes",
            got=f"shape {tuple(images.shape[1:])}",
            do="Give a classifier of these images: any elboscope.classifiers.Extractor.",
        )
