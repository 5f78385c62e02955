r"""A recorded run: rows, the held-out bound, checkpoints, and the ends of a run.

A run ends because its epochs are over, because the held-out bound stopped improving, because the
loss or the weights are no longer numbers, or because someone interrupted it.

A file of its own because it is the course of a run with a folder, which ``run.py`` only prepares.
"""

from __future__ import annotations

__all__ = [
    "Recorded",
    "begin",
    "columns_of",
    "diverged_row",
    "epoch_row",
    "finish",
    "measurements",
    "samples_per_s",
]

import math
import time
from collections.abc import Iterator
from typing import cast

import torch
from torch import Tensor, nn

from elboscope.core import Bound, InputError, LatentVariableModel
from elboscope.objectives import Objective

from .checkpoint import TrainingState, load_checkpoint, save_checkpoint, weights
from .games.base import Game
from .games.step import Played
from .metrics import (
    COLUMNS,
    HeldOut,
    Reporter,
    Row,
    Tracker,
    append_row,
    held_out_bound,
    read_rows,
    write_rows,
)
from .run_folder import Run, RunFolder

# Steps between two looks at the losses, each of which waits for the device.
LOOK_EVERY = 50


def begin(run: Run, *, resume: bool, config: str) -> None:
    """Restores the last checkpoint, or writes the first one."""
    run.module.train()
    folder = run.folder
    if folder is None:
        run.kept = weights(run.module)
    else:
        resuming = resume and folder.checkpoint.exists()
        if resuming:
            _restore(run, folder)
        write_rows(folder.metrics, run.history, columns_of(run))
        if config:
            folder.write_text(folder.config, config)
        if not resuming:
            save(run, folder)
        _write_record(run, "running")
    run.saved_at = time.monotonic()
    run.began_at = time.perf_counter() - run.state.seconds


def _restore(run: Run, folder: RunFolder) -> None:
    run.state = load_checkpoint(folder.checkpoint, run.module, run.optimizer, run.identity)
    run.history = read_rows(folder.metrics)[: run.state.num_rows]
    run.looked_at = len(run.state.losses)
    run.record["resumed_at_step"] = run.state.step
    if run.epoch > run.settings.epochs:  # before config.yaml would say so
        raise InputError(
            "epochs",
            expected=f"at least the {run.epoch:.4g} that the run in {folder.path} has trained",
            got=str(run.settings.epochs),
            do="Ask for more epochs, or begin in another folder.",
        )


