"""How many numbers a decoder gives for each value: one, or as many as its likelihood takes.

They are laid out (n, *X): all values' first numbers, then all second ones. A perceptron gives them
flat, a convolution as n·C channels.
"""

from __future__ import annotations

__all__ = ["channels_first", "num_outputs", "output_shape"]

import math


def output_shape(likelihood: object, data_shape: tuple[int, ...]) -> tuple[int, ...]:
    """Returns the shape in which a likelihood takes a decoder's output for one datapoint.

    It is ``(*X)``, or ``(n, *X)`` where a likelihood takes ``num_outputs`` = n numbers a value.

    Example:
        >>> from elboscope.distributions import CategoricalLikelihood
        >>> output_shape(CategoricalLikelihood((1, 8, 8), levels=17), (1, 8, 8))
        (17, 1, 8, 8)
    """
    n = getattr(likelihood, "num_outputs", 1)
    return tuple(data_shape) if n == 1 else (n, *data_shape)


def channels_first(likelihood: object, data_shape: tuple[int, ...]) -> tuple[int, ...]:
    """Returns :func:`output_shape` as a convolution gives it, ``(n·C, H, W)``.

    Example:
        >>> from elboscope.distributions import CategoricalLikelihood
        >>> channels_first(CategoricalLikelihood((3, 8, 8), levels=4), (3, 8, 8))
        (12, 8, 8)
    """
    n = getattr(likelihood, "num_outputs", 1)
    return (n * data_shape[0], *data_shape[1:])


def num_outputs(likelihood: object, data_shape: tuple[int, ...]) -> int:
    """Returns how many numbers a decoder gives for one datapoint.

    Example:
        >>> from elboscope.distributions import GaussianLikelihood
        >>> num_outputs(GaussianLikelihood((3, 8, 8), "predicted"), (3, 8, 8))
        384
    """
    return math.prod(output_shape(likelihood, data_shape))
