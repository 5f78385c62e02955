r"""A flow for every single datapoint: Real NVP on (z, v), begun at the best Gaussian.

.. math:: (u, v) = T_n(u_0, v_0), \quad z = m_n + L_n u, \qquad
          L[q] = \mathbb{E}[\log p(x_n, z) + \log r_n(v|u) - \log q_n(z, v)]

The auxiliary-variable flow (:mod:`elboscope.distributions.auxiliary`) with weights of its own for
each datapoint, none shared: its networks are evaluated for all datapoints at once, each with its
rows of stacked parameters. (m, L) is the best Gaussian's mean and factor and stays; in the
coordinates u that it gives, the flow begins as the identity: last layers zero, the base wider by
the gates' :math:`2^T`, and r(v) = q(v). So L[q] begins at the Gaussian's. The family holds the full
Gaussians, and is richer than the published one, whose flow begins and ends without L.

Where the encoder's own posterior is such a flow, the local ones are of its architecture, and its
weights with :math:`h(x_n)` are another start.

For any r the value is a lower bound on log p(x); q(z) alone has no density here.
"""

from __future__ import annotations

__all__ = ["FlowParameters", "LocalFlow", "LocalFlowPosterior", "local_flow"]

import copy
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributions import Distribution, constraints
from torch.func import functional_call, vmap

from elboscope.core import seeded
from elboscope.distributions import AuxiliaryFlow, AuxiliaryPosterior
from elboscope.nn import mlp

from .gaussian_families import LOG_2PI, Parameters

FlowParameters = Parameters
"""(m, L, μ₀, log σ₀, h, weights …), stacked over the datapoints; only from μ₀ on they move."""

FIXED = 2  # of them, m and L


