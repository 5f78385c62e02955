r"""The objective of a deterministic autoencoder, which bounds nothing.

:math:`\log p(x \mid z = f(x))` is the ELBO without its KL, at a posterior without a spread. As a
density it can be made as large as one likes without saying anything about p(x).
"""

from __future__ import annotations

__all__ = ["Reconstructs", "reconstruction"]

from typing import Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from elboscope.core import Bound


@runtime_checkable
class Reconstructs(Protocol):
    """Anything that scores its own reconstruction of x."""

    def log_reconstruction(self, x: Tensor) -> Tensor:
        """Returns log p(x | z = f(x)), one value per datapoint, in nats."""
        ...


def reconstruction(model: Reconstructs, x: Float[Tensor, "B *X"]) -> Bound:
    """Minimises −log p(x | z = f(x)).

    ``value`` is that log-density. It is **not** a lower bound on log p(x): an autoencoder has no
    prior, hence no p(x).

    Args:
        model: An autoencoder.
        x: A minibatch.

    Example:
        >>> import torch, elboscope as es
        >>> model = es.models.mlp_autoencoder((4,), latent_dim=2)
        >>> reconstruction(model, torch.ones(3, 4)).value.shape
        torch.Size([3])
    """
    value = model.log_reconstruction(x)
    return Bound(value.detach(), -value.mean())
