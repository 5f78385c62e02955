r"""Families of posteriors that a VAE can have: how many numbers the encoder has to give, and how
they are read.

A family is a frozen dataclass of numbers, so that a configuration file can name it:
``mlp_vae(…, posterior=RealNVP(num_steps=2))``. Its :meth:`~PosteriorFamily.head` is the module
behind the encoder: it reads :math:`(\mu, \log\sigma^2, h)`, the context being
:math:`\mathrm{ELU}(h)`, holds the networks of the flow and returns q(z|x). Without a family the
posterior is the diagonal Gaussian.

The file is long because the families and the one head that reads them are one idea.
"""

from __future__ import annotations

__all__ = [
    "IAF",
    "MAF",
    "AuxiliaryRealNVP",
    "CommittedGaussian",
    "FullCovariance",
    "Planar",
    "PosteriorFamily",
    "PosteriorHead",
    "RealNVP",
    "joined_output",
    "latent_dim_of",
    "measured_head",
]

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from scipy.special import lambertw
from torch import Tensor, nn
from torch.distributions import Distribution
from torch.nn.functional import elu, softplus

from elboscope.core import InputError, evaluating, seeded
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


# A Gaussian posterior that cannot become the prior: the δ-VAE's committed rate.
#
# With σ bounded by σ_u < 1, every unit pays at least
#
# .. math:: \delta = \tfrac12 (\sigma_u^2 - 1 - \ln \sigma_u^2)
#
# nats against a standard normal prior, whatever x is. The toll being paid anyway, using the unit
# becomes cheaper: in the linear VAE a unit is used iff the variance λ of the data along it
# exceeds :math:`\sigma_u^2` times the decoder's noise, instead of the noise itself (Lucas et al.,
# 2019). It is a toll and not information: with μ = 0 everywhere the unit pays δ and says nothing,
# so look at the mutual information, not at the KL. The aggregate posterior can match the prior
# only where the means move enough to make up for the width that is missing.
#
# References:
#     | Preventing Posterior Collapse with delta-VAEs (Razavi et al., 2019),
#       https://arxiv.org/abs/1901.03416

MOST_NATS = 6.0  # log σ² is clamped at −14, where a unit pays 6.5 nats


@dataclass(frozen=True)
class CommittedGaussian:
    r"""The diagonal Gaussian with :math:`\sigma < \sigma_u`: each unit pays at least δ nats.

    Attributes:
        nats: δ per unit, above 0 and at most 6.

    Example:
        >>> import torch
        >>> from elboscope.models import mlp_vae
        >>> model = mlp_vae((6,), 2, hidden=(8,), posterior=CommittedGaussian(nats=0.25))
        >>> q = model.encode(torch.zeros(3, 6))
        >>> bool((torch.distributions.kl_divergence(q, model.prior()) >= 0.5).all())
        True
    """

    nats: float = 0.1

    def __post_init__(self) -> None:
        if not 0 < self.nats <= MOST_NATS:
            raise InputError("nats", expected="a number in (0, 6]", got=repr(self.nats))

    @property
    def largest_variance(self) -> float:
        r"""Returns :math:`\sigma_u^2`, where :math:`\sigma_u^2 - 1 - \ln \sigma_u^2 = 2\delta`.

        Example:
            >>> v = CommittedGaussian(nats=0.1).largest_variance
            >>> round(0.5 * (v - 1 - math.log(v)), 12)
            0.1
        """
        return float(-lambertw(-math.exp(-1 - 2 * self.nats)).real)

    def num_outputs(self, latent_dim: int) -> int:
        """μ and the unbounded number behind σ."""
        return 2 * latent_dim

    def head(self, latent_dim: int) -> PosteriorHead:
        r"""Reads μ and a, with :math:`\log\sigma^2 = \log\sigma_u^2 - \mathrm{softplus}(-a)`."""
        most = math.log(self.largest_variance)

        def read(_: nn.Module | None, mu: Tensor, a: Tensor, __: Tensor) -> Distribution:
            return diagonal_gaussian(mu, most - softplus(-a))

        return PosteriorHead(self, latent_dim, read)


# Behind the encoder: the module that reads its numbers as q(z|x), for a family of posteriors.
#
# A family says how many numbers the encoder has to give, and builds a :class:`PosteriorHead`,
# which holds the networks of a flow. How many latent units there are is measured by one forward
# pass.

Read = Callable[[nn.Module | None, Tensor, Tensor, Tensor], Distribution]


@runtime_checkable
class PosteriorFamily(Protocol):
    """What ``mlp_vae``, ``conv_vae`` and ``from_modules`` take as ``posterior``."""

    def num_outputs(self, latent_dim: int) -> int:
        """Returns how many numbers a datapoint the encoder has to give."""
        ...

    def head(self, latent_dim: int) -> PosteriorHead:
        """Returns a new module from the encoder's output to q(z|x)."""
        ...


