"""What the terminal shows: bars, errors in one line, and the exit code.

A user's mistake is one line and code 2; so is what the user's own code raises, and what the
machine refuses: files, memory. A defect of the program is one line that says so, and code 70
(``EX_SOFTWARE``), so that the two can be told apart; ``--debug`` shows the traceback of either.
Nothing in here imports torch: the mistake may be in the first word of the command.
"""

from __future__ import annotations

__all__ = ["UsageError", "did_you_mean", "one_line", "reported", "say", "shown_progress"]

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
    except (Exception, SystemExit) as error:  # the outermost frame: what arrives becomes a line
        if debug:
            traceback.print_exc()
        return _blamed(error)


def _blamed(error: Exception | SystemExit) -> int:
    """Says whose fault it is, and returns the exit code."""
    errors = sys.modules.get("elboscope.core.errors")  # else nothing raised an InputError
    if isinstance(error, UsageError if errors is None else UsageError | errors.InputError):
        return _say(f"error: {one_line(error)}", USER)
    users = _users_place(error)
    if users or isinstance(error, SystemExit):
        return _say(f"error: {_of_users_code(error, users or 'the model')}", USER)
    if isinstance(error, OSError):
        return _say(f"error: {one_line(error)}", USER)
    if isinstance(error, MemoryError) or (errors and errors.is_out_of_memory(error)):
        text = (
            "this machine: expected enough memory; got none left. Ask for less: a smaller model, "
        )
        return _say(f"error: {text}fewer data, a smaller batch. ({one_line(error)[:200]})", USER)
    return _say(
        f"internal error: {type(error).__name__}: {one_line(error)} ({_where(error)}). "
        "This is a defect of elboscope: please report it with the output of the same "
        "command and --debug.",
        INTERNAL,
    )


def _of_users_code(error: Exception | SystemExit, place: str) -> str:
    text = one_line(error)
    got = f"{type(error).__name__}{f': {text}' if text else ''}"
    if isinstance(error, SystemExit):
        got = f"sys.exit({error.code!r}), as a script would"
    do = "Fix it there; --debug shows how it was reached."
    return str(UsageError(place, expected="a model whose methods return", got=got, do=do))


def _users_place(error: Exception | SystemExit) -> str:
    """The last line of the user's own code that the error came through, or nothing."""
    load = sys.modules.get("elboscope.cli.load")  # not imported: then no code of theirs has run
    frames = [] if load is None else traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if load is not None and load.is_users(frame.filename)]
    return f"{os.path.relpath(own[-1].filename)}, line {own[-1].lineno}" if own else ""


def one_line(error: BaseException) -> str:
    """Returns the text of an error without line breaks or control characters.

    Example:
        >>> one_line(ValueError("two\\nlines, \\x1b[31mred")), one_line(OSError(28, "Full", "a"))
        ('two lines, \\\\x1b[31mred', 'a: Full (from the operating system)')
    """
    if isinstance(error, OSError) and error.strerror:
        where = f"{error.filename}: " if error.filename is not None else ""
        return f"{where}{error.strerror} (from the operating system)"
    try:
        text = " ".join(str(error).split())
    except Exception:  # a class of the user's, whose text raises
        return ""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def _where(error: BaseException) -> str:
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{os.path.basename(frame.filename)}, line {frame.lineno}"


def _interrupted(stop: KeyboardInterrupt) -> int:
    text = " ".join(str(stop).split()) or "Stopped by Ctrl-C; nothing half-written is left."
    return _say(text, TERMINATED if "SIGTERM" in text else INTERRUPTED)


def _say(text: str, code: int) -> int:
    sys.stdout.flush()
    whole = f"elboscope: {text}".encode("utf-8", "backslashreplace").decode()
    print(whole, file=sys.stderr)
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
