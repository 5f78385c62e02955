"""``sweep.csv``, one line a run, and ``sweep.json``, everything."""

from __future__ import annotations

__all__ = ["columns", "save", "to_json"]

import csv
import json
import math
from io import StringIO
from pathlib import Path
from typing import Any

from elboscope.core.files import replace_file

from .result import RunResult, SweepResult, TrialResult
from .sensitivity import effects, lead, spread

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
