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
"""

from __future__ import annotations

__all__ = ["reproduce"]

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import torch

from elboscope.estimators import evidence_lower_bound
from elboscope.models import VAE, SingleBit

from .claims import without_verdict
from .options import Options, Progress
from .provenance import provenance
from .result import Reproduction, Scale
from .single_bit_figure import plot_copies, plot_valley, valley
from .single_bit_network import Bit, BitSchedule, evaluated, train_bits, untrained
from .single_bit_table import Entry, Measured, Moved, bit_claims, bit_notes, bit_rows, blog_rows
from .sitting import Sitting, sitting

NAME = "single-bit"
COPIES = (1, 2, 3, 5, 10, 100, 1000)
# Logits held at once by the check. It takes many samples: with a thousand copies the distortion is
# that of one sample in ten thousand, each of which costs hundreds of nats.
CHUNK = 2_000_000
BLOG_SCHEDULE = BitSchedule(49, 1e-6, 1e-6)


class Plan(NamedTuple):
    """What a scale means.

    Attributes:
        copies: D of each entry.
        schedule: Of each training.
        num_seeds: Of each entry.
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


PLANS: Mapping[Scale, Plan] = {
    "smoke": Plan((1, 2, 10), BitSchedule(150, num_samples=50), 2, (50,), 10, 1000),
    "cpu": Plan(COPIES, BitSchedule(5000), 3, (1500, 20_000), 100, 100_000),
    "paper": Plan(COPIES, BitSchedule(5000), 10, (1500, 20_000), 100, 100_000),
}


def reproduce(
    scale: Scale,
    *,
    out: Path,
    seed: int = 0,
    options: Options | None = None,
    progress: Progress | None = None,
) -> Reproduction:
    """Trains Shu's network on 1 … 1000 copies of one bit, and evaluates it without sampling.

    Args:
        scale: smoke: three numbers of copies, 150 steps, two seeds; cpu: seven numbers of
            copies, 5000 steps, three seeds; paper: the same with ten seeds.
        out: Folder of the state; the result is saved there by ``Reproduction.save``.
        seed: The first of the seeds.
        options: Slices and resuming.
        progress: Told what is being done.

    Raises:
        InputError: The folder is in use.
        Unfinished: The slice of time is over.
    """
    options, plan = options or Options(), PLANS[scale]
    asked = {"name": NAME, "scale": scale, "seed": seed}
    with sitting(out, asked, options, progress) as now:
        found = {
            entry: _measured(entry, plan, range(seed, seed + plan.num_seeds), now)
            for entry in _entries(plan)
        }
        moved = _blog(seed, now)
        record = provenance(
            seed=seed,
            device=torch.device("cpu"),
            wall_seconds=now.seconds,
            epochs=plan.schedule.steps,
            data={"name": "copies of one bit", "num_train": 1000},
            settings=plan.schedule.record() | {"num_seeds": plan.num_seeds},
        )
    optimum = {D: _optimum(D) for D in plan.copies}
    main = {entry.copies: found[entry].bits for entry in _entries(plan)[: len(plan.copies)]}
    claims = bit_claims(main, optimum, moved)
    return Reproduction(
        NAME,
        "A single bit (Shu, 2017): when is a latent worth its KL?",
        scale,
        rows=(*bit_rows(found, optimum), *blog_rows(moved, BLOG_SCHEDULE)),
        claims=without_verdict(claims) if scale == "smoke" else claims,
        notes=bit_notes(found, optimum[plan.other_copies].elbo, plan.other_copies, plan.schedule),
        provenance=record,
        figures={
            "copies": plot_copies(main, optimum),
            "valley": plot_valley(valley([0.01 * i for i in range(10, 98)])),
        },
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


def _measured(entry: Entry, plan: Plan, seeds: Sequence[int], now: Sitting) -> Measured:
    models = train_bits(entry.label, entry.copies, entry.schedule, seeds, now, entry.variance)
    x = SingleBit(0.0, 1.0, entry.copies).data().float()
    bits = [evaluated(model, x) for model in models]
    chunk = max(100, CHUNK // entry.copies)
    sampled = evidence_lower_bound(models[0], x, plan.num_check, seed=seeds[0], sample_chunk=chunk)
    error = sampled.mc_stderr.square().sum().sqrt().item() / 2
    return Measured(bits, (sampled.mean - bits[0].elbo, error))


def _optimum(copies: int) -> Bit:
    model = SingleBit.optimal(copies)
    return evaluated(model, model.data())


def _blog(seed: int, now: Sitting) -> Moved:
    """Trains as the blog did: a rate of 1e-6 and 49 steps, one copy."""
    label = "D = 1, rate 1e-6"
    (after,) = train_bits(label, 1, BLOG_SCHEDULE, [seed], now)
    before = untrained(label, 1, seed)
    x = SingleBit(0.0, 1.0).data().float()
    return Moved(_distance(before, after), evaluated(before, x).kl, evaluated(after, x).kl)


def _distance(before: VAE, after: VAE) -> float:
    pairs = zip(before.parameters(), after.parameters(), strict=True)
    return max((p.detach() - q.detach()).abs().max().item() for p, q in pairs)
