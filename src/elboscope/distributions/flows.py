r"""Flow posteriors: a diagonal Gaussian pushed through an invertible network.

.. math:: z_0 \sim \mathcal N(\mu(x), \mathrm{diag}\,\sigma^2(x)), \qquad z = T(z_0; h(x)), \qquad
          \log q(z|x) = \log q_0(z_0|x) - \log\left|\det \frac{\partial T}{\partial z_0}\right|

with a context h from the encoder. Three transformations, all affine in the coordinate that they
move, with scale and shift from a network of the others:

- *coupling* (Real NVP): one half of the coordinates moves given the other, then the reverse;
- *inverse autoregressive* (IAF): coordinate i moves given :math:`z_{0,<i}`: drawing is one pass,
  scoring a foreign z takes d;
- *masked autoregressive* (MAF): given :math:`z_{<i}`, the other way round: scoring is one pass,
  drawing takes d.

Their last layers start at zero: q begins as the diagonal Gaussian. The density is exact in both
directions, so that every estimator that knows ``log_prob`` works; means and variances have no
closed form and are not implemented, which callers take for *unavailable*.

This is the one module that imports zuko, on first use: its import switches off the validation of
all of torch.distributions, which is switched back here.
"""

from __future__ import annotations

__all__ = [
    "ConditionalFlow",
    "FlowPosterior",
    "coupling_flow",
    "inverse_autoregressive_flow",
    "masked_autoregressive_flow",
]

from collections.abc import Sequence
from types import ModuleType
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributions import Distribution, constraints

from elboscope.core import InputError

from .composed import Shape, detached
from .posteriors import with_fixed_parameters


class FlowPosterior(Distribution):
    r"""The distribution of :math:`z = T(z_0; h)`, :math:`z_0 \sim q_0`.

    Args:
        base: q₀, batch ``(B,)``, event ``(d,)``, reparameterised.
        flow: T, a module ``(z0, h) -> (z, log|det ∂z/∂z0|)`` with the method
            ``inverse(z, h) -> (z0, log|det ∂z0/∂z|)``.
        context: h, ``(B, c)``; None where T takes none.

    Example:
        >>> from elboscope.distributions import diagonal_gaussian
        >>> base = diagonal_gaussian(torch.zeros(3, 2), torch.zeros(3, 2))
        >>> q = FlowPosterior(base, coupling_flow(2, 4), torch.zeros(3, 4))
        >>> z, log_q = q.rsample_and_log_prob(torch.Size((5,)))
        >>> bool(torch.allclose(log_q, q.log_prob(z), atol=1e-5))
        True
    """

    arg_constraints: ClassVar[dict[str, constraints.Constraint]] = {}
    has_rsample = True

    def __init__(self, base: Distribution, flow: nn.Module, context: Tensor | None = None) -> None:
        if len(base.event_shape) != 1:
            raise InputError(
                "base of a flow posterior",
                expected="event shape (d,), one axis of latents",
                got=f"event shape {tuple(base.event_shape)}",
                do="Flatten the latents: a flow mixes all of them.",
            )
        self.base, self.flow, self.context = base, flow, context
        self.is_frozen = not torch.is_grad_enabled()
        super().__init__(base.batch_shape, base.event_shape, validate_args=False)

    @property
    def support(self) -> constraints.Constraint:
        """All real vectors."""
        return constraints.real_vector

    def rsample(self, sample_shape: Shape = ()) -> Tensor:
        """Draws z, reparameterised."""
        z: Tensor = self.flow(self.base.rsample(torch.Size(sample_shape)), self.context)[0]
        return z

    def log_prob(self, value: Tensor) -> Tensor:
        """Returns log q(z|x) in nats, by the inverse of the flow; z broadcasts with the batch.

        Raises:
            InputError: z of another event shape.
        """
        if self.is_frozen and torch.is_grad_enabled():
            inverse = with_fixed_parameters(self.flow, "inverse")
        else:
            inverse = getattr(self.flow, "inverse")  # noqa: B009  # a module's attribute is Any
        z0, log_det = inverse(self._placed(value), self.context)
        log_q: Tensor = self.base.log_prob(z0) + log_det
        return log_q

    def rsample_and_log_prob(
        self, shape: torch.Size, freeze: bool = False
    ) -> tuple[Float[Tensor, "*B d"], Float[Tensor, "*B"]]:
        """Draws z and scores it without inverting the flow, unless frozen.

        Args:
            shape: Sample shape.
            freeze: Stop gradients through the parameters of the density (base, context and
                network), but not through z. Costs one inversion, d passes for an IAF.
        """
        z0 = self.base.rsample(shape)
        z, log_det = self.flow(z0, self.context)
        log_q: Tensor = self.base.log_prob(z0) - log_det
        if not freeze or not torch.is_grad_enabled():
            return z, log_q
        frozen = self.frozen().log_prob(z)
        return z, log_q.detach() + (frozen - frozen.detach())

    def frozen(self) -> FlowPosterior:
        """Returns the same distribution, whose density passes gradients to z alone."""
        context = None if self.context is None else self.context.detach()
        with torch.no_grad():
            return FlowPosterior(detached(self.base), self.flow, context)

    def _placed(self, z: Tensor) -> Float[Tensor, "*B d"]:
        if tuple(z.shape[-1:]) != tuple(self.event_shape):
            raise InputError(
                "z", expected=f"shape (…, {self.event_shape[0]})", got=str(tuple(z.shape))
            )
        lead = torch.broadcast_shapes(z.shape[:-1], self.batch_shape)
        return z.expand(*lead, z.shape[-1])

    def __repr__(self) -> str:
        return f"FlowPosterior({self.base!r}, {len(list(self.flow.children()))} transformations)"


