r"""What a sweep found: the value of each run, mean ± sd of each trial, spread and sensitivity.

The sd over seeds says how far two trainings of the same settings lie apart. The spread of the
trials' means says how much the settings matter: a method that is good only at one of its points
is sensitive, and that is a finding of its own. A difference of two trials is *paired* over the
seeds that both finished, since seed s gives both the same minibatches. The best of many trials is
chosen by its value and flatters itself; on other data it will be worse.
"""

from __future__ import annotations

__all__ = [
    "Difference",
    "Effect",
    "RunResult",
    "Spread",
    "SweepResult",
    "TrialResult",
    "columns",
    "effects",
    "lead",
    "result_of",
    "save",
    "spread",
    "to_json",
    "value_of",
]

import csv
import json
import math
from collections.abc import Iterable
from dataclasses import dataclass
from io import StringIO
from itertools import pairwise
from pathlib import Path
from statistics import fmean, median, stdev
from typing import Any, NamedTuple

from scipy.stats import t as student

from elboscope.core.files import replace_file
from elboscope.training import read_rows

from .space import Choices, Run, SweepPlan, Trial
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
        """The metric of each run that finished, by seed."""
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


# How much the settings matter, beside how much the seed does.
#
# With m_t the mean of trial t over its seeds: the *spread* is the sd of the m_t over trials, and
# their range; the *noise* is the pooled sd over seeds, √(Σ (n_t − 1) s_t² / Σ (n_t − 1)). Means
# over S seeds differ by noise/√S even where no setting matters.
#
# The *effect* of one hyper-parameter compares the means of the m_t over its values. In a grid the
# other hyper-parameters are the same beside every value, and the effect is the main effect. Where a
# sampler drew the points they are not: there it is a description of what was tried, no effect.
# Values of a range are compared in thirds of the trials, by rank.

SEVERAL = 5


class Spread(NamedTuple):
    """How far the trials' means lie apart, over trials whose every run finished.

    Attributes:
        low: The least mean.
        middle: Their median.
        high: The largest.
        sd: Over trials; NaN below two.
        noise: Pooled sd over seeds; NaN with one seed.
        num_trials: How many.
    """

    low: float
    middle: float
    high: float
    sd: float
    noise: float
    num_trials: int


class Effect(NamedTuple):
    """The means over the values of one hyper-parameter.

    Attributes:
        name: The hyper-parameter.
        groups: Value or third, mean of the trials' means, how many trials.
    """

    name: str
    groups: tuple[tuple[str, float, int], ...]

    @property
    def range(self) -> float:
        """The largest mean less the least."""
        means = [mean for _, mean, _ in self.groups]
        return max(means) - min(means)


class Difference(NamedTuple):
    """The best trial less another, paired over seeds.

    Attributes:
        trial: The other's number.
        mean: The mean difference.
        stderr: Its error; NaN below two seeds.
        half_width: Half the 95 % interval, by Student's t with n − 1 degrees of freedom.
    """

    trial: int
    mean: float
    stderr: float
    half_width: float

    @property
    def decided(self) -> bool:
        """Whether the interval excludes 0; that the best was chosen as such it does not know."""
        return abs(self.mean) > self.half_width


def spread(result: SweepResult) -> Spread | None:
    """Returns the spread over trials beside the noise of seeds, or ``None`` without a trial."""
    trials = [t for t in result.trials if t.complete]
    if not trials:
        return None
    means = [t.mean for t in trials]
    sd = stdev(means) if len(means) > 1 else math.nan
    return Spread(min(means), median(means), max(means), sd, _noise(trials), len(means))


def _noise(trials: list[TrialResult]) -> float:
    freedom = sum(len(t.values) - 1 for t in trials)
    squares = sum((len(t.values) - 1) * t.sd**2 for t in trials if len(t.values) > 1)
    return math.sqrt(squares / freedom) if freedom else math.nan


def effects(result: SweepResult) -> list[Effect]:
    """Returns the effect of each hyper-parameter that took two values, the largest first."""
    trials = [t for t in result.trials if t.complete]
    found = [Effect(name, _groups(result, name, trials)) for name in result.plan.parameters]
    return sorted((e for e in found if len(e.groups) > 1), key=lambda e: -e.range)


def _groups(
    result: SweepResult, name: str, trials: list[TrialResult]
) -> tuple[tuple[str, float, int], ...]:
    parameter = result.plan.parameters[name]
    by_value: dict[str, list[TrialResult]] = {}
    for value in _values(name, trials, ordered=not isinstance(parameter, Choices)):
        by_value[_text(value)] = [t for t in trials if t.trial.parameters[name] == value]
    if not isinstance(parameter, Choices) and len(by_value) > SEVERAL:
        by_value = _thirds(name, trials)
    return tuple((text, fmean(t.mean for t in some), len(some)) for text, some in by_value.items())


