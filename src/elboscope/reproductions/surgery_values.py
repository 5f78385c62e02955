r"""The parts of the ELBO of one model, at one time of its training.

.. math:: \frac1N \sum_n \mathrm{ELBO}(x_n) = \mathbb{E}\log p(x|z) - I_q(n; z)
          - \underbrace{\mathrm{TC} - \sum_j \mathrm{KL}(q(z_j) \| p(z_j))}
          _{-\mathrm{KL}(q_N(z) \| p(z))}

While a model is trained only the first line is taken, on some draws; at the end all of it, with
the held-out lower bound on the population's marginal KL, and with densities fitted to q(z) in the
place of the prior. Each part is a pair: the value and its standard error for other data.
"""

from __future__ import annotations

__all__ = ["FAMILIES", "Parts", "final_parts", "fitted_parts", "parts_now"]

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from elboscope.core import Estimate, LatentVariableModel, evaluating, seeded
from elboscope.estimators import elbo_surgery, evidence_lower_bound, fit_prior, marginal_kl
from elboscope.estimators.aggregate_draws import draw_aggregate
from elboscope.estimators.evaluation import prepared
from elboscope.estimators.fitted_prior import PriorDensity
from elboscope.estimators.lower_bound import reconstruction
from elboscope.estimators.marginal_kl import marginal_kl_of
from elboscope.estimators.mutual_information import information_of
from elboscope.estimators.surgery import average_kl_of

FAMILIES: Mapping[PriorDensity, str] = {"gmm": "Gaussian mixture", "flow": "flow"}
RECONSTRUCTED = 5000
RECONSTRUCTIONS = 5
BOUND_SAMPLES = 10

Parts = Mapping[str, Tensor]
"""Pairs (value, standard error) by name; ``test`` holds the bound of every test image."""


def parts_now(
    model: LatentVariableModel, x: Float[Tensor, "N *X"], *, seed: int, num_draws: int | None = None
) -> Parts:
    """Returns reconstruction, average KL, information and marginal KL of a model.

    Args:
        model: The model.
        x: The data behind q_N, binary once; the reconstruction is of the first 5000.
        seed: Of the draws.
        num_draws: S; by default as many as take seconds.

    Example:
        >>> import elboscope as es
        >>> model = es.models.LinearGaussian.instance_1()
        >>> parts = parts_now(model, model.sample(500, seed=0)[0], seed=0)
        >>> gap = parts["kl"][0] - parts["information"][0] - parts["marginal_kl"][0]
        >>> abs(gap.item()) < 1e-9
        True
    """
    inputs = prepared(model, x, None)
    with evaluating(model), seeded(seed) as used:
        draws = draw_aggregate(model, inputs, num_draws, used)
    found = {
        "reconstruction": reconstruction(model, x[:RECONSTRUCTED], RECONSTRUCTIONS, seed=seed),
        "kl": average_kl_of(draws),
        "information": information_of(draws),
        "marginal_kl": marginal_kl_of(draws),
    }
    return {name: _pair(estimate) for name, estimate in found.items()}


def final_parts(
    model: LatentVariableModel,
    x: Float[Tensor, "N *X"],
    x_test: Float[Tensor, "n *X"],
    *,
    seed: int,
) -> Parts:
    """Returns all parts, and the bound of the test images.

    Args:
        model: The model.
        x: The data behind q_N.
        x_test: Of the held-out lower bound and the test bound.
        seed: Of the draws.
    """
    parts = elbo_surgery(model, x, seed=seed, x_held_out=x_test)
    named = {
        "reconstruction": parts.reconstruction,
        "kl": parts.kl,
        "information": parts.mutual_information,
        "marginal_kl": parts.marginal_kl,
        "marginal_kl_plain": parts.marginal_kl_plain,
        "held_out": parts.marginal_kl_held_out,
        "total_correlation": parts.total_correlation,
    }
    found = {name: _pair(e) for name, e in named.items() if e is not None}
    by_unit = parts.dimensionwise_kl
    if by_unit is not None:
        found["dimensionwise_kl"] = torch.tensor(
            [by_unit.values.sum().item(), by_unit.stderr], dtype=torch.float64
        )
    bound = evidence_lower_bound(model, x_test, BOUND_SAMPLES, seed=seed)
    return found | {"test": bound.values.double().cpu()}


def fitted_parts(
    model: LatentVariableModel,
    x: Float[Tensor, "N *X"],
    x_test: Float[Tensor, "n *X"],
    *,
    max_steps: int,
    seed: int,
) -> Parts:
    """Returns the held-out gain of each family of fitted priors, and the marginal KL it leaves.

    Args:
        model: The model; it is not changed.
        x: To fit and to choose on.
        x_test: To evaluate the gain on.
        max_steps: Of the flow.
        seed: Of split, draws and fits.
    """
    found: dict[str, Tensor] = {}
    for family in FAMILIES:
        fitted = fit_prior(model, x, family, x_held_out=x_test, max_steps=max_steps, seed=seed)
        found[f"gain.{family}"] = _pair(fitted.gain)
        found[f"left.{family}"] = _pair(marginal_kl(fitted, x, seed=seed))
    return found


def _pair(estimate: Estimate) -> Tensor:
    return torch.tensor([estimate.mean, estimate.stderr], dtype=torch.float64)
