r"""Distributions of pixels with L levels, :math:`x = k/(L - 1)`: masses, not densities.

A density F' rounded to the levels has, with :math:`h = \tfrac12/(L - 1)`, the masses

.. math:: P(k) = F(x + h) - F(x - h), \qquad P(0) = F(h), \qquad P(L - 1) = 1 - F(1 - h)

which sum to one exactly, since the first and the last take the tails. The differences are taken
where they lose nothing: for the logistic,
:math:`\sigma(b) - \sigma(a) = \sigma(b)\,\sigma(-a)\,(1 - e^{a-b})`; for the normal on the side of
the smaller tail, and by the midpoint rule with its first correction where the bin is narrow.

A mass is a probability: its log is at most 0, a uniform guess scores −ln L per pixel, and
−log P/(D ln 2) is bits per value. None of it may be compared with the log of a density.

The *dequantised* bound spreads each level over its bin, u uniform in [−h, h]:

.. math:: \log P(k) \ge \mathbb{E}_u \log\mathcal N(x + u; \mu, \sigma^2) - \ln(L - 1)

by Jensen's inequality. Its expectation is in closed form, so that no noise is drawn.

Values that are no level are outside ``support``; what is returned for them is the mass of the bin
around them.
"""

from __future__ import annotations

__all__ = ["CategoricalLevels", "DequantizedNormal", "DiscretisedLogistic", "QuantizedNormal"]

import math
from typing import ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.distributions import Distribution, constraints
from torch.nn.functional import logsigmoid
from torch.special import log_ndtr, ndtr

from elboscope.core import InputError

Shape = torch.Size | list[int] | tuple[int, ...]
# Below it (bin width times distance, in σ) the midpoint rule errs by less than 1e-9.
NARROW = 0.02
# How far from a level a float may be, in bins: 1/255 in float32 is off by 1e-5 of them.
ON_LEVEL = 1e-3


class _Levels(constraints.Constraint):
    """x = k/(L − 1) for a whole number k in 0 … L − 1."""

    is_discrete = True

    def __init__(self, levels: int) -> None:
        self.levels = levels
        super().__init__()

    def check(self, value: Tensor) -> Bool[Tensor, "*B"]:
        """Whether each value is a level."""
        k = value * (self.levels - 1)
        near = (k - k.round()).abs() < ON_LEVEL
        return near & (k > -ON_LEVEL) & (k < self.levels - 1 + ON_LEVEL)


def require_levels(levels: int) -> int:
    """Returns ``levels``, which has to be 2 or more."""
    if levels < 2:
        raise InputError("levels", expected="2 or more", got=repr(levels), do="8-bit: levels=256.")
    return levels


class _Rounded(Distribution):
    """A location–scale density, rounded to the levels."""

    arg_constraints: ClassVar[dict[str, constraints.Constraint]] = {}

    def __init__(self, loc: Tensor, scale: Tensor, levels: int = 256) -> None:
        self.loc, self.scale = torch.broadcast_tensors(loc, scale)
        self.levels = require_levels(levels)
        super().__init__(self.loc.shape, validate_args=False)

    @property
    def support(self) -> constraints.Constraint:
        """The levels."""
        return _Levels(self.levels)

    @property
    def mean(self) -> Tensor:
        """The mean of the rounded pixel, in [0, 1]: Σ_j 1 − F((j + ½)/(L − 1)), over L − 1."""
        total = torch.zeros_like(self.loc)
        for j in range(self.levels - 1):
            total = total + self._cdf(((j + 0.5) / (self.levels - 1) - self.loc) / self.scale)
        return 1 - total / (self.levels - 1)

    def sample(self, sample_shape: Shape = ()) -> Tensor:
        """Draws levels."""
        shape = self._extended_shape(torch.Size(sample_shape))
        with torch.no_grad():
            y = self.loc + self.scale * self._noise(shape)
            k: Tensor = (y * (self.levels - 1)).round().clamp(0, self.levels - 1)
            return k / (self.levels - 1)

    def log_prob(self, value: Tensor) -> Tensor:
        """Returns the log of the level's mass."""
        h = 0.5 / (self.levels - 1)
        centre, width = (value - self.loc) / self.scale, 2 * h / self.scale
        first = self._log_cdf(centre + width / 2)
        last = self._log_cdf(width / 2 - centre)  # both densities are symmetric
        inside = self._log_between(centre, width.expand_as(centre))
        inside = torch.where(value < h, first, inside)
        return torch.where(value > 1 - h, last, inside)

    def _noise(self, shape: torch.Size) -> Tensor:
        raise NotImplementedError

    def _cdf(self, u: Tensor) -> Tensor:
        raise NotImplementedError

    def _log_cdf(self, u: Tensor) -> Tensor:
        raise NotImplementedError

    def _log_between(self, centre: Tensor, width: Tensor) -> Tensor:
        raise NotImplementedError

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.levels} levels, {tuple(self.batch_shape)})"


