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

__all__ = [
    "EXPERIMENT",
    "Estimated",
    "Learned",
    "estimation_rows",
    "learning_notes",
    "learning_rows",
    "plot_errors",
    "plot_learning",
    "ratio_claims",
]

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import torch
from jaxtyping import Float64
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor

from elboscope.plots.style import BLUE, GREEN, GREY, ORANGE, RED, blank, legend_above

from ..frame.claims import Claim, Difference, difference, judge
from ..frame.course import Look, Rows
from ..frame.experiment import Experiment, Run, no_data
from ..frame.figures import Curve, curve
from ..frame.result import Row
from .density_ratio_runs import (
    CPU,
    FACTORS_PER_DIM,
    PAPER,
    REGIMES,
    SMOKE,
    STARTS,
    Plan,
    estimation,
    learning,
)

NAME = "density-ratio-synthetic"
PUBLISHED_STEPS = 1_000_000


@dataclass(frozen=True)
class Found:
    """Rows of both settings."""

    estimated: Estimated
    learned: Learned


ThisRun = Run[Plan, None]


def _run(run: ThisRun) -> Found:
    plan, now, device = run.plan, run.now, run.device
    seeds = run.seeds(plan.num_seeds)
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


def _provenance(run: ThisRun, found: Found) -> Mapping[str, object]:
    plan = run.plan
    return run.provenance(
        epochs=None,
        data={"name": f"x = Aw + b, {FACTORS_PER_DIM} factors a dimension"},
        settings={
            "num_seeds": plan.num_seeds,
            "learning_rate": plan.rate,
            "betas": [0.5, 0.9],
            "batch_size": plan.batch_size,
            **{f"n = {size.dim}": asdict(size) for size in plan.sizes},
        },
    )


def _figures(run: ThisRun, found: Found) -> dict[str, Figure]:
    figures = {}
    for start in STARTS:
        of_start = {n: runs for (n, other), runs in found.learned.items() if other == start}
        figures[f"learning-{start.replace(' ', '-')}"] = plot_learning(of_start)
    for regime in REGIMES:
        by_dim = {size.dim: found.estimated[size.dim, regime] for size in run.plan.sizes}
        figures[f"estimation-{regime.lower().replace(' ', '-')}"] = plot_errors(by_dim)
    return figures


