r"""Networks whose parameters are constants: gradients pass to their arguments alone.

Freezing a density (sticking the landing, DReG) means :math:`\nabla \log q` at fixed parameters but
through z. Where z is the input of a network, detaching numbers is not enough: the network itself
has to be called with detached parameters.
"""

from __future__ import annotations

__all__ = ["Conditional", "with_fixed_parameters"]

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

Conditional = Callable[..., Any]


class _Method(nn.Module):
    """One method of a module as the ``forward`` of another."""

    def __init__(self, module: nn.Module, name: str) -> None:
        super().__init__()
        self.module, self.name = module, name

    def forward(self, *args: object) -> Any:
        return getattr(self.module, self.name)(*args)


def with_fixed_parameters(module: nn.Module, method: str = "forward") -> Conditional:
    """Returns a method of a module as a function that passes gradients to its arguments alone.

    Args:
        module: Any module; its parameters are detached, not copied.
        method: Which of its methods.

    Example:
        >>> layer, x = nn.Linear(2, 1), torch.ones(3, 2, requires_grad=True)
        >>> y = with_fixed_parameters(layer)(x).sum()
        >>> torch.autograd.grad(y, [x, layer.weight], allow_unused=True)[1] is None
        True
    """
    called = _Method(module, method)
    state = {name: p.detach() for name, p in called.named_parameters()}
    return lambda *args: torch.func.functional_call(called, state, args)
