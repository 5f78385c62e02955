"""One row of ``metrics.csv``: the means of an epoch, of an objective's bounds or of a game.

A game has a column for each player's loss and for what it observed instead of a training bound.
The held-out ELBO is among its columns only where q(z|x) and p(x|z) have densities: it is then
measured with these, as any VAE's, and never with a ratio that an adversary found.
"""

from __future__ import annotations

__all__ = ["columns_of", "diverged_row", "epoch_row", "recorded", "samples_per_s"]

import math
import time

import torch
from torch import Tensor

from elboscope.core import Bound

from .adversarial import Played
from .games import Game
from .held_out import HeldOut
from .metrics import COLUMNS, Row
from .run_state import Run

HELD_OUT = ("validation_elbo", "validation_kl")
CLOCK = ("seconds", "samples_per_s")


def columns_of(run: Run) -> tuple[str, ...]:
    """Returns the names of the columns, in order."""
    if not isinstance(run.objective, Game):
        return COLUMNS
    held_out = HELD_OUT if run.bounded else ()
    return ("step", "epoch", *run.objective.columns, *held_out, "learning_rate", *CLOCK)


def recorded(run: Run, result: Bound | Played) -> Tensor:
    """Returns what a step adds to its epoch's means: B bounds, or one number a column."""
    if isinstance(result, Bound):
        return result.value
    assert isinstance(run.objective, Game)
    return torch.stack([result.measured[name] for name in run.objective.columns])


def samples_per_s(run: Run) -> float:
    """Returns the datapoints a second of this epoch's steps."""
    taken = len(run.state.losses) / run.steps_per_epoch * len(run.data.x)
    return taken / max(run.state.epoch_seconds, 1e-9)


def epoch_row(run: Run, held_out: HeldOut) -> Row:
    """Returns the row of the epoch that just ended."""
    values = torch.cat(run.state.values).double()
    if isinstance(run.objective, Game):
        names = run.objective.columns
        means = values.reshape(-1, len(names)).mean(0).tolist()
        measured = dict(zip(names, means, strict=True))
    else:
        loss = torch.stack(run.state.losses).double().mean().item()
        measured = {"train_bound": values.mean().item(), "loss": loss}
    told = {"validation_elbo": held_out.elbo, "validation_kl": held_out.kl}
    return _chosen(run, measured | told | _when(run, run.state.step, run.epoch))


def diverged_row(run: Run, step: int, epoch: float) -> Row:
    """Returns the row of a step whose loss was no number: it has none."""
    return _chosen(run, _when(run, step, epoch))


def _when(run: Run, step: int, epoch: float) -> Row:
    return {
        "step": float(step),
        "epoch": epoch,
        "weight": 1.0 if isinstance(run.objective, Game) else run.objective.weight(epoch),
        "learning_rate": run.settings.rate(epoch),
        "seconds": time.perf_counter() - run.began_at,
        "samples_per_s": samples_per_s(run),
    }


def _chosen(run: Run, row: Row) -> Row:
    return {name: row.get(name, math.nan) for name in columns_of(run)}
