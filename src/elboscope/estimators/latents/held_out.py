r"""Densities fitted to draws of q(z): Gaussian mixtures, and a bound on *other* datapoints.

.. math:: \mathbb{E}_{q(z)}[\log r(z) - \log p(z)] \le \mathrm{KL}(q(z) \| p(z))

for every density r, since E_q log r ≤ E_q log q; the gap is KL(q ‖ r). The datapoints are split
in three. Candidates for r are fitted to draws from the posteriors of the first part: the prior
itself (which gives 0), single Gaussians, and Gaussian mixtures. The one that scores best on the
second part is evaluated on the third. So the choice does not peek, the value is unbiased for the
bound of the chosen r, and it bounds the population's KL, not that of a mixture of N spikes.
"""

from __future__ import annotations

__all__ = [
    "Covariance",
    "LogDensity",
    "fitted_mixture",
    "held_out_marginal_kl",
    "lower_bound",
    "mixture_distribution",
    "one_thread",
]

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor

from elboscope.core import Estimate, LatentVariableModel, evaluating, seeded, standard_error
from elboscope.distributions import GaussianMixture

from .aggregate import averages
from .aggregate_parts import Part, Parts, require_volume, split_aggregate

# (components, covariance): what is fitted, if the draws suffice for its parameters.
MIXTURES: tuple[tuple[int, Covariance], ...]
MIXTURES = ((1, "diag"), (1, "full"), (5, "diag"), (20, "diag"), (5, "full"))
LARGEST_FULL = 200
ESTIMAND = "the population's KL(q‖p), bounded from below"


def held_out_marginal_kl(
    model: LatentVariableModel,
    x: object,
    *,
    x_train: object = None,
    seed: int | None = None,
    condition: Tensor | None = None,
    condition_train: Tensor | None = None,
) -> Estimate:
    r"""Bounds the population's :math:`\mathrm{KL}(q(z) \| p(z))` from below, in nats.

    It is not an estimate of that KL: it misses whatever the fitted density misses. A value of
    zero is no evidence of a matched prior; a value above its error is evidence of a mismatch.

    Args:
        model: The model, with an encoder.
        x: Data. Half fits the densities, a quarter chooses among them, a quarter evaluates.
        x_train: Data to fit on; then two thirds of them fit, one third chooses, and all of x
            evaluate.
        seed: Random seed; None picks one and records it.
        condition: One row per datapoint of x.
        condition_train: One row per datapoint of x_train.

    Returns:
        log r − log p per datapoint of the evaluated part, a lower bound; the method names r.

    Raises:
        InputError: Fewer than twenty datapoints; draws that are not finite.
        ContractError: Discrete latents, or points of a simplex.

    References:
        | Distribution Matching in Variational Inference (Rosca et al., 2018),
          https://arxiv.org/abs/1802.06847, algorithm 4

    Example:
        >>> import elboscope as es
        >>> model = es.models.LinearGaussian.instance_1()
        >>> x, _ = model.sample(400, seed=0)
        >>> bound = held_out_marginal_kl(model, x, seed=0)
        >>> bound.mean < model.marginal_kl().item() + 3 * bound.stderr
        True
    """
    with evaluating(model), seeded(seed) as used:
        parts = split_aggregate(model, x, x_train, condition, condition_train)
        require_volume(parts.prior)
        fit, choose, evaluate = parts.fit, parts.choose, parts.evaluate
        with one_thread():
            name, log_r = _choose(fit, choose)
            log_density = evaluate.log_p if log_r is None else log_r(evaluate.z)
        error = "given this density: another split would choose another bound"
        record = {"estimand": ESTIMAND, "error": error}
        return lower_bound(parts, name, log_density, used, record)


def lower_bound(
    parts: Parts,
    density: str,
    log_r: Float64[Tensor, " S"],
    seed: int,
    record: Mapping[str, object],
) -> Estimate:
    """Returns the bound by one density of q(z), whose fit did not see the evaluated part.

    Args:
        parts: Draws in three parts.
        density: What it is called.
        log_r: Its logarithm at the evaluated draws.
        seed: The seed in force, for the record.
        record: More for the record.
    """
    part = parts.evaluate
    a = averages(log_r - part.log_p, part.which, part.size)
    return Estimate(
        "KL(q(z) ‖ p(z))",
        f"held-out density: {density}",
        a.values,
        a.mc_stderr,
        "lower",
        standard_error(a.values),
        settings={"seed": seed, **parts.settings, "density": density, **record},
        data_id=parts.data_id,
        notes=parts.notes,
        nonnegative=True,
        held_out=True,
    )


def _choose(fit: Part, choose: Part) -> tuple[str, LogDensity | None]:
    """Returns the candidate that scores best on the second part; None is the prior, with 0."""
    best: tuple[str, LogDensity | None] = ("the prior itself", None)
    score = 0.0
    for name, log_r in _candidates(fit):
        value = (log_r(choose.z) - choose.log_p).mean().item()
        if value > score:
            best, score = (name, log_r), value
    return best


def _candidates(fit: Part) -> Iterator[tuple[str, LogDensity]]:
    d = fit.z.shape[1]
    for components, covariance in MIXTURES:
        width = d if covariance == "full" else 1
        enough = fit.size >= 2 * components * (width + 1)
        if (components > 1 and not enough) or (covariance == "full" and d > LARGEST_FULL):
            continue
        kind = "a Gaussian" if components == 1 else f"a mixture of {components} Gaussians"
        log_r = fitted_mixture(fit.z, components, covariance)
        yield f"{kind}, {'diagonal' if covariance == 'diag' else covariance} covariance", log_r


# Gaussian mixtures of latent draws: maximum likelihood by expectation–maximisation.
#
# .. math:: r(z) = \sum_k \pi_k\, \mathcal N(z; \mu_k, \Sigma_k)
#
# fitted to standardised draws, so that scikit-learn's floor on the variances (10⁻⁶) is relative
# to each dimension's spread. Any density bounds KL(q(z) ‖ p(z)) from below; one whose fit has not
# converged is only a looser bound, so that convergence is not asked for.

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
