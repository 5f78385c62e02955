"""The packaged classifiers: half-precision weights beside the code, with their measured error.

A file of weights is a safetensors file whose metadata hold the network's plain arguments, the
recipe, the data's checksum and the error on the test set, measured with the stored half-precision
weights. Reading it runs no code.
"""

from __future__ import annotations

__all__ = [
    "Classifier",
    "Extracted",
    "Extractor",
    "PerChannel",
    "cifar10_classifier",
    "classifier_for",
    "digits_classifier",
    "load_classifier",
    "mnist_classifier",
    "packaged_names",
    "save_classifier",
]

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn
from torch.nn.functional import log_softmax

from elboscope.core import InputError, evaluating
from elboscope.data import Images

from .training import Recipe, build, error_rate

WEIGHTS = resources.files("elboscope.classifiers") / "weights"
HEADER_LENGTH = 8


def mnist_classifier() -> Classifier:
    """Returns a convolutional network of handwritten digits, 28 × 28, trained on MNIST.

    Fashion-MNIST has the same shape and other classes: bring a classifier of your own for it.

    Example:
        >>> mnist_classifier().test_error < 0.008
        True
    """
    return _packaged("mnist")


def digits_classifier() -> Classifier:
    """Returns a convolutional network of the embedded 8 × 8 digits.

    Example:
        >>> import elboscope as es
        >>> images = es.data.digits()
        >>> says = digits_classifier()(images.test).log_probs.argmax(1)
        >>> round(1 - (says == images.test_labels).double().mean().item(), 4)
        0.0084
    """
    return _packaged("digits")


def cifar10_classifier() -> Classifier:
    """Returns a small convolutional network of CIFAR-10, trained for minutes on one core.

    Its error is far from the 6 % that scores of this data set are usually computed with; it is
    printed with each of them. ``python -m elboscope.classifiers train cifar10-gpu`` trains a
    better one, and ``load_classifier`` reads it.

    Example:
        >>> cifar10_classifier().image_shape
        (3, 32, 32)
    """
    return _packaged("cifar10")


def classifier_for(image_shape: tuple[int, ...]) -> Extractor:
    """Returns the packaged classifier of images of a shape: a guess by the shape alone.

    Raises:
        InputError: None takes this shape.

    Example:
        >>> classifier_for((3, 28, 28)).name
        'mnist classifier per channel'
    """
    match tuple(image_shape):
        case (1, 28, 28):
            return mnist_classifier()
        case (3, 28, 28):
            return PerChannel(mnist_classifier())
        case (1, 8, 8):
            return digits_classifier()
        case (3, 8, 8):
            return PerChannel(digits_classifier())
        case (3, 32, 32):
            return cifar10_classifier()
    raise InputError(
        "classifier",
        expected=f"an Extractor: none is packaged for images of shape {tuple(image_shape)}",
        got="None",
        do="Pass classifier=, any object with name, test_error and (images) -> Extracted.",
    )


def packaged_names() -> list[str]:
    """Returns the names of the packaged classifiers.

    Example:
        >>> packaged_names()
        ['cifar10', 'digits', 'mnist']
    """
    return sorted(Path(str(f)).stem for f in WEIGHTS.iterdir() if str(f).endswith(".safetensors"))


@cache
def _packaged(name: str) -> Classifier:
    return _read((WEIGHTS / f"{name}.safetensors").read_bytes(), name)


def load_classifier(path: str | Path) -> Classifier:
    """Reads a classifier that :func:`save_classifier` wrote.

    Raises:
        InputError: No such file, or another kind of file.
    """
    try:
        return _read(Path(path).read_bytes(), str(path))
    except OSError as error:
        got = error.strerror or str(error)
        raise InputError(str(path), expected="a file of a classifier", got=got) from None


def save_classifier(path: str | Path, network: nn.Module, recipe: Recipe, images: Images) -> float:
    """Rounds the weights to half precision, measures the test error of these, and writes both.

    Args:
        path: The safetensors file to write.
        network: Built from the recipe's architecture.
        recipe: How it was trained.
        images: The data it was trained on; the error is measured on their test part.

    Returns:
        The error.
    """
    assert images.test_labels is not None
    half = {name: _half(tensor) for name, tensor in network.state_dict().items()}
    network.load_state_dict({name: tensor.float() for name, tensor in half.items()})
    error = error_rate(network, images.test, images.test_labels)
    metadata = {
        "architecture": json.dumps(dict(recipe.architecture), sort_keys=True),
        "test_error": repr(error),
        "name": f"{images.name} classifier",
        "recipe": str(recipe),
        "data": str(images.checksum),
    }
    Path(path).write_bytes(save(half, metadata=metadata))
    return error


def _half(tensor: torch.Tensor) -> torch.Tensor:
    tensor = tensor.detach().cpu()
    return tensor.half().contiguous() if tensor.is_floating_point() else tensor


def _read(content: bytes, name: str) -> Classifier:
    try:
        tensors, metadata = load(content), _metadata(content)
        architecture = json.loads(metadata["architecture"])
        network = build(architecture)
        network.load_state_dict({key: value.float() for key, value in tensors.items()})
    except (SafetensorError, KeyError, ValueError, RuntimeError) as error:
        raise InputError(
            name,
            expected="a classifier written by elboscope.classifiers.save_classifier",
            got=f"{type(error).__name__}: {str(error).splitlines()[0]}",
        ) from None
    return Classifier(
        network.eval().requires_grad_(False),
        metadata["name"],
        tuple(architecture["image_shape"]),
        float(metadata["test_error"]),
    )


def _metadata(content: bytes) -> Mapping[str, str]:
    """The first eight bytes are the length of a JSON header."""
    length = int.from_bytes(content[:HEADER_LENGTH], "little")
    header = json.loads(content[HEADER_LENGTH : HEADER_LENGTH + length])
    metadata: Mapping[str, str] = header["__metadata__"]
    return metadata


# What sample metrics need of a classifier: features to compare, and log p(y|x) to count by.
#
# Every number computed from them is about *this* classifier: another one gives another Inception
# Score of the same images. So it has a name and a measured test error, and both are printed with
# each score. :class:`PerChannel` reads a colour image as three grey ones,
#
# .. math:: p(y_r, y_g, y_b \mid x) = p(y_r \mid x_r)\, p(y_g \mid x_g)\, p(y_b \mid x_b)
#
# with 1000 classes: the modes of Stacked MNIST.
#
# References:
#     Unrolled Generative Adversarial Networks (Metz et al., 2017), https://arxiv.org/abs/1611.02163

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
        """The share of test images it gets wrong, or NaN where it was not measured."""
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
        classifier: A classifier of images with one channel.

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
