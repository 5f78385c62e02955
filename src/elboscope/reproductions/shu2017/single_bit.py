r"""Shu (2017): a VAE on copies of one bit, beside the optimum that quadrature knows.

.. math:: \mathrm{ELBO} = -\ln 2 - \mathrm{KL}(q(z) \| p(z)) \quad\text{for one copy and the best
          decoder of } any \text{ encoder}

One copy is not worth a posterior that differs from the prior: the best VAE ignores its latent. Two
copies are, and from there on distortion falls and KL grows as copies are added. Every number here
is a sum over nodes, of the optimum (:class:`elboscope.models.SingleBit`) as of what was trained;
one estimate by sampling stands beside to check the library's own estimator.

A bound by a Gaussian q, not the truth: log p(x) = −ln 2 is missed by what two half-normal
posteriors lose to two Gaussians, more with more copies. An asymmetric pair of Gaussians does no
better than the symmetric one (searched numerically, from several starts).

The file is long because one table is whole here: plans, trainings, rows, claims, both figures.
"""

from __future__ import annotations

__all__ = [
    "EXPERIMENT",
    "Entry",
    "Measured",
    "Moved",
    "Valley",
    "bit_claims",
    "bit_notes",
    "bit_rows",
    "blog_rows",
    "plot_copies",
    "plot_valley",
    "valley",
]

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float64
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator
from numpy.typing import NDArray
from torch import Tensor

from elboscope.estimators import evidence_lower_bound
from elboscope.models import VAE, SingleBit
from elboscope.plots.style import BLUE, GREEN, GREY, ORANGE, blank, legend_above

from ..frame.claims import ERRORS, Claim, Published, Verdict, difference, judge, references
from ..frame.experiment import Experiment, Run, no_data
from ..frame.result import Row
from ..frame.sitting import Sitting
from .network import Bit, BitSchedule, Variance, evaluate, new_model, train_bits

NAME = "single-bit"
COPIES = (1, 2, 3, 5, 10, 100, 1000)
# Logits held at once by the check. It takes many samples: with a thousand copies the distortion is
# that of one sample in ten thousand, each of which costs hundreds of nats.
CHUNK = 2_000_000
BLOG_SCHEDULE = BitSchedule(steps=49, first=1e-6, last=1e-6)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a scale means.

    Attributes:
        copies: D of each entry.
        schedule: Schedule of each training.
        num_seeds: Seeds of each entry.
        other_steps: Trainings of other lengths, of ``other_copies`` copies, to see what the
            length does.
        other_copies: D of those, and of the training with an exponential variance.
        num_check: K of the estimate by sampling.
    """

    copies: tuple[int, ...]
    schedule: BitSchedule
    num_seeds: int
    other_steps: tuple[int, ...]
    other_copies: int
    num_check: int


PAPER = Plan(
    copies=COPIES,
    schedule=BitSchedule(steps=5000),
    num_seeds=10,
    other_steps=(1500, 20_000),
    other_copies=100,
    num_check=100_000,
)
CPU = replace(PAPER, num_seeds=3)
SMOKE = replace(
    PAPER,
    copies=(1, 2, 10),
    schedule=BitSchedule(steps=150, num_samples=50),
    num_seeds=2,
    other_steps=(50,),
    other_copies=10,
    num_check=1000,
)


class Entry(NamedTuple):
    """One row of trainings: copies, steps, and what makes the variance."""

    label: str
    copies: int
    schedule: BitSchedule
    variance: Variance = "softplus"


class Measured(NamedTuple):
    """What is measured on one entry.

    Attributes:
        bits: The parts of the bound, one a seed.
        check: Sampled minus exact ELBO of the first seed, and the error of the former.
    """

    bits: Sequence[Bit]
    check: tuple[float, float]


class Moved(NamedTuple):
    """What the blog's training does: the largest move of a parameter, the KL before and after."""

    largest: float
    kl_before: float
    kl_after: float


ThisRun = Run[Plan, None]


