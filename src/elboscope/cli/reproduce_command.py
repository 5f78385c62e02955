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

# A slice has ended and the work has not: EX_TEMPFAIL, so that a shell loop can go on.
UNFINISHED = 75
PAPER_SLICE = 480.0
OMNIGLOT_IN, COLUMNS_IN = "iwae-table1", "inference-suboptimality-table1"
STYLES = {"reproduced": "green", "contradicted": "bold red", "undecided": "cyan"}


def run(arguments: Arguments) -> int:
    """Reproduces, saves, prints; returns 0, or 75 if a slice ended before the work did."""
    folder = Path(arguments.out or f"reproductions/{arguments.name}-{arguments.scale}")
    options = _options(arguments)
    module = importlib.import_module(module_name(arguments.name))
    if arguments.scale == "paper" and training_device("paper").type == "cpu":
        say("No GPU is at hand: the published schedule takes weeks on a CPU.")
    try:
        with shown_progress(arguments.name) as progress:
            outcome = module.reproduce(
                arguments.scale,
                out=folder.expanduser(),
                seed=arguments.seed,
                options=options,
                progress=progress,
            )
    except Unfinished as pause:
        say(pause)
        return UNFINISHED
    path = outcome.save(folder.expanduser())
    Console().print(printed(outcome))
    say(f"Saved in {path.parent} (result.json, result.md).")
    return 0


def _options(arguments: Arguments) -> Options:
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
    default = PAPER_SLICE if arguments.scale == "paper" else None
    return Options(
        data_dir=_path(arguments.data_dir),
        omniglot=_path(arguments.omniglot),
        columns=columns,
        resume=arguments.resume,
        slice_seconds=float(arguments.slice_seconds) if arguments.slice_seconds else default,
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
