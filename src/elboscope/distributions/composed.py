r"""Distributions made of others: a chain of two stochastic layers, and mixtures.

A chain is one distribution over the concatenation of its layers:

.. math:: q(a, b) = q(a)\, q(b \mid a), \qquad z = (a, b)

is a density like any other, so that a hierarchical encoder :math:`q(z_1|x)\, q(z_2|z_1)` and a
hierarchical prior :math:`p(z_2)\, p(z_1|z_2)` fit estimators that know one latent vector. The
conditional is a *function* of the first part: a module from a to a distribution.

Freezing (sticking the landing, DReG) stops gradients through the parameters of a density but not
through z. Here z is also the *input* of the second network, so detaching numbers is not enough:
the second network is called with detached parameters. A chain that is built without gradients
(``torch.no_grad``) is scored in the same way ever after, as any other distribution would be whose
parameters were computed there.

Neither mean nor variance of b has a closed form where the conditional is a network; ``mean`` and
``variance`` are not implemented, which callers take for *unavailable*. ``first.mean`` is exact.
"""

from __future__ import annotations

__all__ = ["Chained", "GaussianMixture", "detached"]

import copy
import math
from collections.abc import Callable
from typing import ClassVar, TypeVar, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributions import Distribution, constraints

from elboscope.core import ContractError, InputError

from .posteriors import with_fixed_parameters

Shape = torch.Size | list[int] | tuple[int, ...]
Conditional = Callable[[Tensor], Distribution]
D = TypeVar("D", bound=Distribution)


class Chained(Distribution):
    r"""The distribution :math:`q(a)\, q(b \mid a)` of the vector (a, b), or (b, a).

    Args:
        first: q(a), event ``(d_a,)``.
        second: From a, ``(*batch, d_a)``, to q(b|a), batch ``(*batch,)``, event ``(d_b,)``. As an
            ``nn.Module`` it can be frozen; a plain function cannot.
        second_dim: d_b.
        first_last: Whether z is (b, a): a prior that begins with the top layer, z₂, and whose z is
            ordered (z₁, z₂) as the encoder's.

    Example:
        >>> from torch.distributions import Independent, Normal
        >>> first = Independent(Normal(torch.zeros(3, 2), 1.0), 1)
        >>> sums = lambda a: Independent(Normal(a.sum(-1, keepdim=True), 0.1), 1)
        >>> q = Chained(first, sums, second_dim=1)
        >>> q.batch_shape, q.event_shape, q.rsample((5,)).shape
        (torch.Size([3]), torch.Size([3]), torch.Size([5, 3, 3]))
    """

    arg_constraints = {}  # noqa: RUF012  # torch's own convention

    def __init__(
        self, first: Distribution, second: Conditional, second_dim: int, *, first_last: bool = False
    ) -> None:
        self.first, self.second, self.first_last = first, second, first_last
        self.second_dim = second_dim
        self.is_frozen = not torch.is_grad_enabled()
        event = torch.Size((first.event_shape[0] + second_dim,))
        super().__init__(first.batch_shape, event, validate_args=False)

    @property
    def has_rsample(self) -> bool:  # type: ignore[override]
        """Whether draws are reparameterised; the second layer has to be like the first."""
        return bool(self.first.has_rsample)

    @property
    def support(self) -> torch.distributions.constraints.Constraint:
        """All real vectors."""
        return torch.distributions.constraints.real_vector

    def sample(self, sample_shape: Shape = ()) -> Tensor:
        """Draws z without gradients."""
        with torch.no_grad():
            a = self.first.sample(torch.Size(sample_shape))
            return self._joined(a, self.second(a).sample())

    def rsample(self, sample_shape: Shape = ()) -> Tensor:
        """Draws z, reparameterised through both layers."""
        a = self.first.rsample(torch.Size(sample_shape))
        return self._joined(a, self.second(a).rsample())

    def log_prob(self, value: Float[Tensor, "*B d"]) -> Float[Tensor, "*B"]:
        """Returns log q(a) + log q(b|a) in nats."""
        a, b = self._parts(value)
        second = self.second
        if self.is_frozen and torch.is_grad_enabled() and isinstance(second, nn.Module):
            second = with_fixed_parameters(second)
        log_q: Tensor = self.first.log_prob(a) + second(a).log_prob(b)
        return log_q

    def rsample_and_log_prob(
        self, shape: torch.Size, freeze: bool = False
    ) -> tuple[Float[Tensor, "*B d"], Float[Tensor, "*B"]]:
        """Draws z and scores it, the second network being evaluated once unless frozen.

        Args:
            shape: Sample shape.
            freeze: Stop gradients through the parameters of the density, those of the second
                network included, but not through z.

        Raises:
            ContractError: ``freeze`` with a second layer that is no module.
        """
        reparameterised = self.has_rsample
        a = self.first.rsample(shape) if reparameterised else self.first.sample(shape)
        second = self.second(a)
        b = second.rsample() if reparameterised else second.sample()
        z = self._joined(a, b)
        if freeze:
            return z, self.frozen().log_prob(z)
        return z, self.first.log_prob(a) + second.log_prob(b)

    def frozen(self) -> Chained:
        """Returns the same distribution, whose density passes gradients to z alone.

        Raises:
            ContractError: The second layer is no module.
        """
        if not isinstance(self.second, nn.Module):
            raise ContractError(
                "Chained.second",
                expected="an nn.Module, whose parameters can be frozen",
                got=type(self.second).__name__,
                do="Write the second layer as a module, or use an objective that freezes nothing.",
            )
        with torch.no_grad():
            return Chained(
                detached(self.first), self.second, self.second_dim, first_last=self.first_last
            )

    def _joined(self, a: Tensor, b: Tensor) -> Tensor:
        return torch.cat([b, a] if self.first_last else [a, b], dim=-1)

    def _parts(self, z: Tensor) -> tuple[Tensor, Tensor]:
        d = self.first.event_shape[0]
        if self.first_last:
            return z[..., self.second_dim :], z[..., : self.second_dim]
        return z[..., :d], z[..., d:]

    def __repr__(self) -> str:
        return f"Chained({self.first!r}, {self.second!r})"


