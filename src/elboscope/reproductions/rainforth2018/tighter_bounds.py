r"""Rainforth et al. (2018), Table 1: is a tighter bound the better objective?

Five objectives, all with T = MK = 64 samples a datapoint, train the same network on dynamically
binarised MNIST. IWAE follows the tightest bound, whose encoder gradient has the lowest
signal-to-noise ratio; MIWAE averages 8 bounds of 8 samples, PIWAE gives the encoder MIWAE's
gradient and the decoder IWAE's, CIWAE mixes ELBO and IWAE. The paper's claim is in signs: which
model has the higher :math:`L_{64}`, :math:`\log\hat p` and −KL(Q‖P) = L_64 − log p̂.
"""

from __future__ import annotations

__all__ = ["CLAIMS", "OBJECTIVES", "reproduce"]

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from jaxtyping import Float64
from torch import Tensor

from elboscope.training import CIWAE, IWAE, MIWAE, PIWAE, Objective

from ..frame.claims import (
    Claim,
    Published,
    agreement,
    difference,
    judged,
    references,
    run_error,
    without_verdict,
)
from ..frame.evaluation import GROUP, Measured, measured_members
from ..frame.images import load_images
from ..frame.networks import burda_vae
from ..frame.result import Reproduction, Row, Scale
from ..frame.sitting import Options, Progress, provenance, sitting, training_device
from ..frame.training import PUBLISHED_EPOCHS, Schedule, train_members

NAME = "tighter-bounds-table1"
SOURCE = "Rainforth et al. 2018, Table 1, arXiv 1802.04537"

OBJECTIVES: Mapping[str, Objective] = {
    "IWAE": IWAE(64),
    "PIWAE(8,8)": PIWAE(8, 8),
    "MIWAE(8,8)": MIWAE(8, 8),
    "CIWAE β=0.5": CIWAE(64, 0.5),
    "VAE": MIWAE(64, 1),  # 64 bounds of one sample: the ELBO with 64 samples
}


class Plan(NamedTuple):
    """What a scale means: training, seeds, samples of an evaluation."""

    schedule: Schedule
    num_seeds: int
    num_samples: int


PLANS: Mapping[Scale, Plan] = {
    "smoke": Plan(Schedule(1), 2, 128),
    "cpu": Plan(Schedule(4), 1, 1000),  # the first two stages; the VAE leads for about as long
    "paper": Plan(Schedule(PUBLISHED_EPOCHS), 4, 5000),
}

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


def reproduce(
    scale: Scale,
    *,
    out: Path,
    seed: int = 0,
    options: Options | None = None,
    progress: Progress | None = None,
) -> Reproduction:
    """Trains the five models (or goes on with it), evaluates them, and judges the claims.

    Args:
        scale: smoke: digits, 1 epoch; cpu: MNIST, 4 epochs, 1000 test images, K = 1000;
            paper: 3280 epochs, 4 seeds, all test images, K = 5000.
        out: Folder of the state; the result is saved there by ``Reproduction.save``.
        seed: The first of the seeds.
        options: Where MNIST is; slices and resuming.
        progress: Told what is being done.

    Raises:
        InputError: MNIST is not to be had, or the folder is in use.
        Unfinished: The slice of time is over.
    """
    options = options or Options()
    plan, device = PLANS[scale], training_device(scale)
    images = load_images(scale, options)
    seeds = range(seed, seed + plan.num_seeds)
    asked = {"name": NAME, "scale": scale, "seed": seed, "sha256": images.checksum}
    with sitting(out, asked, options, progress) as now:
        found: dict[str, Measured] = {}
        for name, objective in OBJECTIVES.items():
            models = train_members(
                name, burda_vae, objective, images, plan.schedule, seeds, now, device
            )
            found[name] = measured_members(
                name, models, images.test, plan.num_samples, seeds, now, device
            )
        record = provenance(
            seed=seed,
            device=device,
            wall_seconds=now.seconds,
            epochs=plan.schedule.epochs,
            data=images.record(),
            settings=plan.schedule.record() | {"samples a datapoint": 64, "seeds": list(seeds)},
        )
    claims = _claims(found, plan)
    return Reproduction(
        NAME,
        "Tighter Variational Bounds are Not Necessarily Better, Table 1",
        scale,
        rows=_rows(found, plan, published=scale != "smoke"),
        claims=without_verdict(claims) if scale == "smoke" else claims,
        notes=_notes(found, plan),
        provenance=record,
    )


def metrics(found: Measured) -> Mapping[str, Float64[Tensor, "S n"]]:
    """Returns the table's quantities per seed and test image."""
    return {
        "IWAE-64": found.bound_64,
        "log p̂": found.log_px,
        "−KL(Q‖P)": found.bound_64 - found.log_px,
        "ESS": found.ess,
    }


def _rows(found: Mapping[str, Measured], plan: Plan, *, published: bool) -> tuple[Row, ...]:
    beside = references(NAME) if published else {}
    return tuple(
        _row(name, quantity, values, plan, beside.get(f"{name}, {quantity}"))
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


def _claims(found: Mapping[str, Measured], plan: Plan) -> tuple[Claim, ...]:
    signs = [
        judged(
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
    if not plan.schedule.is_published:
        return tuple(signs)
    return (*signs, *(_agreement(name, values) for name, values in found.items()))


def _agreement(name: str, found: Measured) -> Claim:
    published = references(NAME)[f"{name}, log p̂"]
    against = difference(found.log_px, found.log_px * 0)
    text = f"log p̂ of {name} is {published}"
    return agreement(text, against.value, against.error, published)


def _notes(found: Mapping[str, Measured], plan: Plan) -> tuple[str, ...]:
    share = max(values.unreliable for values in found.values())
    notes = [
        "log p̂ is a lower bound in expectation; −KL(Q‖P) is a difference of two, and no bound.",
        "All test numbers are of one binary draw of the test images (seed 0).",
        f"Weights without a variance (k̂ ≥ 0.7): at most {share:.1%} of the images of any model.",
        "A claim's error joins the spread over paired test images and that over seeds, pooled over "
        "the models.",
    ]
    return (*notes, *plan.schedule.remarks(plan.num_seeds))
