r"""Posteriors of a VAE and of an IWAE with two latents: what does a wider q buy?

The VAE's bound punishes every sample of q that the posterior would not make; the IWAE's forgives
them as long as some sample is good. So the IWAE's q may be wider than its posterior, and its
posterior need not look like a Gaussian. With two latents the posterior is known on a grid
(:mod:`.grid_posterior`), and the sentences become differences of entropies, in nats:

- H[q] of the IWAE − H[q] of the VAE (both under the same prior),
- H[q] − H[p(z|x)] of either,
- H[Gaussian with the posterior's moments] − H[p(z|x)], how far from a Gaussian it is.
"""

from __future__ import annotations

__all__ = ["EXPERIMENT", "grid_posterior"]

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple

import torch
from jaxtyping import Float, Float64
from matplotlib.figure import Figure
from torch import Tensor
from torch.distributions import Distribution, Independent

from elboscope.core import LatentVariableModel, evaluating
from elboscope.estimators import GridPosterior
from elboscope.models.exact.quadrature import line
from elboscope.plots.posteriors import PosteriorPanel, plot_posterior_contours
from elboscope.training import IWAE, MIWAE, Objective

from ..frame.claims import Claim, difference, judge, run_error
from ..frame.experiment import Experiment, Request, Run
from ..frame.images import Images, load_images
from ..frame.result import Row
from ..frame.training import PUBLISHED_EPOCHS, Schedule, burda_vae, train_members

