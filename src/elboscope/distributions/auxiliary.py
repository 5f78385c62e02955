r"""The auxiliary-variable flow: Real NVP on (z, v), with v summed out by a reverse model.

.. math:: z_0 \sim q(z_0|x), \quad v_0 \sim q(v_0|x, z_0), \quad (z, v) = T(z_0, v_0; h(x))

q(z|x) itself is an integral over v. What replaces :math:`\log q(z|x)` is
:math:`\log q(z, v|x) - \log r(v|x, z)`: for *any* density r,
:math:`\mathbb{E}\, p(x, z)\, r(v|x,z) / q(z, v|x) = p(x)`, so that importance sampling stays
unbiased and every bound a bound; an r that is not q(v|x, z) costs
:math:`\mathbb{E}\, \mathrm{KL}(q(v|x,z) \| r(v|x,z))` nats. One step is

.. math:: v' = v \odot \sigma(s_1) + m_1, \; (m_1, s_1) = f_1(z, h); \qquad
          z' = z \odot \sigma(s_2) + m_2, \; (m_2, s_2) = f_2(v', h)

The density of a given z is not implemented: it is not known.
"""

from __future__ import annotations

__all__ = ["AuxiliaryFlow", "AuxiliaryPosterior", "ImplicitPosterior"]

import math
from collections.abc import Callable, Sequence
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, Normal, constraints
from torch.nn.functional import logsigmoid

from .composed import Shape, detached
from .posteriors import LOG_VARIANCE_RANGE, with_fixed_parameters


class AuxiliaryFlow(nn.Module):
    """The networks of the flow on (z, v): its steps, q(v₀|x, z₀) and r(v|x, z).

    Args:
        move_v: For each step a network from (z, h) to (m₁, s₁).
        move_z: For each step a network from (v', h) to (m₂, s₂).
        auxiliary: From (z₀, h) to mean and log-variance of v₀.
        reverse: From (z, h) to those of v under r.
    """

    def __init__(
        self,
        move_v: Sequence[nn.Module],
        move_z: Sequence[nn.Module],
        auxiliary: nn.Module,
        reverse: nn.Module,
    ) -> None:
        super().__init__()
        self.move_v, self.move_z = nn.ModuleList(move_v), nn.ModuleList(move_z)
        self.auxiliary, self.reverse = auxiliary, reverse

    def forward(
        self, z: Float[Tensor, "*B d"], v: Float[Tensor, "*B e"], context: Tensor | None
    ) -> tuple[Float[Tensor, "*B d"], Float[Tensor, "*B e"], Float[Tensor, "*B"]]:
        """Returns (z, v) after all steps and log|det| of the Jacobian, which is negative."""
        log_det = torch.zeros_like(z[..., 0])
        for of_v, of_z in zip(self.move_v, self.move_z, strict=True):
            shift, gate = _read(of_v, z, context)
            v, log_det = v * gate.sigmoid() + shift, log_det + logsigmoid(gate).sum(-1)
            shift, gate = _read(of_z, v, context)
            z, log_det = z * gate.sigmoid() + shift, log_det + logsigmoid(gate).sum(-1)
        return z, v, log_det

    def inverse(
        self, z: Float[Tensor, "*B d"], v: Float[Tensor, "*B e"], context: Tensor | None
    ) -> tuple[Float[Tensor, "*B d"], Float[Tensor, "*B e"], Float[Tensor, "*B"]]:
        """Returns (z₀, v₀) and log|det| of the inverse's Jacobian, which is positive."""
        log_det = torch.zeros_like(z[..., 0])
        for of_v, of_z in zip(reversed(self.move_v), reversed(self.move_z), strict=True):
            shift, gate = _read(of_z, v, context)
            z, log_det = (z - shift) / gate.sigmoid(), log_det - logsigmoid(gate).sum(-1)
            shift, gate = _read(of_v, z, context)
            v, log_det = (v - shift) / gate.sigmoid(), log_det - logsigmoid(gate).sum(-1)
        return z, v, log_det

    def start(self, z: Float[Tensor, "*B d"], context: Tensor | None) -> Distribution:
        """Returns q(v₀|x, z₀)."""
        return _gaussian(*_read(self.auxiliary, z, context))

    def back(self, z: Float[Tensor, "*B d"], context: Tensor | None) -> Distribution:
        """Returns r(v|x, z)."""
        return _gaussian(*_read(self.reverse, z, context))

    def traced(
        self, z: Float[Tensor, "*B d"], v: Float[Tensor, "*B e"], context: Tensor | None
    ) -> tuple[Float[Tensor, "*B d"], Float[Tensor, "*B"]]:
        """Returns the z₀ behind (z, v), and log q(z, v|x) − log q(z₀|x)."""
        z0, v0, log_det = self.inverse(z, v, context)
        return z0, self.start(z0, context).log_prob(v0) + log_det


