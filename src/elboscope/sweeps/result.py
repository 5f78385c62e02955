r"""What a sweep found: the value of each run, mean ± sd of each trial, spread and sensitivity.

The sd over seeds says how far two trainings of the same settings lie apart. The spread of the
trials' means says how much the settings matter: a method that is good only at one of its points
is sensitive, and that is a finding of its own. A difference of two trials is *paired* over the
seeds that both finished, since seed s gives both the same minibatches. The best of many trials is
chosen by its value and flatters itself; on other data it will be worse.
"""

from __future__ import annotations

__all__ = ["RunResult", "SweepResult", "TrialResult", "result_of", "value_of"]

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev

from elboscope.training import read_rows

from .space import Run, SweepPlan, Trial
from .study import RunState, run_state


@dataclass(frozen=True)
class RunResult:
    """How one run ended.

    Attributes:
        run: Which.
        state: Where it stands; "failed" too if it lacks the metric.
        value: The metric; ``None`` unless it finished.
        epochs: Trained.
        seconds: Spent training.
    """

    run: Run
    state: RunState
    value: float | None
    epochs: float
    seconds: float


def value_of(run: Run, plan: SweepPlan) -> RunResult:
    """Reads a run's result from its folder."""
    state = run_state(run.folder)
    rows = read_rows(run.folder / "metrics.csv")
    epochs = rows[-1].get("epoch", math.nan) if rows else 0.0
    seconds = rows[-1].get("seconds", math.nan) if rows else 0.0
    values = [row.get(plan.metric, math.nan) for row in rows]
    values = [value for value in values if math.isfinite(value)]
    if state.status != "finished":
        return RunResult(run, state, None, epochs, seconds)
    if not values:
        found = [name for name in rows[-1] if not math.isnan(rows[-1][name])] if rows else []
        reason = f"no {plan.metric} in metrics.csv, which has {', '.join(found)}"
        return RunResult(run, RunState("failed", reason), None, epochs, seconds)
    better = max if plan.direction == "maximise" else min
    value = better(values) if plan.epoch == "best" else values[-1]
    return RunResult(run, state, value, epochs, seconds)


@dataclass(frozen=True)
class TrialResult:
    """The runs of one trial.

    Attributes:
        trial: Which point.
        runs: One a seed.
    """

    trial: Trial
    runs: tuple[RunResult, ...]

    @property
    def values(self) -> dict[int, float]:
        """Of the runs that finished, by seed."""
        return {r.run.seed: r.value for r in self.runs if r.value is not None}

    @property
    def complete(self) -> bool:
        """Whether every run finished; a mean of the others alone would flatter the trial."""
        return len(self.values) == len(self.runs)

    @property
    def mean(self) -> float:
        """Over the seeds that finished; NaN if none did."""
        return fmean(self.values.values()) if self.values else math.nan

    @property
    def sd(self) -> float:
        """Over seeds, with n − 1; NaN below two."""
        return stdev(self.values.values()) if len(self.values) > 1 else math.nan


@dataclass(frozen=True)
class SweepResult:
    """All results of a sweep.

    Attributes:
        plan: What was asked for.
        trials: In the order in which they were asked for.
        folder: Where the run folders are.
    """

    plan: SweepPlan
    trials: tuple[TrialResult, ...]
    folder: Path

    @property
    def runs(self) -> list[RunResult]:
        """All runs."""
        return [run for trial in self.trials for run in trial.runs]

    @property
    def ranked(self) -> list[TrialResult]:
        """Trials whose every run finished, best first, then the others."""
        sign = -1.0 if self.plan.direction == "maximise" else 1.0
        whole = sorted((t for t in self.trials if t.complete), key=lambda t: sign * t.mean)
        return [*whole, *(t for t in self.trials if not t.complete)]

    @property
    def best(self) -> TrialResult | None:
        """The best of the trials whose every run finished."""
        first = self.ranked[:1]
        return first[0] if first and first[0].complete else None


def result_of(plan: SweepPlan, trials: Iterable[Trial], folder: Path) -> SweepResult:
    """Reads the results of all runs from their folders."""
    read = (
        TrialResult(trial, tuple(value_of(run, plan) for run in plan.runs(trial, folder)))
        for trial in sorted(trials, key=lambda trial: trial.number)
    )
    return SweepResult(plan, tuple(read), folder)
