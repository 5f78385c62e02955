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

from collections.abc import Iterator

from torch import Tensor

from elboscope.core import Estimate, LatentVariableModel, evaluating, seeded, standard_error

from .aggregate import averages
from .aggregate_parts import Part, split_aggregate
from .gaussian_mixture import Covariance, LogDensity, fitted_mixture, one_thread

# (components, covariance): what is fitted, if the draws suffice for its parameters.
MIXTURES: tuple[tuple[int, Covariance], ...]
MIXTURES = ((1, "diag"), (1, "full"), (5, "diag"), (20, "diag"), (5, "full"))
LARGEST_FULL = 200


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
        fit, choose, evaluate = parts.fit, parts.choose, parts.evaluate
        with one_thread():
            name, log_r = _choose(fit, choose)
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
            **parts.settings,
            "density": name,
            "estimand": "the population's KL(q‖p), bounded from below",
            "error": "given this density: another split would choose another bound",
        },
        data_id=parts.data_id,
        notes=parts.notes,
        nonnegative=True,
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
