"""One run's training as a process of its own, and how it ended.

Whoever holds the lock of the run folder owns the run. The training process inherits the lock, so
that it is free only when both have ended, however they did: a second task for the same run waits,
and finds the run finished. Nothing here imports torch.
"""

from __future__ import annotations

__all__ = ["FAILED", "RunTask", "held", "write_outcome"]

import fcntl
import json
import os
import signal
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from .study import OUTCOME, run_state

ATTEMPTS = 3
FAILED = "failed"
STOPPED = {130, 143, -signal.SIGINT, -signal.SIGTERM}
LOCK, OUTPUT = ".task.lock", "output.txt"


@dataclass(frozen=True)
class RunTask:
    """A function without arguments that a worker calls, here or on another machine.

    Attributes:
        words: The command that begins the run or continues it.
        folder: The run folder.
        environment: Variables on top of the worker's own.
    """

    words: tuple[str, ...]
    folder: str
    environment: Mapping[str, str]

    def __call__(self) -> None:
        """Trains, unless the run is over, and records why it failed, if it did."""
        folder = Path(self.folder)
        folder.mkdir(parents=True, exist_ok=True)
        with _locked(folder) as lock:
            while not run_state(folder).over:
                code = self._train(folder, lock)
                if code in STOPPED:
                    return
                _record(folder, code)

    def checkpoint(self, *arguments: object) -> object:
        """Called by submitit when the time of a SLURM job ends: the same task is queued again."""
        from submitit.helpers import DelayedSubmission

        for child in _children:  # within a signal: what waits for the child holds its lock
            child.terminate()
            os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        return DelayedSubmission(self)

    def _train(self, folder: Path, lock: int) -> int:
        with (folder / OUTPUT).open("ab") as output, _stopping():
            child = subprocess.Popen(
                self.words,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={**os.environ, **self.environment},
                start_new_session=True,  # Ctrl-C comes here, and goes on as one SIGTERM
                pass_fds=(lock,),
                preexec_fn=_without_warning,
            )
            _children.append(child)
            try:
                return child.wait()
            except KeyboardInterrupt:
                _stop(_children)
                return -signal.SIGTERM
            finally:
                _children.remove(child)


_children: list[subprocess.Popen[bytes]] = []


def _without_warning() -> None:
    """SLURM warns every process of a job before its time ends; that one would die of it."""
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)


def _stop(children: list[subprocess.Popen[bytes]]) -> None:
    """Asks for an end after the current step, and waits for the checkpoint."""
    for child in children:
        child.terminate()
        child.wait()


@contextmanager
def _stopping() -> Iterator[None]:
    """SIGTERM is Ctrl-C; submitit's own handler would do nothing."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _locked(folder: Path) -> Iterator[int]:
    with (folder / LOCK).open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield file.fileno()


def held(folder: Path) -> bool:
    """Returns whether a task or a training works in the run folder.

    Example:
        >>> held(Path("no/such/run"))
        False
    """
    if not (folder / LOCK).exists():
        return False
    with (folder / LOCK).open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def _record(folder: Path, code: int) -> None:
    """Counts what was killed; anything else that ended without a result has failed."""
    if run_state(folder).over:
        return
    if code >= 0:
        write_outcome(folder, FAILED, _last_line(folder, code), 0)
        return
    attempts = _attempts(folder) + 1
    name = signal.Signals(-code).name
    hint = " (is there enough memory?)" if name == "SIGKILL" else ""
    reason = f"killed by {name} {attempts} times{hint}"
    write_outcome(folder, FAILED if attempts >= ATTEMPTS else "killed", reason, attempts)


def _attempts(folder: Path) -> int:
    try:
        return int(json.loads((folder / OUTCOME).read_text())["attempts"])
    except (OSError, ValueError, KeyError):
        return 0


def _last_line(folder: Path, code: int) -> str:
    text = (folder / OUTPUT).read_text(encoding="utf-8", errors="replace")
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    said = lines[-1].removeprefix("elboscope: ") if lines else "nothing was said"
    return f"exit code {code}: {said}"


def write_outcome(folder: Path, status: str, reason: str, attempts: int) -> None:
    """Records how a run ended that its own ``run.json`` does not tell."""
    aside = folder / f".{OUTCOME}.part"
    text = json.dumps({"status": status, "reason": reason, "attempts": attempts})
    aside.write_text(text + "\n", encoding="utf-8")
    os.replace(aside, folder / OUTCOME)
