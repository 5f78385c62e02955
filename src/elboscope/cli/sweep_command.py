"""``elboscope sweep``: a configuration with a ``sweep:`` section becomes a folder of run folders.

Each run is a process ``elboscope train trial-000/seed-0/config.yaml --resume`` of its own, which
can be repeated by hand. The same ``elboscope sweep`` continues what was interrupted.
"""

from __future__ import annotations

__all__ = ["planned", "printed", "run"]

import math
import sys
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from elboscope import data
from elboscope.core.files import expanded, output_folder, replace_file
from elboscope.sweeps.executor import require_slurm
from elboscope.sweeps.result import RunResult, SweepResult, TrialResult, effects, lead, save, spread
from elboscope.sweeps.space import Run, SweepPlan, Trial, grid
from elboscope.sweeps.study import open_study, require_extra
from elboscope.sweeps.sweep import sweep
from elboscope.training import RunFolder

from .config import SECTIONS, SWEEP, Config, dump, read_config
from .load import foreign_code
from .parser import Arguments
from .sweep_config import SweepConfig, check_points, configuration, sweep_config
from .terminal import UsageError, say, shown_progress
from .train_command import absolute, require_device

SOME_FAILED = 1


def run(arguments: Arguments) -> int:
    """Trains, prints the table, saves it; 1 if a run failed or diverged."""
    config = _config(arguments)
    check_points(config)
    if arguments.dry_run:
        Console().print(planned(config.plan, _foreseen(config.plan)))
        return 0
    require_extra()
    if config.executor.queues:
        require_slurm()
    _require_data(config, arguments.data_dir)
    folder = _folder(config, arguments).resolve()
    result = _swept(config, folder, arguments)
    Console().print(printed(result))
    paths = save(result)
    say(f"Saved in {folder} ({', '.join(path.name for path in paths)}).{_next(result)}")
    return 0 if all(r.value is not None for r in result.runs) else SOME_FAILED


def _config(arguments: Arguments) -> SweepConfig:
    content = read_config(arguments.config, (*SECTIONS, SWEEP))
    if SWEEP not in content:
        example = "sweep: {parameters: {model.latent_dim: [2, 8]}, seeds: 3}"
        raise UsageError(SWEEP, expected="this key", got="none", do=f"For example {example}")
    base = absolute({key: value for key, value in content.items() if key != SWEEP})
    config = sweep_config(base, content[SWEEP])
    if arguments.workers is not None:
        config = replace(config, executor=replace(config.executor, workers=arguments.workers))
    return config


def _foreseen(plan: SweepPlan) -> list[Trial]:
    """The points that no result can change; those of "tpe" are not among them."""
    if plan.sampler == "grid":
        return [Trial(number, point) for number, point in enumerate(grid(plan.parameters))]
    if plan.adaptive:
        return []
    with open_study(None, plan) as study:
        return [trial for _ in range(plan.num_trials) if (trial := study.ask()) is not None]


def _folder(config: SweepConfig, arguments: Arguments) -> Path:
    if arguments.out is not None:
        return output_folder(arguments.out)
    return config.folder or Path("sweeps") / Path(arguments.config).stem


def _require_data(config: SweepConfig, data_dir: str | None) -> None:
    """Data sets are found, or downloaded, once, and not by each run."""
    first = {name: parameter.ends()[0] for name, parameter in config.plan.parameters.items()}
    resolved = configuration(config.base, first, config.plan.seeds[0])
    require_device(resolved.settings)
    choices = config.plan.parameters.get("data")
    for name in [resolved.data] if choices is None else choices.ends():
        say(data.load(str(name), data_dir))


def _swept(config: SweepConfig, folder: Path, arguments: Arguments) -> SweepResult:
    plan, num_runs = config.plan, config.plan.num_runs
    say(f"{num_runs} runs, {config.executor.workers} at a time; folder {folder}")
    prepare = partial(_prepared, config.base, arguments.data_dir)
    here = sys.stderr.isatty()
    with shown_progress("sweep") if here else nullcontext() as progress:

        def report(result: RunResult, done: int) -> None:
            if progress is None:
                say(_line(result, done, num_runs, plan.metric))
            else:
                progress(str(result.run), done, num_runs)

        return sweep(
            plan, folder, prepare, about={"config": config.base}, executor=config.executor,
            retry_failed=arguments.retry_failed, report=report,
        )  # fmt: skip


def _prepared(base: Config, data_dir: str | None, run: Run) -> Sequence[str]:
    """Writes the complete configuration of a run and returns the command that trains it."""
    config = configuration(base, run.trial.parameters, run.seed).config
    text = dump(config)
    path = _claimed(run.folder).config
    write: Callable[[Path], object] = partial(Path.write_text, data=text, encoding="utf-8")
    replace_file(path, write)
    where = [] if data_dir is None else ["--data-dir", str(expanded(data_dir).resolve())]
    words = (sys.executable, "-m", "elboscope", "train", str(path), "--out", str(run.folder))
    built = {key: config[key] for key in ("model", "objective")}
    trust = ["--trust"] if any(foreign_code(built, "")) else []
    return (*words, "--resume", *trust, *where)


def _claimed(folder: Path) -> RunFolder:
    """The folder with the mark of a run, without which training would keep off its config.yaml."""
    found = RunFolder(folder)
    found.claim(resume=True)
    return found


def _line(result: RunResult, done: int, num_runs: int, metric: str) -> str:
    value = result.state.reason if result.value is None else f"{metric} {result.value:.2f}"
    return f"{result.run}: {result.state.status}, {value} ({done} of {num_runs} runs over)"


def _next(result: SweepResult) -> str:
    best = result.best
    if any(r.state.status == "failed" for r in result.runs):
        return "\nTo begin failed runs again: the same command and --retry-failed"
    if best is None:
        return ""
    return f"\nNext: elboscope diagnose {best.runs[0].run.folder}"


# A sweep in the terminal: the trials, what matters, what failed, and what is next.

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
