"""``elboscope reproduce``: one published table or figure, claim by claim.

The library does the work and keeps it in a folder; here it is printed.
"""

from __future__ import annotations

__all__ = ["UNFINISHED", "require_fitting", "run", "workers_of"]

import sys
from pathlib import Path

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from elboscope.core.files import expanded, output_folder
from elboscope.reproductions import names_taking
from elboscope.reproductions.frame.experiment import find_experiment, reproduce, reproduce_run
from elboscope.reproductions.frame.result import HEADER, Reproduction, cells, meaning_of_errors
from elboscope.reproductions.frame.sitting import Options, Unfinished, Workers, training_device
from elboscope.sweeps.executor import Executor, Kind, Resources, require_slurm
from elboscope.sweeps.study import require_extra

from .parser import ALSO_LOCAL, SLURM_ONLY, WHO, Arguments
from .terminal import UsageError, say, shown_progress

# A slice has ended and the work has not: EX_TEMPFAIL, so that a shell loop can go on.
UNFINISHED, SOME_FAILED = 75, 1
PAPER_SLICE = 480.0
STYLES = {"reproduced": "green", "contradicted": "bold red", "undecided": "cyan"}


def run(arguments: Arguments) -> int:
    """Reproduces, saves, prints; returns 0, 1 if a run failed, 75 if a slice ended too early."""
    default = f"reproductions/{arguments.name}-{arguments.scale}"
    folder = output_folder(default if arguments.out is None else arguments.out)
    require_fitting(arguments)
    options = _options(arguments, folder)
    chosen = find_experiment(arguments.name)
    if arguments.only_run is not None:
        reproduce_run(
            chosen,
            arguments.only_run,
            arguments.scale,
            out=folder,
            seed=arguments.seed,
            options=options,
        )
        return 0
    here = options.workers is None or not options.workers.executor.queues
    if here and arguments.scale == "paper" and training_device("paper").type == "cpu":
        say("There is no GPU: the published schedule takes weeks on a CPU.")
    try:
        with shown_progress(arguments.name) as progress:
            outcome = reproduce(
                chosen,
                arguments.scale,
                out=folder,
                seed=arguments.seed,
                options=options,
                progress=progress,
            )
    except Unfinished as pause:
        say(pause)
        return UNFINISHED
    Console().print(printed(outcome))
    say(f"Saved in {folder} (result.json, result.md).")
    if not outcome.failed:
        return 0
    names = ", ".join(outcome.failed)
    say(f"Failed: {names}. The same command with --resume begins them again.")
    return SOME_FAILED


def _options(arguments: Arguments, folder: Path) -> Options:
    for option, what in (("--omniglot", "a file"), ("--columns", "columns")):
        if _value(arguments, option) is not None and arguments.name not in names_taking(option):
            expected = f"nothing, except with {', '.join(names_taking(option))}"
            raise UsageError(option, expected=expected, got=f"{what} with {arguments.name}")
    columns = tuple(c.strip() for c in (arguments.columns or "").split(",") if c.strip())
    if arguments.columns is not None and not columns:
        expected = "names of columns, with commas between them; without it, all"
        raise UsageError("--columns", expected=expected, got=repr(arguments.columns))
    workers = workers_of(arguments, folder)
    default = PAPER_SLICE if arguments.scale == "paper" and workers is None else None
    return Options(
        data_dir=_path(arguments.data_dir),
        omniglot=_path(arguments.omniglot),
        columns=columns,
        resume=arguments.resume,
        slice_seconds=float(arguments.slice_seconds) if arguments.slice_seconds else default,
        workers=workers,
    )


def _path(text: str | None) -> Path | None:
    return None if text is None else expanded(text)


def printed(outcome: Reproduction) -> RenderableType:
    """Returns the numbers, the verdicts and the notes; nothing in them is taken for markup."""
    title = Text(f"{outcome.title} (scale {outcome.scale})", style="bold")
    sources = dict.fromkeys(r.published.source for r in outcome.rows if r.published is not None)
    said = [f"paper: {'; '.join(sources)}"] if sources else []
    notes = [Text(f"· {note}", style="dim") for note in (*said, *outcome.notes)]
    errors = Text(meaning_of_errors(outcome.rows), style="dim")
    return Group(title, Text(), _numbers(outcome), errors, Text(), _claims(outcome), Text(), *notes)