class AuxiliaryPosterior(Distribution):
    r"""The marginal over v of the flow on (z, v): drawn from, and scored only with its v.

    Args:
        base: q(z₀|x), batch ``(B,)``, event ``(d,)``, reparameterised.
        flow: The networks.
        context: h, ``(B, c)``; None where they take none.

    References:
        | Inference Suboptimality in Variational Autoencoders (Cremer et al., 2018),
          https://arxiv.org/abs/1801.03558
        | Auxiliary Deep Generative Models (Maaløe et al., 2016), https://arxiv.org/abs/1602.05473
        | Hierarchical Variational Models (Ranganath et al., 2016), https://arxiv.org/abs/1511.02386

    Example:
        >>> from elboscope.distributions import diagonal_gaussian
        >>> nets = [nn.Linear(2, 4) for _ in range(4)]
        >>> flow = AuxiliaryFlow(nets[:1], nets[1:2], nets[2], nets[3])
        >>> base = diagonal_gaussian(torch.zeros(3, 2), torch.zeros(3, 2))
        >>> z, log_q = AuxiliaryPosterior(base, flow).rsample_and_log_prob(torch.Size((5,)))
        >>> z.shape, log_q.shape
        (torch.Size([5, 3, 2]), torch.Size([5, 3]))
    """

    arg_constraints: ClassVar[dict[str, constraints.Constraint]] = {}
    has_rsample = True

    def __init__(
        self, base: Distribution, flow: AuxiliaryFlow, context: Tensor | None = None
    ) -> None:
        self.base, self.flow, self.context = base, flow, context
        super().__init__(base.batch_shape, base.event_shape, validate_args=False)

    @property
    def support(self) -> constraints.Constraint:
        """All real vectors."""
        return constraints.real_vector

    def rsample(self, sample_shape: Shape = ()) -> Tensor:
        """Draws z, reparameterised; its v is thrown away."""
        z0 = self.base.rsample(torch.Size(sample_shape))
        v0 = self.flow.start(z0, self.context).rsample()
        z: Tensor = self.flow(z0, v0, self.context)[0]
        return z

    def log_prob(self, value: Float[Tensor, "*B d"]) -> Float[Tensor, "*B"]:
        """Is not available: q(z|x) is an integral over v.

        Raises:
            NotImplementedError: Always.
        """
        raise NotImplementedError(
            "an auxiliary-variable posterior has no density of z alone (rsample_and_log_prob)"
        )

    def rsample_and_log_prob(
        self, shape: torch.Size, freeze: bool = False
    ) -> tuple[Float[Tensor, "*B d"], Float[Tensor, "*B"]]:
        r"""Draws z and returns with it :math:`\log q(z, v|x) - \log r(v|x, z)` for its v.

        Args:
            shape: Sample shape.
            freeze: Stop gradients through the parameters of q(z, v|x), but not through z and v.
                r is part of the target :math:`p(x, z)\, r(v|x, z)`, not of the density drawn
                from: its parameters keep their gradient, without which the bound's would be
                biased. (DReG with K > 1 weights r's gradient as the encoder's, by squared
                weights: for r that is a biased direction.)
        """
        z0 = self.base.rsample(shape)
        start = self.flow.start(z0, self.context)
        v0 = start.rsample()
        z, v, log_det = self.flow(z0, v0, self.context)
        log_q: Tensor = self.base.log_prob(z0) + start.log_prob(v0) - log_det
        if freeze and torch.is_grad_enabled():
            frozen = self._frozen_joint(z, v)
            log_q = log_q.detach() + (frozen - frozen.detach())
        return z, log_q - self.flow.back(z, self.context).log_prob(v)

    def _frozen_joint(self, z: Tensor, v: Tensor) -> Tensor:
        """Log q(z, v|x) with gradients to z and v alone."""
        context = None if self.context is None else self.context.detach()
        z0, rest = with_fixed_parameters(self.flow, "traced")(z, v, context)
        joint: Tensor = detached(self.base).log_prob(z0) + rest
        return joint

    def __repr__(self) -> str:
        return f"AuxiliaryPosterior({self.base!r}, {len(self.flow.move_z)} steps)"


