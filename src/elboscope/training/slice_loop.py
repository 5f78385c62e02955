r"""What happens between the steps of a sitting: epochs, savings, and the three ways it ends.

Nothing that is not finite is saved, so that a run that diverged stands where it was last whole.
Bounds go to ``bounds.json`` before the checkpoint that counts them: of a process killed between
the two, the rows too many are cut off.
"""

from __future__ import annotations

__all__ = ["SlicedRun", "restore", "take_steps"]

import json
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import nn

from .atomic import replace_file
from .checkpoint import TrainingState, load_checkpoint, save_checkpoint
from .graphed import GraphedStep, captured
from .interruption import Interruption

CHECKPOINT, BOUNDS = "checkpoint.safetensors", "bounds.json"


@dataclass
class SlicedRun:
    """A run in progress: its step, its past, and when to save and to stop.

    Attributes:
        identity: What may not change between two sittings.
        rate: The learning rate at a time in epochs.
        began: When this sitting began, on the monotonic clock.
        rows: The members' mean bounds of each finished epoch.
        earlier: Seconds spent in earlier sittings.
        saved_at: When the last checkpoint was written.
    """

    path: Path
    step: GraphedStep
    module: nn.Module
    identity: Mapping[str, object]
    seed: int
    epochs: int
    rate: Callable[[float], float]
    began: float
    slice_seconds: float
    checkpoint_seconds: float
    progress: Callable[[int, list[float]], None] | None
    state: TrainingState = field(default_factory=TrainingState)
    rows: list[list[float]] = field(default_factory=list)
    earlier: float = 0.0
    saved_at: float = 0.0

    @property
    def steps_per_epoch(self) -> int:
        """T."""
        return len(self.step.order)

    @property
    def epoch(self) -> float:
        """Training time, in epochs."""
        return self.state.step / self.steps_per_epoch

    @property
    def complete(self) -> bool:
        """Whether the epochs are over."""
        return self.state.step >= self.epochs * self.steps_per_epoch


def restore(run: SlicedRun) -> None:
    """Puts everything back where the last saving left it, if there was one."""
    path = run.path / CHECKPOINT
    if not path.exists():
        return
    run.state = load_checkpoint(path, run.module, run.step.optimizer, run.identity)
    run.step.sums.copy_(run.state.values[0])
    rows = json.loads((run.path / BOUNDS).read_text(encoding="utf-8"))
    run.rows = rows[: run.state.num_rows]
    run.earlier = run.state.seconds


def take_steps(run: SlicedRun, stop: Interruption) -> str:
    """Takes steps until the run or the sitting is over; returns which."""
    if not run.state.step:
        _save(run)
    run.saved_at = time.monotonic()
    _begin_epoch(run)
    advance, weight = captured(run.step), run.step.weight
    while True:
        advance()
        run.state.step += 1
        ended, now = run.state.step % run.steps_per_epoch == 0, time.monotonic()
        if ended and (bad := _end_epoch(run)):
            return _diverged(run, f"no finite bound for member {bad}")
        late = now - run.began >= run.slice_seconds
        due = ended and now - run.saved_at >= run.checkpoint_seconds
        if (run.complete or late or due or stop.reason) and not _save(run):
            return _diverged(run, "a weight is not finite")
        if stop.reason:  # after the last step too: who asked for an end expects one
            return "interrupted"
        if run.complete or late:
            return "finished" if run.complete else "to be continued"
        if ended:
            _begin_epoch(run)
            if run.step.weight != weight:
                advance, weight = captured(run.step), run.step.weight


def _begin_epoch(run: SlicedRun) -> None:
    epoch, position = divmod(run.state.step, run.steps_per_epoch)
    run.step.time = epoch + 0.5
    run.step.shuffle(run.seed, epoch)
    run.step.position.fill_(position)
    for group in run.step.optimizer.param_groups:
        group["lr"].fill_(run.rate(float(epoch)))


def _end_epoch(run: SlicedRun) -> str:
    """Reads the epoch's bounds, the one time that the device is waited for; names bad members."""
    bounds = (run.step.sums / run.steps_per_epoch).tolist()
    bad = [str(s) for s, bound in enumerate(bounds) if not math.isfinite(bound)]
    if bad:
        return ", ".join(bad)
    run.step.sums.zero_()
    run.rows.append(bounds)
    if run.progress is not None:
        run.progress(len(run.rows), bounds)
    return ""


def _save(run: SlicedRun) -> bool:
    """Writes bounds and checkpoint, unless something is no longer a number."""
    tensors = [*run.step.parameters, run.step.sums]
    if not bool(torch.stack([t.isfinite().all() for t in tensors]).all()):
        return False
    state = run.state
    state.seconds = run.earlier + time.monotonic() - run.began
    state.num_rows = len(run.rows)
    state.values, state.losses = [run.step.sums.clone()], [torch.zeros(())]
    text = json.dumps(run.rows)
    replace_file(run.path / BOUNDS, lambda aside: aside.write_text(text, encoding="utf-8"))
    save_checkpoint(run.path / CHECKPOINT, run.module, run.step.optimizer, state, run.identity)
    run.saved_at = time.monotonic()
    return True


def _diverged(run: SlicedRun, what: str) -> str:
    """Puts the last saved state back; returns the status."""
    status = f"diverged before epoch {run.epoch:.2f}: {what}"
    restore(run)
    return status