class Found(NamedTuple):
    """What was trained, the blog's training, and the optimum of each number of copies.

    Attributes:
        entries: All trainings.
        table: Those of the table, by number of copies.
        moved: The blog's.
        optimum: By number of copies.
    """

    entries: Mapping[Entry, Measured]
    table: Mapping[int, Sequence[Bit]]
    moved: Moved
    optimum: Mapping[int, Bit]


def _run(run: ThisRun) -> Found:
    entries, seeds = _entries(run.plan), run.seeds(run.plan.num_seeds)
    found = {entry: _measure(entry, run.plan, seeds, run.now) for entry in entries}
    moved = _blog(run.seed, run.now)
    copies = run.plan.copies
    table = {entry.copies: found[entry].bits for entry in entries[: len(copies)]}
    return Found(found, table, moved, {D: _optimum(D) for D in copies})


def _provenance(run: ThisRun, found: Found) -> Mapping[str, object]:
    schedule = run.plan.schedule
    return run.provenance(
        epochs=schedule.steps,
        data={"name": "copies of one bit", "num_train": 1000},
        settings=schedule.record() | {"num_seeds": run.plan.num_seeds},
    )


def _entries(plan: Plan) -> list[Entry]:
    """The entries of the table first, then those of other lengths and the other variance."""
    main = [Entry(f"D = {D}", D, plan.schedule) for D in plan.copies]
    D, label = plan.other_copies, f"D = {plan.other_copies}"
    lengths = [
        Entry(f"{label}, {steps} steps", D, replace(plan.schedule, steps=steps))
        for steps in plan.other_steps
    ]
    return [*main, *lengths, Entry(f"{label}, variance exp(r)", D, plan.schedule, "exponential")]


