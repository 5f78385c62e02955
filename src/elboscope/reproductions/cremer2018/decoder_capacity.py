r"""Cremer et al. (2018): does a decoder of more capacity make diagonal Gaussians fit better?

.. math:: \text{approximation gap} = \log \hat p(x) - L[q^*], \qquad
          q^* = \arg\max_{q = \mathcal N(\mu, \mathrm{diag}\,\sigma^2)} L[q]

VAEs that differ in their decoder alone: 0, 2 or 4 hidden layers of 200 tanh units between 50
latents and the pixels. Training a VAE pays for posteriors that its q can fit, and a decoder of
more capacity is freer to have such. Each gap is of a decoder and its own log p(x): the encoder
only trained it, and a small gap is no sign of a good model: latents that a decoder ignores have
none. So the number of active units and log p̂ stand beside it.

log p̂ is a lower bound, here from the best Gaussian with all correlations: of a linear decoder,
whose posterior is log-concave, that is nearly the posterior itself. What is missing elsewhere
makes a gap too small, and so works against the claim where it concerns the larger gap.
"""

from __future__ import annotations

__all__ = ["EXPERIMENT"]

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import NamedTuple

import torch
from jaxtyping import Float64
from torch import Tensor

from elboscope.core import seeded
from elboscope.estimators import active_units

from ..frame.claims import Claim, difference, judge, run_error
from ..frame.experiment import Experiment
from ..frame.result import Row
from ..frame.training import PUBLISHED_EPOCHS, Schedule, count_error, derived_seed
from .gaps import (
    IMAGES,
    GapPlan,
    GapRun,
    Gaps,
    cremer_vae,
    gap_provenance,
    gap_row,
    load_gap_images,
    measure_gaps,
    train_model,
)

NAME = "decoder-capacity"
SOURCE = "Cremer et al. 2018, capacity of the decoder, in words, arXiv 1801.03558"
DEPTHS = (0, 2, 4)
ACTIVE = 0.01
UNITS_FROM = 1000


PAPER = GapPlan(
    data="MNIST",
    schedule=Schedule(epochs=PUBLISHED_EPOCHS),
    num_seeds=4,
    num_images=1000,
    num_temperatures=1000,
)
CPU = replace(
    PAPER, schedule=Schedule(epochs=4), num_seeds=1, num_images=100, num_temperatures=None
)
SMOKE = replace(
    CPU,
    data="digits",
    schedule=Schedule(epochs=2),
    num_images=10,
    num_samples=200,
    max_steps=60,
    width=16,
    latents=4,
)


class Measured(NamedTuple):
    """What is measured on one model.

    Attributes:
        gaps: Gaps of the images.
        units: Active units.
        units_error: Error of that number: units near the threshold.
        units_from: How many test images they are counted on.
    """

    gaps: Gaps
    units: int
    units_error: float
    units_from: int


Found = Mapping[int, Sequence[Measured]]


def _run(run: GapRun) -> Found:
    seeds = run.seeds(run.plan.num_seeds)
    return {depth: [_of_seed(depth, run, seed) for seed in seeds] for depth in DEPTHS}


def _of_seed(depth: int, run: GapRun, seed: int) -> Measured:
    images, plan, now, device = run.data, run.plan, run.now, run.device
    name, width = f"{_label(depth)}, seed {seed}", plan.width
    with seeded(derived_seed(name, seed)):
        model = cremer_vae(
            images.train, encoder=(width, width), decoder=depth * (width,),
            latent_dim=plan.latents, nonlinearity="tanh",
        ).to(device)  # fmt: skip
    train_model(name, model, images.train, plan, seed, now, device)
    gaps = measure_gaps(
        name, model, images.first_of_train(plan.num_images).to(device), "diagonal", now,
        num_samples=plan.num_samples, max_steps=plan.max_steps, seed=seed, flow=False, full=True,
        num_temperatures=plan.num_temperatures,
    )  # fmt: skip
    x = images.test[:UNITS_FROM].to(device)
    units = active_units(model, x, seed=0)
    near = count_error(units.values, units.diagnostics["stderr"])
    return Measured(gaps, int((units.values > ACTIVE).sum()), near, len(x))


def _label(depth: int) -> str:
    return f"{depth} hidden layers"


def _values(found: Found, depth: int, field: str) -> Float64[Tensor, "S n"]:
    """Values of the images that have one with every model, so that all are compared in pairs."""
    every = [set(m.gaps.rows.tolist()) for members in found.values() for m in members]
    rows = torch.tensor(sorted(set.intersection(*every)))
    return torch.stack(
        [getattr(m.gaps, field)[torch.isin(m.gaps.rows, rows)] for m in found[depth]]
    )


