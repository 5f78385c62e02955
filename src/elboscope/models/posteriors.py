r"""Families of posteriors that a VAE can have: how many numbers the encoder has to give, and how
they are read.

A family is a frozen dataclass of numbers, so that a configuration file can name it:
``mlp_vae(…, posterior=RealNVP(num_steps=2))``. Its :meth:`~PosteriorFamily.head` is the module
behind the encoder: it reads :math:`(\mu, \log\sigma^2, h)`, the context being
:math:`\mathrm{ELU}(h)`, holds the networks of the flow and returns q(z|x). Without a family the
posterior is the diagonal Gaussian.
"""

from __future__ import annotations

__all__ = [
    "IAF",
    "MAF",
    "AuxiliaryRealNVP",
    "FullCovariance",
    "Planar",
    "RealNVP",
]

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.distributions import Distribution
from torch.nn.functional import elu

from elboscope.core import InputError
from elboscope.distributions import (
    AuxiliaryFlow,
    AuxiliaryPosterior,
    FlowPosterior,
    PlanarPosterior,
    coupling_flow,
    diagonal_gaussian,
    full_covariance_gaussian,
    inverse_autoregressive_flow,
    masked_autoregressive_flow,
)
from elboscope.nn import mlp

from .posterior_heads import PosteriorHead


@dataclass(frozen=True)
class FullCovariance:
    r"""The Gaussian :math:`\mathcal N(\mu, LL^\top)` with all correlations.

    Example:
        >>> FullCovariance().num_outputs(3)  # μ, log L_jj², and what stands below
        9
    """

    def num_outputs(self, latent_dim: int) -> int:
        """d means and d(d + 1)/2 entries of L."""
        return 2 * latent_dim + latent_dim * (latent_dim - 1) // 2

    def head(self, latent_dim: int) -> PosteriorHead:
        """Reads μ, :math:`\\log L_{jj}^2`, and L below the diagonal, row by row."""
        return PosteriorHead(self, latent_dim, _read_full)


@dataclass(frozen=True)
class _Contextual:
    """What the flows with networks have in common.

    Attributes:
        num_steps: Steps of the flow.
        hidden: Width of the hidden layer of its networks.
        context: Length of h(x), which the encoder returns beside μ and log σ²; 0 for none.
    """

    num_steps: int = 2
    hidden: int = 200
    context: int = 50

    def num_outputs(self, latent_dim: int) -> int:
        """μ, log σ² and h."""
        return 2 * latent_dim + self.context


@dataclass(frozen=True)
class RealNVP(_Contextual):
    """Coupling flow; a step moves both halves of z. See ``distributions.coupling_flow``.

    Attributes:
        num_steps: Steps of both halves.
        hidden: Width of the hidden layer of its networks.
        context: Length of h(x), which the encoder returns beside μ and log σ²; 0 for none.

    Example:
        >>> from elboscope.models import mlp_vae
        >>> model = mlp_vae((6,), latent_dim=2, hidden=(8,), posterior=RealNVP(hidden=8, context=4))
        >>> type(model.encode(torch.zeros(3, 6))).__name__
        'FlowPosterior'
    """

    def head(self, latent_dim: int) -> PosteriorHead:
        """A new flow that begins as the diagonal Gaussian."""
        flow = coupling_flow(latent_dim, self.context, self.num_steps, self.hidden)
        return PosteriorHead(self, latent_dim, _read_flow, flow)


@dataclass(frozen=True)
class MAF(_Contextual):
    """Masked autoregressive flow: scoring is one pass, drawing d of them.

    Attributes:
        num_steps: Autoregressive transformations.
        hidden: Width of the hidden layer of its networks.
        context: Length of h(x), which the encoder returns beside μ and log σ²; 0 for none.
    """

    def head(self, latent_dim: int) -> PosteriorHead:
        """A new flow that begins as the diagonal Gaussian."""
        flow = masked_autoregressive_flow(latent_dim, self.context, self.num_steps, self.hidden)
        return PosteriorHead(self, latent_dim, _read_flow, flow)