class ConditionalFlow(nn.Module):
    """Invertible transformations one after the other, each given the context.

    Args:
        steps: Modules from the context to a transformation with ``call_and_ladj`` and ``inv``.
        draws_by_inverse: Whether z₀ ↦ z is the inverse of the steps' own direction, as in MAF.
    """

    def __init__(self, steps: Sequence[nn.Module], *, draws_by_inverse: bool = False) -> None:
        super().__init__()
        self.steps = nn.ModuleList(steps)
        self.draws_by_inverse = draws_by_inverse

    def forward(
        self, z0: Float[Tensor, "*B d"], context: Tensor | None
    ) -> tuple[Float[Tensor, "*B d"], Float[Tensor, "*B"]]:
        """Returns z and log|det ∂z/∂z₀|."""
        return self._through(z0, context, self.draws_by_inverse)

    def inverse(
        self, z: Float[Tensor, "*B d"], context: Tensor | None
    ) -> tuple[Float[Tensor, "*B d"], Float[Tensor, "*B"]]:
        """Returns z₀ and log|det ∂z₀/∂z|."""
        return self._through(z, context, not self.draws_by_inverse)

    def _through(self, z: Tensor, context: Tensor | None, backwards: bool) -> tuple[Tensor, Tensor]:
        total = torch.zeros_like(z[..., 0])
        for step in reversed(self.steps) if backwards else self.steps:
            transform = step(context)
            z, log_det = _undone(transform, z) if backwards else transform.call_and_ladj(z)
            total = total + log_det
        return z, total


def _undone(transform: Any, z: Tensor) -> tuple[Tensor, Tensor]:
    """The inverse and its log|det|; the network of a coupling is evaluated once."""
    if not hasattr(transform, "merge"):
        found: tuple[Tensor, Tensor] = transform.inv.call_and_ladj(z)
        return found
    kept, moved = transform.split(z)
    affine = transform.meta(kept)
    back = affine.inv(moved)
    return transform.merge(kept, back, z.shape), -affine.log_abs_det_jacobian(back, moved)


