"""``elboscope sweep``: a configuration with a ``sweep:`` section becomes a folder of run folders.

Each run is a process ``elboscope train trial-000/seed-0/config.yaml --resume`` of its own, which
can be repeated by hand. The same ``elboscope sweep`` continues what was interrupted.
"""

from __future__ import annotations

__all__ = ["run"]

import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from rich.console import Console

from elboscope import data
from elboscope.sweeps.executor import require_slurm
from elboscope.sweeps.plan import Run, SweepPlan, Trial
from elboscope.sweeps.result import RunResult, SweepResult
from elboscope.sweeps.space import grid
from elboscope.sweeps.study import open_study, require_extra
from elboscope.sweeps.sweep import sweep
from elboscope.sweeps.tables import save
from elboscope.training.atomic import replace_file

from .config import SECTIONS, SWEEP, Config, dump, read_config
from .errors import UsageError
from .parser import Arguments
from .progress import say, shown_progress
from .sweep_config import SweepConfig, check_points, configuration, sweep_config
from .sweep_table import planned, printed
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
        return Path(arguments.out).expanduser()
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
    with shown_progress("sweep") as progress:

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
    text = dump(configuration(base, run.trial.parameters, run.seed).config)
    path = run.folder / "config.yaml"
    write: Callable[[Path], object] = partial(Path.write_text, data=text, encoding="utf-8")
    replace_file(path, write)
    where = [] if data_dir is None else ["--data-dir", str(Path(data_dir).expanduser().resolve())]
    words = (sys.executable, "-m", "elboscope", "train", str(path), "--out", str(run.folder))
    return (*words, "--resume", *where)


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
