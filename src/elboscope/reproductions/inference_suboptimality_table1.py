r"""Cremer et al. (2018), Table 1: where do VAEs lose their nats, in the family or in the encoder?

.. math:: \log \hat p(x) - L[q] = \underbrace{\log \hat p(x) - L[q^*]}_{\text{approximation}}
          + \underbrace{L[q^*] - L[q]}_{\text{amortisation}}

VAEs with a diagonal Gaussian posterior ("FFG") and with a flow, on MNIST and Fashion-MNIST:
regular, with a larger encoder, and without entropy annealing. q* is the best posterior of each
datapoint by itself, of the family that the model was trained with. The paper's gaps are those of
the first 1000 *training* images, as its code has them; the test images stand beside them.
"""

from __future__ import annotations

__all__ = ["reproduce"]

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from jaxtyping import Float64
from torch import Tensor

from elboscope.core import InputError
from elboscope.models import AuxiliaryRealNVP

from .binary_images import BinaryImages, load_binary_images
from .claims import without_verdict
from .gaps import Gaps, measured_gaps
from .options import Options, Progress
from .provenance import provenance, training_device
from .published import references
from .result import Reproduction, Row, Scale
from .sitting import Sitting, sitting
from .suboptimality_claims import NAME, column_claims, gap_of
from .suboptimality_columns import COLUMNS, Column, Networks, trained_column
from .training import PUBLISHED_EPOCHS, Schedule, file_name


class Plan(NamedTuple):
    """What a scale means: columns, training, images of either split, samples, search, annealing."""

    columns: tuple[Column, ...]
    schedule: Schedule
    num_images: int
    num_test: int
    num_samples: int = 5000
    max_steps: int = 400
    num_temperatures: int | None = None
    networks: Networks = Networks()


SMALL = Networks((16,), (24,), 3, AuxiliaryRealNVP(num_steps=1, hidden=6, context=3))
PLANS: Mapping[Scale, Plan] = {
    "smoke": Plan(
        (
            Column("digits", "Regular", "FFG"),
            Column("digits", "Regular", "Flow"),
            Column("digits", "No annealing", "Flow"),
            Column("digits", "Large", "FFG"),
        ),
        Schedule(1, batch_size=100), 3, 2, 100, 20, networks=SMALL,
    ),
    "cpu": Plan(COLUMNS[:3], Schedule(30, batch_size=100), 20, 10, 1000, 200),
    "paper": Plan(
        COLUMNS, Schedule(PUBLISHED_EPOCHS, batch_size=100), 1000, 1000, num_temperatures=1000
    ),
}  # fmt: skip
SPLITS = ("train", "test")

Found = Mapping[Column, Mapping[str, Gaps]]


def reproduce(
    scale: Scale,
    *,
    out: Path,
    seed: int = 0,
    options: Options | None = None,
    progress: Progress | None = None,
) -> Reproduction:
    """Trains the columns' models (or goes on with it), splits their gaps, and judges the claims.

    Args:
        scale: smoke: digits, four columns, 1 epoch; cpu: three columns, 30 epochs, 20 training
            and 10 test images, K = 1000; paper: twelve columns, 3280 epochs, 1000 and 1000
            images, K = 5000.
        out: Folder of the state; the result is saved there by ``Reproduction.save``.
        seed: Of weights, order of the data, and all draws.
        options: Where the data are; which columns; slices and resuming.
        progress: Told what is being done.

    Raises:
        InputError: Data are not to be had, the folder is in use, or no such column.
        Unfinished: The slice of time is over.
    """
    options = options or Options()
    plan, device = PLANS[scale], training_device(scale)
    columns = _chosen(plan.columns, options.columns)
    names = dict.fromkeys(column.data for column in plan.columns)
    sets = {name: load_binary_images(name, options) for name in names}
    checksums = {name: images.checksum for name, images in sets.items()}
    asked = {"name": NAME, "scale": scale, "seed": seed, "sha256": checksums}
    with sitting(out, asked, options, progress) as now:
        found = {c: _measured(c, sets[c.data], plan, seed, now, device) for c in columns}
        record = provenance(
            seed=seed,
            device=device,
            wall_seconds=now.seconds,
            epochs=plan.schedule.epochs,
            data={name: images.record() for name, images in sets.items()},
            settings={
                **plan.schedule.record(),
                "max_steps": plan.max_steps,
                "num_temperatures": plan.num_temperatures,
                "networks": str(plan.networks),
            },
        )
    train = {column: splits["train"] for column, splits in found.items()}
    claims = tuple(column_claims(train, published_schedule=plan.schedule.is_published))
    return Reproduction(
        NAME,
        "Inference Suboptimality in Variational Autoencoders, Table 1",
        scale,
        rows=tuple(_rows(found, plan)),
        claims=without_verdict(claims) if scale == "smoke" else claims,
        notes=tuple(_notes(found, plan)),
        provenance=record,
    )


