r"""Signal-to-noise ratios of gradients, on the toy against K and M, on images during training.

.. math:: \mathrm{SNR}_\phi = \Theta(\sqrt{M/K}), \qquad \mathrm{SNR}_\theta = \Theta(\sqrt{MK})

First the Gaussian toy near its optimum (parameters moved by N(0, 0.01²)) and far from it
(N(0, 0.5²)): exponents fitted to log SNR against log K and log M. Then VAEs on images, each
trained with its own objective at T = MK = 64: the order of the encoders' SNR. A law of large K is
no law of small: far from the optimum one sample outweighs all others until K is astronomical,
and rows there are without a claim.

The file is long because the toy and the images are one experiment, from plans to figures.
"""

from __future__ import annotations

__all__ = [
    "EXPERIMENT",
    "OBJECTIVES",
    "ORDER",
    "TrainingPlan",
    "error_of",
    "exponent",
    "order_claims",
    "snr_while_training",
]

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import pairwise
from typing import Any, Literal, NamedTuple

import torch
from jaxtyping import Float64
from torch import Tensor

from elboscope.core import InputError, LatentVariableModel, seeded
from elboscope.estimators import GradientSNR, gradient_snr
from elboscope.estimators.gradients.result import Slope
from elboscope.models import VAE, GaussianToy
from elboscope.objectives import iwae, miwae
from elboscope.plots import gradient_snr_data, gradient_snr_over_training_data, plot_gradient_snr
from elboscope.plots.style import Figure
from elboscope.training import CIWAE, IWAE, MIWAE, PIWAE, Objective
from elboscope.training.slices import train_in_slices

from ..frame.claims import Claim, Difference, Published, Verdict, judge, references, run_error
from ..frame.experiment import Experiment, Request, Run
from ..frame.images import BINARISATION, Images, load_images
from ..frame.result import Row
from ..frame.sitting import Sitting
from ..frame.training import Schedule, burda_vae, file_name

NAME = "snr-figure"
PERTURBATIONS = {"near": 0.01, "far": 0.5}
BATCH = 20
PARTS: tuple[Literal["encoder", "decoder"], ...] = ("encoder", "decoder")


# The encoder's SNR while a model is trained: each objective on its own trajectory.
#
# Every objective spends T = 64 samples a step, as M = T/K averages of K where it averages: VAE is
# K = 1, M = 64. The gradient measured is the one that training follows, on one fixed minibatch of
# test images, before the first step and after some epochs. Results are kept as they come, so that
# a sitting that ends goes on where it stopped.

BUDGET = 64
OBJECTIVES: Mapping[str, Objective] = {
    "VAE": MIWAE(64, 1),
    "θ: L_64, φ: L_1": PIWAE(64, 1),
    "θ: L_64, φ: L_8": PIWAE(8, 8),
    "MIWAE(8,8)": MIWAE(8, 8),
    "CIWAE β=0.5": CIWAE(64, 0.5),
    "IWAE": IWAE(64),
}
# The published order of the encoder's SNR, largest first.
ORDER = ("VAE", "θ: L_64, φ: L_1", "θ: L_64, φ: L_8", "IWAE")

Rows = dict[int, Mapping[str, Any]]


@dataclass(frozen=True, kw_only=True)
class TrainingPlan:
    """What a scale means: images, measured epochs (the last ends training), seeds, draws."""

    num_train: int | None
    epochs: tuple[int, ...]
    num_seeds: int
    num_draws: int
    latents: int = 50
    hidden: tuple[int, ...] = (200, 200)

    @property
    def schedule(self) -> Schedule:
        """The steps of the training."""
        return Schedule(epochs=self.epochs[-1])