class Recorded:
    """A run of :func:`~elboscope.training.train` as the loop sees it.

    Losses are read from the device in batches, so a divergence is noticed late, but its step is
    found exactly.

    Args:
        run: The run.
        bounds: Takes a step whenever its next bound is asked for.
        reporter: Shows the bound of each step.
        track: Takes each epoch's row.
    """

    def __init__(
        self, run: Run, bounds: Iterator[Bound | Played], reporter: Reporter, track: Tracker
    ) -> None:
        self.run, self.reporter, self.track = run, reporter, track
        self.steps = _until_invalid(run, bounds)
        self.since = time.perf_counter()

    @property
    def state(self) -> TrainingState:
        """The counters."""
        return self.run.state

    @property
    def steps_per_epoch(self) -> int:
        """T."""
        return self.run.steps_per_epoch

    def over(self) -> str:
        """Returns why the run is over: a resumed run may have been complete."""
        if _out_of_patience(self.run):
            return _stopped_early(self.run)
        return "finished" if self.run.epoch >= self.run.settings.epochs else ""

    def advance(self) -> bool:
        """Takes a step; what is done between two steps costs it no time."""
        bound = next(self.steps, None)
        if bound is None:
            return False
        now, state = time.perf_counter(), self.run.state
        state.values.append(measurements(self.run, bound))
        state.losses.append(bound.loss)
        state.epoch_seconds += now - self.since
        self.since = now
        self._report(bound)
        return True

    def _report(self, bound: Bound | Played) -> None:
        run = self.run
        epoch = (run.state.step + 1) / run.steps_per_epoch
        if isinstance(bound, Played):
            self.reporter.played(epoch, bound.measured, samples_per_s(run))
            return
        held_out = run.history[-1].get("validation_elbo", math.nan) if run.history else math.nan
        self.reporter.step(epoch, bound.value, samples_per_s(run), held_out)

    def late(self) -> bool:
        """Whether the sitting is over: it has no end of its own."""
        return False

    def due(self, ends_epoch: bool) -> bool:
        """Whether a checkpoint is due, by the clock or by the number of the epoch."""
        return self.run.folder is not None and _save_is_due(self.run, ends_epoch)

    def fault(self, ends_epoch: bool, saves: bool) -> str:
        """Returns the first step whose loss was no number, or this one if a weight is none."""
        run = self.run
        if not (ends_epoch or saves) and len(run.state.losses) - run.looked_at < LOOK_EVERY:
            return ""
        bad = _first_bad(run)
        if not bad and (ends_epoch or saves) and not _finite(run.module):
            bad = run.state.step
        return str(bad or "")

    def diverge(self, fault: str) -> str:
        """Records the step and puts the last finite weights back."""
        run = self.run
        step = int(fault) if fault else _first_bad(run) or run.state.step + 1
        epoch = step / run.steps_per_epoch
        _add_row(run, diverged_row(run, step, epoch), self.track)
        if run.folder is not None:
            load_checkpoint(run.folder.checkpoint, run.module, run.optimizer, run.identity)
        else:
            run.module.load_state_dict(run.kept)
        return f"diverged at step {step} (epoch {epoch:.2f})"

    def end_epoch(self) -> None:
        """Writes the epoch's row and judges the held-out bound."""
        run = self.run
        held_out = _evaluate(run)
        _add_row(run, epoch_row(run, held_out), self.track)
        run.state.values, run.state.losses, run.state.epoch_seconds = [], [], 0.0
        run.looked_at = 0
        if run.folder is None:
            run.kept = weights(run.module)
        if run.settings.patience is not None and _settled(run):
            _judge(run, held_out.elbo)
        self.reporter.epoch(round(run.epoch))
        self.since = time.perf_counter()

    def save(self) -> None:
        """Writes the checkpoint, where there is a folder."""
        if self.run.folder is not None:
            save(self.run, self.run.folder)
            self.since = time.perf_counter()


def _out_of_patience(run: Run) -> bool:
    patience = run.settings.patience
    return patience is not None and run.state.misses >= patience


def _until_invalid(run: Run, bounds: Iterator[Bound | Played]) -> Iterator[Bound | Played]:
    """Ends where torch's argument validation refuses the NaN that a diverged model computed."""
    try:
        yield from bounds
    except ValueError as error:
        if not _finite(run.module):
            return
        if run.record["in_support"]:
            raise
        raise InputError(
            "x_train",
            expected=f"values in the support of the {run.record['likelihood']} likelihood",
            got="values outside it, which the likelihood refuses",
            do="Choose a binarisation, or a likelihood for these values.",
        ) from error


def _finite(module: nn.Module) -> bool:
    state = [v for v in module.state_dict().values() if v.is_floating_point()]
    return all(bool(torch.isfinite(value).all()) for value in state)


def _save_is_due(run: Run, ends_epoch: bool) -> bool:
    every = run.settings.checkpoint_epochs
    if ends_epoch and every and round(run.epoch) % every == 0:
        return True
    return time.monotonic() - run.saved_at >= run.settings.checkpoint_seconds


def _first_bad(run: Run) -> int:
    """Returns the first step since the last look whose loss is NaN or infinite, or 0."""
    if run.looked_at == len(run.state.losses):
        return 0
    losses = torch.stack(run.state.losses[run.looked_at :])
    bad = (~torch.isfinite(losses)).nonzero()
    if len(bad):
        return run.state.step - len(losses) + int(bad[0]) + 1
    run.looked_at = len(run.state.losses)
    return 0


def _evaluate(run: Run) -> HeldOut:
    data, settings = run.data, run.settings
    if data.x is None or round(run.epoch) % settings.validate_every or not run.bounded:
        return HeldOut(math.nan, math.nan)
    return held_out_bound(
        cast(LatentVariableModel, run.model),
        data.x,
        seed=settings.seed,
        num_samples=settings.validation_samples,
        condition=data.condition,
    )


