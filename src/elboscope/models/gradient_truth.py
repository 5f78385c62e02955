r"""Signal-to-noise ratios of encoder gradients, exactly, for the linear-Gaussian model.

The gradient of log w with respect to the encoder's offset c, at one draw z ~ N(μ, S):

- reparameterised ("total"), Λ(m − z): mean Λ(m − μ), covariance ΛSΛ;
- path (sticking the landing, DReG at K = 1), Λ(m − z) + S⁻¹(z − μ): the same mean, covariance
  (S⁻¹ − Λ)S(S⁻¹ − Λ), which vanishes at the exact posterior.

For IWAE's K → ∞ the ratio falls as K^(−½) with a known constant. In between (finite K) there is
no closed form. SNR is |mean|/standard deviation, per coordinate of c.

References:
    Rainforth et al. 2018, Tighter variational bounds are not necessarily better,
    arXiv 1802.04537; Roeder et al. 2017, arXiv 1703.09194; Tucker et al. 2018, arXiv 1810.04152.
"""

from __future__ import annotations

__all__ = ["GradientMoments", "elbo_gradient", "iwae_snr_constant", "path_gradient"]

import math
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from elboscope.core import InputError
from elboscope.models.gaussian_pair import full_covariance
from elboscope.models.linear_gaussian import LinearGaussian
from elboscope.models.quadrature import line


class GradientMoments(NamedTuple):
    """Mean and standard deviation of one gradient draw, each ``(B, d)``."""

    mean: Tensor
    std: Tensor

    @property
    def snr(self) -> Tensor:
        """|mean|/std."""
        return self.mean.abs() / self.std


def elbo_gradient(model: LinearGaussian, x: Float[Tensor, "B D"]) -> GradientMoments:
    """Moments of ∂ log w/∂c for one reparameterised draw.

    Example:
        >>> model = LinearGaussian.conjugate(mean=0.3, variance=2 / 3)
        >>> gradient = elbo_gradient(model, torch.ones(1, 1, dtype=torch.float64))
        >>> round(gradient.mean.item(), 12), round(gradient.snr.item(), 5)
        (0.4, 0.24495)
    """
    precision = model.posterior_precision
    return _moments(model, x, -precision)


def path_gradient(model: LinearGaussian, x: Float[Tensor, "B D"]) -> GradientMoments:
    """Moments of the gradient through z alone: −∂ log q/∂c at fixed z (mean zero) is left out."""
    covariance = model.encoder.covariance
    return _moments(model, x, torch.linalg.inv(covariance) - model.posterior_precision)


@torch.no_grad()
def iwae_snr_constant(model: LinearGaussian, x: Float[Tensor, "1 1"]) -> float:
    r"""a of SNR → a √(M/K) for IWAE's gradient, in one dimension, by quadrature.

    With Z = p(x): a = |∇_c Var_q[w]| / (2Z σ_q[∇_c w]), ∇_c w = w Λ(m − z).

    Raises:
        InputError: If x has more than one dimension or the weights have no variance.
    """
    if model.W.shape != (1, 1) or model.pareto_index().item() >= 0.5:
        raise InputError(
            "model of iwae_snr_constant",
            expected="one dimension and a finite weight variance",
            got=f"W {tuple(model.W.shape)}, Pareto index {model.pareto_index().item():.2f}",
        )
    q, posterior = full_covariance(model.encode(x)), model.posterior(x)
    u, log_cell = line(20.0, 8001)
    z = q.mean + q.stddev * u[:, None, None]
    log_ratio = (posterior.log_prob(z) - q.log_prob(z))[:, 0]
    log_base = -0.5 * u**2 - 0.5 * math.log(2 * math.pi) + log_cell
    slope = (model.posterior_precision * (posterior.mean - z))[:, 0, 0]
    gradient = (log_base + log_ratio).exp() * slope
    second = (log_base + 2 * log_ratio).exp()
    variance = (second * slope**2).sum() - gradient.sum() ** 2
    # ∇E[w²] = 2E[w∇w]; ∇(E w)² = 0, since E w = p(x) whatever the encoder.
    return float((second * slope).sum().abs() / variance.sqrt())


def _moments(model: LinearGaussian, x: Tensor, slope: Tensor) -> GradientMoments:
    """A gradient whose draws are Λ(m − μ) + slope·(z − μ), z ~ N(μ, S)."""
    q = full_covariance(model.encode(x))
    mean = (model.posterior(x).mean - q.mean) @ model.posterior_precision
    variance = (slope @ model.encoder.covariance @ slope.T).diagonal()
    return GradientMoments(mean, variance.sqrt().expand_as(mean))
