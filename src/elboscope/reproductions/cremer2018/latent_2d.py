r"""Cremer et al. (2018): true posteriors of two latents, and what q, q* and a flow make of them.

.. math:: \mathrm{KL}(q \| p(z|x)) = \log p(x) - L[q]

With two latents the posterior is known on a grid, so that these are no estimates: the approximation
gap is KL(q*‖p(z|x)) of the best diagonal Gaussian, the amortisation gap is KL(q‖p(z|x)) minus
that. The flow on (z, v) has no density of z alone: its log p(x) − L[q*] is the KL of z and v
together, and its KL is at most that. The searches for q* and the estimated log p̂ are those of
:func:`elboscope.inference_gap`; how far log p̂ is from the grid's log p(x) is a row of the table.

The four datapoints of the figure are found by their gaps.
"""

from __future__ import annotations

__all__ = ["EXPERIMENT"]

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import NamedTuple

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from elboscope.core import LatentVariableModel, evaluating, seeded
from elboscope.estimators import (
    InferenceGap,
    LocalPosterior,
    grid_posterior,
    inference_gap,
    local_posteriors,
)
from elboscope.estimators.inference.grid import log_density_at
from elboscope.estimators.inference.local_posteriors import rows_of
from elboscope.plots import Figure, local_posteriors_data, plot_local_posteriors

from ..frame.claims import Claim, difference, judge
from ..frame.experiment import Experiment
from ..frame.result import Row
from ..frame.training import PUBLISHED_EPOCHS, Schedule, derived_seed
from .gaps import IMAGES, GapPlan, GapRun, cremer_vae, gap_row, load_gap_images, train_model

NAME = "latent-2d"
SOURCE = "Cremer et al. 2018, figure of two latents, in words, arXiv 1801.03558"
LABEL = "VAE with 2 latents"
# Nodes along a side, for the numbers.
POINTS = 96
# Nats by which log p̂ may be short of log p(x) before the image is named.
MISSED = 0.5

PAPER = GapPlan(
    data="MNIST",
    schedule=Schedule(epochs=PUBLISHED_EPOCHS),
    num_seeds=1,
    num_images=1000,
    latents=2,
)
CPU = replace(PAPER, schedule=Schedule(epochs=4), num_images=100)
SMOKE = replace(
    PAPER,
    data="digits",
    schedule=Schedule(epochs=3),
    num_images=8,
    num_samples=300,
    max_steps=60,
    width=16,
)


class Fits(NamedTuple):
    """What is known of each image, in nats; all by quadrature but for the last two.

    Attributes:
        log_px: log p(x).
        encoder: KL of q from the posterior.
        diagonal: KL of the best diagonal Gaussian.
        flow: log p(x) − L[q*_flow], of z and v; at least its KL.
        entropy: H of the true posterior.
        encoder_entropy: H[q].
        diagonal_entropy: H[q*_diagonal].
        gaussian_entropy: H of the Gaussian with the posterior's moments.
        log_px_estimate: log p̂ minus log p(x).
        gap_estimate: log p̂ − L[q] minus the KL of q.
        edge: Mass of the posterior at the edge of the grid.
        quadrature: What half the nodes change in log p(x).
    """

    log_px: Float64[Tensor, " n"]
    encoder: Float64[Tensor, " n"]
    diagonal: Float64[Tensor, " n"]
    flow: Float64[Tensor, " n"]
    entropy: Float64[Tensor, " n"]
    encoder_entropy: Float64[Tensor, " n"]
    diagonal_entropy: Float64[Tensor, " n"]
    gaussian_entropy: Float64[Tensor, " n"]
    log_px_estimate: Float64[Tensor, " n"]
    gap_estimate: Float64[Tensor, " n"]
    edge: Float64[Tensor, " n"]
    quadrature: Float64[Tensor, " n"]


class Found(NamedTuple):
    """What is known of each image, the search for q*, and the images of the figure."""

    fits: Fits
    gap: InferenceGap
    shown: tuple[LocalPosterior, ...]


def _run(run: GapRun) -> Found:
    """The training is kept by the state; the search for q* is not."""
    images, plan = run.data, run.plan
    hidden = (plan.width, plan.width)
    with seeded(derived_seed(NAME, run.seed)):
        model = cremer_vae(images.train, encoder=hidden, decoder=hidden, latent_dim=2)
    placed = model.to(run.device)
    model = train_model(NAME, placed, images.train, plan, run.seed, run.now, run.device)
    x = images.first_of_train(plan.num_images).to(run.device)
    gap = _search(model, x, run)
    return Found(_fits(model, x, gap), gap, local_posteriors(model, x, gap, seed=run.seed))


def _provenance(run: GapRun, found: Found) -> Mapping[str, object]:
    return run.provenance(
        epochs=run.plan.schedule.epochs,
        data=run.data.record(),
        settings=run.plan.record() | {"points": POINTS},
    )


def _search(model: LatentVariableModel, x: Tensor, run: GapRun) -> InferenceGap:
    run.now.require_time("the search for the best posteriors")
    return inference_gap(
        model,
        x,
        "diagonal",
        num_samples=run.plan.num_samples,
        max_steps=run.plan.max_steps,
        seed=run.seed,
        progress=lambda done, total: run.now.say("best posteriors", done, total),
    )


