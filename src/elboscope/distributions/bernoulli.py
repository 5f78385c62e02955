r"""Bernoulli and continuous Bernoulli densities of whole images, from logits.

With logit a and :math:`\lambda = \sigma(a)`, per pixel:

.. math::
    \log \mathrm{Bern}(x; a) = x a - \log(1 + e^a), \qquad
    \log \mathrm{CB}(x; a) = \left(x - \tfrac12\right) a - \log \frac{\sinh(a/2)}{a/2}.

The second is :math:`a e^{ax} / (e^a - 1)` on [0, 1]: the constant
:math:`C = 2\,\mathrm{artanh}(1 - 2\lambda)/(1 - 2\lambda) = a / \tanh(a/2)` written so that
nothing is divided by zero at :math:`\lambda = \tfrac12` and nothing overflows far from it. Mean,
variance and draws are taken from a as well: torch's clip λ and know no float32 mean above 0.937.

Sums over the pixels happen inside: one number per image leaves, in few passes over memory.
The classes are :class:`torch.distributions.Independent` with another ``log_prob``; arguments are
not validated there (a NaN logit gives a NaN density, a grey pixel the cross-entropy), but
``support`` is told, so that :func:`elboscope.core.check_model` sees them.
"""

from __future__ import annotations

__all__ = [
    "bernoulli",
    "bernoulli_log_prob",
    "continuous_bernoulli",
    "continuous_bernoulli_log_prob",
]

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import Bernoulli, ContinuousBernoulli, Distribution, Independent
from torch.nn.functional import softplus

# Above it softplus(a) and a are one number, in float64 too (the default of 20 is for float32).
SOFTPLUS_THRESHOLD = 40.0
# Below it log(sinh(h)/h) is a series of four terms, whose error is less than 1e-18.
SERIES_BELOW = 0.1


def _softplus(a: Tensor) -> Tensor:
    return softplus(a, threshold=SOFTPLUS_THRESHOLD)


class _LogProb(torch.autograd.Function):
    """Σ x·a − softplus(a) over the last axis; its gradient x − σ(a) needs no other buffer."""

    generate_vmap_rule = True

    @staticmethod
    def forward(a: Tensor, x: Tensor) -> Tensor:
        log_p: Tensor = torch.linalg.vecdot(x, a) - _softplus(a).sum(-1)
        return log_p

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, Tensor | None]:
        a, x = ctx.saved_tensors
        needs_a, needs_x = ctx.needs_input_grad
        g = g.unsqueeze(-1)
        if torch.is_grad_enabled():  # somebody differentiates twice
            grad_a = (x - a.sigmoid()) * g if needs_a else None
        else:
            grad_a = a.sigmoid().sub_(x).mul_(-g) if needs_a else None
        return grad_a, a * g if needs_x else None


def bernoulli_log_prob(
    logits: Float[Tensor, "*B D"], x: Float[Tensor, "*B D"]
) -> Float[Tensor, "*B"]:
    r"""Returns :math:`\sum_d x_d a_d - \log(1 + e^{a_d})`, in nats, differentiable twice.

    For :math:`x \in (0, 1)` it is a cross-entropy, not the density of anything.

    Args:
        logits: a, one per pixel.
        x: Pixels, in {0, 1}; both arguments have the same shape.

    Example:
        >>> bernoulli_log_prob(torch.zeros(1, 2), torch.ones(1, 2)).exp()
        tensor([0.2500])
    """
    log_p: Tensor = _LogProb.apply(logits, x)  # type: ignore[no-untyped-call]
    return log_p


def continuous_bernoulli_log_prob(
    logits: Float[Tensor, "*B D"], x: Float[Tensor, "*B D"]
) -> Float[Tensor, "*B"]:
    r"""Returns :math:`\sum_d (x_d - \tfrac12) a_d - \log\frac{\sinh(a_d/2)}{a_d/2}`, in nats.

    A density on [0, 1], unlike :func:`bernoulli_log_prob` of grey pixels; it can be positive.

    Args:
        logits: a, one per pixel.
        x: Pixels, in [0, 1].

    References:
        | The continuous Bernoulli: fixing a pervasive error in variational autoencoders
          (Loaiza-Ganem and Cunningham, 2019), https://arxiv.org/abs/1907.06845

    Example:
        >>> continuous_bernoulli_log_prob(torch.zeros(1, 2), torch.rand(1, 2))  # uniform
        tensor([0.])
    """
    return ((x - 0.5) * logits - _log_sinhc(logits)).sum(-1)


def _log_sinhc(a: Tensor) -> Tensor:
    """log(sinh(a/2)/(a/2)), even in a, with a gradient that is right at 0."""
    near = a.abs() < SERIES_BELOW
    small = torch.where(near, a, torch.zeros_like(a)).square() / 4
    t = torch.where(near, torch.ones_like(a), a).abs()
    series = small * (1 / 6 - small * (1 / 180 - small * (1 / 2835 - small / 37800)))
    return torch.where(near, series, t / 2 + (-torch.expm1(-t)).log() - t.log())