@dataclass(frozen=True)
class IAF(_Contextual):
    """Inverse autoregressive flow: drawing is one pass, scoring a foreign z d of them.

    Attributes:
        num_steps: Autoregressive transformations.
        hidden: Width of the hidden layer of its networks.
        context: Length of h(x), which the encoder returns beside μ and log σ²; 0 for none.
    """

    def head(self, latent_dim: int) -> PosteriorHead:
        """A new flow that begins as the diagonal Gaussian."""
        flow = inverse_autoregressive_flow(latent_dim, self.context, self.num_steps, self.hidden)
        return PosteriorHead(self, latent_dim, _read_flow, flow)


@dataclass(frozen=True)
class AuxiliaryRealNVP(_Contextual):
    """The flow of Cremer et al. on (z, v), as many v as z.

    Its weights ``p(x, z) r(v|x, z) / q(z, v|x)`` are unbiased for p(x), but q(z|x) has no density:
    see ``distributions.AuxiliaryPosterior``. The networks start as torch initialises them, and
    each gate shrinks: by about one half at first.

    Attributes:
        num_steps: Steps of both halves.
        hidden: Width of the hidden layers of its networks.
        context: Length of h(x), which the encoder returns beside μ and log σ²; 0 for none.
    """

    def head(self, latent_dim: int) -> PosteriorHead:
        """A new flow, its q(v₀|x, z₀) and its r(v|x, z)."""
        for what, value in (("num_steps", self.num_steps), ("hidden", self.hidden)):
            if value < 1:
                raise InputError(what, expected="at least 1", got=repr(value))
        return PosteriorHead(self, latent_dim, _read_auxiliary, self._flow(latent_dim))

    def _flow(self, d: int) -> AuxiliaryFlow:
        def net(depth: int) -> nn.Module:
            return mlp(d + self.context, depth * (self.hidden,), 2 * d, "elu")

        move_v = [net(1) for _ in range(self.num_steps)]
        move_z = [net(1) for _ in range(self.num_steps)]
        return AuxiliaryFlow(move_v, move_z, net(2), net(2))


@dataclass(frozen=True)
class Planar:
    """Planar flow, whose (u, w, b) of every step come from the encoder.

    It scores its own draws only. See ``distributions.PlanarPosterior``.

    Attributes:
        num_steps: T.
    """

    num_steps: int = 8

    def num_outputs(self, latent_dim: int) -> int:
        """μ, log σ², and 2d + 1 numbers a step."""
        return 2 * latent_dim + self.num_steps * (2 * latent_dim + 1)

    def head(self, latent_dim: int) -> PosteriorHead:
        """Reads μ, log σ², then (u, w, b) step by step."""
        if self.num_steps < 1:
            raise InputError("num_steps", expected="at least 1", got=repr(self.num_steps))
        return PosteriorHead(self, latent_dim, _read_planar)


def _read_full(
    _: nn.Module | None, mu: Tensor, log_diagonal2: Tensor, below: Tensor
) -> Distribution:
    d = mu.shape[1]
    row, column = torch.tril_indices(d, d, -1, device=mu.device)
    factor = torch.diag_embed(0.5 * log_diagonal2)
    factor = factor.index_put(
        (torch.arange(len(mu), device=mu.device)[:, None], row, column), below
    )
    return full_covariance_gaussian(mu, factor)


def _read_flow(flow: nn.Module | None, mu: Tensor, log_variance: Tensor, h: Tensor) -> Distribution:
    assert flow is not None
    return FlowPosterior(diagonal_gaussian(mu, log_variance), flow, _context(h))


def _read_auxiliary(
    flow: nn.Module | None, mu: Tensor, log_variance: Tensor, h: Tensor
) -> Distribution:
    assert isinstance(flow, AuxiliaryFlow)
    return AuxiliaryPosterior(diagonal_gaussian(mu, log_variance), flow, _context(h))


def _read_planar(
    _: nn.Module | None, mu: Tensor, log_variance: Tensor, rest: Tensor
) -> Distribution:
    B, d = mu.shape
    u, w, b = rest.reshape(B, -1, 2 * d + 1).split([d, d, 1], dim=-1)
    return PlanarPosterior(diagonal_gaussian(mu, log_variance), u, w, b[..., 0])


def _context(h: Tensor) -> Tensor | None:
    return elu(h) if h.shape[1] else None
