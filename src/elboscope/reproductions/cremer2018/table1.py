r"""Cremer et al. (2018), Table 1: where do VAEs lose their nats, in the family or in the encoder?

.. math:: \log \hat p(x) - L[q] = \underbrace{\log \hat p(x) - L[q^*]}_{\text{approximation}}
          + \underbrace{L[q^*] - L[q]}_{\text{amortisation}}

VAEs with a diagonal Gaussian posterior ("FFG") and with a flow, on MNIST and Fashion-MNIST:
regular, with a larger encoder, and without entropy annealing. q* is the best posterior of each
datapoint by itself, of the family that the model was trained with. The paper's gaps are those of
the first 1000 *training* images, as its code has them; the test images stand beside them.

The file is long because the table is whole here: columns, plans, trainings, rows, claims.
"""

from __future__ import annotations

__all__ = [
    "COLUMNS",
    "EXPERIMENT",
    "Column",
    "Networks",
    "column_claims",
    "gap_of",
    "train_column",
]

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float64
from torch import Tensor

from elboscope.core import InputError, seeded
from elboscope.data import Binarisation
from elboscope.models import VAE, AuxiliaryRealNVP
from elboscope.training import ELBO, AnnealedEntropy, Objective

from ..frame.claims import (
    ERRORS,
    Claim,
    Difference,
    Published,
    agreement,
    difference,
    judge,
    references,
    verdict,
)
from ..frame.experiment import Experiment, Request, Run, Sets
from ..frame.images import BinaryImages, load_binary_images
from ..frame.result import Row
from ..frame.sitting import Sitting
from ..frame.training import PUBLISHED_EPOCHS, Schedule, derived_seed, file_name, train_to
from .gaps import FLOW, FamilyName, Gaps, cremer_vae, measure_gaps

NAME = "inference-suboptimality-table1"
SOURCE = "Cremer et al. 2018, Table 1, arXiv 1801.03558"
IMAGES = "training images"

# The twelve columns of the table: data, network and objective, family of q.
#
# .. math:: \max_{\theta, \phi}\; \mathbb{E}_q[\log p(x, z) - \lambda \log q(z|x)], \qquad
#           \lambda = \min(1, \text{epoch} / 400)
#
# over 3280 epochs of the schedule of Burda et al., in minibatches of 100; a shorter training has
# its warm-up in proportion. "No annealing" has λ = 1 from the start, "Large" an encoder of
# 500-500 units.

Variant = Literal["Regular", "Large", "No annealing"]
ANNEALED_SHARE = 400 / PUBLISHED_EPOCHS


class Column(NamedTuple):
    """One model: of which data, how trained, with which q."""

    data: str
    variant: Variant
    q: Literal["FFG", "Flow"]

    def __str__(self) -> str:
        return f"{self.data}, {self.variant}, {self.q}"

    @property
    def family(self) -> FamilyName:
        """The family of q, as the estimators call it."""
        return "flow" if self.q == "Flow" else "diagonal"

    def objective(self, epochs: int) -> Objective:
        """What is followed in a training of so many epochs; everything in it is sampled."""
        if self.variant == "No annealing":
            return ELBO(analytic_kl=False)
        return AnnealedEntropy(epochs * ANNEALED_SHARE)


# In the order in which a GPU's time is best spent.
ORDER: tuple[tuple[Variant, str], ...] = (
    ("Regular", "MNIST"),
    ("Regular", "Fashion"),
    ("No annealing", "MNIST"),
    ("No annealing", "Fashion"),
    ("Large", "MNIST"),
    ("Large", "Fashion"),
)
QS: tuple[Literal["FFG", "Flow"], ...] = ("FFG", "Flow")
COLUMNS = tuple(Column(data, variant, q) for variant, data in ORDER for q in QS)


@dataclass(frozen=True, kw_only=True)
class Networks:
    """Sizes."""

    hidden: tuple[int, ...] = (200, 200)
    large: tuple[int, ...] = (500, 500)
    latent_dim: int = 50
    flow: AuxiliaryRealNVP = FLOW