@dataclass(frozen=True, kw_only=True)
class ToyPlan:
    """What a scale means for the toy: K, M (at the K beside it), data, draws."""

    samples: tuple[int, ...]
    averages: tuple[int, ...]
    averaged: int
    num_data: int
    num_draws: int
    least: int = 4


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a scale means, in both parts."""

    toy: ToyPlan
    training: TrainingPlan


PAPER = Plan(
    toy=ToyPlan(
        samples=(1, 4, 16, 64, 256, 1024),
        averages=(1, 4, 16, 64),
        averaged=16,
        num_data=1024,
        num_draws=10_000,
    ),
    training=TrainingPlan(
        num_train=None,
        epochs=(0, 1, 4, 13, 40, 121, 364, 1093, 3280),
        num_seeds=4,
        num_draws=1000,
    ),
)
CPU = Plan(
    toy=replace(
        PAPER.toy,
        samples=(1, 4, 16, 64, 256),
        averages=(1, 4, 16),
        num_data=64,
        num_draws=2000,
    ),
    training=replace(
        PAPER.training, num_train=3000, epochs=(0, 1, 3, 9), num_seeds=1, num_draws=100
    ),
)
# Digits.
SMOKE = Plan(
    toy=replace(PAPER.toy, samples=(4, 16), averages=(1, 4), averaged=4, num_data=8, num_draws=400),
    training=replace(
        PAPER.training,
        num_train=100,
        epochs=(0, 1),
        num_seeds=1,
        num_draws=20,
        latents=5,
        hidden=(16,),
    ),
)
Toy = Mapping[str, Mapping[str, GradientSNR]]


class Found(NamedTuple):
    """The encoder's SNR during training, for each seed; and the toy's."""

    runs: Sequence[Mapping[str, Rows]]
    toy: Toy


ThisRun = Run[Plan, Images]


def _load(request: Request[Plan]) -> Images:
    return load_images(request.scale, request.options)


def _run(run: ThisRun) -> Found:
    plan, now = run.plan.training, run.now
    train = run.data.train[: plan.num_train].to(run.device)
    x = run.data.test[:BATCH].to(run.device)
    runs = [snr_while_training(train, x, plan, seed, now) for seed in run.seeds(plan.num_seeds)]
    now.require_time("the toy")
    now.say("toy", 0, 1)
    return Found(runs, _toy(run.plan.toy, run.seed, run.device))


def _provenance(run: ThisRun, found: Found) -> Mapping[str, object]:
    training = run.plan.training
    return run.provenance(
        epochs=training.epochs[-1],
        data={**run.data.record(), "num_train": len(run.data.train[: training.num_train])},
        settings={
            "toy": asdict(run.plan.toy),
            "training": asdict(training),
            **training.schedule.record(),
            "measured_images": BATCH,
            "budget": BUDGET,
        },
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


def snr_while_training(
    train: Tensor, x: Tensor, plan: TrainingPlan, seed: int, now: Sitting
) -> Mapping[str, Rows]:
    """Returns the encoder's row of every objective and measured epoch.

    Args:
        train: Training images.
        x: The minibatch at which gradients are measured.
        plan: How long, how many draws.
        seed: Random seed of weights, data order and draws: the same for each objective.
        now: The sitting.

    Raises:
        Unfinished: The slice of time is over; the state is saved.
        TrainingInterrupted: Ctrl-C or SIGTERM.
    """
    return {
        name: _trajectory(name, objective, train, x, plan, seed, now)
        for name, objective in OBJECTIVES.items()
    }


def _trajectory(
    name: str,
    objective: Objective,
    train: Tensor,
    x: Tensor,
    plan: TrainingPlan,
    seed: int,
    now: Sitting,
) -> Rows:
    rows: Rows = {}
    with seeded(seed):
        model = burda_vae(train, plan.latents, plan.hidden).to(train.device)
    for epoch in plan.epochs:
        path = now.folder / f"{_file(name, seed)}-{epoch}.json"
        if not path.is_file():
            if epoch:
                _train_to(epoch, name, objective, model, train, plan.schedule, seed, now)
            now.say(f"{name}, seed {seed}: drawing gradients", epoch, plan.epochs[-1])
            now.keep(path.name, json.dumps(_measure(name, objective, model, x, plan, seed)))
        rows[epoch] = json.loads(path.read_text(encoding="utf-8"))
    return rows


def _measure(
    name: str,
    objective: Objective,
    model: LatentVariableModel,
    x: Tensor,
    plan: TrainingPlan,
    seed: int,
) -> Mapping[str, Any]:
    named = {name: lambda model, x, K: objective(model, x, 0.0)}
    found = gradient_snr(model, x, named, BUDGET, plan.num_draws, seed=seed)
    return found.find(name, BUDGET, "encoder").to_row()


def _train_to(
    epoch: int,
    name: str,
    objective: Objective,
    model: VAE,
    train: Tensor,
    schedule: Schedule,
    seed: int,
    now: Sitting,
) -> None:
    """Trains, or restores, the model up to the end of an epoch."""

    def tell(done: int, bounds: list[float]) -> None:
        now.say(f"{name}, seed {seed}: training, bound {bounds[0]:.2f}", done, schedule.epochs)

    run = train_in_slices(
        model,
        objective,
        train,
        now.folder / _file(name, seed),
        epochs=epoch,
        batch_size=schedule.batch_size,
        seed=seed,
        learning_rate=schedule.rate,
        eps=schedule.eps,
        binarisation=BINARISATION,
        slice_seconds=max(now.left, 0.0),
        progress=tell,
    )
    if run.diverged:
        do = "Another --seed, and a report of this one, would help."
        raise InputError(name, expected="a training that stays finite", got=run.status, do=do)
    if not run.finished:
        raise now.unfinished(f"{name}, seed {seed}, epoch {run.epoch:.2f} of {schedule.epochs}")


def _file(name: str, seed: int) -> str:
    latin = name.replace("θ", "theta").replace("φ", "phi")
    return f"{file_name(latin)}-{seed}"


def _slopes(toy: Toy, place: str, least: int = 1) -> Iterator[tuple[str, str, Slope]]:
    for axis, name in (("K", "IWAE"), ("M", "MIWAE")):
        for part in PARTS:
            try:
                slope = toy[place][axis].slope(name, part, least=least if axis == "K" else 1)
            except InputError:  # no signal above the noise at some K
                slope = Slope(math.nan, math.nan)
            yield axis, part, slope


def _rows(run: ThisRun, found: Found) -> list[Row]:
    toy = _slope_rows(found.toy, run.plan.toy)
    return [*toy, *_training_rows(found.runs, run.plan.training)]


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


# Verdicts on the signal-to-noise of gradients: exponents, and the order of objectives.
#
# The order is judged by log-ratios, averaged over the epochs after the start: SNRs of different
# epochs differ by more than those of neighbouring objectives.

SOURCE = "Rainforth et al. 2018, encoder SNR during training, arXiv 1802.04537"
# A fitted exponent within this of the theorem's agrees: K is finite.
TOLERANCE = 0.05


def _claims(run: ThisRun, found: Found) -> list[Claim]:
    return [*_slope_claims(found.toy), *order_claims(found.runs, run.plan.training)]


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


def exponent(text: str, slope: Slope, published: Published) -> Claim:
    """Returns whether a fitted exponent is the published one.

    Reproduced if it is within the tolerance, one error included; contradicted if it is beyond it
    by more than two; undecided between, and where nothing could be fitted.

    Example:
        >>> exponent("a law", Slope(0.49, 0.01), Published(0.5, "a theorem")).verdict
        'reproduced'
    """
    distance = abs(slope.value - published.value)
    outcome: Verdict = "undecided"
    if distance + slope.stderr <= TOLERANCE:
        outcome = "reproduced"
    elif distance > TOLERANCE + 2 * slope.stderr:
        outcome = "contradicted"
    evidence = f"slope {slope} against {published} (within {TOLERANCE:g}?)"
    if math.isnan(slope.value):
        evidence = f"no slope could be fitted: at some K all is noise; published {published}"
    off = slope.value - published.value
    return Claim(text, published.source, outcome, evidence, off, slope.stderr)


def error_of(row: Mapping[str, Any]) -> float:
    """Returns the standard error of the corrected SNR, from its 95 % interval."""
    return float(row["snr_corrected_high"] - row["snr_corrected_low"]) / 3.92


def order_claims(runs: Sequence[Mapping[str, Rows]], plan: TrainingPlan) -> list[Claim]:
    """Returns a verdict on each neighbouring pair of the published order.

    Log-ratios of SNR are averaged over the epochs after the start; their error is of the draws
    and, with several seeds, of the runs, as in the other reproductions.
    """
    epochs = [epoch for epoch in plan.epochs if epoch > 0]
    levels = {name: _levels(runs, name, epochs) for name in ORDER}
    known = [level for level in levels.values() if bool(level.isfinite().all())]
    between = run_error(known) if known else 0.0
    claims = []
    for high, low in pairwise(ORDER):
        noise = math.hypot(*(_noise(runs, name, epochs) for name in (high, low)))
        found = Difference(
            (levels[high] - levels[low]).mean().item(),
            math.hypot(noise, between),
            len(runs),
            0,
            "of log SNR",
        )
        text = f"during training the encoder's SNR of {high} is above that of {low}"
        claims.append(judge(text, SOURCE, found))
    return claims


def _levels(
    runs: Sequence[Mapping[str, Rows]], name: str, epochs: Sequence[int]
) -> Float64[Tensor, "S 1"]:
    """The mean log SNR over epochs of each run."""
    logs = [[_log(run[name][epoch]["snr_corrected"]) for epoch in epochs] for run in runs]
    return torch.tensor(logs, dtype=torch.float64).mean(1, keepdim=True)


def _noise(runs: Sequence[Mapping[str, Rows]], name: str, epochs: Sequence[int]) -> float:
    """The error of the mean log SNR over runs and epochs that the draws leave."""
    rows = [run[name][epoch] for run in runs for epoch in epochs]
    relative = [error_of(row) / max(row["snr_corrected"], 1e-12) for row in rows]
    return math.hypot(*relative) / len(rows)


def _log(value: float) -> float:
    return math.log(value) if value > 0 else math.nan


def _figures(run: ThisRun, found: Found) -> dict[str, Figure]:
    figures = {
        f"toy-near-{part}": plot_gradient_snr(
            gradient_snr_data(
                found.toy["near"]["K"], part, guide=-0.5 if part == "encoder" else 0.5
            )
        )
        for part in PARTS
    }
    first = found.runs[0]
    positive = {name: {e: row for e, row in rows.items() if e > 0} for name, rows in first.items()}
    figures["training-encoder"] = plot_gradient_snr(gradient_snr_over_training_data(positive))
    return figures


def _notes(run: ThisRun, found: Found) -> tuple[str, ...]:
    toy, plan = run.plan.toy, run.plan.training
    notes = [
        f"Toy: gradients of {toy.num_data} of the 1024 data, {toy.num_draws} draws; exponents of "
        f"K ≥ {toy.least}, fitted to the root mean square SNR with the noise's 1/R taken off.",
        "Far from the optimum one sample dominates the weights: the law of large K has not set "
        "in, and nothing is claimed.",
        f"Images: each objective on its own trajectory, gradients at {BATCH} fixed test images, "
        f"{plan.num_draws} draws; an SNR belongs to its minibatch.",
        "The paper shows curves, without publishing a number.",
    ]
    if plan.num_seeds == 1:
        notes.append("One seed: the order is that of these trained models alone.")
    if plan.epochs[-1] < 3280:
        size = "all" if plan.num_train is None else f"{plan.num_train}"
        notes.append(f"{plan.epochs[-1]} of the 3280 published epochs, {size} training images.")
    return tuple(notes)


EXPERIMENT = Experiment(
    name=NAME,
    title="Tighter Variational Bounds are Not Necessarily Better: signal-to-noise of gradients",
    plans={"smoke": SMOKE, "cpu": CPU, "paper": PAPER},
    load=_load,
    run=_run,
    provenance=_provenance,
    rows=_rows,
    claims=_claims,
    notes=_notes,
    figures=_figures,
)
