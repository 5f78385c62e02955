r"""Multilayer perceptrons: :math:`h_{l+1} = f(W_l h_l + b_l)`. Parameters, no probability."""

from __future__ import annotations

__all__ = ["Activation", "activation", "mlp"]

from itertools import pairwise
from typing import Literal, get_args

from torch import nn

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