def detached(q: D) -> D:
    """Returns a copy of a distribution whose parameters carry no gradient.

    Example:
        >>> q = torch.distributions.Normal(torch.zeros(1, requires_grad=True), 1.0)
        >>> detached(q).loc.requires_grad
        False
    """
    if hasattr(q, "frozen"):  # its networks have to be frozen too
        return cast(D, q.frozen())
    twin = copy.copy(q)
    for name, value in vars(q).items():
        if isinstance(value, Tensor):
            setattr(twin, name, value.detach())
        elif isinstance(value, Distribution):
            setattr(twin, name, detached(value))
    return twin


# Mixtures of Gaussians, :math:`r(z) = \sum_k \pi_k\, \mathcal N(z; \mu_k, \Sigma_k)`, of latents.
#
# With diagonal covariances the log-densities of S points under K components are one matrix
# product,
#
# .. math:: \log\mathcal N(z_s; \mu_k, \sigma_k^2) = \bigl(-\tfrac12 z_s^2,\ z_s,\ 1\bigr) \cdot
#           \bigl(1/\sigma_k^2,\ \mu_k/\sigma_k^2,\ c_k\bigr)
#
# in float64, since the expanded square cancels; so a prior of 500 components costs 500·S·d
# multiplications and 500·S numbers of memory. Everything is differentiable in z and in the
# parameters; draws are not (which component is discrete).

LOG_2PI = math.log(2 * math.pi)


