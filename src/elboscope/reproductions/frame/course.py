"""One training by a game: steps, looks at what is trained, and pauses.

The random state is part of the checkpoint and a look runs from a seed of its own, so that pauses
and looks change no number. What is no longer finite ends a run: its rows stop there.
"""

from __future__ import annotations

__all__ = ["Course", "Look", "Rows", "Trained", "run_course"]

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import nn
from torch.optim import Optimizer

from elboscope.core import seeded
from elboscope.models import GAN, Hybrid
from elboscope.training.checkpoint import TrainingState, load_checkpoint, save_checkpoint

from .sitting import Sitting
from .training import file_name

Look = Mapping[str, float | int]
"""What was measured at one step; "step" says which."""
Rows = Sequence[Look]
Trained = Hybrid | GAN
"""What a game trains: with an encoder, or without."""

SAVE_SECONDS = 120.0


@dataclass(frozen=True)
class Course:
    """A training that is to be done.

    Attributes:
        name: Its files are called after it.
        module: Everything that is trained.
        optimizer: The optimiser of the module's parameters.
        step: Takes one step, from the ambient random state.
        look: Returns the row of a step.
        measured: Steps after which to look, ascending; the last ends the training.
        seed: Random seed of all draws of the steps.
        identity: What must not change between two sittings.
    """

    name: str
    module: nn.Module
    optimizer: Optimizer
    step: Callable[[], object]
    look: Callable[[int], Mapping[str, float]]
    measured: Sequence[int]
    seed: int
    identity: Mapping[str, object]


def run_course(course: Course, now: Sitting) -> Rows:
    """Trains to the end, or until the slice of time is over, and returns the rows.

    Raises:
        Unfinished: The time is over; at least one step was taken, and the state is saved.
    """
    kept = now.folder / f"{file_name(course.name)}.json"
    checkpoint = kept.with_suffix(".safetensors")
    record = json.loads(kept.read_text(encoding="utf-8")) if kept.is_file() else {"rows": []}
    if record.get("finished"):
        return list(record["rows"])
    with seeded(course.seed):
        state = TrainingState()
        if checkpoint.is_file():
            load = load_checkpoint
            state = load(checkpoint, course.module, course.optimizer, course.identity)
        rows: list[Look] = list(record["rows"][: state.num_rows])
        _take_steps(course, state, rows, kept, now)
    now.keep(kept.name, json.dumps({"rows": rows, "finished": True}))
    checkpoint.unlink(missing_ok=True)
    return rows


def _take_steps(
    course: Course, state: TrainingState, rows: list[Look], kept: Path, now: Sitting
) -> None:
    last, looks, saved_at = course.measured[-1], set(course.measured), now.seconds
    if state.step == 0 and 0 in looks:
        rows.append({"step": 0, **course.look(0)})
    while state.step < last:
        course.step()
        state.step += 1
        if state.step in looks:
            if not _is_finite(course.module):
                return
            now.say(course.name, state.step, last)
            rows.append({"step": state.step, **course.look(state.step)})
        late = now.left <= 0 and state.step < last
        if late or now.seconds - saved_at > SAVE_SECONDS:
            _save(course, state, rows, kept, now)
            saved_at = now.seconds
        if late:
            raise now.unfinished(f"{course.name}, step {state.step} of {last}")


def _is_finite(module: nn.Module) -> bool:
    return all(bool(p.isfinite().all()) for p in module.parameters())


def _save(course: Course, state: TrainingState, rows: Rows, kept: Path, now: Sitting) -> None:
    """Rows go first: of a process killed between the two, those too many are cut off."""
    state.num_rows = len(rows)
    now.keep(kept.name, json.dumps({"rows": rows}))
    path = kept.with_suffix(".safetensors")
    save_checkpoint(path, course.module, course.optimizer, state, course.identity)
