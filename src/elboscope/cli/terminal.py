"""What the terminal shows: bars, errors in one line, and the exit code.

Output never ends a command: a reader that has had enough, a terminal that is gone and a full disk
lose what is printed and nothing else, and a terminal without Greek gets other words for it.

A user's mistake is one line and code 2; so is what the user's own code raises, and what the
machine refuses: files, memory. A defect of the program is one line that says so, and code 70
(``EX_SOFTWARE``), so that the two can be told apart; ``--debug`` shows the traceback of either.
Nothing in here imports torch: the mistake may be in the first word of the command.
"""

from __future__ import annotations

__all__ = [
    *("UsageError", "did_you_mean", "lines", "one_line", "reported", "say", "shown_progress"),
    "stoppable",
]

import codecs
import difflib
import errno
import os
import signal
import sys
import threading
import time
import traceback
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout, suppress
from io import TextIOWrapper
from types import FrameType
from typing import TYPE_CHECKING, TextIO, TypeVar, cast

if TYPE_CHECKING:
    from elboscope.diagnostics import Progress

T = TypeVar("T")

OK, USER, INTERNAL, HUNG_UP, INTERRUPTED, TERMINATED = 0, 2, 70, 129, 130, 143
SIGNALS = {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "SIGTERM", signal.SIGHUP: "SIGHUP"}


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
        0, 2 (the user's mistake, or the output could not be written), 70 (ours), 130 (Ctrl-C),
        143 (SIGTERM) or 129 (SIGHUP).

    Example:
        >>> reported(lambda: 0, debug=False)
        0
    """
    with _steady_output() as lost:
        code = _coded(run, debug)
        with suppress(OSError):
            sys.stdout.flush()
        if lost and lost[0].errno not in (errno.EPIPE, errno.EIO):
            return code or _say(f"error: the output was cut off: {one_line(lost[0])}", USER)
        return code


def _coded(run: Callable[[], int], debug: bool) -> int:
    try:
        return run()
    except KeyboardInterrupt as stop:
        return _interrupted(stop)
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
    text = " ".join(str(stop).split()) or "Ctrl-C"
    if text in SIGNALS.values():
        text = f"Stopped by {text}; nothing half-written is left."
    codes = {"SIGTERM": TERMINATED, "SIGHUP": HUNG_UP}
    return _say(text, next((code for word, code in codes.items() if word in text), INTERRUPTED))


def _say(text: str, code: int) -> int:
    sys.stdout.flush()
    whole = f"elboscope: {text}".encode("utf-8", "backslashreplace").decode()
    print(whole, file=sys.stderr)
    return code


@contextmanager
def stoppable() -> Iterator[None]:
    """Turns a first Ctrl-C, SIGTERM or SIGHUP into a KeyboardInterrupt that says which it was.

    What follows may take a moment: a second SIGTERM or SIGHUP is then ignored, and Ctrl-C ends it.
    SIGHUP stays ignored where it was (under ``nohup``).

    Example:
        >>> try:
        ...     with stoppable():
        ...         os.kill(os.getpid(), signal.SIGTERM)
        ... except KeyboardInterrupt as stop:
        ...     print(stop)
        SIGTERM
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    stopped = False

    def stop(number: int, frame: FrameType | None) -> None:
        nonlocal stopped
        if not stopped or number == signal.SIGINT:
            stopped = True
            raise KeyboardInterrupt(SIGNALS[signal.Signals(number)])

    alone = signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    heard = [number for number in SIGNALS if not (alone and number == signal.SIGHUP)]
    before = {number: signal.signal(number, stop) for number in heard}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)


# Output that cannot fail.