class GaussianMixture(Distribution):
    r"""The mixture :math:`\sum_k \pi_k\, \mathcal N(\mu_k, L_k L_k^\top)`, batch (), event (\*Z).

    Args:
        logits: :math:`\log\pi_k` up to a constant, ``(K,)``.
        mu: Means, ``(K, *Z)``.
        scale: Standard deviations, ``(K, *Z)``, or the lower triangular L, ``(K, d, d)``, d being
            the number of latents.

    Raises:
        InputError: Shapes that do not fit.

    Example:
        >>> r = GaussianMixture(torch.zeros(2), torch.tensor([[-9.0], [9.0]]), torch.ones(2, 1))
        >>> r.log_prob(torch.tensor([9.0])).item()  # log ½ N(0; 0, 1)
        -1.612...
    """

    arg_constraints: ClassVar[dict[str, constraints.Constraint]] = {}

    def __init__(
        self, logits: Float[Tensor, " K"], mu: Float[Tensor, "K *Z"], scale: Tensor
    ) -> None:
        d = mu[0].numel()
        self.is_diagonal = scale.shape == mu.shape
        if len(mu) != len(logits) or not (
            self.is_diagonal or tuple(scale.shape) == (len(mu), d, d)
        ):
            raise InputError(
                "mixture",
                expected=f"K logits, means (K, *Z), scales of that shape or (K, {d}, {d})",
                got=f"{tuple(logits.shape)}, {tuple(mu.shape)} and {tuple(scale.shape)}",
            )
        self.logits, self.mu, self.scale = logits, mu, scale
        super().__init__(torch.Size(), mu.shape[1:], validate_args=False)

    @property
    def support(self) -> constraints.Constraint:
        """All real numbers."""
        return constraints.independent(constraints.real, len(self.event_shape))

    @property
    def mean(self) -> Tensor:
        """Σ_k π_k μ_k."""
        mean: Tensor = torch.tensordot(self.logits.softmax(0), self.mu, 1)
        return mean

    @property
    def variance(self) -> Tensor:
        """The variance of each latent."""
        own = self.scale if self.is_diagonal else self.scale.norm(dim=-1).reshape(self.mu.shape)
        second = own.square() + self.mu.square()
        variance: Tensor = torch.tensordot(self.logits.softmax(0), second, 1) - self.mean.square()
        return variance

    def sample(self, sample_shape: Shape = ()) -> Tensor:
        """Draws z."""
        shape = torch.Size(sample_shape)
        with torch.no_grad():
            k = torch.multinomial(self.logits.softmax(0), shape.numel(), replacement=True)
            mu = self.mu[k].flatten(1)
            noise = torch.randn_like(mu)
            if self.is_diagonal:
                z = mu + self.scale.flatten(1)[k] * noise
            else:
                z = mu
                for component, L in enumerate(self.scale):  # one by one: S factors are gigabytes
                    rows = k == component
                    z[rows] += noise[rows] @ L.T
            return z.reshape(*shape, *self.event_shape)

    def log_prob(self, value: Tensor) -> Tensor:
        """Returns log r(z) in nats."""
        lead = value.shape[: value.ndim - len(self.event_shape)]
        z = value.reshape(lead.numel(), -1).double()
        by_component = self._diagonal(z) if self.is_diagonal else self._full(z)
        log_r = (by_component + self.logits.double().log_softmax(0)).logsumexp(1)
        return log_r.to(value.dtype).reshape(lead)

    def to(self, dtype: torch.dtype) -> GaussianMixture:
        """Returns the mixture in another floating dtype."""
        return GaussianMixture(self.logits.to(dtype), self.mu.to(dtype), self.scale.to(dtype))

    def _diagonal(self, z: Tensor) -> Float[Tensor, "S K"]:
        mu, s = self.mu.flatten(1).double(), self.scale.flatten(1).double()
        centre = mu.mean(0).detach()
        z, mu, precision = z - centre, mu - centre, s.square().reciprocal()
        c = (mu.square() * precision).sum(1) + 2 * s.log().sum(1) + z.shape[1] * LOG_2PI
        return z @ (mu * precision).T - 0.5 * (z.square() @ precision.T + c)

    def _full(self, z: Tensor) -> Float[Tensor, "S K"]:
        parts = [
            self._one_full(z, mu, L)
            for mu, L in zip(self.mu.flatten(1).double(), self.scale.double(), strict=True)
        ]
        return torch.stack(parts, dim=1)

    @staticmethod
    def _one_full(z: Tensor, mu: Tensor, L: Tensor) -> Float[Tensor, " S"]:
        u = torch.linalg.solve_triangular(L, (z - mu).T, upper=False)
        log_det = L.diagonal().log().sum()
        log_r: Tensor = -0.5 * (u.square().sum(0) + len(mu) * LOG_2PI) - log_det
        return log_r

    def __repr__(self) -> str:
        kind = "diagonal" if self.is_diagonal else "full"
        return f"GaussianMixture({len(self.mu)} components, {kind}, z {tuple(self.event_shape)})"
