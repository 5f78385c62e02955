r"""Single datapoints of a model with two latents: the true posterior, and what q and every q* miss.

The datapoints are found by their numbers: the largest amortisation gap, the largest approximation
gap, and typical ones, whose two gaps are nearest to the medians in units of the median deviation.
The largest of many estimated gaps is picked by its noise too, so that beside each estimate
:math:`\log \hat p(x) - L[q]` stands what it estimates, by quadrature on the grid of
:mod:`.grid_posterior`:

.. math:: \mathrm{KL}(q \| p(z|x)) = \log p(x) - L[q]

An auxiliary flow has no density of z alone: its contours are drawn from draws, its KL is not known,
and what is estimated, over z and v together, is an upper bound on it.
"""

from __future__ import annotations

__all__ = ["LocalPosterior", "PicturedDensity", "local_posteriors", "rows_of"]

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float64
from torch import Tensor
from torch.distributions import Distribution, Independent, MultivariateNormal, Normal

from elboscope.core import (
    Estimate,
    InputError,
    LatentVariableModel,
    data_id,
    evaluating,
    given,
    paired_difference,
    seeded,
)

from ..inputs import Inputs, blocks, prepared, require_positive
from .flow_family import LocalFlowPosterior
from .gap_result import InferenceGap
from .grid import GridPosterior, density_of_draws, grid_posterior, log_density_at

NUM_PICTURES = 4
ENCODER = "q(z|x)"
TYPICAL = "typical, gaps near their medians"
# The Gaussian that smooths draws, in standard deviations of the true posterior (of a Gaussian with
# its entropy); how far below its maximum a density is still shown, 3 standard deviations.
SMOOTHING, SHOWN_DEPTH = 0.15, 4.5
# A sum over the nodes that is wrong by more, for q or with every other node for p, is no integral.
COARSE = 0.01


@dataclass(frozen=True, eq=False)
class PicturedDensity:
    """An approximation of one datapoint's posterior.

    Attributes:
        name: ``"q(z|x)"`` of the encoder, ``"q*_diagonal"``, ``"q*_full"`` or ``"q*_flow"``.
        density: At the nodes of the picture.
        num_draws: Draws that the density is made of; 0 where it is exact.
        kl: KL(q‖p(z|x)) in nats by quadrature; NaN where q has no density, or where the grid is too
            coarse for it.
        gap: log p̂(x) − L[q], the estimate of it.
        gap_error: Monte Carlo error of ``gap``.
    """

    name: str
    density: Float64[Tensor, "P Q"]
    num_draws: int
    kl: float
    gap: float
    gap_error: float


@dataclass(frozen=True, eq=False)
class LocalPosterior:
    """One datapoint: p(z|x) where it or one of its approximations counts.

    Attributes:
        row: Row of x.
        reason: Why it was chosen.
        amortisation: L[q*] − L[q] in nats, with its Monte Carlo error.
        approximation: log p̂ − L[q*], with its Monte Carlo error.
        log_px: log p(x), by the grid.
        edge: Mass of the posterior in the outermost cells of the grid.
        z1: Nodes of the first latent.
        z2: Nodes of the second.
        density: p(z|x) at the nodes.
        approximations: q and every q*.
    """

    row: int
    reason: str
    amortisation: tuple[float, float]
    approximation: tuple[float, float]
    log_px: float
    edge: float
    z1: Float64[Tensor, " P"]
    z2: Float64[Tensor, " Q"]
    density: Float64[Tensor, "P Q"]
    approximations: tuple[PicturedDensity, ...]