def train_column(
    column: Column,
    images: BinaryImages,
    networks: Networks,
    schedule: Schedule,
    seed: int,
    now: Sitting,
    device: torch.device,
) -> VAE:
    """Returns the trained model of a column; what was trained in a sitting before is only read.

    Args:
        column: Which.
        images: Its data.
        networks: Their sizes.
        schedule: How long.
        seed: Random seed of weights, order of the data, and all draws.
        now: The sitting.
        device: Where to train.

    Raises:
        Unfinished: The slice of time ended; the state is saved.
        TrainingInterrupted: Ctrl-C or SIGTERM; the state is saved.
        InputError: The training diverged.
    """
    name = str(column)
    with seeded(derived_seed(name, seed)):
        model = cremer_vae(
            images.train,
            networks.flow if column.q == "Flow" else None,
            encoder=networks.large if column.variant == "Large" else networks.hidden,
            decoder=networks.hidden[::-1],
            latent_dim=networks.latent_dim,
        )
    train_to(
        schedule.epochs, name, model.to(device), column.objective(schedule.epochs), images.train,
        schedule, seed, now, device, binarisation=Binarisation("none"),
    )  # fmt: skip
    return model


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a scale means: columns, training, images of either split, samples, search, annealing."""

    columns: tuple[Column, ...]
    schedule: Schedule
    num_images: int
    num_test: int
    num_samples: int = 5000
    max_steps: int = 400
    num_temperatures: int | None = None
    networks: Networks = Networks()


PAPER = Plan(
    columns=COLUMNS,
    schedule=Schedule(epochs=PUBLISHED_EPOCHS, batch_size=100),
    num_images=1000,
    num_test=1000,
    num_temperatures=1000,
)
CPU = replace(
    PAPER,
    columns=COLUMNS[:3],
    schedule=Schedule(epochs=30, batch_size=100),
    num_images=20,
    num_test=10,
    num_samples=1000,
    max_steps=200,
    num_temperatures=None,
)
SMOKE = replace(
    CPU,
    columns=(
        Column("digits", "Regular", "FFG"),
        Column("digits", "Regular", "Flow"),
        Column("digits", "No annealing", "Flow"),
        Column("digits", "Large", "FFG"),
    ),
    schedule=Schedule(epochs=1, batch_size=100),
    num_images=3,
    num_test=2,
    num_samples=100,
    max_steps=20,
    networks=Networks(
        hidden=(16,),
        large=(24,),
        latent_dim=3,
        flow=AuxiliaryRealNVP(num_steps=1, hidden=6, context=3),
    ),
)
SPLITS = ("train", "test")

ThisRun = Run[Plan, Sets[BinaryImages]]
Found = Mapping[Column, Mapping[str, Gaps]]


def _load(request: Request[Plan]) -> Sets[BinaryImages]:
    """Those of all columns, whichever are asked for: the folder may be resumed with others."""
    columns = request.plan.columns
    _chosen(columns, request.options.columns)
    names = dict.fromkeys(column.data for column in columns)
    return Sets({name: load_binary_images(name, request.options) for name in names})


def _run(run: ThisRun) -> Found:
    columns = _chosen(run.plan.columns, run.options.columns)
    return {column: _measure(column, run) for column in columns}


def _provenance(run: ThisRun, found: Found) -> Mapping[str, object]:
    plan = run.plan
    return run.provenance(
        epochs=plan.schedule.epochs,
        data={name: images.record() for name, images in run.data.items()},
        settings={
            **plan.schedule.record(),
            "max_steps": plan.max_steps,
            "num_temperatures": plan.num_temperatures,
            "networks": str(plan.networks),
        },
    )


def _chosen(columns: Sequence[Column], asked: Sequence[str]) -> tuple[Column, ...]:
    """Those asked for by name, such as ``mnist-regular-ffg``; all if none are."""
    known = {file_name(str(column)).lower(): column for column in columns}
    for name in asked:
        if name.lower() not in known:
            raise InputError("--columns", expected=f"some of {', '.join(known)}", got=repr(name))
    return tuple(known[name.lower()] for name in asked) or tuple(columns)


def _measure(column: Column, run: ThisRun) -> Mapping[str, Gaps]:
    images, plan, now, device = run.data[column.data], run.plan, run.now, run.device
    model = train_column(column, images, plan.networks, plan.schedule, run.seed, now, device)
    chosen = {
        "train": images.first_of_train(plan.num_images),
        "test": images.test[: plan.num_test],
    }
    return {
        split: measure_gaps(
            f"{column}, {split}",
            model,
            chosen[split].to(device),
            column.family,
            now,
            num_samples=plan.num_samples,
            max_steps=plan.max_steps,
            seed=run.seed,
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


def _claims(run: ThisRun, found: Found) -> Iterator[Claim]:
    train = {column: splits["train"] for column, splits in found.items()}
    return column_claims(train, published_schedule=run.plan.schedule.is_published)


# What Cremer et al. conclude from their table, and a verdict for every column that was run.
#
# A claim is the sign of a difference, as their table prints it, or a difference beside a number
# of nats. Differences are of the same images. Their error joins that of the images with what the
# certificates of q* leave open: c nats, counted as two errors. Pairs that the table separates by
# less than 0.2 nat are no claims.

SEPARATED = 0.2
# L[q*_Flow] − L[q*_FFG]: what flows are worth where the model needs them, and where not.
NEEDED, NOT_NEEDED = 10.0, 2.5
TOLERANCE = 1.0

FoundGaps = Mapping[Column, Gaps]


def gap_of(gaps: Gaps) -> Mapping[str, Float64[Tensor, " n"]]:
    """Returns the rows of the table."""
    return {
        "log p̂": gaps.log_px,
        "L[q*_Flow]": gaps.flow,
        "L[q*_FFG]": gaps.diagonal,
        "L[q]": gaps.elbo,
        "approximation gap": gaps.approximation,
        "amortisation gap": gaps.amortisation,
        "inference gap": gaps.inference,
    }


def column_claims(found: FoundGaps, *, published_schedule: bool) -> Iterator[Claim]:
    """Yields the claims of the columns that are there, on their training images.

    Args:
        found: The gaps of each column.
        published_schedule: Whether log p̂ should equal the paper's: the training was as long.
    """
    for column, gaps in found.items():
        yield _worth_of_flows(column, gaps)
    for column, gaps in found.items():
        yield _larger_part(column, gaps)
    for column in found:
        yield from _variants(column, found)
    if published_schedule:
        yield from (_agreement(column, gaps) for column, gaps in found.items())


def _worth_of_flows(column: Column, gaps: Gaps) -> Claim:
    """Flow-trained with annealing: more than 10 nats; all others: less than 2.5."""
    needed = column.q == "Flow" and column.variant != "No annealing"
    sign: Literal[1, -1] = 1 if needed else -1
    limit = NEEDED if needed else NOT_NEEDED
    words = "are worth more than" if needed else "are worth less than"
    delta = _widened(_difference(gaps.flow, gaps.diagonal), gaps, "flow", "diagonal")
    return _beside(f"{column}: flows {words} {limit:g} nats, L[q*_Flow] − L[q*_FFG]",
                   delta, limit, sign)  # fmt: skip


def _larger_part(column: Column, gaps: Gaps) -> Claim:
    """Which part the paper's column has as the larger one."""
    table = _published(column)
    sign = _sign(table["amortisation gap"].value - table["approximation gap"].value)
    parts = ("amortisation", "approximation")[::sign]
    text = f"{column}: the {parts[0]} gap is larger than the {parts[1]} gap"
    larger, smaller = (gaps.amortisation, gaps.approximation)[::sign]
    # q* enters both, with opposite signs: what it may lack counts twice.
    delta = _widened(_difference(larger, smaller), gaps, gaps.family, gaps.family)
    return judge(text, SOURCE, delta)