@torch.no_grad()
def _fits(model: LatentVariableModel, x: Float[Tensor, "N *X"], gap: InferenceGap) -> Fits:
    with evaluating(model):
        rows = gap.index.to(x.device)
        q = model.encode(x[rows])
        best = rows_of(gap.optimal["diagonal"].posterior, rows)
        true = grid_posterior(model, x[rows], points=POINTS, beside=(q, best))
        encoder, diagonal = (true.kl(log_density_at(p, true)) for p in (q, best))
    estimates = (gap.log_px, gap.inference, gap.optimal_elbo["flow"])
    log_px, inference, flow = (e.values.to(true.log_px) for e in estimates)
    return Fits(
        log_px=true.log_px,
        encoder=encoder,
        diagonal=diagonal,
        flow=true.log_px - flow,
        entropy=true.entropy(),
        encoder_entropy=q.entropy().double(),
        diagonal_entropy=best.entropy().double(),
        gaussian_entropy=true.gaussian_entropy(),
        log_px_estimate=log_px - true.log_px,
        gap_estimate=inference - encoder,
        edge=true.edge(),
        quadrature=true.quadrature_error(),
    )


def _rows(run: GapRun, found: Found) -> Iterator[Row]:
    fits, plan = found.fits, run.plan
    by_quadrature = {
        "log p(x)": fits.log_px,
        "KL(q‖p(z|x)), the inference gap": fits.encoder,
        "KL(q*_diagonal‖p(z|x)), the approximation gap": fits.diagonal,
        "their difference, the amortisation gap": fits.encoder - fits.diagonal,
        "H[p(z|x)]": fits.entropy,
        "H[q] − H[p(z|x)]": fits.encoder_entropy - fits.entropy,
        "H[q*_diagonal] − H[p(z|x)]": fits.diagonal_entropy - fits.entropy,
        "H[Gaussian of its moments] − H[p(z|x)]": fits.gaussian_entropy - fits.entropy,
    }
    estimated = {
        "log p(x) − L[q*_flow] ≥ KL(q*_flow‖p(z|x))": fits.flow,
        "log p̂, estimate minus grid": fits.log_px_estimate,
        "log p̂ − L[q], estimate minus grid": fits.gap_estimate,
    }
    for quantity, values in by_quadrature.items():
        yield replace(gap_row(LABEL, quantity, values[None], plan), num_samples=None)
    for quantity, values in estimated.items():
        yield gap_row(LABEL, quantity, values[None], plan)


def _claims(run: GapRun, found: Found) -> tuple[Claim, ...]:
    fits = found.fits
    pairs = {
        "the best diagonal Gaussian of each image fits better than the encoder's q: KL": (
            fits.encoder,
            fits.diagonal,
        ),
        "the best flow of each image fits better than the best diagonal Gaussian: "
        "KL, of the flow its upper bound": (fits.diagonal, fits.flow),
    }
    return tuple(
        judge(text, SOURCE, difference(worse[None], better[None], data=IMAGES))
        for text, (worse, better) in pairs.items()
    )


def _figures(run: GapRun, found: Found) -> dict[str, Figure]:
    data = local_posteriors_data(found.shown)
    return {} if data is None else {"posteriors": plot_local_posteriors(data)}


def _notes(run: GapRun, found: Found) -> tuple[str, ...]:
    fits, gap, shown = found
    return (
        f"A grid of {POINTS}² nodes for each image: at most {fits.edge.max().item():.0e} of a "
        f"posterior lies at its edge, and half the nodes change log p(x) by at most "
        f"{fits.quadrature.max().item():.0e} nats.",
        "Numbers without a K are sums over the grid; L[q*_flow], log p̂ and L[q] are estimates.",
        "The search for the flow begins at the best diagonal Gaussian and is never below it: the "
        "claims ask whether the gain is more than its error.",
        f"The figure shows images {', '.join(f'{one.row} ({one.reason})' for one in shown)}; "
        "the numbers chose them. Lines of the flow show smoothed draws.",
        *(f"q*_{name}: {best.certificate}." for name, best in gap.optimal.items()),
        *_missed(fits, gap),
        "Images are the first training images, binarised once by seed 0.",
        "The paper shows this in a figure and in words, without publishing a number.",
        *run.plan.schedule.remarks(run.plan.num_seeds),
    )


def _missed(fits: Fits, gap: InferenceGap) -> tuple[str, ...]:
    """Says of which images the grid sees more than every search and every sample did."""
    short = -fits.log_px_estimate
    images = ", ".join(
        f"{row} by {nats:.1f}"
        for row, nats in zip(gap.index.tolist(), short.tolist(), strict=True)
        if nats > MISSED
    )
    if not images:
        return (f"log p̂ is nowhere more than {MISSED:g} nats below the grid's log p(x).",)
    return (
        f"log p̂ is below the grid's log p(x) for images {images} nats: a mode of the posterior "
        "that neither the encoder nor any start of the searches led to. No certificate of theirs "
        "can know of it; the grid does, and the KLs above count it.",
    )


EXPERIMENT = Experiment(
    name=NAME,
    title="Inference Suboptimality in Variational Autoencoders: posteriors of two latents",
    plans={"smoke": SMOKE, "cpu": CPU, "paper": PAPER},
    load=load_gap_images,
    run=_run,
    provenance=_provenance,
    rows=_rows,
    claims=_claims,
    notes=_notes,
    figures=_figures,
)