def _numbers(outcome: Reproduction) -> Table:
    """The source, one for most tables, is said below: a line has no room for it."""
    table = _table(*HEADER[:-1])
    for row in outcome.rows:
        table.add_row(*map(Text, cells(row)[:-1]))
    return table


def _claims(outcome: Reproduction) -> Table:
    table = _table("at this scale", "published claim", "evidence", "source")
    for claim in outcome.claims:
        verdict = Text(claim.verdict, style=STYLES[claim.verdict])
        table.add_row(verdict, *map(Text, (claim.text, claim.evidence, claim.source)))
    return table


def _table(*names: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 1))
    for name in names:
        table.add_column(name, overflow="fold")
    return table


# ``elboscope reproduce`` with ``--workers`` or ``--executor slurm``: who trains the runs.
#
# Each run is the same command with ``--only-run NUMBER``, an option that is not for users.

# SLURM itself says how many jobs run; this is what it is asked for where nothing is said.
MOST_JOBS = 256


def require_fitting(arguments: Arguments) -> None:
    """Refuses options that would mean nothing.

    Raises:
        UsageError: With the first of them.
    """
    options = (*WHO, *ALSO_LOCAL, *SLURM_ONLY)
    given = [option for option in options if _value(arguments, option) is not None]
    number = arguments.only_run is not None
    separate = names_taking("--workers")
    if arguments.name not in separate and (given or number):
        expected = f"nothing, except with {', '.join(separate)}, whose runs are independent"
        option = given[0] if given else "--only-run"
        raise UsageError(option, expected=expected, got=f"it with {arguments.name}")
    if not given:
        return
    who = [option for option in given if option in WHO]
    if not who:
        expected = "nothing without --workers or --executor"
        raise UsageError(given[0], expected=expected, got=str(_value(arguments, given[0])))
    slurm = [option for option in given if option in SLURM_ONLY]
    if slurm and arguments.executor != "slurm":
        expected = "nothing without --executor slurm"
        raise UsageError(slurm[0], expected=expected, got=str(_value(arguments, slurm[0])))
    if arguments.slice_seconds is not None:
        expected = f"nothing with {who[0]}: a run that is stopped is saved"
        raise UsageError("--slice-seconds", expected=expected, got=str(arguments.slice_seconds))


def workers_of(arguments: Arguments, folder: Path) -> Workers | None:
    """Returns who trains the runs; None: this process.

    Args:
        arguments: Arguments of ``elboscope reproduce`` that :func:`require_fitting` has passed.
        folder: The folder of the result.

    Raises:
        InputError: optuna or submitit is not installed, or this is no machine of a cluster.
    """
    if arguments.workers is None and arguments.executor is None:
        return None
    require_extra()
    kind: Kind = arguments.executor or "local"
    if kind == "slurm":
        require_slurm()
    resources = Resources(
        cpus=arguments.cpus,
        gpus=_gpus(arguments),
        memory_gb=arguments.memory_gb,
        minutes=arguments.minutes,
        partition=arguments.partition,
        account=arguments.account,
    )
    at_once = arguments.workers or (MOST_JOBS if kind == "slurm" else 1)
    return Workers(Executor(kind, at_once, resources), _command(arguments, folder))


def _gpus(arguments: Arguments) -> int:
    """The paper's scale needs one; local workers share it."""
    if arguments.gpus is not None:
        return int(arguments.gpus)
    return 1 if arguments.scale == "paper" else 0


def _command(arguments: Arguments, folder: Path) -> tuple[str, ...]:
    words = [sys.executable, "-m", "elboscope", "reproduce", arguments.name]
    words += ["--scale", arguments.scale, "--out", str(folder.resolve())]
    words += ["--seed", str(arguments.seed)]
    if arguments.data_dir is not None:
        words += ["--data-dir", str(expanded(arguments.data_dir).resolve())]
    return (*words, "--only-run")


def _value(arguments: Arguments, option: str) -> object:
    return getattr(arguments, option.removeprefix("--").replace("-", "_"))
