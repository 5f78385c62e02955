"""Which points are asked for: optuna's journal, a plain file that only ever grows.

A draw asked again answers the same, and the draws of trial n come from a generator seeded by
(seed, n): a sweep interrupted between two trials tries the points of an uninterrupted one (with
"tpe": given the same results in the same order).
"""

from __future__ import annotations

__all__ = ["Study", "open_study", "require_extra"]

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from elboscope.core import InputError

from .plan import Direction, SweepPlan, Trial
from .space import grid

if TYPE_CHECKING:
    import optuna

JOURNAL = "journal.log"
NAME = "sweep"
DIRECTIONS: Mapping[Direction, Literal["maximize", "minimize"]] = {
    "maximise": "maximize",
    "minimise": "minimize",
}


def require_extra() -> None:
    """Raises an InputError that says what to install, unless optuna and submitit are there."""
    try:
        import optuna  # noqa: F401
        import submitit  # noqa: F401
    except ImportError as error:
        raise InputError(
            "a sweep", expected="optuna and submitit", got=f"no module named {error.name!r}",
            do="Install them: pip install 'elboscope[sweep]'.",
        ) from error  # fmt: skip


class Study:
    """The points of a sweep, in the order in which they were asked for.

    Args:
        study: Optuna's.
        plan: What was asked for.
    """

    def __init__(self, study: optuna.Study, plan: SweepPlan) -> None:
        self._study, self._plan = study, plan

    def begun(self) -> list[Trial]:
        """Returns all trials asked for, with every value that a killed process had not drawn."""
        found = self._study.get_trials(deepcopy=False)
        return [
            self._drawn(self._open(trial) if _is(trial, "RUNNING") else trial)
            for trial in found
            if not _is(trial, "WAITING")
        ]

    def ask(self) -> Trial | None:
        """Returns the next trial, or ``None`` if there are no more."""
        done = sum(not _is(found, "WAITING") for found in self._study.get_trials(deepcopy=False))
        if done >= self._plan.num_trials:
            return None
        self._study.sampler = _sampler(self._plan, done)
        return self._drawn(self._study.ask())

    def tell(self, trial: Trial, value: float | None) -> None:
        """Tells the sampler a trial's value; ``None``: a run of it failed or diverged."""
        from optuna.trial import TrialState

        found = self._study.get_trials(deepcopy=False)[trial.number]
        if _is(found, "RUNNING"):
            state = TrialState.FAIL if value is None else TrialState.COMPLETE
            self._study.tell(trial.number, value, state=state)

    def _open(self, found: optuna.trial.FrozenTrial) -> optuna.trial.Trial:
        from optuna.trial import Trial as Draw

        self._study.sampler = _sampler(self._plan, found.number)
        return Draw(self._study, found._trial_id)

    def _drawn(self, draw: Any) -> Trial:
        """``draw`` is optuna's Trial or, once it is over, its FrozenTrial: both suggest."""
        values = {name: p.draw(draw) for name, p in self._plan.parameters.items()}
        return Trial(int(draw.number), values)


def _is(found: optuna.trial.FrozenTrial, state: str) -> bool:
    return found.state.name == state


def _sampler(plan: SweepPlan, number: int) -> optuna.samplers.BaseSampler:
    import numpy as np
    from optuna.samplers import RandomSampler, TPESampler

    seed = int(np.random.SeedSequence([plan.seed, number]).generate_state(1)[0])
    if plan.sampler == "tpe":
        return TPESampler(seed=seed, constant_liar=True)  # trials that run count as bad ones
    return RandomSampler(seed=seed)


@contextmanager
def open_study(folder: Path | None, plan: SweepPlan) -> Iterator[Study]:
    """Opens the study in a folder that this process alone holds, and mends what a kill left.

    Args:
        folder: Of the sweep; ``None`` keeps nothing, for a look at the points.
        plan: What is asked for.

    Raises:
        InputError: Optuna or submitit is not installed.
    """
    require_extra()
    import optuna

    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        study = optuna.create_study(
            storage=None if folder is None else _journal(folder / JOURNAL),
            study_name=NAME,
            direction=DIRECTIONS[plan.direction],
            sampler=_sampler(plan, 0),
            load_if_exists=folder is not None,
        )
        if plan.sampler == "grid":
            _enqueue(study, plan)
        yield Study(study, plan)
    finally:
        optuna.logging.set_verbosity(verbosity)


def _enqueue(study: optuna.Study, plan: SweepPlan) -> None:
    points = grid(plan.parameters)
    for point in points[len(study.get_trials(deepcopy=False)) :]:
        study.enqueue_trial({name: plan.parameters[name].key(v) for name, v in point.items()})


def _journal(path: Path) -> optuna.storages.JournalStorage:
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    path.with_name(f"{path.name}.lock").unlink(missing_ok=True)  # of a killed process
    _without_torn_line(path)
    return JournalStorage(JournalFileBackend(str(path)))


def _without_torn_line(path: Path) -> None:
    """Cuts off a last line that was being written; optuna would refuse the file for ever."""
    content = path.read_bytes() if path.exists() else b""
    whole = content[: content.rfind(b"\n") + 1]
    try:
        for line in whole.splitlines():
            json.loads(line)
    except ValueError as error:
        raise InputError(
            str(path), expected="the journal of a sweep", got=f"a damaged one ({error})",
            do="Move it away; runs that are finished stay in their folders.",
        ) from error  # fmt: skip
    if len(whole) < len(content):
        with path.open("r+b") as file:
            file.truncate(len(whole))