def _read(network: nn.Module, z: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
    """Both halves of a network's answer to (z, h), h being repeated for each sample."""
    inputs = z if context is None else torch.cat([z, _expanded(context, z)], -1)
    first, second = network(inputs).chunk(2, -1)
    return first, second


def _expanded(context: Tensor, z: Tensor) -> Tensor:
    return context.expand(*z.shape[:-1], context.shape[-1])


def _gaussian(mu: Tensor, log_variance: Tensor) -> Distribution:
    sigma = (0.5 * log_variance.clamp(*LOG_VARIANCE_RANGE)).exp()
    return Independent(Normal(mu, sigma, validate_args=False), 1, validate_args=False)


# A posterior that can only be drawn: z = f(x, ε), whose density is unknown.
#
# Its ``log_prob`` is honestly absent. Importance weights, the ELBO and everything built from them
# are then unavailable; a ratio estimated by a classifier does not take their place. Its moments
# are known where whoever draws it can tell them, by samples: a mean and a variance, no density.
#
# References:
#     | Adversarial Variational Bayes (Mescheder et al., 2017), https://arxiv.org/abs/1701.04722


class ImplicitPosterior(Distribution):
    """q(z|x) by its draws.

    Args:
        draw: From a number K to K reparameterised draws of each datapoint, ``(K, B, *Z)``.
        batch_shape: ``(B,)``.
        event_shape: ``(*Z)``.
        moments: Returns mean and variance, ``(B, *Z)`` each, estimated by samples; None where
            they are not offered.

    Example:
        >>> mu = torch.zeros(3, 2)
        >>> q = ImplicitPosterior(lambda K: mu + torch.rand(K, 3, 2), mu.shape[:1], mu.shape[1:])
        >>> q.rsample(torch.Size((7,))).shape
        torch.Size([7, 3, 2])
        >>> q.log_prob(mu)
        Traceback (most recent call last):
        NotImplementedError: an implicit posterior can be drawn and has no density
    """

    arg_constraints: ClassVar[dict[str, constraints.Constraint]] = {}
    has_rsample = True

    def __init__(
        self,
        draw: Callable[[int], Tensor],
        batch_shape: torch.Size,
        event_shape: torch.Size,
        moments: Callable[[], tuple[Tensor, Tensor]] | None = None,
    ) -> None:
        self._draw, self._moments = draw, moments
        super().__init__(batch_shape, event_shape, validate_args=False)

    @property
    def support(self) -> constraints.Constraint:
        """All of the latent space."""
        return constraints.independent(constraints.real, len(self.event_shape))

    def rsample(self, sample_shape: Shape = ()) -> Float[Tensor, "..."]:
        """Returns draws, differentiable."""
        z = self._draw(math.prod(sample_shape))
        return z.reshape(*sample_shape, *self.batch_shape, *self.event_shape)

    def moments(self) -> tuple[Tensor, Tensor]:
        """Returns mean and variance from one set of samples.

        Raises:
            NotImplementedError: They are not offered.
        """
        if self._moments is None:
            raise NotImplementedError("this implicit posterior does not tell its moments")
        return self._moments()

    @property
    def mean(self) -> Tensor:
        """The mean, estimated by samples."""
        return self.moments()[0]

    @property
    def variance(self) -> Tensor:
        """The variance, estimated by samples."""
        return self.moments()[1]

    def log_prob(self, value: Tensor) -> Tensor:
        """Raises NotImplementedError."""
        raise NotImplementedError("an implicit posterior can be drawn and has no density")