QUANTITIES = {
    "log p̂": "log_px",
    "L[q*_FFG]": "diagonal",
    "L[q]": "elbo",
    "approximation gap": "approximation",
    "amortisation gap": "amortisation",
}


def _rows(run: GapRun, found: Found) -> Iterator[Row]:
    for depth in found:
        yield from _rows_of(depth, found, run.plan)


def _rows_of(depth: int, found: Found, plan: GapPlan) -> Iterator[Row]:
    for quantity, field in QUANTITIES.items():
        yield gap_row(_label(depth), quantity, _values(found, depth, field), plan)
    yield gap_row(_label(depth), "approximation gap / active unit", _per_unit(found, depth), plan)
    counts = [float(m.units) for m in found[depth]]
    near = sum(m.units_error**2 for m in found[depth]) ** 0.5 / len(counts)
    yield Row(
        _label(depth), "active units", sum(counts) / len(counts), near, "units near the threshold",
        plan.schedule.epochs, num_data=found[depth][0].units_from, unit="units",
        per_seed=tuple(counts),
    )  # fmt: skip


def _per_unit(found: Found, depth: int) -> Float64[Tensor, "S n"]:
    """The approximation gap, shared out among the active units, of which none counts as one."""
    units = torch.tensor([max(m.units, 1) for m in found[depth]], dtype=torch.float64)
    return _values(found, depth, "approximation") / units[:, None]


def _claims(found: Found) -> Iterator[Claim]:
    gap = {depth: _values(found, depth, "approximation") for depth in found}
    runs = run_error(gap.values())
    for fewer, more in (*pairwise(DEPTHS), (DEPTHS[0], DEPTHS[-1])):
        text = (
            f"a decoder of {more} hidden layers has a smaller approximation gap of the diagonal "
            f"Gaussian than one of {fewer}"
        )
        delta = difference(gap[fewer], gap[more], runs=runs, data=IMAGES)
        open_ = [_open_error(found[depth]) for depth in (fewer, more)]
        yield judge(text, SOURCE, delta._replace(error=math.hypot(delta.error, *open_)))


def _open_error(members: Sequence[Measured]) -> float:
    """What the certificates of L[q*] leave open of the mean over seeds."""
    return sum(m.gaps.open_error("diagonal") for m in members) / len(members)


def _fewer_units(found: Found) -> Iterator[str]:
    """Where a gap is smaller, and only by fewer active units."""
    for fewer, more in pairwise(DEPTHS):
        gap = [_values(found, depth, "approximation").mean().item() for depth in (fewer, more)]
        unit = [_per_unit(found, depth).mean().item() for depth in (fewer, more)]
        if gap[0] > gap[1] and unit[0] < unit[1]:
            yield (
                f"{_label(more)} against {fewer}: the gap is smaller, but that of each active unit "
                f"is larger ({unit[1]:.3f} against {unit[0]:.3f} nats): unused latents explain it."
            )


def _notes(run: GapRun, found: Found) -> tuple[str, ...]:
    plan = run.plan
    searches = (
        f"{_label(depth)}{f', seed {s}' if plan.num_seeds > 1 else ''}: log p̂ by {gaps.chosen}; "
        f"L[q*] of the diagonal Gaussian {gaps.certificates['diagonal']}"
        for depth, members in found.items()
        for s, (gaps, *_) in enumerate(members)
    )
    return (
        f"All encoders have two hidden layers of {plan.width}; {plan.latents} latents, tanh.",
        "Gaps are those of the first training images, as in the reference code, binarised once by "
        "seed 0.",
        "log p̂ is a lower bound: the larger a gap, the more it can be underestimated.",
        "A decoder that ignores latents has a small gap for that reason: a claim is about the gap, "
        "whatever its reason. A deep decoder takes longer until it uses its latents.",
        *_fewer_units(found),
        "A search that ends early makes L[q*] too low and a gap too large, by at most the c of its "
        "certificate; the claims' errors include it.",
        *searches,
        "The paper's numbers of this experiment are unavailable: only signs are compared.",
        *plan.schedule.remarks(plan.num_seeds),
    )


EXPERIMENT = Experiment(
    name=NAME,
    title="Inference Suboptimality in Variational Autoencoders: capacity of the decoder",
    plans={"smoke": SMOKE, "cpu": CPU, "paper": PAPER},
    load=load_gap_images,
    run=_run,
    provenance=gap_provenance,
    rows=_rows,
    claims=lambda run, found: _claims(found),
    notes=_notes,
)