@torch.no_grad()
def local_posteriors(
    model: LatentVariableModel,
    x: object,
    gap: InferenceGap,
    *,
    points: int = 256,
    num_draws: int = 40_000,
    seed: int | None = None,
    condition: Tensor | None = None,
) -> tuple[LocalPosterior, ...]:
    """Returns the posteriors of four datapoints with what approximates them, to be drawn.

    They are pictures of single datapoints and say nothing of the others; the numbers beside them
    are those of ``gap`` and of the quadrature.

    Args:
        model: With two real latents.
        x: The data of which ``gap`` is.
        gap: What :func:`.inference_gap` returned.
        points: Nodes along a side of the grid; the picture is cut out of it.
        num_draws: Draws of a q without a density.
        seed: Random seed; None picks one and records it.
        condition: One row per datapoint.

    Returns:
        As many as there are datapoints with a value, but not more than four: the largest
        amortisation gap, the largest approximation gap, typical ones.

    Raises:
        InputError: Not two latents; ``gap`` is of other data.

    References:
        | Inference Suboptimality in Variational Autoencoders (Cremer, Li, Duvenaud, 2018),
          https://arxiv.org/abs/1801.03558

    Example:
        >>> import elboscope as es
        >>> model = es.models.LinearGaussian.instance_1().with_mistuned_posterior(0.3)
        >>> x, _ = model.sample(5, seed=0)
        >>> gap = es.inference_gap(model, x, richer=None, num_samples=1000, seed=0)
        >>> first = local_posteriors(model, x, gap, points=64)[0]
        >>> first.reason, [q.name for q in first.approximations]
        ('largest amortisation gap', ['q(z|x)', 'q*_diagonal'])
        >>> q = first.approximations[1]
        >>> abs(q.kl - model.approximation_gap().item()) < 0.02
        True
    """
    require_positive("num_draws", num_draws)
    inputs = prepared(model, x, condition)
    _require_same(gap, inputs)
    chosen = _choose(gap.amortisation.values, gap.approximation.values)
    rows = gap.index.cpu()[list(chosen)]
    some = inputs.take(rows.to(inputs.x.device))
    with evaluating(model), seeded(seed):
        found = _approximations(model, some, gap, rows)
        true = grid_posterior(
            model, some.x, points=points, beside=tuple(found.values()), condition=some.condition
        )
        densities = {name: _density(q, true, num_draws) for name, q in found.items()}
        return tuple(
            _picture(gap, place, why, number, true, densities, num_draws)
            for number, (place, why) in enumerate(chosen.items())
        )


def _require_same(gap: InferenceGap, inputs: Inputs) -> None:
    rows = gap.index.to(inputs.x.device)
    fits = not len(rows) or int(rows.max()) < len(inputs.x)
    whole = len(rows) == len(inputs.x)
    if not fits or gap.elbo.data_id != (inputs.data_id if whole else data_id(inputs.x[rows])):
        raise InputError(
            "gap",
            expected=f"the inference gap of this x, data {inputs.data_id}",
            got=f"one of data {gap.elbo.data_id}",
            do="Measure it with es.inference_gap(model, x).",
        )


def _choose(
    amortisation: Float64[Tensor, " m"], approximation: Float64[Tensor, " m"]
) -> Mapping[int, str]:
    """Places among the datapoints that have a value, each once, and why."""
    if not len(amortisation):
        return {}
    first, second = int(amortisation.argmax()), int(approximation.argmax())
    chosen = {first: "largest amortisation gap"}
    if first == second:
        chosen[first] = "largest of both gaps"
    else:
        chosen[second] = "largest approximation gap"
    for place in (_distance(amortisation) + _distance(approximation)).argsort().tolist():
        if place not in chosen and len(chosen) < NUM_PICTURES:
            chosen[place] = TYPICAL
    return chosen


def _distance(values: Float64[Tensor, " m"]) -> Float64[Tensor, " m"]:
    """From the median, in units of the median distance from it."""
    distance = (values - values.median()).abs()
    return distance / distance.median().clamp(min=1e-12)


def _approximations(
    model: LatentVariableModel, some: Inputs, gap: InferenceGap, rows: Tensor
) -> dict[str, Distribution]:
    q = given(model, some.condition).encode(some.x)
    best = {f"q*_{name}": rows_of(found.posterior, rows) for name, found in gap.optimal.items()}
    return {ENCODER: q, **best}


def _density(
    q: Distribution, true: GridPosterior, num_draws: int
) -> tuple[Float64[Tensor, "B P Q"], bool]:
    """Returns log q(z) at the nodes, and whether it is exact."""
    try:
        return log_density_at(q, true), True
    except NotImplementedError:
        z = q.sample(torch.Size((num_draws,))).flatten(2)
    width = ((true.entropy() - math.log(2 * math.pi * math.e)) / 2).exp() * SMOOTHING
    parts = [
        density_of_draws(z[:, row], true.z1[row], true.z2[row], width[row].item())
        for row in range(z.shape[1])
    ]
    return torch.stack(parts).to(true.z1.device).log(), False


