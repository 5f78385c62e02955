r"""Gaussian mixtures of latent draws: maximum likelihood by expectation–maximisation.

.. math:: r(z) = \sum_k \pi_k\, \mathcal N(z; \mu_k, \Sigma_k)

fitted to standardised draws, so that scikit-learn's floor on the variances (10⁻⁶) is relative to
each dimension's spread. Any density bounds KL(q(z) ‖ p(z)) from below; one whose fit has not
converged is only a looser bound, so that convergence is not asked for.
"""

from __future__ import annotations

__all__ = ["Covariance", "LogDensity", "fitted_mixture", "mixture_distribution", "one_thread"]

import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor

from elboscope.distributions import GaussianMixture

Covariance = Literal["diag", "full"]
LogDensity = Callable[[Tensor], Tensor]
"""From z, float64 of shape (S, d), to log r(z) in nats."""


def one_thread() -> AbstractContextManager[object]:
    """Limits scikit-learn's threads: its fits are small, and its pool and torch's fight for cores.

    With both at two threads on two busy cores a fit took ten times as long as with one.
    """
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    limits: AbstractContextManager[object] = threadpool_limits(1)
    return limits


def fitted_mixture(
    z: Float64[Tensor, "S d"], components: int, covariance: Covariance
) -> LogDensity:
    """Fits a mixture and returns its log-density.

    Args:
        z: Draws.
        components: K.
        covariance: Form of each component's covariance.
    """
    mixture, centre, scale = _fit(z, components, covariance)

    def log_r(z: Tensor) -> Tensor:
        log_density = mixture.score_samples(_standardise(z, centre, scale))
        return torch.from_numpy(log_density).to(z) - scale.log().sum()

    return log_r


def mixture_distribution(
    z: Float64[Tensor, "S d"],
    components: int,
    covariance: Covariance,
    latent_shape: tuple[int, ...],
) -> GaussianMixture:
    """Fits a mixture and returns it as a distribution of latents, in float64.

    Args:
        z: Draws.
        components: K.
        covariance: Form of each component's covariance.
        latent_shape: ``(*Z)``, whose axes are flattened in z.
    """
    mixture, centre, scale = _fit(z, components, covariance)
    weights, means, spread = (
        torch.from_numpy(v).to(z) for v in (mixture.weights_, mixture.means_, mixture.covariances_)
    )
    mu = (centre + scale * means).reshape(components, *latent_shape)
    if covariance == "diag":
        return GaussianMixture(weights.log(), mu, (scale * spread.sqrt()).reshape(mu.shape))
    return GaussianMixture(weights.log(), mu, scale[:, None] * torch.linalg.cholesky(spread))


def _fit(z: Tensor, components: int, covariance: Covariance) -> tuple[Any, Tensor, Tensor]:
    """The mixture of the standardised draws, and what standardised them."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import GaussianMixture as Mixture

    centre, scale = z.mean(0), z.std(0).clamp(min=torch.finfo(z.dtype).tiny)
    mixture = Mixture(
        components, covariance_type=covariance, random_state=int(torch.randint(2**31, ()))
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        mixture.fit(_standardise(z, centre, scale))
    return mixture, centre, scale


def _standardise(z: Tensor, centre: Tensor, scale: Tensor) -> np.ndarray[Any, np.dtype[np.float64]]:
    array: np.ndarray[Any, np.dtype[np.float64]] = ((z - centre) / scale).cpu().numpy()
    return array