def _notes(plan: Plan) -> tuple[str, ...]:
    notes = [
        "p and q are drawn anew for each seed; ± is the standard deviation over seeds, which for a "
        "true KL is mostly due to the Gaussians drawn.",
        "natural: both Gaussians as drawn, b ~ N(0, 1), so that the means make about n nats. KL 1, "
        "KL 10: the same p; q shifted to this divergence, its covariance making at most half.",
        "Learning, natural: q begins as the other Gaussian of the pair; equal means: the same with "
        "the mean of p, so that only its covariance is left to be learned. Whether the divergence "
        "of a start is in the means or in the covariances decides what learning does to it; the "
        "paper does not say how its b were drawn.",
        "estimate − true KL is the mean of T − t* on held-out draws of p, t* the exact log-ratio: "
        "the same mean as E_p[T] − KL, with less noise. The mean of t* beside it checks the draws.",
        "Both lower bounds pay for what the held-out draws may miss, and cannot exceed "
        "log(S/3) + 1 with S draws: 11.4 nats with 100 000.",
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


# Verdicts and rows of the synthetic density ratios.
#
# The unit of a claim is a seed: a pair of Gaussians, a classifier and draws of its own. Its error
# is that of the mean over seeds, which holds what the held-out draws add.

SOURCE = "Rosca et al. 2018, appendix D, in words, arXiv 1802.06847"
# From this dimension on the paper's learning diverges.
DIVERGES = 100

Estimated = Mapping[tuple[int, str], Sequence[Rows]]
"""The rows of each seed, by dimension and regime."""
Learned = Mapping[tuple[int, str], Sequence[Rows]]
"""The rows of each seed, by dimension and start."""


def ratio_claims(estimated: Estimated, learned: Learned) -> list[Claim]:
    """Returns a verdict for each dimension and regime, and for each dimension that was learned.

    Args:
        estimated: Rows of the estimation; the last of each is judged.
        learned: Rows of the learning; KL(q‖p) at the end is compared with that at the start, by
            its logarithm: at the start it differs between pairs by a factor of a hundred.
    """
    claims = []
    for (n, regime), runs in estimated.items():
        what = "" if regime == "natural" else f" ({regime})"
        text = f"n = {n}{what}: the classifier's estimate is below the true KL(p‖q)"
        claims.append(judge(text, SOURCE, _mean(_last(runs, "error")), sign=-1))
    for (n, start), runs in learned.items():
        what = f"n = {n}" if start == "natural" else f"n = {n} ({start} at the start)"
        change = _mean(_last(runs, "reverse").log() - _first(runs, "reverse").log(), "of log KL")
        if n < DIVERGES:
            claims.append(judge(f"{what}: learning lowers the true KL(q‖p)", SOURCE, change, -1))
        else:
            text = f"{what}: learning diverges, the true KL(q‖p) does not fall"
            claims.append(judge(text, SOURCE, change))
    return claims


def estimation_rows(estimated: Estimated) -> Iterator[Row]:
    """Yields what each classifier says at the end, the truth, and the optimal logit's answer."""
    names = {
        "true KL(p‖q)": "kl",
        "estimate E_p[T]": "estimate",
        "estimate − true KL": "error",
        "mean of t* − true KL": "check",
        "Donsker–Varadhan bound": "dv",
        "NWJ bound": "nwj",
    }
    for (n, regime), runs in estimated.items():
        for quantity, key in names.items():
            values = _check(runs) if key == "check" else _last(runs, key)
            yield _row(f"estimation, n = {n}, {regime}", quantity, values)


def learning_rows(learned: Learned) -> Iterator[Row]:
    """Yields the true divergences before and after learning, and what the classifier says."""
    names = {
        "true KL(q‖p)": "reverse",
        "of which the means": "reverse_of_means",
        "of which the covariances": "reverse_of_covariances",
        "true KL(p‖q)": "forward",
        "log-determinant of AAᵀ": "log_det",
    }
    for (n, start), runs in learned.items():
        label = f"learning, n = {n}, {start}"
        for quantity, key in names.items():
            yield _row(label, f"{quantity}, start", _first(runs, key))
            yield _row(label, f"{quantity}, end", _last(runs, key))
        yield _row(label, "estimate −E_q[T], end", _last(runs, "estimate"))
        lowest = torch.tensor([min(row["reverse"] for row in rows) for rows in runs]).double()
        yield _row(label, "true KL(q‖p), lowest on the way", lowest[:, None])


def learning_notes(learned: Learned) -> Iterator[str]:
    """Yields what each part of the divergence did, beside what the classifier says of the whole."""
    for (n, start), runs in learned.items():
        parts = {"means": "reverse_of_means", "covariances": "reverse_of_covariances"}
        ends = {
            name: f"{_first(runs, key).mean():.3g} to {_last(runs, key).mean():.3g}"
            for name, key in parts.items()
        }
        yield (
            f"Learning, n = {n}, {start}: the means' part of KL(q‖p) went from {ends['means']} "
            f"nats, the covariances' from {ends['covariances']}; the classifier estimates the "
            f"whole at {_last(runs, 'estimate').mean():.2f} at the end."
        )


def _check(runs: Sequence[Rows]) -> Float64[Tensor, "S 1"]:
    return _last(runs, "optimal") - _last(runs, "kl")


def _row(label: str, quantity: str, values: Float64[Tensor, "S 1"]) -> Row:
    several, flat = len(values) > 1, values[:, 0]
    return Row(
        label,
        quantity,
        flat.mean().item(),
        flat.std().item() if several else float("nan"),
        f"sd over {len(values)} seeds" if several else "",
        unit="units" if quantity.startswith("log-determinant") else "nats",
        per_seed=tuple(flat.tolist()),
    )


def _mean(values: Float64[Tensor, "S 1"], unit: str = "nats") -> Difference:
    return difference(values, torch.zeros_like(values), unit=unit)


def _last(runs: Sequence[Rows], key: str) -> Float64[Tensor, "S 1"]:
    return torch.tensor([[_value(rows[-1], key)] for rows in runs], dtype=torch.float64)


def _first(runs: Sequence[Rows], key: str) -> Float64[Tensor, "S 1"]:
    return torch.tensor([[_value(rows[0], key)] for rows in runs], dtype=torch.float64)


def _value(row: Look, key: str) -> float:
    if key == "reverse_of_covariances":
        return row["reverse"] - row["reverse_of_means"]
    return row[key]


# Figures of the synthetic density ratios, against training steps.
#
# The error of an estimate is drawn as a share of the true KL, so that all dimensions fit on one
# axis:
# −1 says that nothing was seen. Lines are means over seeds, bands one standard deviation; of the
# logarithm, where a divergence falls over several decades.

COLOURS = (BLUE, ORANGE, GREEN, RED)


def plot_errors(estimated: Mapping[int, Sequence[Rows]]) -> Figure:
    """Draws (estimate − KL)/KL of each dimension, and that of the bound with the same critic.

    Args:
        estimated: The rows of each seed, by dimension; of one regime.
    """
    figure, axes = blank(520, 300)
    for (n, runs), colour in zip(estimated.items(), COLOURS, strict=False):
        error = curve(runs, lambda row: row["error"] / row["kl"])
        _band(axes, error, colour, f"n = {n}")
        bound = curve(runs, lambda row: (row["dv"] - row["kl"]) / row["kl"])
        axes.plot(bound.step, bound.mean, color=colour, lw=1, ls=":")
    axes.plot([], [], color=GREY, lw=1, ls=":", label="Donsker–Varadhan bound")
    axes.axhline(0, color=GREY, lw=1)
    axes.set_xscale("log")
    axes.set_xlabel("steps of the classifier")
    axes.set_ylabel("(estimate − KL) / KL")
    legend_above(figure, axes, columns=3)
    return figure


def plot_learning(learned: Mapping[int, Sequence[Rows]]) -> Figure:
    """Draws the true KL(q‖p) of each dimension while q is learned, and the online estimate.

    An estimate below zero has no place on the axis.

    Args:
        learned: The rows of each seed, by dimension; of one start.
    """
    figure, axes = blank(520, 300)
    for (n, runs), colour in zip(learned.items(), COLOURS, strict=False):
        found = curve(runs, lambda row: math.log(row["reverse"]))
        _band(axes, found, colour, f"n = {n}", scale=np.exp)
        online = curve(runs, lambda row: row["estimate"])
        axes.plot(online.step, online.mean, color=colour, lw=1, ls=":")
    axes.plot([], [], color=GREY, lw=1, ls=":", label="estimate −E_q[T]")
    axes.set_yscale("log", nonpositive="mask")
    axes.set_xlabel("steps of each player")
    axes.set_ylabel("KL(q‖p), nats")
    legend_above(figure, axes, columns=3)
    return figure


def _band(
    axes: Axes,
    values: Curve,
    colour: str,
    label: str,
    scale: Callable[[NDArray[np.float64]], NDArray[np.float64]] = np.asarray,
) -> None:
    low, high = scale(values.mean - values.sd), scale(values.mean + values.sd)
    axes.fill_between(values.step, low, high, color=colour, alpha=0.2, lw=0)
    axes.plot(values.step, scale(values.mean), color=colour, lw=1.6, label=label)


EXPERIMENT = Experiment(
    name=NAME,
    title="Distribution Matching in Variational Inference, appendix D: synthetic density ratios",
    plans={"smoke": SMOKE, "cpu": CPU, "paper": PAPER},
    load=no_data,
    run=_run,
    provenance=_provenance,
    rows=lambda run, found: (*estimation_rows(found.estimated), *learning_rows(found.learned)),
    claims=lambda run, found: ratio_claims(found.estimated, found.learned),
    notes=lambda run, found: (*_notes(run.plan), *learning_notes(found.learned)),
    figures=_figures,
)