def _variants(column: Column, found: FoundGaps) -> Iterator[Claim]:
    """Regular against the larger encoder, and against no annealing."""
    for variant, quantity, words in (
        ("Large", "amortisation gap", "the larger encoder has {} amortisation gap"),
        ("No annealing", "log p̂", "without annealing log p̂ is {}"),
        ("No annealing", "amortisation gap", "without annealing the amortisation gap is {}"),
        ("No annealing", "worth of flows", "without annealing flows are worth {}"),
    ):
        other = column._replace(variant=_variant(variant))
        if column.variant == "Regular" and other in found:
            yield from _changed(column, other, found, quantity, words)


def _changed(
    column: Column, other: Column, found: FoundGaps, quantity: str, words: str
) -> Iterator[Claim]:
    ours = _quantity(quantity)
    theirs = _value(_published(other), quantity) - _value(_published(column), quantity)
    if abs(theirs) < SEPARATED or (quantity == "worth of flows" and column.q == "FFG"):
        return
    a, b = found[other], found[column]
    rows = a.rows[torch.isin(a.rows, b.rows)]
    kept_a, kept_b = (ours(g)[torch.isin(g.rows, rows)] for g in (a, b))
    delta = _difference(kept_a, kept_b)
    if quantity != "log p̂":
        for gaps in (a, b):
            both = ("flow", "diagonal") if quantity == "worth of flows" else (gaps.family,)
            delta = _widened(delta, gaps, *both)
    amounts = {"log p̂": ("lower", "higher"), "worth of flows": ("less", "more")}
    low, high = amounts.get(quantity, ("smaller", "larger"))
    amount = high if theirs > 0 else low
    article = f"a {amount}" if "has" in words else amount
    text = f"{column.data}, {column.q}: {words.format(article)}"
    yield judge(text, SOURCE, delta, _sign(theirs))


