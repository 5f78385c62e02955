"""Which points are asked for: optuna's journal, a plain file that only ever grows.

A draw asked again answers the same, and the draws of trial n come from a generator seeded by
(seed, n): a sweep interrupted between two trials tries the points of an uninterrupted one (with
"tpe": given the same results in the same order).
"""

from __future__ import annotations

__all__ = [
    "OUTCOME",
    "RunState",
    "Status",
    "Study",
    "claim",
    "open_study",
    "require_extra",
    "run_state",
]

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from elboscope.core import InputError
from elboscope.core.files import replace_file

from .space import Direction, SweepPlan, Trial, grid

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
    """Opens the study in a folder that this process alone holds, and repairs what a kill left.

    Args:
        folder: The sweep's folder; ``None`` keeps nothing, for a look at the points.
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


# Whether a folder is that of this sweep: the same space, seeds, sampler and base.

FILE, RESULTS = "plan.json", ("sweep.csv", "sweep.json")
GROWS = "trials"


def claim(folder: Path, plan: SweepPlan, about: Mapping[str, object]) -> None:
    """Writes down what the folder is for, or compares it with what is there.

    Args:
        folder: The sweep's folder, held by this process.
        plan: Its ``trials`` may grow from call to call; nothing else may change.
        about: What else makes the runs what they are, such as the configuration.

    Raises:
        InputError: The folder is that of another sweep, or of a run, or has files of the names of
            a sweep's that are not of one.
    """
    path = folder / FILE
    asked: dict[str, Any] = json.loads(json.dumps({**about, "sweep": asdict(plan)}))
    if (folder / "run.json").exists():
        raise InputError(
            str(folder), expected="a new folder, or one of a sweep", got="a run folder",
            do="Choose another folder.",
        )  # fmt: skip
    there = [name for name in (FILE, JOURNAL, *RESULTS) if (folder / name).exists()]
    before = _plan_in(path)
    if there and before is None:
        raise InputError(
            str(folder), expected="a new folder, or one of a sweep",
            got=f"one with {' and '.join(there)} of something else", do="Choose another folder.",
        )  # fmt: skip
    if before is not None:
        _compare(folder, _flat(before), _flat(asked))
    text = json.dumps(asked, indent=2, ensure_ascii=False)
    replace_file(path, lambda aside: aside.write_text(text + "\n", encoding="utf-8"))


def _plan_in(path: Path) -> dict[str, Any] | None:
    """What a sweep wrote down; None where there is nothing, or something else."""
    try:
        found: Any = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) and isinstance(found.get("sweep"), dict) else None


def _compare(folder: Path, there: dict[str, Any], asked: dict[str, Any]) -> None:
    for key in sorted({*there, *asked}):
        old: Any = there.get(key)
        new: Any = asked.get(key)
        growing = key == f"sweep.{GROWS}" and isinstance(old, int)
        grows = growing and isinstance(new, int) and new >= old
        if old != new and not grows:
            more = " or more" if growing else ""
            raise InputError(
                str(folder), expected=f"the sweep that is there, with {key} {old!r}{more}",
                got=repr(new), do="Choose another folder for another sweep.",
            )  # fmt: skip


def _flat(content: Mapping[str, Any]) -> dict[str, Any]:
    return dict(_leaves(content, ""))


def _leaves(content: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for key, value in content.items():
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


# What a run folder says about its run: the only memory of a sweep.

Status = Literal["waiting", "unfinished", "finished", "diverged", "failed"]

OUTCOME = "outcome.json"


class RunState(NamedTuple):
    """Where a run stands.

    Attributes:
        status: "waiting" (not begun), "unfinished" (begun; it goes on from its checkpoint),
            "finished", "diverged" or "failed".
        reason: In words, what ended it.
    """

    status: Status
    reason: str

    @property
    def over(self) -> bool:
        """Whether nothing is to be done."""
        return self.status not in ("waiting", "unfinished")


def run_state(folder: Path) -> RunState:
    """Returns the state of the run in a folder, which need not exist.

    Example:
        >>> run_state(Path("no/such/run")).status
        'waiting'
    """
    said = str(_read(folder / "run.json").get("status", ""))
    if said.startswith("diverged"):
        return RunState("diverged", said)
    if said.startswith(("finished", "stopped early")):
        return RunState("finished", said)
    outcome = _read(folder / OUTCOME)
    if outcome.get("status") == "failed":
        return RunState("failed", str(outcome.get("reason", "")))
    return RunState("unfinished" if said else "waiting", said or str(outcome.get("reason", "")))


def _read(path: Path) -> dict[str, Any]:
    """A file that is missing or cut off says nothing."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