def _flat(logits: Tensor, x: Tensor, event_ndim: int) -> tuple[Tensor, Tensor]:
    """Both broadcast, and their event axes made one."""
    logits, x = torch.broadcast_tensors(logits, x)
    shape = (*x.shape[: x.ndim - event_ndim], -1)
    return logits.reshape(shape), x.reshape(shape)


class _IndependentBernoulli(Independent):  # type: ignore[type-arg]  # not generic in older torch
    def log_prob(self, value: Tensor) -> Tensor:
        a, x = _flat(self.base_dist.logits, value, self.reinterpreted_batch_ndims)
        return bernoulli_log_prob(a, x)


class _IndependentContinuousBernoulli(Independent):  # type: ignore[type-arg]  # not generic in older torch
    def log_prob(self, value: Tensor) -> Tensor:
        a, x = _flat(self.base_dist.logits, value, self.reinterpreted_batch_ndims)
        return continuous_bernoulli_log_prob(a, x)

    @property
    def mean(self) -> Tensor:
        return _mean(self.base_dist.logits)

    @property
    def variance(self) -> Tensor:
        return _variance(self.base_dist.logits)

    def rsample(self, sample_shape: torch.Size | list[int] | tuple[int, ...] = ()) -> Tensor:
        a = self.base_dist.logits
        shape = self._extended_shape(torch.Size(sample_shape))
        return _quantile(a, torch.rand(shape, dtype=a.dtype, device=a.device))

    def sample(self, sample_shape: torch.Size | list[int] | tuple[int, ...] = ()) -> Tensor:
        with torch.no_grad():
            return self.rsample(sample_shape)


def _apart(a: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Where |a| is small, a there (else 0), and |a| elsewhere (else 1): each for its formula."""
    near = a.abs() < SERIES_BELOW
    return near, torch.where(near, a, 0.0), torch.where(near, 1.0, a).abs()


def _mean(a: Tensor) -> Tensor:
    """1/(1 − e⁻ᵃ) − 1/a: torch clips λ first, so that no float32 mean of it exceeds 0.937."""
    near, small, t = _apart(a)
    far = -1 / torch.expm1(-t) - 1 / t
    series = 0.5 + small * (1 / 12 - small.square() * (1 / 720 - small.square() / 30240))
    return torch.where(near, series, torch.where(a < 0, 1 - far, far))


def _variance(a: Tensor) -> Tensor:
    """1/a² − 1/(4 sinh²(a/2))."""
    near, small, t = _apart(a)
    far = t.square().reciprocal() - torch.exp(-t) / torch.expm1(-t).square()
    series = 1 / 12 - small.square() * (1 / 240 - small.square() / 6048)
    return torch.where(near, series, far)


def _quantile(a: Tensor, u: Tensor) -> Tensor:
    """log(1 + u(eᵃ − 1))/a, by the symmetry between a, u and −a, 1 − u."""
    near, small, t = _apart(a)
    v = torch.where(a < 0, 1 - u, u)
    far = (1 + (v + (1 - v) * torch.exp(-t)).log() / t).clamp(min=0)
    w = u * (1 - u)
    series = u + 0.5 * small * w * (1 + small * ((1 - 2 * u) / 3 + small * (1 - 6 * w) / 12))
    return torch.where(near, series, torch.where(a < 0, 1 - far, far))


def bernoulli(logits: Float[Tensor, "*B_and_event"], event_ndim: int) -> Distribution:
    """Returns the Bernoulli distribution of images, whose last ``event_ndim`` axes are the event.

    Args:
        logits: One per pixel, ``(*batch, *event)``.
        event_ndim: The number of event axes.

    Example:
        >>> p = bernoulli(torch.zeros(3, 1, 8, 8), 3)
        >>> p.batch_shape, p.event_shape
        (torch.Size([3]), torch.Size([1, 8, 8]))
    """
    base = Bernoulli(logits=logits, validate_args=False)
    return _IndependentBernoulli(base, event_ndim, validate_args=False)


def continuous_bernoulli(logits: Float[Tensor, "*B_and_event"], event_ndim: int) -> Distribution:
    """Returns the continuous Bernoulli distribution of images with grey values in [0, 1].

    Its mean is not σ(a): use ``.mean``.

    Args:
        logits: One per pixel, ``(*batch, *event)``.
        event_ndim: The number of event axes.

    Example:
        >>> continuous_bernoulli(torch.zeros(3, 4), 1).log_prob(torch.rand(3, 4))
        tensor([0., 0., 0.])
    """
    base = ContinuousBernoulli(logits=logits, validate_args=False)
    return _IndependentContinuousBernoulli(base, event_ndim, validate_args=False)
