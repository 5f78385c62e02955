r"""Planar flows: the diagonal Gaussian, bent T times along hyperplanes.

.. math:: z_t = z_{t-1} + \hat u_t \tanh(w_t^\top z_{t-1} + b_t), \qquad
          \det \frac{\partial z_t}{\partial z_{t-1}} = 1 + h'_t\, w_t^\top \hat u_t

with (u, w, b) of each step from the encoder, so that each datapoint has its own flow. A step is
invertible where :math:`w^\top \hat u > -1`, which
:math:`\hat u = u + (m(w^\top u) - w^\top u)\, w / \|w\|^2` makes sure of; here
:math:`m(a) = \mathrm{softplus}(a + \ln(e - 1)) - 1`, the paper's m moved so that m(0) = 0: then
u = 0 is the identity, and û stays bounded as w → 0.

The inverse has no closed form. A draw is scored with the draw; the density of a foreign z is not
implemented, which callers take for *unavailable*.
"""

from __future__ import annotations

__all__ = ["PlanarPosterior"]

import math
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import Distribution, constraints
from torch.nn.functional import softplus

from .composed import Shape, detached

SHIFT = math.log(math.e - 1)


class PlanarPosterior(Distribution):
    r"""The distribution of :math:`z_T`, :math:`z_0 \sim q_0`.

    Args:
        base: q₀, batch ``(B,)``, event ``(d,)``, reparameterised.
        u: Directions before they are made invertible, one row a step.
        w: Normals of the hyperplanes.
        b: Their offsets.

    References:
        | Variational Inference with Normalizing Flows (Rezende and Mohamed, 2015),
          https://arxiv.org/abs/1505.05770

    Example:
        >>> from elboscope.distributions import diagonal_gaussian
        >>> base = diagonal_gaussian(torch.zeros(3, 2), torch.zeros(3, 2))
        >>> u, w = torch.zeros(3, 4, 2), torch.ones(3, 4, 2)  # u = 0 bends nothing
        >>> z, log_q = PlanarPosterior(base, u, w, torch.zeros(3, 4)).rsample_and_log_prob((5,))
        >>> bool(torch.allclose(log_q, base.log_prob(z), atol=1e-5))
        True
    """

    arg_constraints: ClassVar[dict[str, constraints.Constraint]] = {}
    has_rsample = True

    def __init__(
        self,
        base: Distribution,
        u: Float[Tensor, "*B T d"],
        w: Float[Tensor, "*B T d"],
        b: Float[Tensor, "*B T"],
    ) -> None:
        self.base, self.w, self.b = base, w, b
        a = (w * u).sum(-1, keepdim=True)
        excess = softplus(a + SHIFT)  # 1 + wᵀû > 0
        norm2 = w.square().sum(-1, keepdim=True).clamp(min=torch.finfo(w.dtype).tiny)
        self.u_hat = u + (excess - 1 - a) * (w / norm2)
        self.excess = excess[..., 0]
        super().__init__(base.batch_shape, base.event_shape, validate_args=False)

    @property
    def support(self) -> constraints.Constraint:
        """All real vectors."""
        return constraints.real_vector

    def rsample(self, sample_shape: Shape = ()) -> Tensor:
        """Draws z, reparameterised."""
        return self.rsample_and_log_prob(torch.Size(sample_shape))[0]

    def log_prob(self, value: Float[Tensor, "*B d"]) -> Float[Tensor, "*B"]:
        """Is not available: a planar flow cannot be inverted in closed form.

        Raises:
            NotImplementedError: Always.
        """
        raise NotImplementedError(
            "a planar flow scores its own draws (rsample_and_log_prob), no foreign z"
        )

    def rsample_and_log_prob(
        self, shape: Shape, freeze: bool = False
    ) -> tuple[Float[Tensor, "*B d"], Float[Tensor, "*B"]]:
        r"""Draws z and scores it on the way.

        Args:
            shape: Sample shape.
            freeze: Stop gradients through the parameters of the density, but not through z.
                :math:`\nabla_z \log q` is carried along with z, each Jacobian being inverted by
                the rank-one formula, and is the only derivative that log q then has.
        """
        z = self.base.rsample(torch.Size(shape))
        log_q: Tensor = self.base.log_prob(z)
        carry = freeze and torch.is_grad_enabled()
        slope = self._slope(z) if carry else None
        for t in range(self.w.shape[-2]):
            slope = None if slope is None else self._carried(t, z.detach(), slope)
            z, log_det = self.step(t, z)
            log_q = log_q - log_det
        if slope is None:
            return z, log_q.detach() if freeze else log_q
        return z, log_q.detach() + (slope * (z - z.detach())).sum(-1)

    def step(
        self, t: int, z: Float[Tensor, "*B d"]
    ) -> tuple[Float[Tensor, "*B d"], Float[Tensor, "*B"]]:
        """Returns z after step t, and log|det| of its Jacobian."""
        h = self._h(t, z)
        # 1 + (excess − 1)(1 − h²), as a sum of what is positive
        det = h.square() + self.excess[..., t] * (1 - h.square())
        return z + self.u_hat[..., t, :] * h[..., None], det.log()

    def _h(self, t: int, z: Tensor) -> Tensor:
        return ((self.w[..., t, :] * z).sum(-1) + self.b[..., t]).tanh()

    def _slope(self, z: Tensor) -> Tensor:
        """∇ log q₀ at the draws."""
        leaf = z.detach().requires_grad_()
        (slope,) = torch.autograd.grad(detached(self.base).log_prob(leaf).sum(), leaf)
        return slope

    @torch.no_grad()
    def _carried(self, t: int, z: Tensor, slope: Tensor) -> Tensor:
        """∇ log q after step t, from that before it, at z before it: Jᵀ⁻¹(∇ − ∇ log|det J|)."""
        h, w, u = self._h(t, z)[..., None], self.w[..., t, :], self.u_hat[..., t, :]
        slant = 1 - h.square()
        det = h.square() + self.excess[..., t, None] * slant
        slope = slope + 2 * h * slant * (self.excess[..., t, None] - 1) / det * w
        return slope - slant / det * (u * slope).sum(-1, keepdim=True) * w

    def __repr__(self) -> str:
        return f"PlanarPosterior({self.base!r}, {self.w.shape[-2]} steps)"
