r"""Rosca et al. (2018), Figs. 4, 5 and 23: a classifier in the place of a KL, over training.

A VAE's ELBO is a lower bound on log p(x), and rises as the model learns. For an AAE and for VEEGAN
papers write bounds too, with the logit of a discriminator in the place of a log-ratio of
densities. That logit is of a classifier that is being trained, against a model that is being
trained: the sum is no bound of anything, and need not follow the training. So here it is called
what the paper calls a bound, and never ours.

Where posteriors are Gaussians the KL that the classifier is to tell can be computed: the mixture
of N posteriors stands beside, with the interval in which it must be.
"""

from __future__ import annotations

__all__ = ["reproduce"]

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save as to_bytes
from torch import Tensor

from elboscope.core import InputError, seeded

from .bounds_claims import Course, claims_of, tau
from .bounds_figure import plot_bounds
from .bounds_plan import PLANS, BoundsPlan, Data, load_data
from .bounds_values import Values, fitted_ratio, values_of
from .claims import without_verdict
from .density_ratio_runs import run_course
from .hybrid_course import BATCH_SIZE, Kind, Pace, evaluation_draw, hybrid_course, untrained
from .options import Options, Progress
from .provenance import provenance, training_device
from .result import Reproduction, Row, Scale
from .sitting import Sitting, sitting
from .training import derived_seed, file_name

NAME = "bounds-over-training"
KINDS: tuple[Kind, ...] = ("VAE", "AAE", "VEEGAN")
EXPLICIT: tuple[Kind, ...] = ("VAE", "AAE")
CALLED = {
    "VAE": "ELBO",
    "AAE": "what the paper calls a bound: E log p(x|z) − KL by its discriminator",
    "VEEGAN": "what the paper calls a bound: −E T − E‖z − F(G(z))‖² − (d/2) ln 2πe",
}
Found = Mapping[str, Sequence[Course]]
Fitted = Mapping[str, Tensor]


def reproduce(
    scale: Scale,
    *,
    out: Path,
    seed: int = 0,
    options: Options | None = None,
    progress: Progress | None = None,
) -> Reproduction:
    """Trains VAE, AAE and VEEGAN on ColorMNIST and takes their values at every look.

    Args:
        scale: smoke: triples of small digits, six steps; cpu: ColorMNIST, narrow networks, 320
            steps, three seeds; paper: the published networks and 100 000 steps, three seeds.
        out: Folder of the state; the result is saved there by ``Reproduction.save``.
        seed: Of the trainings and of all draws.
        options: Where MNIST is; slices and resuming.
        progress: Told what is being done.

    Raises:
        InputError: MNIST is not to be had, or the folder is in use.
        Unfinished: The slice of time is over.
    """
    options = options or Options()
    plan, device = PLANS[scale], training_device(scale)
    data = load_data(plan, options)
    data = data._replace(train=data.train.to(device), test=data.test.to(device))
    asked = {"name": NAME, "scale": scale, "seed": seed, "sha256": data.checksum}
    with sitting(out, asked, options, progress) as now:
        seeds = range(seed, seed + plan.seeds)
        found: Found = {kind: [_run(kind, data, plan, s, now) for s in seeds] for kind in KINDS}
        record = provenance(
            seed=seed,
            device=device,
            wall_seconds=now.seconds,
            epochs=None,
            data={
                "name": "color digits, for ColorMNIST" if plan.stand_in else "ColorMNIST",
                "num_train": len(data.train),
                "num_test": len(data.test),
                "sha256": data.checksum,
            },
            settings=plan.record(),
        )
    fitted: Fitted = {
        kind: torch.stack([run[-1]["fitted"] for run in found[kind]]) for kind in EXPLICIT
    }
    claims = tuple(claims_of(found, fitted))
    return Reproduction(
        NAME,
        "Distribution Matching in Variational Inference: what is called a bound, over training",
        scale,
        rows=tuple(row for kind in KINDS for row in _rows(kind, found[kind], plan)),
        claims=without_verdict(claims) if scale == "smoke" else claims,
        notes=tuple(_notes(plan)),
        provenance=record,
        figures={"bounds": plot_bounds(found, plan.looks)},
    )