class QuantizedNormal(_Rounded):
    r"""The normal distribution, rounded to the levels; μ and σ in units of x.

    With :math:`y = (k + u)/256`, u uniform in [0, 1), as dequantised 8-bit pixels are often
    written, it is the mass of :math:`\mathcal N(y; \mu', \sigma'^2)` for
    :math:`\mu' = (255\mu + \tfrac12)/256`, :math:`\sigma' = 255\sigma/256`.

    Args:
        loc: μ.
        scale: σ.
        levels: L.

    References:
        | A note on the evaluation of generative models (Theis et al., 2016),
          https://arxiv.org/abs/1511.01844

    Example:
        >>> x = torch.arange(256) / 255
        >>> p = QuantizedNormal(torch.tensor(1.3), torch.tensor(0.5))  # the mean is beyond white
        >>> f"{p.log_prob(x).exp().sum().item():.5f}"
        '1.00000'
    """

    def _noise(self, shape: torch.Size) -> Tensor:
        return torch.randn(shape, dtype=self.loc.dtype, device=self.loc.device)

    def _cdf(self, u: Tensor) -> Tensor:
        below: Tensor = ndtr(u)
        return below

    def _log_cdf(self, u: Tensor) -> Tensor:
        log_below: Tensor = log_ndtr(u)
        return log_below

    def _log_between(self, centre: Tensor, width: Tensor) -> Tensor:
        """log Φ(c + w/2) − Φ(c − w/2), taken in the lower tail."""
        c = -centre.abs()
        narrow = width * c.abs().clamp(min=1) < NARROW
        midpoint = _log_normal(c) + width.log()
        midpoint = midpoint + torch.log1p(
            torch.where(narrow, width.square() * (c.square() - 1) / 24, torch.zeros_like(c))
        )
        c, width = (torch.where(narrow, torch.ones_like(v), v) for v in (c, width))
        upper, lower = log_ndtr(c + width / 2), log_ndtr(c - width / 2)
        wide = upper + (-torch.expm1(lower - upper)).log()
        return torch.where(narrow, midpoint, wide)


class DequantizedNormal(QuantizedNormal):
    r"""The dequantised bound on the masses of :class:`QuantizedNormal`, in its place.

    ``log_prob`` is :math:`\mathbb{E}_u \log\mathcal N(x + u; \mu, \sigma^2) - \ln(L - 1)`, with u
    uniform over the bin: never above the log of the mass, so that every bound made of it is one.
    As a "distribution" it sums to less than one; draws are those of :class:`QuantizedNormal`.

    Args:
        loc: μ.
        scale: σ.
        levels: L.

    References:
        | A note on the evaluation of generative models (Theis et al., 2016),
          https://arxiv.org/abs/1511.01844

    Example:
        >>> mu, sigma, x = torch.tensor(0.4), torch.tensor(0.01), torch.arange(256) / 255
        >>> bound = DequantizedNormal(mu, sigma).log_prob(x)
        >>> bool((bound <= QuantizedNormal(mu, sigma).log_prob(x) + 1e-4).all())
        True
    """

    def log_prob(self, value: Tensor) -> Tensor:
        """Returns the bound on the log of the level's mass."""
        centre, steps = (value - self.loc) / self.scale, self.levels - 1
        spread = (1 / steps / self.scale).square() / 12  # Var u, in σ²
        bound: Tensor = _log_normal(centre) - 0.5 * spread - (self.scale * steps).log()
        return bound


