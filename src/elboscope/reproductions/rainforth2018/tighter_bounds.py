r"""Rainforth et al. (2018), Table 1: is a tighter bound the better objective?

Five objectives, all with T = MK = 64 samples a datapoint, train the same network on dynamically
binarised MNIST. IWAE follows the tightest bound, whose encoder gradient has the lowest
signal-to-noise ratio; MIWAE averages 8 bounds of 8 samples, PIWAE gives the encoder MIWAE's
gradient and the decoder IWAE's, CIWAE mixes ELBO and IWAE. The paper's claim is in signs: which
model has the higher :math:`L_{64}`, :math:`\log\hat p` and −KL(Q‖P) = L_64 − log p̂.
"""

from __future__ import annotations

__all__ = ["CLAIMS", "EXPERIMENT", "OBJECTIVES"]

from collections.abc import Mapping
from dataclasses import dataclass, replace

from jaxtyping import Float64
from torch import Tensor

from elboscope.training import CIWAE, IWAE, MIWAE, PIWAE, Objective

from ..frame.claims import Claim, Published, agreement, difference, judge, references, run_error
from ..frame.experiment import Experiment, Request, Run
from ..frame.images import Images, load_images
from ..frame.result import Row
from ..frame.training import (
    GROUP,
    PUBLISHED_EPOCHS,
    Measured,
    Schedule,
    burda_vae,
    measure_members,
    train_members,
)

NAME = "tighter-bounds-table1"
SOURCE = "Rainforth et al. 2018, Table 1, arXiv 1802.04537"

OBJECTIVES: Mapping[str, Objective] = {
    "IWAE": IWAE(64),
    "PIWAE(8,8)": PIWAE(8, 8),
    "MIWAE(8,8)": MIWAE(8, 8),
    "CIWAE β=0.5": CIWAE(64, 0.5),
    "VAE": MIWAE(64, 1),  # 64 bounds of one sample: the ELBO with 64 samples
}


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a scale means: training, seeds, samples of an evaluation."""

    schedule: Schedule
    num_seeds: int
    num_samples: int


# All test images of MNIST, as in the paper; 1000 of them at cpu, digits at smoke.
PAPER = Plan(schedule=Schedule(epochs=PUBLISHED_EPOCHS), num_seeds=4, num_samples=5000)
# The first two stages; the VAE leads for about as long.
CPU = replace(PAPER, schedule=Schedule(epochs=4), num_seeds=1, num_samples=1000)
SMOKE = replace(PAPER, schedule=Schedule(epochs=1), num_seeds=2, num_samples=128)

# Each claim: the better one, the other, and in what. Only pairs that the paper's table
# separates, or that its text speaks of.
CLAIMS = (
    ("IWAE", "VAE", "log p̂"),
    ("PIWAE(8,8)", "IWAE", "log p̂"),
    ("PIWAE(8,8)", "MIWAE(8,8)", "log p̂"),
    ("IWAE", "CIWAE β=0.5", "log p̂"),
    ("PIWAE(8,8)", "IWAE", "IWAE-64"),
    ("MIWAE(8,8)", "IWAE", "IWAE-64"),
    ("IWAE", "VAE", "IWAE-64"),
    ("PIWAE(8,8)", "IWAE", "−KL(Q‖P)"),
    ("MIWAE(8,8)", "PIWAE(8,8)", "−KL(Q‖P)"),
    ("VAE", "MIWAE(8,8)", "−KL(Q‖P)"),
)


ThisRun = Run[Plan, Images]
Found = Mapping[str, Measured]


def _load(request: Request[Plan]) -> Images:
    return load_images(request.scale, request.options)


def _run(run: ThisRun) -> Found:
    return {name: _measure(name, run) for name in OBJECTIVES}


def _measure(name: str, run: ThisRun) -> Measured:
    images, plan, seeds = run.data, run.plan, run.seeds(run.plan.num_seeds)
    models = train_members(
        name, burda_vae, OBJECTIVES[name], images, plan.schedule, seeds, run.now, run.device
    )
    return measure_members(name, models, images.test, plan.num_samples, seeds, run.now, run.device)


def _provenance(run: ThisRun, found: Found) -> Mapping[str, object]:
    schedule, seeds = run.plan.schedule, list(run.seeds(run.plan.num_seeds))
    return run.provenance(
        epochs=schedule.epochs,
        data=run.data.record(),
        settings=schedule.record() | {"samples a datapoint": 64, "seeds": seeds},
    )


def metrics(found: Measured) -> Mapping[str, Float64[Tensor, "S n"]]:
    """Returns the table's quantities per seed and test image."""
    return {
        "IWAE-64": found.bound_64,
        "log p̂": found.log_px,
        "−KL(Q‖P)": found.bound_64 - found.log_px,
        "ESS": found.ess,
    }


def _rows(run: ThisRun, found: Found) -> tuple[Row, ...]:
    beside = references(NAME) if run.scale != "smoke" else {}
    return tuple(
        _row(name, quantity, values, run.plan, beside.get(f"{name}, {quantity}"))
        for quantity in ("IWAE-64", "log p̂", "−KL(Q‖P)", "ESS")
        for name in found
        for values in (metrics(found[name])[quantity],)
    )


def _row(name: str, quantity: str, values: Tensor, plan: Plan, published: Published | None) -> Row:
    S, n = values.shape
    runs = values.mean(1)
    return Row(
        name,
        quantity,
        runs.mean().item(),
        runs.std().item() if S > 1 else (values[0].std() / n**0.5).item(),
        f"sd over {S} runs" if S > 1 else "se over the images",
        epochs=plan.schedule.epochs,
        num_samples=GROUP if quantity == "IWAE-64" else plan.num_samples,
        num_data=n,
        published=published,
        unit="samples" if quantity == "ESS" else "nats",
        per_seed=tuple(runs.tolist()),
    )


def _claims(run: ThisRun, found: Found) -> tuple[Claim, ...]:
    signs = [
        judge(
            f"{quantity}: {better} is higher than {other}",
            SOURCE,
            difference(
                metrics(found[better])[quantity],
                metrics(found[other])[quantity],
                runs=run_error(metrics(values)[quantity] for values in found.values()),
            ),
        )
        for better, other, quantity in CLAIMS
    ]
    if not run.plan.schedule.is_published:
        return tuple(signs)
    return (*signs, *(_agreement(name, values) for name, values in found.items()))


def _agreement(name: str, found: Measured) -> Claim:
    published = references(NAME)[f"{name}, log p̂"]
    against = difference(found.log_px, found.log_px * 0)
    text = f"log p̂ of {name} is {published}"
    return agreement(text, against.value, against.error, published)


def _notes(run: ThisRun, found: Found) -> tuple[str, ...]:
    share = max(values.unreliable for values in found.values())
    notes = [
        "log p̂ is a lower bound in expectation; −KL(Q‖P) is a difference of two and no bound.",
        "All test numbers use one binary draw of the test images (seed 0).",
        f"At most {share:.1%} of any model's images have weights without a variance (k̂ ≥ 0.7).",
        "A claim's error joins the spread over paired test images and that over seeds, pooled over "
        "the models.",
    ]
    return (*notes, *run.plan.schedule.remarks(run.plan.num_seeds))


EXPERIMENT = Experiment(
    name=NAME,
    title="Tighter Variational Bounds are Not Necessarily Better, Table 1",
    plans={"smoke": SMOKE, "cpu": CPU, "paper": PAPER},
    load=_load,
    run=_run,
    provenance=_provenance,
    rows=_rows,
    claims=_claims,
    notes=_notes,
)
