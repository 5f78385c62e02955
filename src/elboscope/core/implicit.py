r"""Generators without a density: a GAN maps noise to data and says nothing about log p(x|z).

An :class:`ImplicitGenerator` has ``prior()`` and ``generate(z)``. :func:`as_generative` gives it
the ``decode`` of the contract, a :class:`PointMass` at ``generate(z)``: it can be drawn and has a
mean, and its ``log_prob`` is honestly absent. Everything that needs a likelihood then reports
*unavailable*, and nothing computes another number in its place.
"""

from __future__ import annotations

__all__ = ["ImplicitGenerator", "PointMass", "Sampled", "as_generative", "generated", "is_implicit"]

from dataclasses import dataclass
from typing import ClassVar, Protocol, TypeAlias, TypeGuard, cast, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import Distribution, constraints

from .capabilities import mean_of
from .model import GenerativeModel


@runtime_checkable
class ImplicitGenerator(Protocol):
    """A sampler x = G(z), z ~ p(z), whose density no one can evaluate: a GAN."""

    def prior(self) -> Distribution:
        r""":math:`p(z)`, with batch shape ``()`` and event shape ``(*Z)``."""
        ...

    def generate(self, z: Tensor) -> Tensor:
        """x, of shape ``(*batch, *X)`` for z of shape ``(*batch, *Z)``."""
        ...


Sampled: TypeAlias = GenerativeModel | ImplicitGenerator
Shape: TypeAlias = torch.Size | list[int] | tuple[int, ...]


class PointMass(Distribution):
    """All probability on one value: it can be drawn, and has no density.

    Args:
        value: ``(*batch, *X)``.
        event_dim: The number of axes of ``(*X)``.

    Example:
        >>> p = PointMass(torch.ones(5, 2), event_dim=1)
        >>> p.sample().shape, p.variance.sum().item()
        (torch.Size([5, 2]), 0.0)
    """

    arg_constraints: ClassVar[dict[str, constraints.Constraint]] = {}
    has_rsample = True

    def __init__(self, value: Tensor, event_dim: int) -> None:
        self.value = value
        split = value.ndim - event_dim
        super().__init__(value.shape[:split], value.shape[split:], validate_args=False)

    @property
    def mean(self) -> Tensor:
        """The value."""
        return self.value

    @property
    def variance(self) -> Tensor:
        """Zero."""
        return torch.zeros_like(self.value)

    @property
    def support(self) -> None:
        """Not told: no x is refused, and none has a density."""

    def rsample(self, sample_shape: Shape = ()) -> Tensor:
        """Returns the value, repeated."""
        return self.value.expand(*sample_shape, *self.value.shape)

    def log_prob(self, value: Tensor) -> Tensor:
        """Raises NotImplementedError."""
        raise NotImplementedError("a generator without noise on x has no density p(x|z)")


@dataclass(frozen=True)
class _Generative:
    """A generator, as the contract wants it; ``clause`` is what errors call its decode."""

    model: ImplicitGenerator
    clause: ClassVar[str] = "generate(z)"

    def prior(self) -> Distribution:
        return self.model.prior()

    def decode(self, z: Tensor) -> Distribution:
        x = self.model.generate(z)
        lead = z.ndim - len(self.model.prior().event_shape)
        return PointMass(x, event_dim=max(0, x.ndim - lead))


def as_generative(model: Sampled) -> GenerativeModel:
    """Returns the model, or a generator with a ``decode`` that has a mean and no density.

    Example:
        >>> import elboscope as es
        >>> gan = es.models.mlp_gan((6,), 2, (8,))
        >>> as_generative(gan).decode(torch.zeros(3, 2)).mean.shape
        torch.Size([3, 6])
    """
    return _Generative(model) if is_implicit(model) else cast(GenerativeModel, model)


def is_implicit(model: object) -> TypeGuard[ImplicitGenerator]:
    """Whether it generates x without a p(x|z).

    Example:
        >>> import elboscope as es
        >>> is_implicit(es.models.mlp_gan((6,), 2, (8,))), is_implicit(es.models.mlp_vae((6,), 2))
        (True, False)
    """
    return isinstance(model, ImplicitGenerator) and not isinstance(model, GenerativeModel)


def generated(model: Sampled, z: Float[Tensor, "*B_and_Z"]) -> Tensor:
    """Returns G(z) of a generator, and E[x|z] of a model with a likelihood, ``(*batch, *X)``.

    The mean is smoother than a draw of x: what samples of a VAE usually show.
    """
    return mean_of(as_generative(model).decode(z))
