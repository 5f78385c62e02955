"""A sweep in the terminal: the trials, what matters, what failed, and what is next."""

from __future__ import annotations

__all__ = ["planned", "printed"]

import math
from collections.abc import Iterable, Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from elboscope.sweeps.plan import SweepPlan, Trial
from elboscope.sweeps.result import SweepResult, TrialResult
from elboscope.sweeps.sensitivity import effects, lead, spread

STYLES = {"diverged": "bold red", "failed": "bold red", "unfinished": "cyan", "waiting": "dim"}


def planned(plan: SweepPlan, trials: Sequence[Trial]) -> RenderableType:
    """Returns the points that are known before anything is trained, and the seeds of each."""
    table = _table("trial", *_short(plan), "seeds")
    seeds = ", ".join(map(str, plan.seeds))
    for trial in trials:
        table.add_row(str(trial.number), *_values(trial, plan), seeds)
    if len(trials) < plan.num_trials:
        spaces = [str(parameter) for parameter in plan.parameters.values()]
        table.add_row(f"… {plan.num_trials - 1}", *spaces, seeds)
    count = f"{plan.num_trials} trials × {len(plan.seeds)} seeds = {plan.num_runs} runs"
    return Group(table, Text(f"{count}, by {plan.sampler}; {_metric(plan)}", style="dim"))


def printed(result: SweepResult) -> RenderableType:
    """Returns the trials, the spread, the effects and the failures; no text is taken for markup."""
    plan = result.plan
    what = "mean ± sd over seeds" if len(plan.seeds) > 1 else "one seed"
    parts: list[RenderableType] = [Text(f"{_metric(plan)}: {what}"), Text(), _trials(result)]
    said = [Text(line) for line in (_spread(result), _lead(result)) if line]
    parts += [Text(), *said] if said else []
    found = effects(result)
    if found:
        parts += [Text(), _effects(result)]
    failures = [r for r in result.runs if r.state.status in ("diverged", "failed")]
    if failures:
        table = _table("run", "ended", "why")
        for r in failures:
            status = Text(r.state.status, style=STYLES[r.state.status])
            table.add_row(Text(str(r.run)), status, Text(r.state.reason))
        parts += [Text(), table]
    return Group(*parts)


def _metric(plan: SweepPlan) -> str:
    return f"{plan.direction} {plan.metric} of the {plan.epoch} epoch"


def _short(plan: SweepPlan) -> list[str]:
    """The last word of each dotted name, where no other name ends in it."""
    last = [name.rpartition(".")[2] for name in plan.parameters]
    pairs = zip(plan.parameters, last, strict=True)
    return [word if last.count(word) == 1 else name for name, word in pairs]


def _trials(result: SweepResult) -> Table:
    plan = result.plan
    value = "mean ± sd" if len(plan.seeds) > 1 else "value"
    by_seed = ["by seed"] if len(plan.seeds) > 1 else []
    table = _table("trial", *_short(plan), value, *by_seed, "finished")
    for found in result.ranked:
        runs = [_run(found, seed) for seed in plan.seeds] if by_seed else []
        joined = [Text(", ").join(runs)] if by_seed else []
        finished = Text(f"{len(found.values)}/{len(found.runs)}")
        finished.stylize("" if found.complete else "bold red")
        values = map(Text, _values(found.trial, plan))
        table.add_row(str(found.trial.number), *values, Text(_mean(found)), *joined, finished)
    return table


def _run(found: TrialResult, seed: int) -> Text:
    value = found.values.get(seed)
    if value is not None:
        return Text(_number(value))
    status = next(r.state.status for r in found.runs if r.run.seed == seed)
    return Text(status, style=STYLES[status])


def _mean(found: TrialResult) -> str:
    if not found.values:
        return "–"
    sd = "" if math.isnan(found.sd) else f" ± {_number(found.sd)}"
    return f"{_number(found.mean)}{sd}"


def _values(trial: Trial, plan: SweepPlan) -> Iterable[str]:
    values = (trial.parameters[name] for name in plan.parameters)
    return (f"{v:.4g}" if isinstance(v, float) else str(v) for v in values)


def _number(value: float) -> str:
    """Hundredths for nats; few digits for what is small or absurd."""
    text = f"{value:.2f}" if abs(value) >= 0.1 or value == 0 else f"{value:.2g}"
    text = text if abs(value) < 1e5 else f"{value:.3g}"
    return text.replace("-", "−")


def _spread(result: SweepResult) -> str:
    found = spread(result)
    if found is None or found.num_trials < 2:
        return ""
    low, middle, high = map(_number, (found.low, found.middle, found.high))
    noise = f"; over seeds: sd {_number(found.noise)}" if not math.isnan(found.noise) else ""
    return (
        f"Spread over {found.num_trials} settings: sd {_number(found.sd)}, from {low} over "
        f"{middle} (median) to {high}{noise}."
    )


def _lead(result: SweepResult) -> str:
    best, ahead = result.best, lead(result)
    if best is None:
        return ""
    text = f"Best: trial {best.trial.number} ({_mean(best)})"
    if ahead is None:
        return f"{text}."
    difference = f", ahead of trial {ahead.trial} by {_number(abs(ahead.mean))}"
    if math.isnan(ahead.stderr):
        return f"{text}{difference}; with one seed it cannot be said whether that is chance."
    error = f" ± {_number(ahead.stderr)} (error, paired over {len(best.values)} seeds)"
    undecided = "" if ahead.decided else "; undecided which of the two is better"
    return f"{text}{difference}{error}{undecided}."


def _effects(result: SweepResult) -> Table:
    kind = "mean over the rest of the grid" if result.plan.sampler == "grid" else "mean where tried"
    table = _table("hyper-parameter", "range", kind)
    for effect in effects(result):
        groups = "; ".join(f"{value}: {_number(mean)}" for value, mean, _ in effect.groups)
        table.add_row(Text(effect.name), Text(_number(effect.range)), Text(groups))
    return table


def _table(*names: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 1))
    for name in names:
        table.add_column(Text(name), overflow="fold")
    return table