def _values(name: str, trials: list[TrialResult], *, ordered: bool) -> list[object]:
    found: list[object] = []
    for trial in trials:
        value = trial.trial.parameters[name]
        found += [] if value in found else [value]
    return sorted(found, key=_number) if ordered else found


def _thirds(name: str, trials: list[TrialResult]) -> dict[str, list[TrialResult]]:
    ranked = sorted(trials, key=lambda t: _number(t.trial.parameters[name]))
    cuts = [round(i * len(ranked) / 3) for i in range(4)]
    parts = [ranked[a:b] for a, b in pairwise(cuts)]
    ends = [[_text(t.trial.parameters[name]) for t in (p[0], p[-1])] for p in parts]
    return {" to ".join(end): part for end, part in zip(ends, parts, strict=True)}


def _number(value: object) -> float:
    assert isinstance(value, int | float)
    return float(value)


def _text(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def lead(result: SweepResult) -> Difference | None:
    """Returns how far the best trial is ahead of the second, or ``None`` without one."""
    first, second = [*result.ranked, None, None][:2]
    if first is None or second is None or not second.complete:
        return None
    seeds = sorted(first.values)
    differences = [first.values[s] - second.values[s] for s in seeds]
    n = len(differences)
    error = stdev(differences) / math.sqrt(n) if n > 1 else math.nan
    half_width = float(student.ppf(0.975, n - 1)) * error if n > 1 else math.nan
    return Difference(second.trial.number, fmean(differences), error, half_width)


# ``sweep.csv``, one line a run, and ``sweep.json``, everything.

COLUMNS = ("status", "reason", "epochs", "seconds", "folder")


def columns(result: SweepResult) -> list[str]:
    """Returns the names of the columns of ``sweep.csv``."""
    return ["trial", "seed", *result.plan.parameters, result.plan.metric, *COLUMNS]


def save(result: SweepResult) -> tuple[Path, Path]:
    """Writes both files into the folder of the sweep, each atomically, and returns their paths."""
    text = StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns(result))
    writer.writerows(_cells(result, run) for run in result.runs)
    content = json.dumps(to_json(result), indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    paths = result.folder / "sweep.csv", result.folder / "sweep.json"
    _replace(paths[0], text.getvalue())
    _replace(paths[1], content)
    return paths


def _replace(path: Path, text: str) -> None:
    replace_file(path, lambda aside: aside.write_text(text, encoding="utf-8"))


def _cells(result: SweepResult, found: RunResult) -> list[object]:
    run, state = found.run, found.state
    values = [_cell(run.trial.parameters[name]) for name in result.plan.parameters]
    value = "" if found.value is None else repr(found.value)
    where = run.folder.relative_to(result.folder).as_posix()
    ended = (state.status, state.reason, f"{found.epochs:g}", f"{found.seconds:.1f}", where)
    return [run.trial.number, run.seed, *values, value, *ended]


def _cell(value: object) -> object:
    return json.dumps(value) if isinstance(value, list | tuple | dict) else value


def to_json(result: SweepResult) -> dict[str, Any]:
    """Returns all results as values that JSON can hold: a number that is missing is null."""
    plan, best, found, ahead = result.plan, result.best, spread(result), lead(result)
    return {
        "metric": plan.metric,
        "direction": plan.direction,
        "epoch": plan.epoch,
        "sampler": plan.sampler,
        "seeds": list(plan.seeds),
        "trials": [_trial(result, trial) for trial in result.trials],
        "best": None if best is None else best.trial.number,
        "best_less_second": None if ahead is None else _numbers(ahead._asdict()),
        "spread": None if found is None else _numbers(found._asdict()),
        "effects": [
            {"parameter": effect.name, "range": effect.range,
             "groups": [{"value": v, "mean": m, "trials": n} for v, m, n in effect.groups]}
            for effect in effects(result)
        ],
    }  # fmt: skip


def _trial(result: SweepResult, found: TrialResult) -> dict[str, Any]:
    numbers = _numbers({"mean": found.mean, "sd": found.sd})
    runs = [
        {"seed": r.run.seed, "status": r.state.status, "reason": r.state.reason, "value": r.value,
         "folder": r.run.folder.relative_to(result.folder).as_posix()}
        for r in found.runs
    ]  # fmt: skip
    about = {"trial": found.trial.number, "parameters": dict(found.trial.parameters)}
    return {**about, **numbers, "runs": runs}


def _numbers(values: dict[str, Any]) -> dict[str, Any]:
    return {k: None if isinstance(v, float) and math.isnan(v) else v for k, v in values.items()}
