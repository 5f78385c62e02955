r"""Burda et al. (2016), Table 1: test NLL and active units of VAEs and IWAEs.

Models with one and two stochastic layers are trained on k = 1, 5, 50 samples with the objective
of the VAE (the mean of k ELBO samples) and of the IWAE (:math:`L_k`); for k = 1 the two are one.
NLL is minus the mean of :math:`\log\hat p(x)` over the test images; a unit is active if
:math:`\mathrm{Var}_x\, \mathbb{E}_q[u|x] > 10^{-2}`. OMNIGLOT is included when its file is given.
"""

from __future__ import annotations

__all__ = ["EXPERIMENT"]

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from jaxtyping import Float64
from torch import Tensor

from elboscope.training import IWAE, MIWAE, Objective

from ..frame.claims import Claim, Difference, agreement, difference, judge, references, run_error
from ..frame.experiment import Experiment, Request, Run, Sets
from ..frame.images import Images, load_images, load_omniglot
from ..frame.result import Row
from ..frame.training import (
    LATENTS_2,
    PUBLISHED_EPOCHS,
    Build,
    Measured,
    Schedule,
    burda_hierarchical_vae,
    burda_vae,
    count_error,
    measure_members,
    train_members,
)

NAME = "iwae-table1"
SOURCE = "Burda et al. 2016, Table 1, arXiv 1509.00519"
THRESHOLD = 0.01


