"""Independent runs of a reproduction, each in a process of its own, by way of a sweep.

The one hyper-parameter of that sweep is the name of a run. Each of its runs is a command that
trains and scores the run of that number into ``state/NAME``, where it would be without workers,
and then leaves ``run.json`` and ``metrics.csv`` in ``state/sweep``. Which runs were asked for, what
each printed and how it ended is there too: whatever is killed, the same call goes on. Numbers on
a CPU are those of a single process with the same number of threads.
"""

from __future__ import annotations

__all__ = ["IndependentRuns", "in_processes", "leave_result"]

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from elboscope.core.files import replace_with
from elboscope.sweeps.result import RunResult
from elboscope.sweeps.space import Choices, Direction, Run, SweepPlan, Trial
from elboscope.sweeps.study import run_state
from elboscope.sweeps.sweep import SweepInterrupted, sweep
from elboscope.training.metrics import write_rows

from .sitting import Sitting, Workers

FOLDER, RUN = "sweep", "run"


@dataclass(frozen=True)
class IndependentRuns:
    """Which runs there are.

    Attributes:
        names: Names of their folders in the state; their order gives their numbers.
        metric: The score that the sweep shows of each.
        direction: Which values of it are better.
        seed: Random seed of the reproduction.
    """

    names: tuple[str, ...]
    metric: str
    direction: Direction
    seed: int

    @property
    def plan(self) -> SweepPlan:
        """A grid of the names.

        Example:
            >>> IndependentRuns(("a", "b"), "loss", "minimise", 0).plan.num_runs
            2
        """
        return SweepPlan(
            {RUN: Choices(RUN, self.names)},
            seeds=(self.seed,),
            metric=self.metric,
            direction=self.direction,
        )

    def folder(self, state: Path, number: int) -> Path:
        """Returns where a run leaves ``run.json`` and ``metrics.csv``.

        Example:
            >>> IndependentRuns(("a", "b"), "loss", "minimise", 0).folder(Path("state"), 1)
            PosixPath('state/sweep/trial-001/seed-0')
        """
        trial = Trial(number, {RUN: self.names[number]})
        return self.plan.runs(trial, state / FOLDER)[0].folder


def in_processes(
    runs: IndependentRuns,
    asked: Mapping[str, object],
    workers: Workers,
    now: Sitting,
    *,
    begin_failed: bool,
) -> Mapping[str, str]:
    """Has every run done that is not over, and returns why those that failed did, by name.

    Args:
        runs: All.
        asked: What makes them what they are.
        workers: Who.
        now: The sitting that holds the state.
        begin_failed: Begin again what failed in an earlier call.

    Raises:
        InputError: optuna or submitit is not installed; the sweep there is of other runs.
        KeyboardInterrupt: Ctrl-C or SIGTERM came; runs were saved first.
    """

    def command(run: Run) -> Sequence[str]:
        return (*workers.command, str(run.trial.number))

    def report(result: RunResult, done: int) -> None:
        now.say(f"{_name(result)}: {result.state.status}", done, len(runs.names))

    try:
        result = sweep(
            runs.plan, now.folder / FOLDER, command, about={"asked": dict(asked)},
            executor=workers.executor, retry_failed=begin_failed, report=report,
        )  # fmt: skip
    except SweepInterrupted as stop:
        raise KeyboardInterrupt(f"{stop} Add --resume, if it has none.") from stop
    states = {_name(found): run_state(found.run.folder) for found in result.runs}
    return {name: s.reason for name, s in states.items() if s.status != "finished"}


def _name(found: RunResult) -> str:
    return str(found.run.trial.parameters[RUN])


def leave_result(
    folder: Path, scores: Mapping[str, float], seconds: float, about: Mapping[str, object]
) -> None:
    """Writes what a sweep reads of a run that is over; ``run.json``, which says so, comes last.

    Args:
        folder: The run's folder in the sweep; made if missing.
        scores: Columns of ``metrics.csv``.
        seconds: Seconds spent on the run; NaN if unknown.
        about: More entries of ``run.json``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    write_rows(folder / "metrics.csv", [{**scores, "seconds": seconds}], (*scores, "seconds"))
    record = json.dumps({"status": "finished", **about}, indent=1, ensure_ascii=False)
    replace_with(folder / "run.json", record + "\n")
