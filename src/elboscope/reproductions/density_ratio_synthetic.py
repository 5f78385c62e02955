r"""Density ratios between Gaussians whose divergence is known: estimation, and learning by it.

.. math:: \mathbb{E}_p\Big[\log \frac{p}{q}\Big] = \mathrm{KL}(p \| q), \qquad
          x = Aw + b, \quad w \sim \mathcal N(0, I)

A classifier's logit is believed to be the log-ratio; here the log-ratio, a quadratic, is known. The
first setting holds both Gaussians fixed and asks how far the estimate is from the truth; the second
learns q by the classifier and asks whether the true divergence falls. A finite classifier after
finitely many steps is no optimal one: the numbers are those of this width and this many steps.

References:
    | Distribution Matching in Variational Inference (Rosca et al., 2018), appendix D,
      https://arxiv.org/abs/1802.06847
"""

from __future__ import annotations

__all__ = ["reproduce"]

from dataclasses import dataclass
from pathlib import Path

import torch

from elboscope.plots.style import Figure

from .claims import without_verdict
from .density_ratio_claims import (
    Estimated,
    Learned,
    estimation_rows,
    learning_notes,
    learning_rows,
    ratio_claims,
)
from .density_ratio_estimation import estimation
from .density_ratio_figure import plot_errors, plot_learning
from .density_ratio_learning import learning
from .density_ratio_plan import FACTORS_PER_DIM, PLANS, REGIMES, STARTS, Plan
from .options import Options, Progress
from .provenance import provenance, training_device
from .result import Reproduction, Scale
from .sitting import Sitting, sitting

NAME = "density-ratio-synthetic"
PUBLISHED_STEPS = 1_000_000


@dataclass(frozen=True)
class Found:
    """Rows of both settings."""

    estimated: Estimated
    learned: Learned


def reproduce(
    scale: Scale,
    *,
    out: Path,
    seed: int = 0,
    options: Options | None = None,
    progress: Progress | None = None,
) -> Reproduction:
    """Estimates and learns with density ratios of Gaussians in 1 … 1000 dimensions.

    Args:
        scale: smoke: one and two dimensions, 40 steps; cpu: up to 100 dimensions (1000 for a
            short estimation), thousands of steps of narrow classifiers, five seeds; paper: up to
            1000 dimensions, a million steps, ten seeds.
        out: Folder of the state; the result is saved there by ``Reproduction.save``.
        seed: The first of the seeds.
        options: Slices and resuming.
        progress: Told what is being done.

    Raises:
        InputError: The folder is in use.
        Unfinished: The slice of time is over.
    """
    options, plan, device = options or Options(), PLANS[scale], training_device(scale)
    asked = {"name": NAME, "scale": scale, "seed": seed}
    with sitting(out, asked, options, progress) as now:
        found = _found(plan, range(seed, seed + plan.num_seeds), now, device)
        record = provenance(
            seed=seed,
            device=device,
            wall_seconds=now.seconds,
            epochs=None,
            data={"name": f"x = Aw + b, {FACTORS_PER_DIM} factors a dimension"},
            settings={
                "num_seeds": plan.num_seeds,
                "learning_rate": plan.rate,
                "betas": [0.5, 0.9],
                "batch_size": plan.batch_size,
                **{f"n = {size.dim}": size._asdict() for size in plan.sizes},
            },
        )
    claims = ratio_claims(found.estimated, found.learned)
    return Reproduction(
        NAME,
        "Distribution Matching in Variational Inference, appendix D: synthetic density ratios",
        scale,
        rows=(*estimation_rows(found.estimated), *learning_rows(found.learned)),
        claims=without_verdict(claims) if scale == "smoke" else tuple(claims),
        notes=(*_notes(plan), *learning_notes(found.learned)),
        provenance=record,
        figures=_figures(found, plan),
    )


def _found(plan: Plan, seeds: range, now: Sitting, device: torch.device) -> Found:
    learned = {
        (size.dim, start): [learning(size, start, plan, seed, now, device) for seed in seeds]
        for start in STARTS
        for size in plan.sizes
        if size.learning_steps
    }
    estimated = {
        (size.dim, regime): [estimation(size, regime, plan, seed, now, device) for seed in seeds]
        for size in plan.sizes
        for regime in REGIMES
    }
    return Found(estimated, learned)


def _figures(found: Found, plan: Plan) -> dict[str, Figure]:
    figures = {}
    for start in STARTS:
        of_start = {n: runs for (n, other), runs in found.learned.items() if other == start}
        figures[f"learning-{start.replace(' ', '-')}"] = plot_learning(of_start)
    for regime in REGIMES:
        by_dim = {size.dim: found.estimated[size.dim, regime] for size in plan.sizes}
        figures[f"estimation-{regime.lower().replace(' ', '-')}"] = plot_errors(by_dim)
    return figures


def _notes(plan: Plan) -> tuple[str, ...]:
    notes = [
        "p and q are drawn anew for each seed; ± is the standard deviation over seeds, most of "
        "which, for a true KL, is that of the Gaussians.",
        "natural: both Gaussians as drawn, b ~ N(0, 1), so that the means make about n nats. KL 1, "
        "KL 10: the same p; q shifted to this divergence, its covariance making at most half.",
        "Learning, natural: q begins as the other Gaussian of the pair; equal means: the same with "
        "the mean of p, so that only its covariance is left to be learned. Whether the divergence "
        "of a start is in the means or in the covariances decides what learning does to it; the "
        "paper does not say how its b were drawn.",
        "estimate − true KL is the mean of T − t* on held-out draws of p, t* the exact log-ratio: "
        "the same mean as E_p[T] − KL, with less noise. The mean of t* beside it checks the draws.",
        "Both lower bounds pay for what the held-out draws may miss, and cannot exceed "
        "log(S/3) + 1 of S draws: 11.4 nats of 100 000.",
        "The paper leaves open rates, width, batch and how AAᵀ gets its full rank: ten factors a "
        f"dimension, batches of {plan.batch_size} and a rate of {plan.rate:g} for both players "
        "are our choice.",
        "Nothing is added to the diagonal of a learned covariance; a singular one would have an "
        "infinite KL. log-determinants are in the table.",
    ]
    for size in plan.sizes:
        if size.measured[-1] < PUBLISHED_STEPS:
            widths = "-".join(map(str, size.hidden))
            how = f"{size.learning_steps} of learning" if size.learning_steps else "not learned"
            notes.append(
                f"n = {size.dim}: hidden widths {widths}, {size.measured[-1]} steps of estimation, "
                f"{how}, {size.num_held_out} held-out draws; the paper takes {PUBLISHED_STEPS} "
                "steps, with about 10⁸ parameters from n = 100 on."
            )
    return tuple(notes)