class PosteriorHead(nn.Module):
    r"""From the encoder's output, :math:`(\mu, \log\sigma^2, \text{rest})`, to q(z|x).

    Args:
        family: Which family, for messages and ``repr``.
        latent_dim: d.
        read: From (flow, μ, log σ², rest) to q(z|x).
        flow: The networks of the flow, if it has any.
    """

    def __init__(
        self, family: PosteriorFamily, latent_dim: int, read: Read, flow: nn.Module | None = None
    ) -> None:
        super().__init__()
        self.family, self.latent_dim, self.read, self.flow = family, latent_dim, read, flow

    def forward(self, output: object) -> Distribution:
        """Returns q(z|x), batch ``(B,)``, event ``(d,)``.

        Args:
            output: ``(B, n)``, or a tuple of tensors that are joined along axis 1.

        Raises:
            InputError: Another number of numbers than the family takes.
        """
        d, n = self.latent_dim, self.family.num_outputs(self.latent_dim)
        joined = joined_output(output)
        if tuple(joined.shape[1:]) != (n,):
            raise InputError(
                "encoder output",
                expected=f"(B, {n}) for {self.family} with {d} latent units",
                got=str(tuple(joined.shape)),
                do="Let the encoder return μ, log σ² and what the family takes beside them.",
            )
        return self.read(self.flow, joined[:, :d], joined[:, d : 2 * d], joined[:, 2 * d :])

    def extra_repr(self) -> str:
        """States the family."""
        return str(self.family)


def joined_output(output: object) -> Tensor:
    """Returns what an encoder returned as one tensor ``(B, n)``.

    Raises:
        InputError: Neither a tensor nor a tuple of tensors with one latent axis.
    """
    parts = output if isinstance(output, tuple | list) else (output,)
    tensors = [part for part in parts if isinstance(part, Tensor) and part.ndim == 2]
    if len(tensors) == len(parts) > 0:
        return torch.cat(tensors, dim=1)
    shapes = [str(tuple(p.shape)) if isinstance(p, Tensor) else type(p).__name__ for p in parts]
    raise InputError(
        "encoder output",
        expected="tensors (B, n), latents on one axis, since a posterior family mixes all of them",
        got=", ".join(shapes) or "nothing",
        do="Flatten the latents: encoder.append(nn.Flatten()), and unflatten them in the decoder.",
    )


def latent_dim_of(family: PosteriorFamily, num_outputs: int) -> int:
    """Returns the d for which a family takes that many numbers.

    Raises:
        InputError: There is none.

    Example:
        >>> from elboscope.models import RealNVP
        >>> latent_dim_of(RealNVP(context=50), 150)
        50
    """
    for d in range(1, num_outputs + 1):
        if family.num_outputs(d) == num_outputs:
            return d
    raise InputError(
        "encoder output",
        expected=f"as many numbers as {family} takes: {family.num_outputs(1)} for one latent unit, "
        f"{family.num_outputs(2)} for two, …",
        got=f"{num_outputs} numbers",
        do="A flow with context=0 takes μ and log σ² alone.",
    )


def measured_head(
    family: PosteriorFamily,
    encoder: nn.Module,
    encoder_output: object,
    probe: Tensor,
    latent_shape: tuple[int, ...] | None,
) -> PosteriorHead:
    """Returns the family's head, of the size that the encoder's output or ``latent_shape`` says.

    Args:
        family: The family.
        encoder: Used for one forward pass where ``latent_shape`` is None.
        encoder_output: What from_modules was told; only ``"mu_logvar"`` fits.
        probe: An input of the encoder, whose device and dtype the head gets.
        latent_shape: (d,), if it is known.

    Raises:
        InputError: Another ``encoder_output``; latents on several axes; numbers that do not fit.
    """
    if encoder_output != "mu_logvar":
        raise InputError(
            "encoder_output",
            expected="'mu_logvar', in which a posterior family reads the encoder",
            got=repr(encoder_output),
            do="Let the encoder return log σ², or leave posterior out.",
        )
    if latent_shape is not None and len(latent_shape) != 1:
        raise InputError(
            "latent_shape",
            expected=f"(d,): {family} mixes all latents, on one axis",
            got=str(tuple(latent_shape)),
            do="Flatten the latents in the encoder, and unflatten them in the decoder.",
        )
    if latent_shape is None:
        with evaluating(encoder), seeded(0):
            latent_shape = (latent_dim_of(family, joined_output(encoder(probe)).shape[1]),)
    return family.head(latent_shape[0]).to(probe)