# What an ASCII or latin-1 terminal is shown instead; other letters lose their accents, or are "?".
WORDS = {
    "≥": ">=", "≤": "<=", "−": "-", "–": "-", "±": "+/-", "≈": "~", "→": "->", "…": "...",
    "×": "x", "∞": "inf", "√": "sqrt", "‖": "||", "½": "1/2", "σ": "sigma", "β": "beta",
    "φ": "phi", "θ": "theta", "μ": "mu", "Δ": "Delta", "Σ": "Sum", "χ": "chi", "²": "^2",
    "✓": "+", "✗": "x", "·": "-", "“": '"', "”": '"', "’": "'",
}  # fmt: skip


def _plain(error: UnicodeError) -> tuple[str, int]:
    """Spells what an encoding cannot write."""
    assert isinstance(error, UnicodeEncodeError)
    found = error.object[error.start : error.end]
    parts = (WORDS.get(c) or unicodedata.normalize("NFKD", c) for c in found)
    return "".join(p if p.isascii() else _ascii(p) for p in parts), error.end


def _ascii(text: str) -> str:
    """An accent alone (p̂) is left out."""
    kept = (c if c.isascii() else "?" for c in text if not unicodedata.combining(c))
    return "".join(kept)


class _Output:
    """A text stream whose first error is noted, and which then swallows everything."""

    def __init__(self, stream: TextIO, lost: list[OSError]) -> None:
        self.stream, self.lost = stream, lost

    def write(self, text: str) -> int:
        """Writes, or notes why not."""
        return self._try(lambda: self.stream.write(text), len(text))

    def flush(self) -> None:
        """Flushes, or notes why not."""
        self._try(self.stream.flush, None)

    def _try(self, do: Callable[[], T], otherwise: T) -> T:
        if self.lost:
            return otherwise
        try:
            return do()
        except OSError as error:
            self.lost.append(error)
            with suppress(OSError, ValueError), open(os.devnull, "w") as nowhere:
                os.dup2(nowhere.fileno(), self.stream.fileno())  # for what is buffered, at exit too
            return otherwise

    def __getattr__(self, name: str) -> object:
        return getattr(self.stream, name)


@contextmanager
def _steady_output() -> Iterator[list[OSError]]:
    """Makes printing safe; yields what went wrong on standard output."""
    lost: list[OSError] = []
    codecs.register_error("elboscope", _plain)
    with ExitStack() as stack:
        for stream, redirect, errors in (
            (sys.stdout, redirect_stdout, lost), (sys.stderr, redirect_stderr, [])
        ):  # fmt: skip
            with suppress(AttributeError, ValueError):
                cast(TextIOWrapper, stream).reconfigure(errors="elboscope")
            stack.enter_context(redirect(cast(TextIO, _Output(stream, errors))))
        yield lost


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


# Seconds until the first line about progress, and between two of them.
SOON, LATER = 10.0, 60.0


@contextmanager
def lines(title: str) -> Iterator[Progress]:
    """Yields ``progress(stage, done, total)`` for a log: a line after ten seconds and each minute.

    The line says what is being done at that moment, however long it takes.

    Args:
        title: The first word of each line.
    """
    now: list[str] = []
    over, began = threading.Event(), time.monotonic()

    def note(stage: str, done: int, total: int) -> None:
        now[:] = [f"{title}: {done} of {total} done, now {stage}"]

    def tell() -> None:
        wait = SOON
        while not over.wait(wait):
            wait = LATER
            for line in now:
                print(f"{line} ({time.monotonic() - began:.0f} s)", file=sys.stderr, flush=True)

    teller = threading.Thread(target=tell, daemon=True)
    teller.start()
    try:
        yield note
    finally:
        over.set()
        teller.join()


@contextmanager
def shown_progress(title: str) -> Iterator[Progress | None]:
    """Yields ``progress(stage, done, total)``: a bar, or lines now and then without a terminal.

    Example:
        >>> with shown_progress("diagnosing") as progress:
        ...     progress("log_px", 0, 33)  # under a test's captured stderr, and soon over
    """
    if not sys.stderr.isatty():
        with lines(title) as note:
            yield note
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