class DiscretisedLogistic(_Rounded):
    r"""The logistic distribution, rounded to the levels; its variance is :math:`\pi^2 s^2/3`.

    Args:
        loc: μ.
        scale: s.
        levels: L.

    References:
        | Improved Variational Inference with Inverse Autoregressive Flow (Kingma et al., 2016),
          https://arxiv.org/abs/1606.04934
        | PixelCNN++ (Salimans et al., 2017), https://arxiv.org/abs/1701.05517

    Example:
        >>> p = DiscretisedLogistic(torch.zeros(()), torch.tensor(1e-3))
        >>> f"{p.log_prob(torch.arange(256) / 255).exp().sum().item():.5f}"
        '1.00000'
    """

    def _noise(self, shape: torch.Size) -> Tensor:
        u = torch.rand(shape, dtype=self.loc.dtype, device=self.loc.device)
        tiny = torch.finfo(u.dtype).eps
        return u.clamp(tiny, 1 - tiny).logit()

    def _cdf(self, u: Tensor) -> Tensor:
        return u.sigmoid()

    def _log_cdf(self, u: Tensor) -> Tensor:
        log_below: Tensor = logsigmoid(u)
        return log_below

    def _log_between(self, centre: Tensor, width: Tensor) -> Tensor:
        tails = logsigmoid(centre + width / 2) + logsigmoid(width / 2 - centre)
        return tails + (-torch.expm1(-width)).log()


class CategoricalLevels(Distribution):
    """Any distribution over the levels, from one logit a level.

    Args:
        logits: ``(*batch, L)``, not normalised.

    Example:
        >>> p = CategoricalLevels(torch.zeros(3, 256))
        >>> p.log_prob(torch.ones(3))[0].item()  # a uniform guess: −ln 256
        -5.545...
    """

    arg_constraints: ClassVar[dict[str, constraints.Constraint]] = {}

    def __init__(self, logits: Float[Tensor, "*B L"]) -> None:
        self.logits, self.levels = logits, require_levels(logits.shape[-1])
        super().__init__(logits.shape[:-1], validate_args=False)

    @property
    def support(self) -> constraints.Constraint:
        """The levels."""
        return _Levels(self.levels)

    @property
    def mean(self) -> Tensor:
        """The mean pixel, in [0, 1]."""
        x = torch.linspace(0, 1, self.levels, dtype=self.logits.dtype, device=self.logits.device)
        return self.logits.softmax(-1) @ x

    def sample(self, sample_shape: Shape = ()) -> Tensor:
        """Draws levels."""
        k = torch.distributions.Categorical(logits=self.logits, validate_args=False)
        drawn: Tensor = k.sample(torch.Size(sample_shape))
        return drawn.to(self.logits.dtype) / (self.levels - 1)

    def log_prob(self, value: Tensor) -> Tensor:
        """Returns the log of the nearest level's probability."""
        k = (value * (self.levels - 1)).round().clamp(0, self.levels - 1).long()
        shape = torch.broadcast_shapes(k.shape, self.batch_shape)
        logits = self.logits.expand(*shape, self.levels)
        own = logits.gather(-1, k.expand(shape)[..., None])[..., 0]
        return own - self.logits.logsumexp(-1)

    def __repr__(self) -> str:
        return f"CategoricalLevels({self.levels} levels, {tuple(self.batch_shape)})"


def _log_normal(u: Tensor) -> Tensor:
    return -0.5 * u.square() - 0.5 * math.log(2 * math.pi)