class Entry(NamedTuple):
    """One cell of the table: data, layers, objective, k."""

    data: str
    layers: int
    objective: str
    k: int

    def __str__(self) -> str:
        plural = "s" if self.layers > 1 else ""
        return f"{self.data}, {self.layers} layer{plural}, {self.objective} k={self.k}"

    @property
    def build(self) -> Build:
        """Makes the untrained network."""
        return burda_vae if self.layers == 1 else burda_hierarchical_vae

    @property
    def bound(self) -> Objective:
        """What is followed; k bounds of one sample are the ELBO with k samples."""
        return MIWAE(self.k, 1) if self.objective == "VAE" else IWAE(self.k)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a scale means: training, seeds, samples of an evaluation."""

    schedule: Schedule
    num_seeds: int
    num_samples: int


# One seed and all test images, as in the paper; MNIST (1000 test images) at cpu, digits at smoke.
PAPER = Plan(schedule=Schedule(epochs=PUBLISHED_EPOCHS), num_seeds=1, num_samples=5000)
# The first two stages; the VAE leads for about as long.
CPU = replace(PAPER, schedule=Schedule(epochs=4), num_samples=1000)
SMOKE = replace(PAPER, schedule=Schedule(epochs=1), num_samples=64)
# k = 1 is the VAE and the IWAE at once, and trained once.
TRAINED = (("VAE", 1), ("VAE", 5), ("VAE", 50), ("IWAE", 5), ("IWAE", 50))

LOWER = (
    (("IWAE", 50), ("VAE", 50)),
    (("IWAE", 5), ("VAE", 1)),
    (("IWAE", 50), ("IWAE", 5)),
)
MORE_UNITS = ((("IWAE", 50), ("VAE", 1)), (("IWAE", 50), ("VAE", 50)))

ThisRun = Run[Plan, Sets[Images]]
Found = Mapping[Entry, Measured]


def _load(request: Request[Plan]) -> Sets[Images]:
    omniglot = request.options.omniglot
    sets = [load_images(request.scale, request.options)]
    if omniglot is not None:
        sets.append(load_omniglot(omniglot, request.scale))
    return Sets({images.name: images for images in sets})


def _entries(data: str) -> list[Entry]:
    return [Entry(data, layers, *trained) for layers in (1, 2) for trained in TRAINED]


def _run(run: ThisRun) -> Found:
    entries = (entry for data in run.data for entry in _entries(data))
    return {entry: _measure(entry, run) for entry in entries}


def _measure(entry: Entry, run: ThisRun) -> Measured:
    name, images, plan = str(entry), run.data[entry.data], run.plan
    seeds = run.seeds(plan.num_seeds)
    models = train_members(
        name, entry.build, entry.bound, images, plan.schedule, seeds, run.now, run.device
    )
    return measure_members(name, models, images.test, plan.num_samples, seeds, run.now, run.device)


def _provenance(run: ThisRun, found: Found) -> Mapping[str, object]:
    schedule = run.plan.schedule
    return run.provenance(
        epochs=schedule.epochs,
        data={name: images.record() for name, images in run.data.items()},
        settings=schedule.record() | {"seeds": list(run.seeds(run.plan.num_seeds))},
    )


def _rows(run: ThisRun, found: Found) -> Iterator[Row]:
    for entry, values in found.items():
        yield from _entry_rows(entry, values, run.plan)


def _entry_rows(entry: Entry, found: Measured, plan: Plan) -> Iterator[Row]:
    S, n = found.log_px.shape
    beside = references(NAME)
    runs = -found.log_px.mean(1)
    against = difference(-found.log_px, torch.zeros_like(found.log_px))
    yield Row(
        str(entry),
        "NLL",
        runs.mean().item(),
        against.error,
        "se over images" + (" and seeds" if S > 1 else ""),
        plan.schedule.epochs,
        plan.num_samples,
        n,
        beside.get(f"{entry}, NLL"),
        per_seed=tuple(runs.tolist()),
    )
    for suffix, units in _units(entry.layers).items():
        counts, near = _counts(found, units)
        spread = counts.var().item() / S if S > 1 else 0.0
        yield Row(
            str(entry),
            "active units" + suffix,
            counts.mean().item(),
            math.sqrt(near**2 + spread),
            "units near the threshold" + (" and seeds" if S > 1 else ""),
            plan.schedule.epochs,
            num_data=n,
            published=beside.get(f"{entry}, active units{suffix}"),
            unit="units",
            per_seed=tuple(counts[:, 0].tolist()),
        )


def _units(layers: int) -> Mapping[str, slice]:
    if layers == 1:
        return {"": slice(None)}
    return {", z1": slice(0, LATENTS_2[0]), ", z2": slice(LATENTS_2[0], None)}


def _counts(found: Measured, units: slice = slice(None)) -> tuple[Float64[Tensor, "S 1"], float]:
    """The number of active units of each seed; of their mean, the error by units near 0.01."""
    variance, stderr = found.unit_variance[:, units], found.unit_stderr[:, units]
    near = [count_error(v, e) ** 2 for v, e in zip(variance, stderr, strict=True)]
    counts = (variance > THRESHOLD).double().sum(1, keepdim=True)
    return counts, sum(near) ** 0.5 / len(near)


def _claims(run: ThisRun, found: Found) -> Iterator[Claim]:
    for data in run.data:
        yield from _claims_of(data, found, run.plan)


def _claims_of(data: str, found: Found, plan: Plan) -> Iterator[Claim]:
    for layers in (1, 2):
        table = {e[2:]: values for e, values in found.items() if e[:2] == (data, layers)}
        where = f"{data}, {layers} layer{'s' if layers > 1 else ''}"
        for a, b in LOWER:
            text = f"{where}: {_name(a)} has a lower NLL than {_name(b)}"
            yield _better(text, table[a], table[b], table.values())
        for a, b in MORE_UNITS:
            text = f"{where}: {_name(a)} has more active units than {_name(b)}"
            yield _more_units(text, table[a], table[b], table.values())
    for kind in (("VAE", 1), ("IWAE", 50)):
        one, two = (found[Entry(data, layers, *kind)] for layers in (1, 2))
        text = f"{data}, {_name(kind)}: 2 layers have a lower NLL than 1"
        yield _better(text, two, one, [v for e, v in found.items() if e.data == data])
    if plan.schedule.is_published:
        yield from (_agreement(entry, found[entry]) for entry in _entries(data))


def _name(kind: tuple[str, int]) -> str:
    return f"{kind[0]} k={kind[1]}"


def _better(text: str, a: Measured, b: Measured, table: Iterable[Measured]) -> Claim:
    runs = run_error(values.log_px for values in table)
    return judge(text, SOURCE, difference(a.log_px, b.log_px, runs=runs))


def _more_units(text: str, a: Measured, b: Measured, table: Iterable[Measured]) -> Claim:
    (counts_a, near_a), (counts_b, near_b) = _counts(a), _counts(b)
    error = math.hypot(near_a, near_b, run_error(_counts(values)[0] for values in table))
    value = (counts_a - counts_b).mean().item()
    S, n = a.log_px.shape
    return judge(text, SOURCE, Difference(value, error, S, n, "units"))


def _agreement(entry: Entry, found: Measured) -> Claim:
    nll = difference(-found.log_px, torch.zeros_like(found.log_px))
    published = references(NAME)[f"{entry}, NLL"]
    return agreement(f"NLL of {entry} is {published}", nll.value, nll.error, published)


def _notes(run: ThisRun, found: Found) -> tuple[str, ...]:
    share = max(values.unreliable for values in found.values())
    notes = [
        "NLL is minus a lower bound on log p(x) with K samples: on average it is too high.",
        "VAE and IWAE with k = 1 are one model, trained once.",
        "All test numbers use one binary draw of the test images (seed 0).",
        f"At most {share:.1%} of any model's images have weights without a variance (k̂ ≥ 0.7).",
    ]
    return (*notes, *run.plan.schedule.remarks(run.plan.num_seeds))


EXPERIMENT = Experiment(
    name=NAME,
    title="Importance Weighted Autoencoders, Table 1",
    plans={"smoke": SMOKE, "cpu": CPU, "paper": PAPER},
    load=_load,
    run=_run,
    provenance=_provenance,
    rows=_rows,
    claims=_claims,
    notes=_notes,
)