def _measure(entry: Entry, plan: Plan, seeds: Sequence[int], now: Sitting) -> Measured:
    models = train_bits(entry.label, entry.copies, entry.schedule, seeds, now, entry.variance)
    x = SingleBit(0.0, 1.0, entry.copies).data().float()
    bits = [evaluate(model, x) for model in models]
    chunk = max(100, CHUNK // entry.copies)
    sampled = evidence_lower_bound(models[0], x, plan.num_check, seed=seeds[0], sample_chunk=chunk)
    error = sampled.mc_stderr.square().sum().sqrt().item() / 2
    return Measured(bits, (sampled.mean - bits[0].elbo, error))


def _optimum(copies: int) -> Bit:
    model = SingleBit.optimal(copies)
    return evaluate(model, model.data())


def _blog(seed: int, now: Sitting) -> Moved:
    """Trains as the blog did: a rate of 1e-6 and 49 steps, one copy."""
    label = "D = 1, rate 1e-6"
    (after,) = train_bits(label, 1, BLOG_SCHEDULE, [seed], now)
    before = new_model(label, 1, seed)
    x = SingleBit(0.0, 1.0).data().float()
    return Moved(_distance(before, after), evaluate(before, x).kl, evaluate(after, x).kl)


def _distance(before: VAE, after: VAE) -> float:
    pairs = zip(before.parameters(), after.parameters(), strict=True)
    return max((p.detach() - q.detach()).abs().max().item() for p, q in pairs)


# Rows, claims and notes of the single bit.
#
# Errors are spreads over seeds: each network's own numbers have none, they are sums over nodes.
# What is asked of a collapsed network is its bound, to 1e-3: along the valley a KL of 0.02 costs
# 2e-7 nats, and no training can tell it from 0.

SOURCE = "Shu 2017, one-bit VAE"
EXACT = "exact: the optimum by quadrature"
BLOG = "its rate and steps: blog Inference Generation Tradeoffs in VAEs"
COLLAPSED = 1e-3
# What float32 rounds of the bound of a thousand logits.
ROUNDING = 1e-5
LARGEST_MOVE = 5e-5


QUANTITIES: Mapping[str, Callable[[Bit], float]] = {
    "ELBO": lambda bit: bit.elbo,
    "distortion −E_q log p(x|z)": lambda bit: -bit.reconstruction,
    "KL(q(z|x)‖p(z))": lambda bit: bit.kl,
    "mutual information": lambda bit: bit.mutual_information,
    "KL(q(z)‖p(z))": lambda bit: bit.marginal_kl,
}
PUBLISHED = {"distortion −E_q log p(x|z)": "distortion", "KL(q(z|x)‖p(z))": "KL"}


def bit_rows(found: Mapping[Entry, Measured], optimum: Mapping[int, Bit]) -> Iterator[Row]:
    """Yields for each entry what was reached, what is best, and the check by sampling."""
    published = references(NAME)
    for entry, measured in found.items():
        best = optimum[entry.copies]
        for quantity, part in QUANTITIES.items():
            key = f"{entry.label}, {PUBLISHED.get(quantity, '')}"
            values = [part(bit) for bit in measured.bits]
            yield _row(entry, quantity, values, "nats", published.get(key))
        gaps = [1e3 * (best.elbo - bit.elbo) for bit in measured.bits]
        yield _row(entry, "optimum − ELBO", gaps, "10⁻³ nats")
        value, error = (1e3 * part for part in measured.check)
        kind, name = "se over samples of the first seed", "ELBO, sampled − exact"
        yield Row(entry.label, name, value, error, kind, unit="10⁻³ nats")
    for copies, best in optimum.items():
        for quantity, part in QUANTITIES.items():
            value = round(part(best), 12) + 0.0  # no −0.00
            yield Row(f"D = {copies}, optimum", quantity, value, math.nan)


def _row(
    entry: Entry,
    quantity: str,
    values: Sequence[float],
    unit: str,
    published: Published | None = None,
) -> Row:
    S, column = len(values), torch.tensor(values, dtype=torch.float64)
    return Row(
        entry.label,
        quantity,
        column.mean().item(),
        column.std().item() if S > 1 else math.nan,
        f"sd over {S} seeds" if S > 1 else "",
        epochs=entry.schedule.steps,
        num_data=1000,
        published=published,
        unit=unit,
        per_seed=tuple(values),
    )


def blog_rows(moved: Moved, schedule: BitSchedule) -> Iterator[Row]:
    """Yields what 49 steps at a rate of 1e-6 do to a network."""
    label, steps = "D = 1, rate 1e-6", schedule.steps
    largest = 1e6 * moved.largest
    yield Row(label, "largest move of a parameter", largest, math.nan, epochs=steps, unit="10⁻⁶")
    for quantity, value in (("before", moved.kl_before), ("after", moved.kl_after)):
        yield Row(label, f"KL(q(z|x)‖p(z)), {quantity}", value, math.nan, epochs=steps)


def bit_claims(
    trained: Mapping[int, Sequence[Bit]], optimum: Mapping[int, Bit], moved: Moved
) -> tuple[Claim, ...]:
    """Returns the verdicts.

    Args:
        trained: For each number of copies one outcome a seed.
        optimum: The best of each.
        moved: Outcomes of the blog's training.
    """
    used = {D: _column(bits) + D * math.log(2) for D, bits in trained.items() if D > 1}
    claims = [_collapses(_column(trained[1]))]
    for D, gain in used.items():
        text = f"{D} copies: the latent is used, the ELBO is above the collapsed −{D} ln 2"
        claims.append(judge(text, SOURCE, difference(gain, torch.zeros_like(gain))))
    return (*claims, _never_beaten(trained, optimum), _initialisation(moved))


def _column(bits: Sequence[Bit]) -> Float64[Tensor, "S 1"]:
    return torch.tensor([[bit.elbo] for bit in bits], dtype=torch.float64)


def _collapses(elbo: Float64[Tensor, "S 1"]) -> Claim:
    """One copy: the bound, and not the KL, says whether it collapsed."""
    text = f"one copy collapses: the ELBO is within {COLLAPSED:g} of −ln 2, whatever the KL"
    lost = difference(torch.full_like(elbo, -math.log(2)), elbo)
    error = 0.0 if math.isnan(lost.error) else lost.error
    outcome: Verdict = (
        "reproduced"
        if abs(lost.value) + ERRORS * error <= COLLAPSED
        else "contradicted"
        if abs(lost.value) - ERRORS * error > COLLAPSED
        else "undecided"
    )
    evidence = f"−ln 2 − ELBO = {lost.value:.1e} ± {error:.0e} nats ({lost.num_seeds} seeds)"
    return Claim(text, SOURCE, outcome, evidence, lost.value, error)


def _never_beaten(trained: Mapping[int, Sequence[Bit]], optimum: Mapping[int, Bit]) -> Claim:
    """Both sides are sums over nodes, so that one network above the optimum would contradict."""
    excess = {
        (D, s): bit.elbo - optimum[D].elbo
        for D, bits in trained.items()
        for s, bit in enumerate(bits)
    }
    (D, s), most = max(excess.items(), key=lambda item: item[1])
    evidence = f"closest: {-most:.1e} ± {ROUNDING:.0e} nats below it (D = {D}, seed {s})"
    outcome: Verdict = "reproduced" if most <= ROUNDING else "contradicted"
    text = "no trained network is above the optimum of its number of copies"
    return Claim(text, EXACT, outcome, evidence, most, ROUNDING)


def _initialisation(moved: Moved) -> Claim:
    """A published curve of 49 steps at 1e-6 cannot show learning."""
    outcome: Verdict = "reproduced" if moved.largest <= LARGEST_MOVE else "contradicted"
    change = moved.kl_after - moved.kl_before
    return Claim(
        "49 steps at a rate of 1e-6 show the initial weights: none moves by more than 5e-5",
        BLOG,
        outcome,
        f"largest move {moved.largest:.2e} ± 0; the KL goes from {moved.kl_before:.4f} by "
        f"{change:+.1e} nats",
        moved.largest,
        0.0,
    )


def bit_notes(
    found: Mapping[Entry, Measured], optimum: float, copies: int, schedule: BitSchedule
) -> tuple[str, ...]:
    """Returns what must be read with the numbers.

    Args:
        found: All entries.
        optimum: The best ELBO of D copies.
        copies: D of the trainings of other lengths and of the other variance.
        schedule: Schedule of the table's trainings.
    """
    means = {
        entry: sum(bit.elbo for bit in measured.bits) / len(measured.bits)
        for entry, measured in found.items()
        if entry.copies == copies
    }
    lengths = sorted((e.schedule.steps, m) for e, m in means.items() if e.variance == "softplus")
    other = next(m for e, m in means.items() if e.variance != "softplus")
    by_steps = ", ".join(f"{mean:.4f} after {steps}" for steps, mean in lengths)
    return (
        "All numbers of networks and optima are sums over 4001 nodes of z, with no sampling error; "
        "± is the spread over seeds. The row 'sampled − exact' checks evidence_lower_bound.",
        f"What the length of training does at D = {copies}: the mean ELBO is {by_steps} steps, "
        f"each with its own decay of the learning rate; with exp(r) instead of the softplus "
        f"it is {other:.4f} after {schedule.steps}. The optimum is {optimum:.4f}.",
        "The optimum is that of two Gaussian posteriors and the best decoder; −ln 2 itself is not "
        "reached by Gaussians, for more than one copy.",
        "One row of each kind with 500 samples replaces 500 equal rows with one: the gradient has "
        "the same distribution. The KL of the training is analytic.",
        "A KL that is not 0 at D = 1 is no failure: the valley s² = 1 − m² is as flat as m⁸/12, "
        "see the figure.",
    )


# Figures: the bound's parts against the copies, and the flat valley.
#
# What training reached is a point for each seed; what is best is a line. The valley shows why a
# collapsed KL must not be asked for: along s² = 1 − m² the loss rises as m⁸/12, and the KL as m²/2.

PARTS: Mapping[str, tuple[str, Callable[[Bit], float]]] = {
    "ELBO": (BLUE, lambda bit: -bit.elbo),
    "distortion": (ORANGE, lambda bit: -bit.reconstruction),
    "KL": (GREEN, lambda bit: bit.kl),
}


class Valley(NamedTuple):
    """The loss of one copy along s² = 1 − m², in nats.

    Attributes:
        m: Distance of the posterior means from zero.
        excess: The negative ELBO minus ln 2.
        kl: The KL that goes with it.
    """

    m: NDArray[np.float64]
    excess: NDArray[np.float64]
    kl: NDArray[np.float64]

    @property
    def law(self) -> NDArray[np.float64]:
        """m⁸/12, the leading term of the excess."""
        found: NDArray[np.float64] = self.m**8 / 12
        return found


@torch.no_grad()
def valley(m: Sequence[float]) -> Valley:
    """Returns the loss of one copy along the valley, by quadrature.

    Args:
        m: Distances in (0, 1).

    Example:
        >>> at = valley([0.5, 0.9])
        >>> [f"{excess:.2g}" for excess in at.excess.tolist()]
        ['0.00039', '0.19']
    """
    bits = [SingleBit(at, math.sqrt(1 - at**2)) for at in m]
    excess = [-bit.elbo().item() - math.log(2) for bit in bits]
    return Valley(np.array(m), np.array(excess), np.array([bit.kl().item() for bit in bits]))


def plot_valley(data: Valley) -> Figure:
    """Draws excess, law and KL on a logarithmic axis.

    Example:
        >>> plot_valley(valley([0.4, 0.8])).axes[0].get_xlabel()
        'm, with s² = 1 − m²'
    """
    figure, axes = blank()
    axes.plot(data.m, data.excess, color=BLUE, lw=1.6, label="loss − ln 2")
    axes.plot(data.m, data.law, color=GREY, lw=1, ls="--", label="m⁸/12")
    axes.plot(data.m, data.kl, color=GREEN, lw=1.6, label="KL(q(z|x)‖p(z))")
    axes.set_yscale("log")
    axes.set_xlabel("m, with s² = 1 − m²")
    axes.set_ylabel("nats")
    legend_above(figure, axes, columns=3)
    return figure


def plot_copies(trained: Mapping[int, Sequence[Bit]], optimum: Mapping[int, Bit]) -> Figure:
    """Draws −ELBO, distortion and KL against the number of copies.

    Args:
        trained: For each number of copies one outcome a seed.
        optimum: The best of each.

    Example:
        >>> bit = Bit(-0.9, -0.2, 0.7, 0.6, 0.1)
        >>> plot_copies({2: [bit]}, {2: bit}).axes[0].get_xlabel()
        'copies D of the bit'
    """
    figure, axes = blank()
    copies = sorted(optimum)
    for name, (colour, part) in PARTS.items():
        label = "−ELBO" if name == "ELBO" else name
        axes.plot(copies, [part(optimum[D]) for D in copies], color=colour, lw=1.2, label=label)
        found = [(D, part(bit)) for D in sorted(trained) for bit in trained[D]]
        axes.plot(*zip(*found, strict=True), "o", color=colour, ms=3.5, mfc="none", mew=1)
    axes.plot([], [], "o", color=GREY, ms=3.5, mfc="none", mew=1, label="trained, each seed")
    axes.axhline(math.log(2), color=GREY, lw=1, ls=":", label="ln 2, the entropy of the bit")
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(FixedLocator(copies))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticks(copies, [str(D) for D in copies])
    axes.set_xlabel("copies D of the bit")
    axes.set_ylabel("nats, all copies")
    legend_above(figure, axes, columns=3)
    return figure


def _notes(run: ThisRun, found: Found) -> tuple[str, ...]:
    plan = run.plan
    best = found.optimum[plan.other_copies].elbo
    return bit_notes(found.entries, best, plan.other_copies, plan.schedule)


def _figures(run: ThisRun, found: Found) -> Mapping[str, Figure]:
    return {
        "copies": plot_copies(found.table, found.optimum),
        "valley": plot_valley(valley([0.01 * i for i in range(10, 98)])),
    }


EXPERIMENT = Experiment(
    name=NAME,
    title="A single bit (Shu, 2017): when is a latent worth its KL?",
    plans={"smoke": SMOKE, "cpu": CPU, "paper": PAPER},
    load=no_data,
    run=_run,
    provenance=_provenance,
    rows=lambda run, found: (
        *bit_rows(found.entries, found.optimum),
        *blog_rows(found.moved, BLOG_SCHEDULE),
    ),
    claims=lambda run, found: bit_claims(found.table, found.optimum, found.moved),
    notes=_notes,
    figures=_figures,
    device=lambda scale: torch.device("cpu"),
)