def _variant(name: str) -> Variant:
    return "Large" if name == "Large" else "No annealing"


def _quantity(name: str) -> Callable[[Gaps], Tensor]:
    if name == "worth of flows":
        return lambda gaps: gaps.flow - gaps.diagonal
    return lambda gaps: gap_of(gaps)[name]


def _value(table: Mapping[str, Published], quantity: str) -> float:
    if quantity == "worth of flows":
        return table["L[q*_Flow]"].value - table["L[q*_FFG]"].value
    return table[quantity].value


def _agreement(column: Column, gaps: Gaps) -> Claim:
    found = _difference(gaps.log_px, torch.zeros_like(gaps.log_px))
    published = _published(column)["log p̂"]
    text = f"log p̂ of {column} is {published}"
    return agreement(text, found.value, found.error, published, tolerance=TOLERANCE)


def _published(column: Column) -> Mapping[str, Published]:
    """A column of the paper's table; that of MNIST where it has none, as for digits."""
    table, like = references(NAME), column
    if f"{column}, log p̂" not in table:
        like = column._replace(data="MNIST")
    start = f"{like}, "
    return {key.removeprefix(start): n for key, n in table.items() if key.startswith(start)}


def _difference(a: Tensor, b: Tensor) -> Difference:
    return difference(a[None], b[None], data=IMAGES)


def _widened(found: Difference, gaps: Gaps, *families: str) -> Difference:
    """Adds what the certificates of these q* leave open; twice in full for one named twice."""
    open_ = [
        families.count(family) * gaps.within.get(family, math.nan) / ERRORS
        for family in set(families)
    ]
    return found._replace(error=math.hypot(found.error, *open_))


def _beside(text: str, found: Difference, limit: float, sign: Literal[1, -1]) -> Claim:
    """A difference against a number of nats instead of 0."""
    outcome = verdict(found.value - limit, found.error, sign)
    return Claim(text, SOURCE, outcome, f"{found} against {limit:g}", found.value, found.error)


def _sign(value: float) -> Literal[1, -1]:
    return 1 if value > 0 else -1


def _notes(run: ThisRun, found: Found) -> Iterator[str]:
    yield (
        "The paper's numbers and the claims are those of training images; MNIST is one draw of "
        "ours (seed 0) instead of the published binarisation, and Fashion-MNIST has all 60 000 "
        "training images, of which the paper's code set 5000 aside."
    )
    yield (
        "log p̂ is the best, by its mean less two Monte Carlo errors, of importance sampling from "
        "q and from both q*"
        f"{', and annealing' if run.plan.num_temperatures else ''}: a lower bound in expectation, "
        "so that approximation gaps are too small by what it misses."
    )
    every = [(f"{c} ({split})", gaps) for c, splits in found.items()
             for split, gaps in splits.items()]  # fmt: skip
    widest = {f: max(gaps.within[f] for _, gaps in every) for f in ("diagonal", "flow")}
    yield (
        f"Means of L[q*] are certain to ±{widest['diagonal']:.3f} nats or better with FFG, and to "
        f"±{widest['flow']:.3f} with Flow; the claims' errors include it."
    )
    for name, gaps in every:
        for family, said in gaps.certificates.items():
            if not said.startswith("certified"):
                yield f"{name}, {family}: {said}"
    yield from run.plan.schedule.remarks(1)


EXPERIMENT = Experiment(
    name=NAME,
    title="Inference Suboptimality in Variational Autoencoders, Table 1",
    plans={"smoke": SMOKE, "cpu": CPU, "paper": PAPER},
    load=_load,
    run=_run,
    provenance=_provenance,
    rows=lambda run, found: _rows(found, run.plan),
    claims=_claims,
    notes=_notes,
)
