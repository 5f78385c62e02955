"""Hybrids on CIFAR-10, by networks of the DCGAN; see :mod:`.hybrids`."""

from __future__ import annotations

__all__ = ["reproduce", "reproduce_run"]

from collections.abc import Mapping
from itertools import product
from pathlib import Path

from elboscope.estimators.independent_critic import CriticTraining

from .hybrids import reproduce_hybrids, reproduce_one_hybrid
from .hybrids_plan import HybridsPlan
from .options import Options, Progress
from .result import Reproduction, Scale

NAME = "hybrids-cifar10"
WEIGHTS = (1.0, 5.0, 10.0, 50.0)
RATES = (1e-4, 2e-4, 3e-4, 5e-4)

PLANS: Mapping[Scale, HybridsPlan] = {
    "smoke": HybridsPlan(
        "CIFAR-10", 100, 40, 40, 2, 1, 1e-3, (), ((1.0, 1.0),), (4, 4, 4),
        CriticTraining(2, (4, 8), num_seeds=1, num_evaluated=40, evaluations=1, batch_size=16),
        crossed=False, swept=("VGH++",), joint_maps=(4, 4), code_hidden=(8,), latents=4,
        batch_size=16, critic_steps=2, stand_in="large digits",
    ),
    "cpu": HybridsPlan(
        "CIFAR-10", 20_000, 2000, 2000, 300, 3, 1e-3, (), (), (16, 32, 64),
        CriticTraining(100, (8, 16), num_seeds=1, num_evaluated=500, evaluations=2,
                       batch_size=32),
        crossed=False, swept=(), joint_maps=(8, 16), code_hidden=(64, 64), batch_size=32,
        critic_steps=2,
    ),
    "paper": HybridsPlan(
        "CIFAR-10", None, 5000, 5000, 200_000, 5, 3e-4, RATES, tuple(product(WEIGHTS, WEIGHTS)),
        (64, 128, 256), CriticTraining.published(), latents=100,
    ),
}  # fmt: skip


def reproduce(
    scale: Scale,
    *,
    out: Path,
    seed: int = 0,
    options: Options | None = None,
    progress: Progress | None = None,
) -> Reproduction:
    """Trains VAEs, hybrids and GANs on photographs, and scores what they draw.

    Args:
        scale: smoke: enlarged digits, tiny networks; cpu: some hundred steps of narrow networks,
            no sweep; paper: 200 000 steps, 5 seeds, the whole sweep.
        out: Folder of the state; the result is saved there by ``Reproduction.save``.
        seed: Of the first run; run s has seed + s.
        options: Where CIFAR-10 is; slices, resuming, workers.
        progress: Told what is being done.

    Raises:
        InputError: The data are not to be had, or the folder is in use.
        Unfinished: The slice of time is over.
    """
    return reproduce_hybrids(
        NAME, PLANS[scale], scale, out=out, seed=seed, options=options, progress=progress
    )


def reproduce_run(
    number: int,
    scale: Scale,
    *,
    out: Path,
    seed: int = 0,
    options: Options | None = None,
    progress: Progress | None = None,
) -> None:
    """Trains and scores one run for :func:`reproduce` with workers, in whose folder it works.

    Args:
        number: Of the run; see :func:`.hybrids.reproduce_one_hybrid`.
        scale: As there.
        out: As there.
        seed: As there.
        options: As there.
        progress: Told what is being done.

    Raises:
        InputError: No such run, a folder of something else, or a run in other hands.
        KeyboardInterrupt: Ctrl-C or SIGTERM came; the state is saved.
    """
    reproduce_one_hybrid(
        number, NAME, PLANS[scale], scale, out=out, seed=seed, options=options, progress=progress
    )
