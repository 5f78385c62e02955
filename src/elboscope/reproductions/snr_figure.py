r"""Signal-to-noise ratios of gradients, on the toy against K and M, on images during training.

.. math:: \mathrm{SNR}_\phi = \Theta(\sqrt{M/K}), \qquad \mathrm{SNR}_\theta = \Theta(\sqrt{MK})

First the Gaussian toy near its optimum (parameters moved by N(0, 0.01²)) and far from it
(N(0, 0.5²)): exponents fitted to log SNR against log K and log M. Then VAEs on images, each
trained with its own objective at T = MK = 64: the order of the encoders' SNR. A law of large K is
no law of small: far from the optimum one sample outweighs all others until K is astronomical,
and rows there are without a claim.
"""

from __future__ import annotations

__all__ = ["reproduce"]

import math
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple

import torch

from elboscope.core import InputError
from elboscope.estimators import GradientSNR, gradient_snr
from elboscope.estimators.gradient_result import Slope
from elboscope.models import GaussianToy
from elboscope.objectives import iwae, miwae
from elboscope.plots import gradient_snr_data, gradient_snr_over_training_data, plot_gradient_snr
from elboscope.plots.style import Figure

from .claims import Claim, without_verdict
from .images import load_images
from .options import Options, Progress
from .provenance import provenance, training_device
from .published import references
from .result import Reproduction, Row, Scale
from .sitting import sitting
from .snr_claims import error_of, exponent, order_claims
from .snr_training import BUDGET, OBJECTIVES, Rows, TrainingPlan, snr_while_training

NAME = "snr-figure"
PERTURBATIONS = {"near": 0.01, "far": 0.5}
BATCH = 20
PARTS: tuple[Literal["encoder", "decoder"], ...] = ("encoder", "decoder")


class ToyPlan(NamedTuple):
    """What a scale means for the toy: K, M (at the K beside it), data, draws."""

    samples: tuple[int, ...]
    averages: tuple[int, ...]
    averaged: int
    num_data: int
    num_draws: int
    least: int = 4


TOY: Mapping[Scale, ToyPlan] = {
    "smoke": ToyPlan((4, 16), (1, 4), 4, 8, 400),
    "cpu": ToyPlan((1, 4, 16, 64, 256), (1, 4, 16), 16, 64, 2000),
    "paper": ToyPlan((1, 4, 16, 64, 256, 1024), (1, 4, 16, 64), 16, 1024, 10_000),
}
TRAINING: Mapping[Scale, TrainingPlan] = {
    "smoke": TrainingPlan(100, (0, 1), 1, 20, 5, (16,)),
    "cpu": TrainingPlan(3000, (0, 1, 3, 9), 1, 100),
    "paper": TrainingPlan(None, (0, 1, 4, 13, 40, 121, 364, 1093, 3280), 4, 1000),
}
Toy = Mapping[str, Mapping[str, GradientSNR]]


def reproduce(
    scale: Scale,
    *,
    out: Path,
    seed: int = 0,
    options: Options | None = None,
    progress: Progress | None = None,
) -> Reproduction:
    """Fits the exponents on the toy, and measures encoders' SNR while VAEs are trained.

    Args:
        scale: smoke: 8 toy data and digits; cpu: 3000 MNIST images, 9 epochs, one seed; paper:
            3280 epochs of MNIST, four seeds.
        out: Folder of the state; the result is saved there by ``Reproduction.save``.
        seed: The first of the seeds.
        options: Where MNIST is; slices and resuming.
        progress: Told what is being done.

    Raises:
        InputError: MNIST is not to be had, or the folder is in use.
        Unfinished: The slice of time is over.
    """
    options = options or Options()
    plan, device = TRAINING[scale], training_device(scale)
    images = load_images(scale, options)
    train = images.train[: plan.num_train].to(device)
    x = images.test[:BATCH].to(device)
    seeds = range(seed, seed + plan.num_seeds)
    asked = {"name": NAME, "scale": scale, "seed": seed, "sha256": images.checksum}
    with sitting(out, asked, options, progress) as now:
        runs = [snr_while_training(train, x, plan, member, now) for member in seeds]
        now.require_time("the toy")
        now.say("toy", 0, 1)
        toy = _toy(TOY[scale], seed, device)
        record = provenance(
            seed=seed,
            device=device,
            wall_seconds=now.seconds,
            epochs=plan.epochs[-1],
            data={**images.record(), "num_train": len(train)},
            settings={
                "toy": TOY[scale]._asdict(),
                "training": plan._asdict(),
                **plan.schedule.record(),
                "measured_images": BATCH,
                "budget": BUDGET,
            },
        )
    claims = (*_slope_claims(toy), *order_claims(runs, plan))
    return Reproduction(
        NAME,
        "Tighter Variational Bounds are Not Necessarily Better: signal-to-noise of gradients",
        scale,
        rows=(*_slope_rows(toy, TOY[scale]), *_training_rows(runs, plan)),
        claims=without_verdict(claims) if scale == "smoke" else claims,
        notes=_notes(TOY[scale], plan),
        provenance=record,
        figures=_figures(toy, runs[0]),
    )


