"""What the terminal shows: bars, errors in one line, and the exit code.

A user's mistake is one line and code 2. A defect of the program is one line that says so, and
code 70 (``EX_SOFTWARE``), so that the two can be told apart; ``--debug`` shows the traceback of
either. Nothing in here imports torch: the mistake may be in the first word of the command.
"""

from __future__ import annotations

__all__ = ["UsageError", "did_you_mean", "reported", "say", "shown_progress"]

import difflib
import os
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from elboscope.diagnostics import Progress

OK, USER, INTERNAL, INTERRUPTED, TERMINATED = 0, 2, 70, 130, 143


class UsageError(Exception):
    """A mistake in what was typed or configured; the text is the whole message.

    Example:
        >>> raise UsageError("x.yaml", expected="a file", got="a folder", do="Name the file.")
        Traceback (most recent call last):
        elboscope.cli.terminal.UsageError: x.yaml: expected a file; got a folder. Name the file.
    """

    def __init__(self, what: str, *, expected: str, got: str, do: str = "") -> None:
        super().__init__(" ".join(f"{what}: expected {expected}; got {got}. {do}".split()))


def did_you_mean(word: str, choices: Iterable[str]) -> str:
    """Returns the sentence that proposes the nearest valid choice, or nothing.

    Example:
        >>> did_you_mean("epoch", ["epochs", "batch_size"])
        "Did you mean 'epochs'?"
    """
    known = {choice.lower(): choice for choice in choices}
    close = difflib.get_close_matches(word.lower(), known, n=1, cutoff=0.5)
    return f"Did you mean '{known[close[0]]}'?" if close else ""


def reported(run: Callable[[], int], *, debug: bool) -> int:
    """Runs a command and turns whatever it raises into one line on stderr and an exit code.

    Args:
        run: The command.
        debug: Print the traceback too.

    Returns:
        0, 2 (the user's mistake), 70 (ours), 130 (Ctrl-C) or 143 (SIGTERM).

    Example:
        >>> reported(lambda: 0, debug=False)
        0
    """
    try:
        return run()
    except KeyboardInterrupt as stop:
        return _interrupted(stop)
    except BrokenPipeError:  # the reader, such as head, has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return OK
    except Exception as error:  # the outermost frame: whatever arrives here becomes a line
        if debug:
            traceback.print_exc()
        if _is_users(error):
            return _say(f"error: {_one_line(error)}", USER)
        return _say(
            f"internal error: {type(error).__name__}: {_one_line(error)} ({_where(error)}). "
            "This is a defect of elboscope: please report it with the output of the same "
            "command and --debug.",
            INTERNAL,
        )


def _is_users(error: Exception) -> bool:
    core = sys.modules.get("elboscope.core")  # not imported: then nothing raised an InputError
    kinds = (UsageError, OSError) if core is None else (UsageError, OSError, core.InputError)
    return isinstance(error, kinds)


def _one_line(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        where = f"{error.filename}: " if error.filename is not None else ""
        return f"{where}{error.strerror} (from the operating system)"
    return " ".join(str(error).split())


def _where(error: Exception) -> str:
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{os.path.basename(frame.filename)}, line {frame.lineno}"


def _interrupted(stop: KeyboardInterrupt) -> int:
    text = " ".join(str(stop).split()) or "Stopped by Ctrl-C; nothing half-written is left."
    return _say(text, TERMINATED if "SIGTERM" in text else INTERRUPTED)


def _say(text: str, code: int) -> int:
    sys.stdout.flush()
    print(f"elboscope: {text}", file=sys.stderr)
    return code


# Sentences that break between words, and bars for whatever takes more than a moment.


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