def _picture(
    gap: InferenceGap,
    place: int,
    why: str,
    number: int,
    true: GridPosterior,
    densities: Mapping[str, tuple[Float64[Tensor, "B P Q"], bool]],
    num_draws: int,
) -> LocalPosterior:
    one = true.row(number)
    log_q = {name: (found[number], exact) for name, (found, exact) in densities.items()}
    window = _window([one.log_density[0], *(found for found, _ in log_q.values())])
    approximations = tuple(
        PicturedDensity(
            name,
            found[window].exp(),
            0 if exact else num_draws,
            _kl(one, found) if exact else math.nan,
            *_estimate(gap, name, place),
        )
        for name, (found, exact) in log_q.items()
    )
    return LocalPosterior(
        row=int(gap.index[place]),
        reason=why,
        amortisation=_value(gap.amortisation, place),
        approximation=_value(gap.approximation, place),
        log_px=one.log_px.item(),
        edge=one.edge().item(),
        z1=one.z1[0, window[0]],
        z2=one.z2[0, window[1]],
        density=one.log_density[0][window].exp(),
        approximations=approximations,
    )


def _kl(one: GridPosterior, log_q: Float64[Tensor, "P Q"]) -> float:
    """NaN where q or the posterior is narrower than a cell: their sums are no integrals then."""
    share, error = one.share(log_q[None]), one.quadrature_error()
    coarse = bool((share - 1).abs() > COARSE) or not bool(error <= COARSE)
    return math.nan if coarse else one.kl(log_q[None]).item()


def _estimate(gap: InferenceGap, name: str, place: int) -> tuple[float, float]:
    """Returns log p̂ − L[q] with its Monte Carlo error."""
    elbo = gap.elbo if name == ENCODER else gap.optimal_elbo[name.removeprefix("q*_")]
    return _value(paired_difference(gap.log_px, elbo, "gap"), place)


def _value(estimate: Estimate, place: int) -> tuple[float, float]:
    return estimate.values[place].item(), estimate.mc_stderr[place].item()


def _window(log_densities: Sequence[Float64[Tensor, "P Q"]]) -> tuple[slice, slice]:
    """The smallest part of the grid that shows where each of the densities counts."""
    seen = torch.stack([found >= found.max() - SHOWN_DEPTH for found in log_densities]).any(0)
    return _span(seen.any(1)), _span(seen.any(0))


def _span(seen: Tensor) -> slice:
    places = seen.nonzero()[:, 0]
    if not len(places):  # no number anywhere
        return slice(None)
    return slice(max(int(places[0]) - 1, 0), int(places[-1]) + 2)


# Some datapoints of a posterior over many: Gaussians are taken apart, others draw for all.

Shape = torch.Size | list[int] | tuple[int, ...]
# Draws at once, over all datapoints of a posterior whose rows cannot be taken apart.
DRAWS_AT_ONCE = 2**18


class _Rows(Distribution):
    """Some datapoints of a distribution that only draws for all of them together."""

    def __init__(self, q: Distribution, rows: Tensor) -> None:
        self.q, self.rows_taken = q, rows
        super().__init__(torch.Size((len(rows),)), q.event_shape, validate_args=False)

    def sample(self, sample_shape: Shape = ()) -> Tensor:
        """Draws for all and keeps what was asked for."""
        K, n = math.prod(sample_shape), self.q.batch_shape.numel()
        size = max(1, DRAWS_AT_ONCE // n)
        parts = [
            self.q.sample(torch.Size((rows.stop - rows.start,)))[:, self.rows_taken]
            for rows in blocks(K, size)
        ]
        return torch.cat(parts).reshape(*sample_shape, *self.batch_shape, *self.event_shape)

    def log_prob(self, value: Tensor) -> Tensor:
        """Refuses: it is unknown for some rows alone."""
        raise NotImplementedError("a density of some datapoints")


def rows_of(q: Distribution, rows: Tensor) -> Distribution:
    """Returns q of some datapoints; one that cannot be taken apart only draws, for all of them.

    Args:
        q: Batch ``(n,)``.
        rows: Which of them.

    Example:
        >>> q = Normal(torch.arange(3.0), torch.ones(3))
        >>> rows_of(q, torch.tensor([2, 0])).mean
        tensor([2., 0.])
    """
    match q:
        case Independent():
            base = rows_of(q.base_dist, rows)
            return Independent(base, q.reinterpreted_batch_ndims, validate_args=False)
        case Normal():
            return Normal(q.loc[rows], q.scale[rows], validate_args=False)
        case MultivariateNormal():
            L = q.scale_tril[rows]
            return MultivariateNormal(q.loc[rows], scale_tril=L, validate_args=False)
        case LocalFlowPosterior():
            return LocalFlowPosterior(q.family, tuple(p[rows] for p in q.parameters))
    return _Rows(q, rows)