def coupling_flow(
    latent_dim: int, context_dim: int = 0, num_steps: int = 2, hidden: int = 200
) -> ConditionalFlow:
    """Returns Real NVP: each step moves the even coordinates given the odd ones, then the reverse.

    Args:
        latent_dim: d ≥ 2.
        context_dim: c, the length of h; 0 for none.
        num_steps: Steps of both halves.
        hidden: Width of the hidden layer of each network.

    Raises:
        InputError: d < 2, or no step, or no hidden unit.

    References:
        | Density estimation using Real NVP (Dinh et al., 2017), https://arxiv.org/abs/1605.08803
    """
    _require("Real NVP", latent_dim, context_dim, num_steps, hidden)
    build = _zuko().coupling.GeneralCouplingTransform
    masks = [torch.arange(latent_dim) % 2 == i % 2 for i in range(2 * num_steps)]
    return ConditionalFlow(
        [
            _as_identity(
                build(latent_dim, context_dim, mask, hidden_features=[hidden], activation=nn.ELU)
            )
            for mask in masks
        ]
    )


def inverse_autoregressive_flow(
    latent_dim: int, context_dim: int = 0, num_steps: int = 2, hidden: int = 200
) -> ConditionalFlow:
    """Returns IAF: drawing is one pass a step, scoring a foreign z takes d.

    Args and errors as :func:`coupling_flow`; the order of the coordinates alternates.

    References:
        | Improved Variational Inference with Inverse Autoregressive Flow (Kingma et al., 2016),
          https://arxiv.org/abs/1606.04934
    """
    _require("IAF", latent_dim, context_dim, num_steps, hidden)
    return ConditionalFlow(_autoregressive(latent_dim, context_dim, num_steps, hidden))


def masked_autoregressive_flow(
    latent_dim: int, context_dim: int = 0, num_steps: int = 2, hidden: int = 200
) -> ConditionalFlow:
    """Returns MAF: scoring is one pass a step, drawing takes d.

    Args and errors as :func:`coupling_flow`; the order of the coordinates alternates.

    References:
        | Masked Autoregressive Flow for Density Estimation (Papamakarios et al., 2017),
          https://arxiv.org/abs/1705.07057
    """
    _require("MAF", latent_dim, context_dim, num_steps, hidden)
    steps = _autoregressive(latent_dim, context_dim, num_steps, hidden)
    return ConditionalFlow(steps, draws_by_inverse=True)


def _autoregressive(d: int, context_dim: int, num_steps: int, hidden: int) -> list[nn.Module]:
    build = _zuko().autoregressive.MaskedAutoregressiveTransform
    forth = torch.arange(d)
    return [
        _as_identity(
            build(
                d,
                context_dim,
                order=forth if i % 2 == 0 else forth.flip(0),
                hidden_features=[hidden],
                activation=nn.ELU,
            )
        )
        for i in range(num_steps)
    ]


def _as_identity(step: Any) -> nn.Module:
    """Zeroes the last layer of a step's network: scale one, shift zero."""
    for p in step.hyper[-1].parameters():
        nn.init.zeros_(p)
    module: nn.Module = step
    return module


def _require(name: str, d: int, context_dim: int, num_steps: int, hidden: int) -> None:
    if d < 2:
        raise InputError(
            "latent_dim",
            expected=f"at least 2 for {name}, which moves some coordinates given the others",
            got=repr(d),
            do="With one latent unit use a planar or an auxiliary-variable flow.",
        )
    for what, value, least in (
        ("context", context_dim, 0),
        ("num_steps", num_steps, 1),
        ("hidden", hidden, 1),
    ):
        if value < least:
            raise InputError(what, expected=f"at least {least}", got=repr(value))


def _zuko() -> ModuleType:
    """Imports zuko's flows and restores the validation default that the import switches off."""
    validates = Distribution._validate_args
    try:
        import zuko.flows
    finally:
        Distribution.set_default_validate_args(validates)
    flows: ModuleType = zuko.flows
    return flows
