"""``elboscope reproduce``: one published table or figure, claim by claim.

The library does the work and keeps it in a folder; here it is printed.
"""

from __future__ import annotations

__all__ = ["UNFINISHED", "run"]

import importlib
from pathlib import Path

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from elboscope.reproductions import module_name
from elboscope.reproductions.options import Options
from elboscope.reproductions.provenance import training_device
from elboscope.reproductions.result import Reproduction
from elboscope.reproductions.row import HEADER, meaning_of_errors, shown
from elboscope.reproductions.sitting import Unfinished

from .errors import UsageError
from .parser import Arguments
from .progress import say, shown_progress
from .reproduce_workers import require_fitting, workers_of

# A slice has ended and the work has not: EX_TEMPFAIL, so that a shell loop can go on.
UNFINISHED, SOME_FAILED = 75, 1
PAPER_SLICE = 480.0
OMNIGLOT_IN, COLUMNS_IN = "iwae-table1", "inference-suboptimality-table1"
STYLES = {"reproduced": "green", "contradicted": "bold red", "undecided": "cyan"}


def run(arguments: Arguments) -> int:
    """Reproduces, saves, prints; returns 0, 1 if a run failed, 75 if a slice ended too early."""
    folder = Path(arguments.out or f"reproductions/{arguments.name}-{arguments.scale}")
    folder = folder.expanduser()
    require_fitting(arguments)
    options = _options(arguments, folder)
    module = importlib.import_module(module_name(arguments.name))
    if arguments.only_run is not None:
        module.reproduce_run(
            arguments.only_run,
            arguments.scale,
            out=folder,
            seed=arguments.seed,
            options=options,
        )
        return 0
    here = options.workers is None or not options.workers.executor.queues
    if here and arguments.scale == "paper" and training_device("paper").type == "cpu":
        say("No GPU is at hand: the published schedule takes weeks on a CPU.")
    try:
        with shown_progress(arguments.name) as progress:
            outcome = module.reproduce(
                arguments.scale,
                out=folder,
                seed=arguments.seed,
                options=options,
                progress=progress,
            )
    except Unfinished as pause:
        say(pause)
        return UNFINISHED
    path = outcome.save(folder)
    Console().print(printed(outcome))
    say(f"Saved in {path.parent} (result.json, result.md).")
    if not outcome.failed:
        return 0
    names = ", ".join(outcome.failed)
    say(f"Failed: {names}. The same command with --resume begins them again.")
    return SOME_FAILED


def _options(arguments: Arguments, folder: Path) -> Options:
    if arguments.omniglot is not None and arguments.name != OMNIGLOT_IN:
        expected = f"nothing, except with {OMNIGLOT_IN}"
        raise UsageError("--omniglot", expected=expected, got=f"a file with {arguments.name}")
    if arguments.columns is not None and arguments.name != COLUMNS_IN:
        expected = f"nothing, except with {COLUMNS_IN}"
        raise UsageError("--columns", expected=expected, got=f"columns with {arguments.name}")
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
    return None if text is None else Path(text).expanduser()


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
        table.add_row(*map(Text, shown(row)[:-1]))
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
