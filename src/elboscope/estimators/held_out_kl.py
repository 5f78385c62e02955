r"""A lower bound on the population's marginal KL, from a density fitted to *other* datapoints.

.. math:: \mathbb{E}_{q(z)}[\log r(z) - \log p(z)] \le \mathrm{KL}(q(z) \| p(z))

for every density r, since E_q log r ≤ E_q log q; the gap is KL(q ‖ r). The datapoints are split
in three. Candidates for r are fitted to draws from the posteriors of the first part: the prior
itself (which gives 0), single Gaussians, and Gaussian mixtures. The one that scores best on the
second part is evaluated on the third. So the choice does not peek, the value is unbiased for the
bound of the chosen r, and it bounds the population's KL, not that of a mixture of N spikes.
"""

from __future__ import annotations

__all__ = ["held_out_marginal_kl"]

import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from elboscope.core import (
    Estimate,
    InputError,
    LatentVariableModel,
    evaluating,
    given,
    seeded,
    standard_error,
)

from .aggregate_draws import averages, log_prior
from .evaluation import Inputs, prepared
from .posteriors import Posteriors, encode_posteriors, gaussian_posteriors

FEWEST_DATAPOINTS = 20
FIT_DRAWS = 10_000
MOST_DRAWS_EACH = 10
# (components, covariance): what is fitted, if the draws suffice for its parameters.
MIXTURES = ((1, "diag"), (1, "full"), (5, "diag"), (20, "diag"), (5, "full"))
LARGEST_FULL = 200

LogDensity = Callable[[Tensor], Tensor]


class Part(NamedTuple):
    """Draws of one part of the datapoints, how many each, and their log-density under p."""

    z: Float64[Tensor, "S d"]
    which: Int64[Tensor, " S"]
    log_p: Float64[Tensor, " S"]
    size: int


def held_out_marginal_kl(
    model: LatentVariableModel,
    x: object,
    *,
    x_held_out: object = None,
    seed: int | None = None,
    condition: Tensor | None = None,
    condition_held_out: Tensor | None = None,
) -> Estimate:
    r"""Bounds the population's :math:`\mathrm{KL}(q(z) \| p(z))` from below, in nats.

    It is not an estimate of that KL: it misses whatever the fitted density misses. A value of
    zero is no evidence of a matched prior; a value above its error is evidence of a mismatch.

    Args:
        model: The model, with an encoder.
        x: Data. Half fits the densities, a quarter chooses among them, a quarter evaluates.
        x_held_out: Data to evaluate on; then two thirds of x fit and one third chooses.
        seed: Of the split, the draws and the fits.
        condition: One row per datapoint of x.
        condition_held_out: One row per datapoint of x_held_out.

    Returns:
        log r − log p per datapoint of the evaluated part, a lower bound; the method names r.

    Raises:
        InputError: Fewer than twenty datapoints; draws that are not finite.

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
    inputs = prepared(model, x, condition)
    if x_held_out is not None and (condition is None) != (condition_held_out is None):
        raise InputError(
            "condition_held_out",
            expected="conditions for both x and x_held_out, or for neither",
            got="conditions for one of them",
        )
    other = None
    if x_held_out is not None:
        other = prepared(model, x_held_out, condition_held_out, "x_held_out")
    with evaluating(model), seeded(seed) as used:
        fit, choose, evaluate = _split(model, inputs, other)
        with _one_thread():
            name, log_r = _chosen(fit, choose)
            log_density = evaluate.log_p if log_r is None else log_r(evaluate.z)
        a = averages(log_density - evaluate.log_p, evaluate.which, evaluate.size)
    return Estimate(
        "KL(q(z) ‖ p(z))",
        f"held-out density: {name}",
        a.values,
        a.mc_stderr,
        "lower",
        standard_error(a.values),
        settings={
            "seed": used,
            "fitted_on": fit.size,
            "chosen_on": choose.size,
            "evaluated_on": evaluate.size,
            "density": name,
            "estimand": "the population's KL(q‖p), bounded from below",
            "error": "given this density: another split would choose another bound",
        },
        data_id=(other or inputs).data_id,
        nonnegative=True,
    )


def _split(
    model: LatentVariableModel, inputs: Inputs, other: Inputs | None
) -> tuple[Part, Part, Part]:
    N = len(inputs.x)
    order = torch.randperm(N).to(inputs.x.device)
    cuts = (N // 2, 3 * N // 4) if other is None else (2 * N // 3, N)
    last = inputs.take(order[cuts[1] :]) if other is None else other
    if min(N, 4 * len(last.x)) < FEWEST_DATAPOINTS:
        raise InputError(
            "x of the held-out bound",
            expected=f"at least {FEWEST_DATAPOINTS} datapoints",
            got=f"{N}" if other is None else f"{N}, and {len(last.x)} held out",
            do="Evaluate on more data.",
        )
    pieces = (inputs.take(order[: cuts[0]]), inputs.take(order[cuts[0] : cuts[1]]), last)
    fit, choose, evaluate = (_drawn(model, piece) for piece in pieces)
    return fit, choose, evaluate


def _drawn(model: LatentVariableModel, inputs: Inputs) -> Part:
    """Draws from each posterior of a part, several times where it is small."""
    q: Posteriors = encode_posteriors(model, inputs)
    each = max(1, min(MOST_DRAWS_EACH, FIT_DRAWS // len(q)))
    index = torch.arange(len(q), device=inputs.x.device).repeat(each)
    z = q.draw(index)
    if not bool(z.isfinite().all()):
        raise InputError(
            "encode(x)",
            expected="finite means and scales",
            got="draws that are NaN or infinite",
            do="The model has diverged: train it again with a smaller learning rate.",
        )
    prior = given(model, inputs.rows(slice(0, 1))[1]).prior()
    log_p = log_prior(prior, gaussian_posteriors(prior), z, inputs.x.dtype)
    return Part(z, index, log_p, len(q))


def _one_thread() -> AbstractContextManager[object]:
    """Limits scikit-learn's threads: its fits are small, and its pool and torch's fight for cores.

    With both at two threads on two busy cores a fit took ten times as long as with one.
    """
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    limits: AbstractContextManager[object] = threadpool_limits(1)
    return limits


def _chosen(fit: Part, choose: Part) -> tuple[str, LogDensity | None]:
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
        log_r = _fitted(fit.z, components, covariance)
        yield f"{kind}, {'diagonal' if covariance == 'diag' else covariance} covariance", log_r


def _fitted(z: Tensor, components: int, covariance: str) -> LogDensity:
    """Fits a Gaussian mixture to standardised draws by expectation–maximisation."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import GaussianMixture

    centre, scale = z.mean(0), z.std(0).clamp(min=torch.finfo(z.dtype).tiny)
    mixture = GaussianMixture(
        components, covariance_type=covariance, random_state=int(torch.randint(2**31, ()))
    )
    with warnings.catch_warnings():
        # Any density bounds: one that has not converged is only a looser bound.
        warnings.simplefilter("ignore", ConvergenceWarning)
        mixture.fit(_standardised(z, centre, scale))

    def log_r(z: Tensor) -> Tensor:
        log_density = mixture.score_samples(_standardised(z, centre, scale))
        return torch.from_numpy(log_density).to(z) - scale.log().sum()

    return log_r


def _standardised(
    z: Tensor, centre: Tensor, scale: Tensor
) -> np.ndarray[Any, np.dtype[np.float64]]:
    array: np.ndarray[Any, np.dtype[np.float64]] = ((z - centre) / scale).cpu().numpy()
    return array
