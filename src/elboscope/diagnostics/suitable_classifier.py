"""Which packaged classifier, if any, may score these images: by their name, shape, and its doubts.

A classifier answers any image of its shape, and scores of the wrong one look like scores. So a
data set that is known by name gets its own classifier or none (Fashion-MNIST has MNIST's shape).
Data without a known name get that of their shape, and are kept only if it is about as sure of them
as of its own test set, and finds most of its classes in them: one minus the mean probability of
its answer estimates its error without labels.

That doubt is 0.9 % on MNIST (0.4 % errors), 5 % on one Bernoulli draw of it (4 %), 1.3 % on the
digits, 17 % on a draw of these (34 %), 28 % on Fashion-MNIST, 34 % on noise of 8 × 8.
"""

from __future__ import annotations

__all__ = ["Suitable", "as_pictures", "suitable_classifier"]

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from elboscope.classifiers import Extractor, classifier_for
from elboscope.core import InputError
from elboscope.data.load import NAMES

# Named data that a packaged classifier was trained on; other names have none.
TAUGHT = ("digits", "mnist", "cifar10", "color_digits", "color_mnist")
# How much more in doubt than on its own test set: between a Bernoulli draw of MNIST (4 % more) and
# digits turned upside down (13 %).
MORE_DOUBT = 0.1
FLAT = {64: (1, 8, 8), 784: (1, 28, 28), 3072: (3, 32, 32)}
YOURS = "es.sample_quality(es.sampler_of(model), x, classifier=…) takes one of yours"


class Suitable(NamedTuple):
    """A classifier for these images, or why there is none.

    Attributes:
        classifier: None where there is none.
        chosen_by: By what it was chosen.
        reason: Why there is none; empty otherwise.
    """

    classifier: Extractor | None
    chosen_by: str = ""
    reason: str = ""


def suitable_classifier(images: Float[Tensor, "n C H W"], data_name: object = "") -> Suitable:
    """Returns the packaged classifier that was trained on such images, or why none is used.

    Args:
        images: Some of the data, in [0, 1].
        data_name: What the data are called, where that is known.

    Example:
        >>> import elboscope as es
        >>> digits = es.data.digits().test
        >>> suitable_classifier(digits, "digits").classifier.name
        'digits classifier'
        >>> suitable_classifier(torch.zeros(9, 1, 8, 8), "Fashion-MNIST").reason
        'no classifier is packaged for fashion_mnist; ...
    """
    shape = tuple(images.shape[1:])
    known = {_plain(name): name for name in NAMES}.get(_plain(str(data_name)))
    if known is not None and known not in TAUGHT:
        return Suitable(None, reason=f"no classifier is packaged for {known}; {YOURS}")
    try:
        classifier = classifier_for(shape)
    except InputError:
        reason = f"no classifier is packaged for images of shape {shape}; {YOURS}"
        return Suitable(None, reason=reason)
    reason = _doubts(classifier, images)
    by = f"the data's name, {known}" if known else "the images' shape, and its answers to them"
    return Suitable(None, reason=reason) if reason else Suitable(classifier, by)


def _doubts(classifier: Extractor, images: Float[Tensor, "n C H W"]) -> str:
    """Why its answers say that it was trained on other images, or nothing."""
    p = classifier(images).log_probs.double().exp()
    doubt = 1 - p.max(1).values.mean().item()
    classes = torch.special.entr(p.mean(0)).sum().exp().item()
    if doubt > classifier.test_error + MORE_DOUBT:
        return (
            f"the {classifier.name} is in doubt of {doubt:.0%} of these images (it errs on "
            f"{classifier.test_error:.1%} of its own): they are others, or binarised; {YOURS}"
        )
    if classes < min(p.shape[1], len(p)) / 2:
        return (
            f"the {classifier.name} finds about {classes:.1f} of its {p.shape[1]} classes in these "
            f"images: they seem to be others; {YOURS}"
        )
    return ""


def as_pictures(x: Tensor) -> Tensor:
    """Returns x with axes for channels, height and width, where it can be seen which they are.

    Example:
        >>> [tuple(as_pictures(torch.ones(2, *s)).shape) for s in ((64,), (8, 8), (3, 4, 4), (5,))]
        [(2, 1, 8, 8), (2, 1, 8, 8), (2, 3, 4, 4), (2, 5)]
    """
    if x.ndim == 2 and x.shape[1] in FLAT:
        return x.reshape(len(x), *FLAT[x.shape[1]])
    return x[:, None] if x.ndim == 3 else x


def _plain(name: str) -> str:
    return name.lower().replace("-", "").replace("_", "")