def _chosen(columns: Sequence[Column], asked: Sequence[str]) -> tuple[Column, ...]:
    """Those asked for by name, such as ``mnist-regular-ffg``; all if none are."""
    known = {file_name(str(column)).lower(): column for column in columns}
    for name in asked:
        if name.lower() not in known:
            raise InputError("--columns", expected=f"some of {', '.join(known)}", got=repr(name))
    return tuple(known[name.lower()] for name in asked) or tuple(columns)


def _measured(
    column: Column, images: BinaryImages, plan: Plan, seed: int, now: Sitting, device: torch.device
) -> Mapping[str, Gaps]:
    model = trained_column(column, images, plan.networks, plan.schedule, seed, now, device)
    chosen = {
        "train": images.first_of_train(plan.num_images),
        "test": images.test[: plan.num_test],
    }
    return {
        split: measured_gaps(
            f"{column}, {split}",
            model,
            chosen[split].to(device),
            column.family,
            now,
            num_samples=plan.num_samples,
            max_steps=plan.max_steps,
            seed=seed,
            num_temperatures=plan.num_temperatures,
        )
        for split in SPLITS
    }


def _rows(found: Found, plan: Plan) -> Iterator[Row]:
    for column, splits in found.items():
        for split, gaps in splits.items():
            for quantity, values in gap_of(gaps).items():
                yield _row(column, split, quantity, values, plan)


def _row(column: Column, split: str, quantity: str, values: Float64[Tensor, " n"],
         plan: Plan) -> Row:  # fmt: skip
    """The paper's numbers are those of training images."""
    n = len(values)
    return Row(
        f"{column} ({split})",
        quantity,
        values.mean().item(),
        (values.std() / n**0.5).item(),
        "se over images",
        plan.schedule.epochs,
        plan.num_samples,
        n,
        references(NAME).get(f"{column}, {quantity}") if split == "train" else None,
    )


def _notes(found: Found, plan: Plan) -> Iterator[str]:
    yield (
        "Numbers of the paper, and the claims, are of training images; MNIST is one draw of ours "
        "(seed 0) in place of the published binarisation, and Fashion-MNIST has all 60 000 "
        "training images, of which the paper's code kept 5000 aside."
    )
    yield (
        "log p̂ is the best, by its mean less two Monte Carlo errors, of importance sampling from "
        "q and from both q*"
        f"{', and annealing' if plan.num_temperatures else ''}: a lower bound in expectation, so "
        "that approximation gaps are too small by what it misses."
    )
    every = [(f"{c} ({split})", gaps) for c, splits in found.items()
             for split, gaps in splits.items()]  # fmt: skip
    widest = {f: max(gaps.within[f] for _, gaps in every) for f in ("diagonal", "flow")}
    yield (
        f"Means of L[q*]: FFG certain to ±{widest['diagonal']:.3f} nats or better, "
        f"Flow to ±{widest['flow']:.3f}; the claims' errors include it."
    )
    for name, gaps in every:
        for family, said in gaps.certificates.items():
            if not said.startswith("certified"):
                yield f"{name}, {family}: {said}"
    yield from plan.schedule.remarks(1)