class _Drawn(nn.Module):
    """One datapoint's draw as a ``forward``, so that it can be called with its own weights."""

    def __init__(self, flow: AuxiliaryFlow) -> None:
        super().__init__()
        self.flow = flow

    def forward(
        self, u0: Tensor, noise: Tensor, context: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Returns u, v, log q(u, v) − log q(u₀) and log r(v|u)."""
        start = self.flow.start(u0, context)
        v0 = start.mean + start.stddev * noise
        u, v, log_det = self.flow(u0, v0, context)
        log_r: Tensor = self.flow.back(u, context).log_prob(v)
        return u, v, start.log_prob(v0) - log_det, log_r


class _Traced(nn.Module):
    """The way back, likewise."""

    def __init__(self, flow: AuxiliaryFlow) -> None:
        super().__init__()
        self.flow = flow

    def forward(self, u: Tensor, v: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        """Returns u₀ and log q(u, v) − log q(u₀)."""
        return self.flow.traced(u, v, context)


@dataclass(frozen=True, eq=False)
class LocalFlow:
    """The family: one architecture, weights for each datapoint.

    Attributes:
        latent_shape: ``(*Z)``.
        flow: The architecture; its own weights are those of a fresh start.
        context_dim: Length of h, 0 for none.
        auxiliary_dim: Length of v.
        like_encoder: Whether it is the encoder's architecture.
    """

    latent_shape: tuple[int, ...]
    flow: AuxiliaryFlow
    context_dim: int
    auxiliary_dim: int
    like_encoder: bool

    @property
    def noise_dim(self) -> int:
        """Numbers of noise for one sample, of z₀ and of v₀."""
        return math.prod(self.latent_shape) + self.auxiliary_dim

    def start(self, mean: Tensor, std: Tensor) -> FlowParameters:
        """Returns the member that is the Gaussian with these means and standard deviations."""
        return self.around(mean.flatten(1), torch.diag_embed(std.flatten(1)))

    def around(self, mean: Float[Tensor, "B d"], L: Float[Tensor, "B d d"]) -> FlowParameters:
        """Returns the member that is N(m, LLᵀ)."""
        B = len(mean)
        wide = torch.full_like(mean, len(self.flow.move_z) * math.log(2))
        h = mean.new_zeros(B, self.context_dim)
        return (mean, L, torch.zeros_like(mean), wide, h, *_repeat(self.flow, B, mean))

    def of_encoder(self, q: AuxiliaryPosterior) -> FlowParameters:
        """Returns the members that an encoder of this architecture answered with."""
        mu, sigma = (p.detach().clone() for p in (q.base.mean, q.base.stddev))
        B, d = mu.shape
        h = mu.new_zeros(B, 0) if q.context is None else q.context.detach().clone()
        eye = torch.eye(d).to(mu).expand(B, d, d).clone()
        zero = torch.zeros_like(mu)
        return (zero, eye, mu, sigma.log(), h, *_repeat(q.flow, B, mu))

    def draw(
        self, parameters: FlowParameters, noise: Float[Tensor, "K _ e"]
    ) -> tuple[Float[Tensor, "K B *Z"], Float[Tensor, "K B"]]:
        """Returns z and log q(z, v) − log r(v|z)."""
        return self._drawn(parameters, noise, frozen=False)

    def draw_frozen(
        self, parameters: FlowParameters, noise: Float[Tensor, "K _ e"]
    ) -> tuple[Float[Tensor, "K B *Z"], Float[Tensor, "K B"]]:
        """The same, but log q passes gradients to (z, v) alone; log r to all (it is a target)."""
        return self._drawn(parameters, noise, frozen=True)

    def distribution(self, parameters: FlowParameters) -> Distribution:
        """Returns q, batch ``(B,)``, event ``(*Z)``."""
        return LocalFlowPosterior(self, tuple(p.detach() for p in parameters))

    def _drawn(
        self, parameters: FlowParameters, noise: Tensor, *, frozen: bool
    ) -> tuple[Tensor, Tensor]:
        mean, L, *moving = parameters
        B = len(mean)
        e = noise.expand(-1, B, -1).transpose(0, 1)

        def one(*given: Tensor) -> tuple[Tensor, Tensor]:
            return self._one(given[:-1], given[-1], frozen)

        u, log_q = vmap(one)(*moving, e)
        z = mean[:, None] + u @ L.mT
        log_q = log_q - L.diagonal(dim1=1, dim2=2).abs().log().sum(1)[:, None]
        return z.transpose(0, 1).reshape(-1, B, *self.latent_shape), log_q.T

    def _one(
        self, moving: Parameters, noise: Float[Tensor, "K e"], frozen: bool
    ) -> tuple[Float[Tensor, "K d"], Float[Tensor, " K"]]:
        """One datapoint's u and log q(u, v) − log r(v|u)."""
        mu, log_sigma, h, *weights = moving
        d = len(mu)
        context = h if self.context_dim else None
        named = dict(zip(self._names, weights, strict=True))
        u0 = mu + log_sigma.exp() * noise[:, :d]
        drawn = functional_call(_Drawn(self.flow), named, (u0, noise[:, d:], context))
        u, v, rest, log_r = drawn
        log_q = _log_normal(u0, mu, log_sigma) + rest
        if frozen:
            fixed = {name: p.detach() for name, p in named.items()}
            still = None if context is None else context.detach()
            back, rest = functional_call(_Traced(self.flow), fixed, (u, v, still))
            again = _log_normal(back, mu.detach(), log_sigma.detach()) + rest
            log_q = log_q.detach() + again - again.detach()
        return u, log_q - log_r

    @cached_property
    def _names(self) -> tuple[str, ...]:
        return tuple(f"flow.{name}" for name, _ in self.flow.named_parameters())


class LocalFlowPosterior(Distribution):
    """q of each datapoint: drawn from, and scored only with the v of its own draws."""

    arg_constraints: ClassVar[dict[str, constraints.Constraint]] = {}
    has_rsample = True

    def __init__(self, family: LocalFlow, parameters: FlowParameters) -> None:
        self.family, self.parameters = family, parameters
        batch, event = torch.Size((len(parameters[0]),)), torch.Size(family.latent_shape)
        super().__init__(batch, event, validate_args=False)

    @property
    def support(self) -> constraints.Constraint:
        """All real numbers."""
        return constraints.independent(constraints.real, len(self.event_shape))

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        """Draws z; its v is thrown away."""
        return self.rsample_and_log_prob(torch.Size(sample_shape))[0]

    def rsample_and_log_prob(
        self, shape: torch.Size, freeze: bool = False
    ) -> tuple[Tensor, Tensor]:
        """Draws z and returns log q(z, v) − log r(v|z) with it; nothing here has gradients.

        Args:
            shape: Sample shape.
            freeze: Without meaning: the parameters carry no gradient.
        """
        K, B = math.prod(shape), len(self.parameters[0])
        like = self.parameters[0]
        noise = torch.randn(K, B, self.family.noise_dim).to(like)
        z, log_q = self.family.draw(self.parameters, noise)
        return z.reshape(*shape, *z.shape[1:]), log_q.reshape(*shape, B)

    def log_prob(self, value: Tensor) -> Tensor:
        """Is not available: q(z) is an integral over v.

        Raises:
            NotImplementedError: Always.
        """
        raise NotImplementedError(
            "an auxiliary-variable posterior has no density of z alone (rsample_and_log_prob)"
        )


def _repeat(flow: nn.Module, B: int, like: Tensor) -> list[Tensor]:
    parameters: Mapping[str, Tensor] = dict(flow.named_parameters())
    return [p.detach().to(like).expand(B, *p.shape).clone() for p in parameters.values()]


def _log_normal(z: Tensor, mu: Tensor, log_sigma: Tensor) -> Tensor:
    e = (z - mu) / log_sigma.exp()
    return -(0.5 * e.square() + log_sigma + 0.5 * LOG_2PI).sum(-1)


# Which networks a local flow has, and how they begin.
#
# Two steps with one hidden layer each, v₀ ~ N(0, I) (the first step moves v given z all the
# same), unless the encoder's own posterior is a flow on (z, v): then its architecture, so that
# what it answered with is a member of the family. Last layers are zero at first: each gate is
# 1/2, each shift 0, and r(v|z) has the standard deviation :math:`2^{-T}` of v.

STEPS, HIDDEN = 2, 100


def local_flow(
    latent_shape: tuple[int, ...], like: Tensor, encoder: object = None, *, seed: int = 0
) -> LocalFlow:
    """Returns the family, of the encoder's architecture where that is such a flow.

    Args:
        latent_shape: ``(*Z)``.
        like: A tensor of the device and dtype.
        encoder: The encoder's answer to some x, or None.
        seed: Random seed of the weights of a fresh start.
    """
    d = math.prod(latent_shape)
    with seeded(seed):
        if isinstance(encoder, AuxiliaryPosterior) and _can_begin(encoder.flow):
            flow, e = _begun_anew(encoder.flow), _last_layer(encoder.flow.reverse).out_features // 2
            c = 0 if encoder.context is None else encoder.context.shape[-1]
            return LocalFlow(latent_shape, _place(flow, like), c, e, like_encoder=True)
        return LocalFlow(latent_shape, _place(_fresh(d), like), 0, d, like_encoder=False)


def _networks(flow: AuxiliaryFlow) -> tuple[nn.Module, ...]:
    return (flow.auxiliary, *flow.move_v, *flow.move_z, flow.reverse)


def _can_begin(flow: AuxiliaryFlow) -> bool:
    """Whether all networks end in a linear layer, which can be zeroed."""
    return all(
        isinstance(net, nn.Sequential) and isinstance(net[-1], nn.Linear) for net in _networks(flow)
    )


def _begun_anew(flow: AuxiliaryFlow) -> AuxiliaryFlow:
    flow = copy.deepcopy(flow)
    for module in flow.modules():
        if isinstance(module, nn.Linear):
            module.reset_parameters()
    return flow


def _place(flow: AuxiliaryFlow, like: Tensor) -> AuxiliaryFlow:
    _begin_as_identity(flow)
    return flow.to(like).requires_grad_(False)


def _fresh(d: int) -> AuxiliaryFlow:
    def net() -> nn.Module:
        return mlp(d, (HIDDEN,), 2 * d, "elu")

    move_v, move_z = ([net() for _ in range(STEPS)] for _ in range(2))
    return AuxiliaryFlow(move_v, move_z, _Still(d), net())


@torch.no_grad()
def _begin_as_identity(flow: AuxiliaryFlow) -> None:
    """Zeroes the last layers; r(v|z) then has the standard deviation 2^−T of v."""
    for network in _networks(flow):
        layers = [module for module in network.modules() if isinstance(module, nn.Linear)]
        for p in layers[-1].parameters() if layers else ():
            p.zero_()
    last = _last_layer(flow.reverse)
    d = last.out_features // 2
    last.bias[d:] = -2 * len(flow.move_z) * math.log(2)


def _last_layer(network: nn.Module) -> nn.Linear:
    return [module for module in network.modules() if isinstance(module, nn.Linear)][-1]


class _Still(nn.Module):
    """N(0, I) for v₀, whatever z₀ is: the first step moves v given z all the same."""

    def __init__(self, d: int) -> None:
        super().__init__()
        self.numbers = nn.Parameter(torch.zeros(2 * d))

    def forward(self, z: Tensor) -> Tensor:
        return self.numbers.expand(*z.shape[:-1], -1)