NAME = "iwae-posteriors"
SOURCE = "Burda et al. 2016, in words, arXiv 1509.00519"
LIMIT = 6.0
SHOWN = 6
BLOCK = 100


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a scale means: training, seeds, images, nodes along a side of the grid."""

    schedule: Schedule
    num_seeds: int
    num_images: int
    points: int
    hidden: tuple[int, ...] = (200, 200)


PAPER = Plan(schedule=Schedule(epochs=PUBLISHED_EPOCHS), num_seeds=4, num_images=1000, points=480)
CPU = replace(PAPER, schedule=Schedule(epochs=4), num_seeds=2, num_images=200)
# Digits.
SMOKE = replace(
    PAPER, schedule=Schedule(epochs=2), num_seeds=1, num_images=10, points=80, hidden=(16,)
)
OBJECTIVES: Mapping[str, Objective] = {"VAE k=5": MIWAE(5, 1), "IWAE k=50": IWAE(50)}


class Widths(NamedTuple):
    """Entropies of each seed and image, in nats; and the posterior's mass at the grid's edge."""

    q: Float64[Tensor, "S n"]
    posterior: Float64[Tensor, "S n"]
    gaussian: Float64[Tensor, "S n"]
    log_px: Float64[Tensor, "S n"]
    edge: Float64[Tensor, "S n"]


class Found(NamedTuple):
    """What is measured of each objective, and one of its models."""

    widths: Mapping[str, Widths]
    first: Mapping[str, LatentVariableModel]


ThisRun = Run[Plan, Images]


def _load(request: Request[Plan]) -> Images:
    return load_images(request.scale, request.options)


def _run(run: ThisRun) -> Found:
    plan, x = run.plan, run.data.test[: run.plan.num_images]
    build, seeds = partial(burda_vae, latent_dim=2, hidden=plan.hidden), run.seeds(plan.num_seeds)
    models = {
        name: train_members(
            name, build, objective, run.data, plan.schedule, seeds, run.now, run.device
        )
        for name, objective in OBJECTIVES.items()
    }
    placed = {name: [model.cpu() for model in members] for name, members in models.items()}
    widths = {name: _widths(members, x, plan) for name, members in placed.items()}
    return Found(widths, {name: members[0] for name, members in placed.items()})


def _provenance(run: ThisRun, found: Found) -> Mapping[str, object]:
    schedule, seeds = run.plan.schedule, list(run.seeds(run.plan.num_seeds))
    return run.provenance(
        epochs=schedule.epochs,
        data=run.data.record(),
        settings=schedule.record() | {"latents": 2, "seeds": seeds},
    )


@torch.no_grad()
def _widths(models: Sequence[LatentVariableModel], x: Tensor, plan: Plan) -> Widths:
    members = [
        torch.cat([_of_images(model, rows, plan) for rows in x.split(BLOCK)], dim=1)
        for model in models
    ]
    return Widths(*torch.stack(members, dim=1))


def _of_images(model: LatentVariableModel, x: Tensor, plan: Plan) -> Float64[Tensor, "5 B"]:
    truth = grid_posterior(model, x, limit=LIMIT, points=plan.points)
    _, sigma = _moments(model, x)
    q = sigma.log().sum(1) + math.log(2 * math.pi * math.e)
    return torch.stack([q, truth.entropy(), truth.gaussian_entropy(), truth.log_px, truth.edge()])


def _moments(model: LatentVariableModel, x: Tensor) -> tuple[Tensor, Tensor]:
    with evaluating(model):
        q = model.encode(x)
    return q.mean.double(), q.stddev.double()


def _rows(run: ThisRun, found: Found) -> Iterator[Row]:
    for name, widths in found.widths.items():
        yield from _rows_of(name, widths, run.plan)


def _rows_of(name: str, found: Widths, plan: Plan) -> list[Row]:
    values = {
        "H[q]": found.q,
        "H[p(z|x)]": found.posterior,
        "H[q] − H[p(z|x)]": found.q - found.posterior,
        "H[Gaussian] − H[p(z|x)]": found.gaussian - found.posterior,
        "log p(x), by the grid": found.log_px,
    }
    return [_row(name, quantity, v, plan) for quantity, v in values.items()]


def _row(name: str, quantity: str, values: Float[Tensor, "S n"], plan: Plan) -> Row:
    S, n = values.shape
    found = difference(values, torch.zeros_like(values))
    kind = "se over images" + (" and seeds" if S > 1 else "")
    runs = tuple(values.mean(1).tolist())
    return Row(
        name, quantity, found.value, found.error, kind, plan.schedule.epochs,
        num_data=n, per_seed=runs,
    )  # fmt: skip


def _claims(run: ThisRun, found: Found) -> tuple[Claim, ...]:
    vae, iwae = found.widths["VAE k=5"], found.widths["IWAE k=50"]

    def claim(text: str, of: Callable[[Widths], Tensor], *, alone: bool = False) -> Claim:
        """Compares the IWAE with the VAE, or with zero."""
        other = torch.zeros_like(iwae.q) if alone else of(vae)
        runs = run_error([of(vae), of(iwae)]) / (math.sqrt(2) if alone else 1)
        return judge(text, SOURCE, difference(of(iwae), other, runs=runs))

    return (
        claim("q of the IWAE is wider than q of the VAE: H[q]", lambda w: w.q),
        claim(
            "q of the IWAE is wider than its true posterior: H[q] − H[p(z|x)] > 0",
            lambda w: w.q - w.posterior,
            alone=True,
        ),
        claim(
            "q of the IWAE exceeds its posterior by more than that of the VAE does",
            lambda w: w.q - w.posterior,
        ),
        claim(
            "the IWAE's posterior is farther from a Gaussian: H[Gaussian] − H[p(z|x)]",
            lambda w: w.gaussian - w.posterior,
        ),
    )


def _figures(run: ThisRun, found: Found) -> Mapping[str, Figure]:
    panels = _panels(found.first, run.data.test[:SHOWN], run.plan)
    return {"posteriors": plot_posterior_contours(panels)}


def _panels(
    models: Mapping[str, LatentVariableModel], x: Tensor, plan: Plan
) -> list[list[PosteriorPanel]]:
    return [
        [
            _panel(truth, row, (mean, sigma), name)
            for row, (mean, sigma) in enumerate(zip(*_moments(model, x), strict=True))
        ]
        for name, model in models.items()
        for truth in (grid_posterior(model, x, limit=LIMIT, points=plan.points),)
    ]


def _panel(truth: GridPosterior, row: int, q: tuple[Tensor, Tensor], label: str) -> PosteriorPanel:
    """Cuts out the square that holds three standard deviations of both."""
    mean, sigma = q
    truth = truth.row(row)
    density, axis = truth.log_density[0].exp(), truth.z1[0]
    centres, covariances = truth.moments()
    centre, spread = centres[0], covariances[0].diagonal().sqrt()
    half = max((3 * spread).max().item(), (3 * sigma + (mean - centre).abs()).max().item(), 0.1)
    inside = [((axis - c).abs() <= half).nonzero().flatten() for c in centre]
    cut = density[inside[0]][:, inside[1]]
    return PosteriorPanel(
        cut.numpy(),
        axis[inside[0]].numpy(),
        axis[inside[1]].numpy(),
        (mean[0].item(), mean[1].item()),
        (sigma[0].item(), sigma[1].item()),
        label,
    )


def _notes(run: ThisRun, found: Found) -> tuple[str, ...]:
    plan = run.plan
    edge = max(widths.edge.max().item() for widths in found.widths.values())
    spacing = 2 * LIMIT / (plan.points - 1)
    notes = [
        f"True posterior on a grid of {plan.points}² nodes over [−{LIMIT:g}, {LIMIT:g}]² "
        f"(spacing {spacing:.3f}): exact where the posterior is wider than that; at most "
        f"{edge:.1e} of any image's posterior mass lies at the edge.",
        "The paper says this in words and pictures, without publishing a number.",
    ]
    return (*notes, *plan.schedule.remarks(plan.num_seeds))


# The true posteriors of many images on one and the same grid of two latents.
#
# For binary x and a Bernoulli likelihood with logits g(z), log p(x|z) is affine in x, so all grid
# points and all x together are one matrix product. The grid is fine enough while the posterior is
# wider than its spacing and within its limits; what lies outside is not seen. Any likelihood, and
# a grid for each x: :func:`elboscope.estimators.inference.grid`.

ROWS = 8192


def grid_posterior(
    model: LatentVariableModel,
    x: Float[Tensor, "B *X"],
    *,
    limit: float = 5.0,
    points: int = 400,
) -> GridPosterior:
    """Returns the posterior of each x, by quadrature.

    Args:
        model: A model with two latents and a Bernoulli likelihood.
        x: Binary data.
        limit: Half the side of the grid, in units of z.
        points: Nodes along a side.

    Example:
        >>> from elboscope.reproductions.frame.training import burda_vae
        >>> x = torch.ones(1, 1, 2, 2)
        >>> found = grid_posterior(burda_vae(x, 2, (4,)), x, points=50)
        >>> round(found.mass().sum().item(), 6)
        1.0
    """
    axis, log_spacing = line(limit, points)
    nodes = torch.cartesian_prod(axis, axis)
    with evaluating(model):
        parts = [_log_joint(model, z, x) for z in nodes.split(ROWS)]
    log_joint = torch.cat(parts, dim=1)
    log_px = log_joint.logsumexp(1) + 2 * log_spacing
    log_density = (log_joint - log_px[:, None]).unflatten(1, (points, points))
    axes = axis.expand(len(x), points)
    return GridPosterior(log_density, axes, axes, log_px)


def _log_joint(model: LatentVariableModel, z: Tensor, x: Tensor) -> Float64[Tensor, "B P"]:
    placed = z.to(x)
    logits = _logits(model.decode(placed.unsqueeze(1))).flatten(1).double()
    at_zero = torch.nn.functional.softplus(logits).sum(1)
    log_prior = model.prior().log_prob(placed).double()
    return x.flatten(1).double() @ logits.T + (log_prior - at_zero)


def _logits(likelihood: Distribution) -> Tensor:
    assert isinstance(likelihood, Independent)
    logits: Tensor = likelihood.base_dist.logits
    return logits.flatten(0, 1)


EXPERIMENT = Experiment(
    name=NAME,
    title="Importance Weighted Autoencoders: posteriors of two latents",
    plans={"smoke": SMOKE, "cpu": CPU, "paper": PAPER},
    load=_load,
    run=_run,
    provenance=_provenance,
    rows=_rows,
    claims=_claims,
    notes=_notes,
    figures=_figures,
)