def _run(kind: Kind, data: Data, plan: BoundsPlan, seed: int, now: Sitting) -> Course:
    """The looks of one run; what a sitting before did is only read."""
    name = f"{kind}, seed {seed}"
    with seeded(derived_seed(f"weights of {name}", seed)):
        x, hidden = data.train, plan.code_hidden
        model = untrained(kind, x, plan.latents, plan.maps, hidden, plan.joint_maps).to(x.device)

    def place(step: int) -> Path:
        return now.folder / f"{file_name(name)}-look-{step}.safetensors"

    def look(step: int) -> dict[str, float]:
        some = evaluation_draw(x[: plan.num_images], of_training=True)
        values = values_of(kind, model, evaluation_draw(data.test, of_training=False), some, seed)
        if step == plan.steps and kind in EXPLICIT:
            values["fitted"] = fitted_ratio(model, some, plan.classifier, seed)
        now.keep(place(step).name, to_bytes(values))
        return {}

    pace = Pace(plan.rate, derived_seed(name, seed))
    rows = run_course(
        hybrid_course(name, kind, model, x, pace, plan.looks, look, {"latents": plan.latents}), now
    )
    if len(rows) < len(plan.looks):
        do = "Another --seed, and a report of this one, would help."
        raise InputError(name, expected="a training that stays finite", got="weights", do=do)
    return [_read(place(step)) for step in plan.looks]


def _read(path: Path) -> Values:
    with safe_open(path, framework="pt") as kept:
        return {name: kept.get_tensor(name) for name in kept.keys()}  # noqa: SIM118


def _rows(kind: Kind, runs: Sequence[Course], plan: BoundsPlan) -> Iterator[Row]:
    S = len(runs)
    epochs = round(plan.steps * BATCH_SIZE / plan.num_train)

    def row(quantity: str, per_run: list[float], label: str = "the end", unit: str = "nats") -> Row:
        values = torch.tensor(per_run, dtype=torch.float64)
        error = values.std().item() if S > 1 else math.nan
        return Row(
            f"{kind}, {label}", quantity, values.mean().item(), error, f"sd over {S} seeds",
            epochs, num_data=plan.num_test, unit=unit, per_seed=tuple(per_run),
        )  # fmt: skip

    def mean(name: str, at: int = -1) -> list[float]:
        return [run[at][name].mean().item() for run in runs]

    yield row(CALLED[kind], mean("value", 0), f"step {plan.looks[0]}")
    yield row(CALLED[kind], mean("value"), f"step {plan.steps}")
    taus = [tau(torch.stack([look["value"] for look in run])) for run in runs]
    yield row(f"τ of it over {len(plan.looks)} looks", taus, "all looks", "units")
    if kind not in EXPLICIT:
        return
    end = f"step {plan.steps}"
    if kind == "AAE":
        yield row("ELBO, of its explicit posterior", mean("elbo"), end)
        yield row("KL by its own discriminator", mean("ratio"), end)
    kl, information = mean("kl"), mean("information")
    yield row("KL(q_N‖p), mixture", [a - b for a, b in zip(kl, information, strict=True)], end)
    lowest = [max(0.0, rate - math.log(plan.num_images)) for rate in kl]
    yield row("lowest it can be, average KL − log N", lowest, end)
    yield row("I(n; z), at most log N", information, end)
    for index, quantity in enumerate(
        ("KL by a classifier, no bound", "Donsker–Varadhan lower bound, the same classifier")
    ):
        yield row(quantity, [run[-1]["fitted"][index, 0].item() for run in runs], end)


def _notes(plan: BoundsPlan) -> Iterator[str]:
    yield (
        "A value with a discriminator's logit in the place of a log-ratio is no bound: with the "
        "exact ratio the AAE's is its ELBO plus I(x; z), which can exceed log p(x)."
    )
    yield (
        "All looks of a run are on the same test images (VEEGAN: draws of the prior) and noise. "
        "τ counts pairs of looks, +1 or −1 beyond two paired errors and 0 within; its error is of "
        "the seeds. The smallest rise has an error for all neighbouring looks at once."
    )
    yield (
        f"The mixture is of N = {plan.num_images} training images, log N = "
        f"{math.log(plan.num_images):.2f}: where I comes near it, KL(q_N‖p) overstates the "
        "population's KL, of which a classifier trained on half of them tells; the "
        "Donsker–Varadhan value is a lower bound of that."
    )
    yield (
        "VAE and AAE are of binary images, drawn afresh in training and once for every look; "
        "VEEGAN is of grey values, for its discriminator would know binary data at a glance. "
        "Values of different models may not be compared, their courses may."
    )
    yield f"The classifier: {plan.classifier.hidden} units, {plan.classifier.max_steps} steps."
    if plan.stand_in:
        yield "Triples of small digits in the place of ColorMNIST."
    yield f"{plan.steps} steps of {BATCH_SIZE} images, {plan.seeds} seeds; published: 100 000."