def _toy(plan: ToyPlan, seed: int, device: torch.device) -> Toy:
    """SNR against K and against M, near and far."""
    data = GaussianToy.data(1024, seed=seed)
    averaged = {"MIWAE": lambda model, x, M: miwae(model, x, M, plan.averaged)}
    found = {}
    for place, perturbation in PERTURBATIONS.items():
        model = GaussianToy.fitted(data, perturbation=perturbation, seed=seed + 1).to(device)
        measure = partial(gradient_snr, model, data[: plan.num_data], seed=seed)
        by_samples = measure({"IWAE": iwae}, plan.samples, plan.num_draws)
        by_averages = measure(averaged, plan.averages, plan.num_draws)
        found[place] = {"K": by_samples, "M": by_averages}
    return found


def _slopes(toy: Toy, place: str, least: int = 1) -> Iterator[tuple[str, str, Slope]]:
    for axis, name in (("K", "IWAE"), ("M", "MIWAE")):
        for part in PARTS:
            try:
                slope = toy[place][axis].slope(name, part, least=least if axis == "K" else 1)
            except InputError:  # no signal above the noise at some K
                slope = Slope(math.nan, math.nan)
            yield axis, part, slope


def _slope_rows(toy: Toy, plan: ToyPlan) -> list[Row]:
    published = references(NAME)
    rows = []
    for place in PERTURBATIONS:
        for axis, part, slope in _slopes(toy, place, plan.least):
            key = f"{part}, slope in {axis}"
            counts = plan.samples if axis == "K" else plan.averages
            rows.append(
                Row(
                    f"toy, {place}",
                    key,
                    slope.value,
                    slope.stderr,
                    "se of the fit",
                    num_samples=counts[-1],
                    num_data=plan.num_data,
                    published=published[key] if place == "near" else None,
                    unit="exponent",
                )
            )
    return rows


def _slope_claims(toy: Toy) -> list[Claim]:
    published = references(NAME)
    texts = {
        "encoder, slope in K": "near the optimum the encoder's SNR falls as K^(−1/2)",
        "decoder, slope in K": "near the optimum the decoder's SNR grows as K^(1/2)",
        "encoder, slope in M": "near the optimum the encoder's SNR grows as M^(1/2)",
        "decoder, slope in M": "near the optimum the decoder's SNR grows as M^(1/2)",
    }
    return [
        exponent(texts[key], slope, published[key])
        for axis, part, slope in _slopes(toy, "near", least=4)
        for key in (f"{part}, slope in {axis}",)
    ]


def _training_rows(runs: Sequence[Mapping[str, Rows]], plan: TrainingPlan) -> list[Row]:
    rows = []
    for name in OBJECTIVES:
        for epoch in plan.epochs:
            found = [run[name][epoch] for run in runs]
            values = torch.tensor([row["snr_corrected"] for row in found], dtype=torch.float64)
            error, kind = error_of(found[0]), "bootstrap over draws"
            if len(values) > 1:
                error, kind = values.std().item(), f"sd over {len(values)} seeds"
            rows.append(
                Row(
                    name,
                    "encoder SNR (root mean square)",
                    values.mean().item(),
                    error,
                    kind,
                    epochs=epoch,
                    num_samples=BUDGET,
                    num_data=BATCH,
                    unit="ratio",
                    per_seed=tuple(values.tolist()),
                )
            )
    return rows


def _figures(toy: Toy, run: Mapping[str, Rows]) -> dict[str, Figure]:
    found = {
        f"toy-near-{part}": plot_gradient_snr(
            gradient_snr_data(toy["near"]["K"], part, guide=-0.5 if part == "encoder" else 0.5)
        )
        for part in PARTS
    }
    positive = {name: {e: row for e, row in rows.items() if e > 0} for name, rows in run.items()}
    found["training-encoder"] = plot_gradient_snr(gradient_snr_over_training_data(positive))
    return found


def _notes(toy: ToyPlan, plan: TrainingPlan) -> tuple[str, ...]:
    notes = [
        f"Toy: gradients of {toy.num_data} of the 1024 data, {toy.num_draws} draws; exponents of "
        f"K ≥ {toy.least}, fitted to the root mean square SNR with the noise's 1/R taken off.",
        "Far from the optimum the weights are those of one sample: the law of large K has not "
        "set in, and nothing is claimed.",
        f"Images: each objective on its own trajectory, gradients at {BATCH} fixed test images, "
        f"{plan.num_draws} draws; an SNR belongs to its minibatch.",
        "The paper shows curves; no number of them is published.",
    ]
    if plan.num_seeds == 1:
        notes.append("One seed: the order is that of these trained models alone.")
    if plan.epochs[-1] < 3280:
        size = "all" if plan.num_train is None else f"{plan.num_train}"
        notes.append(f"{plan.epochs[-1]} of the 3280 published epochs, {size} training images.")
    return tuple(notes)
