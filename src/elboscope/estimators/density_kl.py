r"""Lower bounds on the marginal KL by a density model of q(z): mixture, flow or LSTM.

.. math:: \mathbb{E}_{q(z)}[\log r(z) - \log p(z)]
          = \mathrm{KL}(q(z) \| p(z)) - \mathrm{KL}(q(z) \| r(z)) \le \mathrm{KL}(q(z) \| p(z))

r is fitted to draws from the posteriors of some datapoints, chosen by others, and evaluated on a
third part, so that the value is unbiased for this r's bound on the *population's* KL. How far two
families disagree is how much the worse one misses of q(z); how far the better one misses is not
known from them.
"""

from __future__ import annotations

__all__ = ["DENSITIES", "DensityFamily", "density_kl_of", "marginal_kl_by_density"]

from typing import Literal

from torch import Tensor

from elboscope.core import (
    Estimate,
    InputError,
    LatentVariableModel,
    evaluating,
    seeded,
    standard_error,
)

from .aggregate_draws import averages
from .aggregate_parts import Parts, split_aggregate
from .density_networks import AutoregressiveLSTM, FlowDensity, fitted_network
from .evaluation import require_positive
from .gaussian_mixture import LogDensity, fitted_mixture, one_thread

DensityFamily = Literal["gmm", "maf", "lstm"]
DENSITIES: tuple[DensityFamily, ...] = ("gmm", "maf", "lstm")
# Components of the diagonal mixtures that are tried, where the datapoints suffice.
COMPONENTS = (1, 3, 10, 30, 100)
MAX_STEPS = 2000


def marginal_kl_by_density(
    model: LatentVariableModel,
    x: object,
    family: DensityFamily = "maf",
    *,
    x_held_out: object = None,
    max_steps: int = MAX_STEPS,
    seed: int | None = None,
    condition: Tensor | None = None,
    condition_held_out: Tensor | None = None,
) -> Estimate:
    r"""Bounds :math:`\mathrm{KL}(q(z) \| p(z))` from below by a density model of q(z), in nats.

    It is not an estimate of that KL: it lacks KL(q(z) ‖ r). Nor is a value of zero evidence of a
    matched prior.

    Args:
        model: The model, with an encoder.
        x: Data. Half fits, a quarter chooses, a quarter evaluates.
        family: ``"gmm"``, mixtures of up to 100 diagonal Gaussians; ``"maf"``, a masked
            autoregressive flow; ``"lstm"``, an autoregressive LSTM with Gaussian conditionals.
        x_held_out: Data to evaluate on; then two thirds of x fit and one third chooses.
        max_steps: Gradient steps of the networks at most.
        seed: Of the split, the draws and the fit.
        condition: One row per datapoint of x.
        condition_held_out: One row per datapoint of x_held_out.

    Returns:
        log r − log p per datapoint of the evaluated part; the method names r.

    Raises:
        InputError: Fewer than twenty datapoints; a flow of one latent unit; draws that are not
            finite.

    References:
        | Distribution Matching in Variational Inference (Rosca et al., 2018),
          https://arxiv.org/abs/1802.06847, algorithm 4
        | Masked Autoregressive Flow for Density Estimation (Papamakarios et al., 2017),
          https://arxiv.org/abs/1705.07057

    Example:
        >>> import elboscope as es
        >>> model = es.models.LinearGaussian.instance_1()
        >>> x, _ = model.sample(400, seed=0)
        >>> bound = es.marginal_kl_by_density(model, x, "gmm", seed=0)
        >>> bound.side, bound.mean < model.marginal_kl().item() + 3 * bound.stderr
        ('lower', True)
    """
    require_positive("max_steps", max_steps)
    with evaluating(model), seeded(seed) as used:
        parts = split_aggregate(model, x, x_held_out, condition, condition_held_out)
        return density_kl_of(parts, family, used, max_steps=max_steps)


def density_kl_of(
    parts: Parts, family: DensityFamily, seed: int, *, max_steps: int = MAX_STEPS
) -> Estimate:
    """From draws in three parts to the bound of one family; inside ``core.seeded``."""
    name, log_r, record = _fitted(parts, family, max_steps)
    evaluate = parts.evaluate
    with one_thread():
        log_density = log_r(evaluate.z)
    a = averages(log_density - evaluate.log_p, evaluate.which, evaluate.size)
    return Estimate(
        "KL(q(z) ‖ p(z))",
        f"held-out density: {name}",
        a.values,
        a.mc_stderr,
        "lower",
        standard_error(a.values),
        settings={
            "seed": seed,
            **parts.settings,
            "density": name,
            **record,
            "estimand": "the population's KL(q‖p), bounded from below",
        },
        data_id=parts.data_id,
        nonnegative=True,
    )


def _fitted(
    parts: Parts, family: DensityFamily, max_steps: int
) -> tuple[str, LogDensity, dict[str, object]]:
    if family == "gmm":
        with one_thread():
            return _best_mixture(parts)
    name, network = _network(family, parts.fit.z.shape[1])
    log_r, ended = fitted_network(network, parts.fit, parts.choose, max_steps=max_steps)
    return name, log_r, ended._asdict()


def _network(family: DensityFamily, d: int) -> tuple[str, FlowDensity | AutoregressiveLSTM]:
    match family:
        case "maf":
            return "masked autoregressive flow", FlowDensity(d)
        case "lstm":
            return "autoregressive LSTM", AutoregressiveLSTM(d)
    raise InputError("family", expected="'gmm', 'maf' or 'lstm'", got=repr(family))


def _best_mixture(parts: Parts) -> tuple[str, LogDensity, dict[str, object]]:
    """The number of components that scores best on the second part."""
    scores: dict[int, float] = {}
    fits: dict[int, LogDensity] = {}
    for K in COMPONENTS:
        if K > 1 and parts.fit.size < 4 * K:
            continue
        fits[K] = fitted_mixture(parts.fit.z, K, "diag")
        scores[K] = fits[K](parts.choose.z).mean().item()
    K = max(scores, key=lambda k: scores[k])
    kind = "diagonal Gaussian" if K == 1 else f"mixture of {K} diagonal Gaussians"
    return kind, fits[K], {"components": K}
