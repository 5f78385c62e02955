"""Where runs are trained: processes of this machine or jobs of a SLURM array, and their task.

submitit starts the workers and pickles for them a :class:`RunTask`, which is a command and two
paths, into the sweep's own folder. Nothing is read back from those files: a run folder says how
its run ended.
"""

from __future__ import annotations

__all__ = [
    "FAILED",
    "Executor",
    "Job",
    "Resources",
    "RunTask",
    "SlurmJob",
    "held",
    "in_queue",
    "require_slurm",
    "write_outcome",
]

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, Literal

from elboscope.core import InputError

from .study import OUTCOME, run_state

if TYPE_CHECKING:
    import submitit

Kind = Literal["local", "slurm"]
JOB, CONTROLLERS = "job.txt", "controllers.txt"
STDERR = 2
MOST_TIMEOUTS = 100
YEAR = 365 * 24 * 60


@dataclass(frozen=True)
class Resources:
    """What one run may take.

    Args:
        cpus: Threads; ``None``: the machine's cores divided among the workers, on SLURM 1.
        gpus: GPUs; local workers share the same ones.
        memory_gb: Gigabytes; SLURM only.
        minutes: After which a run is saved and queued again; SLURM only, where ``None`` is 60.
        partition: SLURM's.
        account: SLURM's.

    Raises:
        InputError: A number below 1.

    Example:
        >>> Resources(cpus=0)
        Traceback (most recent call last):
        elboscope.core.errors.InputError: resources.cpus: expected a number > 0; got 0.
    """

    cpus: int | None = None
    gpus: int = 0
    memory_gb: int | float | None = None
    minutes: int | None = None
    partition: str | None = None
    account: str | None = None

    def __post_init__(self) -> None:
        for name in ("cpus", "memory_gb", "minutes"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise InputError(f"resources.{name}", expected="a number > 0", got=str(value))
        if self.gpus < 0:
            raise InputError("resources.gpus", expected="a number ≥ 0", got=str(self.gpus))


@dataclass(frozen=True)
class Executor:
    """Starts runs, at most ``workers`` at a time.

    Args:
        kind: "local" or "slurm".
        workers: Runs at a time.
        resources: What each run may use.
    """

    kind: Kind = "local"
    workers: int = 1
    resources: Resources = Resources()

    def __post_init__(self) -> None:
        if self.workers < 1:
            raise InputError("workers", expected="a whole number ≥ 1", got=str(self.workers))

    @property
    def environment(self) -> dict[str, str]:
        """The threads of a run: two workers with all cores each would be slower than one."""
        cpus, threads = self.resources.cpus, os.environ.get("OMP_NUM_THREADS")
        if cpus is None and threads:
            return {"OMP_NUM_THREADS": threads}
        share = max(1, (os.cpu_count() or 1) // self.workers) if self.kind == "local" else 1
        return {"OMP_NUM_THREADS": str(cpus or share)}

    @property
    def queues(self) -> bool:
        """Whether jobs may wait elsewhere, and outlive this process."""
        return self.kind == "slurm"

    def submit(self, tasks: Sequence[RunTask], folder: Path) -> list[Job]:
        """Starts tasks, on SLURM as one array, and notes each job beside its run."""
        import submitit

        if self.queues:
            require_slurm()
        jobs_folder, ends = str(folder / "jobs"), MOST_TIMEOUTS
        executor = submitit.AutoExecutor(jobs_folder, self.kind, slurm_max_num_timeout=ends)
        executor.update_parameters(**self._parameters())
        with ExitStack() as stack:
            if not self.queues:
                stack.enter_context(_stderr_in(folder / CONTROLLERS))
            stack.enter_context(executor.batch())
            jobs = [executor.submit(task) for task in tasks]
        for task, job in zip(tasks, jobs, strict=True):
            (Path(task.folder) / JOB).write_text(f"{self.kind} {job.job_id}\n")
        return [SlurmJob(job.job_id) if self.queues else LocalJob(job) for job in jobs]

    def _parameters(self) -> dict[str, Any]:
        own, name = self.resources, "elboscope-sweep"
        if not self.queues:
            chosen = os.environ.get("CUDA_VISIBLE_DEVICES", "")
            devices = [int(d) for d in chosen.split(",") if d.strip().isdigit()]
            visible = {"local_visible_gpus": devices} if devices and own.gpus else {}
            return {"name": name, "timeout_min": YEAR, "gpus_per_node": own.gpus, **visible}
        slurm = {
            "slurm_array_parallelism": self.workers,
            "slurm_partition": own.partition,
            "slurm_account": own.account,
        }
        given = {"mem_gb": own.memory_gb, "gpus_per_node": own.gpus or None, **slurm}
        return {
            "name": name,
            "timeout_min": own.minutes or 60,
            "cpus_per_task": own.cpus or 1,
            **{key: value for key, value in given.items() if value is not None},
        }

    def queued(self, run_folder: Path) -> str | None:
        """Returns the id of the job that an earlier call queued for this run, if it is there."""
        note = run_folder / JOB
        if not self.queues or not note.exists():
            return None
        kind, _, identifier = note.read_text().strip().partition(" ")
        return identifier if kind == self.kind and identifier in (in_queue() or ()) else None


@dataclass(frozen=True)
class LocalJob:
    """A process of this machine.

    Attributes:
        job: submitit's.
    """

    job: submitit.Job[None]

    def ended(self, queue: Collection[str] | None) -> bool:
        """Whether the process is gone."""
        return bool(self.job.done())

    def stop(self) -> None:
        """Ends the run after its current step."""
        with suppress(ProcessLookupError):
            self.job.cancel()


@dataclass(frozen=True)
class SlurmJob:
    """An element of an array; asked of the queue itself, since not every cluster has accounting.

    Attributes:
        identifier: Such as 12_3.
    """

    identifier: str

    def ended(self, queue: Collection[str] | None) -> bool:
        """Whether the queue is known and the job not in it."""
        return queue is not None and self.identifier not in queue

    def stop(self) -> None:
        """Does nothing: what waits in the queue goes on without this process."""


Job = LocalJob | SlurmJob


@contextmanager
def _stderr_in(path: Path) -> Iterator[None]:
    """What is started within writes errors to a file.

    submitit's local controllers keep our stderr, and would each answer Ctrl-C with a traceback.
    """
    sys.stderr.flush()
    before = os.dup(STDERR)
    try:
        with path.open("ab") as file:
            os.dup2(file.fileno(), STDERR)
        yield
    finally:
        os.dup2(before, STDERR)
        os.close(before)


def in_queue() -> Collection[str] | None:
    """Returns the user's jobs in SLURM's queue, or ``None`` while it does not answer."""
    command = ["squeue", "--me", "--noheader", "--array", "--format=%i"]
    asked = subprocess.run(command, capture_output=True, text=True, check=False)
    return None if asked.returncode else set(asked.stdout.split())


def require_slurm() -> None:
    """Raises an InputError on a machine from which no SLURM job can be queued."""
    missing = [name for name in ("sbatch", "srun", "squeue") if shutil.which(name) is None]
    if missing:
        raise InputError(
            "executor", expected="a machine of a SLURM cluster",
            got=f"none: no {missing[0]} here", do="Use executor: local.",
        )  # fmt: skip


# One run's training as a process of its own, and how it ended.
#
# Whoever holds the lock of the run folder owns the run. The training process inherits the lock,
# so that it is free only when both have ended, however they did: a second task for the same run
# waits, and finds the run finished. Nothing here imports torch.

ATTEMPTS = 3
FAILED = "failed"
STOPPED = {129, 130, 143, -signal.SIGHUP, -signal.SIGINT, -signal.SIGTERM}
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
