"""A classifier's network from the plain values that are stored beside its weights.

A file of weights cannot name code to run: it chooses between the two networks of this package.
"""

from __future__ import annotations

__all__ = ["build"]

from collections.abc import Mapping

from torch import nn

from elboscope.core import InputError
from elboscope.nn import ConvClassifier, ResidualClassifier

KINDS = {"ConvClassifier": ConvClassifier, "ResidualClassifier": ResidualClassifier}


def build(architecture: Mapping[str, object]) -> nn.Module:
    """Returns the network with fresh weights.

    Args:
        architecture: ``kind`` and the arguments of that network.

    Raises:
        InputError: Another kind.

    Example:
        >>> build({"kind": "ResidualClassifier", "image_shape": [3, 32, 32], "width": 2,
        ...        "num_classes": 10}).head
        Linear(in_features=16, out_features=10, bias=True)
    """
    arguments = {key: tuple(v) if isinstance(v, list) else v for key, v in architecture.items()}
    kind = str(arguments.pop("kind", ""))
    if kind not in KINDS:
        raise InputError("architecture", expected=f"a kind of {', '.join(KINDS)}", got=repr(kind))
    network: nn.Module = KINDS[kind](**arguments)
    return network
