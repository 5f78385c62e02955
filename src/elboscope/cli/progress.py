"""Sentences that break between words, and bars for whatever takes more than a moment."""

from __future__ import annotations

__all__ = ["say", "shown_progress"]

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from elboscope.diagnostics import Progress


def say(text: object) -> None:
    """Prints a sentence, broken between words on a terminal and not at all elsewhere.

    Example:
        >>> say("[0, 1] stays as it is")
        [0, 1] stays as it is
    """
    if not sys.stdout.isatty():
        print(text)
        return
    from rich.console import Console
    from rich.text import Text

    Console().print(Text(str(text)))


@contextmanager
def shown_progress(title: str) -> Iterator[Progress | None]:
    """Yields ``progress(stage, done, total)``, or None if stderr is no terminal.

    Example:
        >>> with shown_progress("diagnosing") as progress:
        ...     progress is None  # under a test's captured stderr
        True
    """
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bars

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        TextColumn("{task.fields[stage]}", markup=False),
        TimeElapsedColumn(),
    )
    with Bars(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(title, total=None, stage="")

        def show(stage: str, done: int, total: int) -> None:
            bar.update(task, completed=done, total=total, stage=stage)

        yield show
