"""The one place that owns device, optimiser set-up and the backward pass.

``SingleDevice`` has the three members of lightning-fabric's ``Fabric`` that the loop uses, by the
same names, so that a ``Fabric`` can stand in its place and the loop runs on several processes as
it is.
"""

from __future__ import annotations

__all__ = ["Launcher", "SingleDevice"]

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.optim import Optimizer


@runtime_checkable
class Launcher(Protocol):
    """What the loop asks of whoever places the work."""

    @property
    def device(self) -> torch.device:
        """Where data and parameters live."""
        ...

    def setup(self, module: nn.Module, optimizer: Optimizer) -> Any:
        """Returns the pair, placed and wrapped as needed."""
        ...

    def backward(self, tensor: Tensor, **options: Any) -> None:
        """Computes gradients; ``options`` are those of :meth:`torch.Tensor.backward`."""
        ...


@dataclass(frozen=True)
class SingleDevice:
    """One device in this process.

    Example:
        >>> SingleDevice(torch.device("cpu")).device
        device(type='cpu')
    """

    device: torch.device

    def setup(self, module: nn.Module, optimizer: Optimizer) -> tuple[nn.Module, Optimizer]:
        """Returns the pair as it is: the module was moved before the optimiser was built."""
        return module, optimizer

    def backward(self, tensor: Tensor, **options: Any) -> None:
        """Calls ``tensor.backward``."""
        tensor.backward(**options)