def _add_row(run: Run, row: Row, track: Tracker) -> None:
    run.history.append(row)
    run.state.num_rows = len(run.history)
    if run.folder is not None:
        append_row(run.folder.metrics, row, columns_of(run))
    track(row)


def _settled(run: Run) -> bool:
    return isinstance(run.objective, Objective) and run.objective.settled(run.epoch)


def _judge(run: Run, elbo: float) -> None:
    """Keeps the weights if the bound is the best so far; an epoch without evaluation is no miss."""
    state = run.state
    if elbo > state.best:
        state.best, state.best_step, state.misses = elbo, state.step, 0
        state.best_weights = weights(run.module)
    elif not (math.isnan(elbo) and round(run.epoch) % run.settings.validate_every):
        state.misses += 1


def _stopped_early(run: Run) -> str:
    return f"stopped early at epoch {run.epoch:g}, best at step {run.state.best_step}"


def save(run: Run, folder: RunFolder) -> None:
    """Writes the checkpoint, then the weights to use."""
    run.state.seconds = time.perf_counter() - run.began_at if run.began_at else 0.0
    folder.sync_metrics()
    save_checkpoint(folder.checkpoint, run.module, run.optimizer, run.state, run.identity)
    folder.write_model(run.module, run.state.best_weights)
    run.saved_at = time.monotonic()


def _write_record(run: Run, status: str) -> None:
    if run.folder is not None:
        now = {"status": status, "step": run.state.step, "epoch": run.epoch}
        run.folder.write_record(run.record | now)


def finish(run: Run, status: str) -> None:
    """Saves what remains to be saved and leaves the weights to use in the model."""
    if run.folder is not None and not status.startswith(("diverged", "interrupted")):
        save(run, run.folder)
    _write_record(run, status)
    if run.state.best_weights:
        run.module.load_state_dict(run.state.best_weights)
    run.module.eval()


# One row of ``metrics.csv``: the means of an epoch, of an objective's bounds or of a game.
#
# A game has a column for each player's loss and for what it observed instead of a training bound.
# The held-out ELBO is among its columns only where q(z|x) and p(x|z) have densities: it is then
# measured with these, as any VAE's, and never with a ratio that an adversary found.

HELD_OUT = ("validation_elbo", "validation_kl")
CLOCK = ("seconds", "samples_per_s")


def columns_of(run: Run) -> tuple[str, ...]:
    """Returns the names of the columns, in order."""
    if not isinstance(run.objective, Game):
        return COLUMNS
    held_out = HELD_OUT if run.bounded else ()
    return ("step", "epoch", *run.objective.columns, *held_out, "learning_rate", *CLOCK)


def measurements(run: Run, result: Bound | Played) -> Tensor:
    """Returns what a step adds to its epoch's means: B bounds, or one number a column."""
    if isinstance(result, Bound):
        return result.value
    assert isinstance(run.objective, Game)
    return torch.stack([result.measured[name] for name in run.objective.columns])


def samples_per_s(run: Run) -> float:
    """Returns the datapoints a second of this epoch's steps."""
    taken = len(run.state.losses) / run.steps_per_epoch * len(run.data.x_train)
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
    bounds = {"validation_elbo": held_out.elbo, "validation_kl": held_out.kl}
    return _columns_alone(run, measured | bounds | _when(run, run.state.step, run.epoch))


def diverged_row(run: Run, step: int, epoch: float) -> Row:
    """Returns the row of a step whose loss was no number: it has none."""
    return _columns_alone(run, _when(run, step, epoch))


def _when(run: Run, step: int, epoch: float) -> Row:
    return {
        "step": float(step),
        "epoch": epoch,
        "weight": 1.0 if isinstance(run.objective, Game) else run.objective.weight(epoch),
        "learning_rate": run.settings.rate(epoch),
        "seconds": time.perf_counter() - run.began_at,
        "samples_per_s": samples_per_s(run),
    }


def _columns_alone(run: Run, row: Row) -> Row:
    return {name: row.get(name, math.nan) for name in columns_of(run)}
