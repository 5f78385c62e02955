"""The loop of a sweep: ask for points, start runs, look at their folders, tell the sampler.

The loop keeps nothing that it could lose: after a kill at any moment, the same call reads from
the run folders which runs are over, and starts the others from their checkpoints.
"""

from __future__ import annotations

__all__ = ["SweepInterrupted", "sweep"]

import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from elboscope.core.files import only_process
from elboscope.training.steps import Interruption, interruptible

from .executor import (
    ATTEMPTS,
    FAILED,
    Executor,
    Job,
    RunTask,
    SlurmJob,
    held,
    in_queue,
    write_outcome,
)
from .result import RunResult, SweepResult, result_of, value_of
from .space import Run, SweepPlan, Trial
from .study import OUTCOME, Study, claim, open_study, require_extra, run_state

POLL_SECONDS, SLOW_POLL_SECONDS = 0.2, 5.0
PATIENCE_SECONDS = 120.0  # for checkpoints after Ctrl-C
Prepare = Callable[[Run], Sequence[str]]
Report = Callable[[RunResult, int], None]


class SweepInterrupted(KeyboardInterrupt):
    """A sweep was stopped from outside, after its runs were saved.

    Args:
        reason: "Ctrl-C" or "SIGTERM".
        done: Runs that are over.
        num_runs: Runs in all.
        folder: Where everything is.
        goes_on: Whether queued jobs continue without this process.
    """

    def __init__(
        self, reason: str, done: int, num_runs: int, folder: Path, *, goes_on: bool
    ) -> None:
        jobs = " The jobs in SLURM's queue go on." if goes_on else ""
        super().__init__(
            f"Stopped by {reason} with {done} of {num_runs} runs over; the others are saved in "
            f"{folder}.{jobs} Continue with the same command."
        )


@dataclass
class _Sweep:
    """A sweep in progress."""

    plan: SweepPlan
    folder: Path
    prepare: Prepare
    executor: Executor
    study: Study
    report: Report
    pending: list[Run] = field(default_factory=list)
    active: list[tuple[Run, Job]] = field(default_factory=list)
    trials: list[Trial] = field(default_factory=list)
    submitted: Counter[Path] = field(default_factory=Counter)


def sweep(
    plan: SweepPlan,
    folder: Path,
    prepare: Prepare,
    *,
    about: Mapping[str, object] | None = None,
    executor: Executor | None = None,
    retry_failed: bool = False,
    report: Report = lambda result, done: None,
) -> SweepResult:
    """Trains every run of a plan that is not over yet, and returns all results.

    Args:
        plan: Points, seeds, and what is compared.
        folder: The sweep's folder; run folders are ``trial-000/seed-0`` in it.
        prepare: Writes what a run needs into its folder and returns the command that begins or
            continues the run there; it must leave ``run.json`` and ``metrics.csv`` like
            :func:`elboscope.train`.
        about: What else makes the runs what they are; the same folder takes no other.
        executor: Where; by default one local process at a time.
        retry_failed: Begin again what failed in an earlier call.
        report: Told of each run that ends, and how many are over.

    Raises:
        InputError: Another process sweeps there, or optuna or submitit is not installed.
        SweepInterrupted: Ctrl-C or SIGTERM came; local runs were saved first.
    """
    executor = executor or Executor()
    require_extra()
    folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        stack.enter_context(only_process(folder))
        claim(folder, plan, about or {})
        study = stack.enter_context(open_study(folder, plan))
        stop = stack.enter_context(interruptible())
        now = _Sweep(plan, folder, prepare, executor, study, report)
        _take_up(now, study.begun(), retry_failed=retry_failed)
        while not stop.reason and _filled(now):
            _settle(now)
            time.sleep(SLOW_POLL_SECONDS if executor.queues else POLL_SECONDS)
        if stop.reason:
            _leave(now, stop)
        return result_of(plan, now.trials, folder)


def _take_up(now: _Sweep, trials: Iterable[Trial], *, retry_failed: bool) -> None:
    for trial in trials:
        now.trials.append(trial)
        runs = now.plan.runs(trial, now.folder)
        if retry_failed:
            for run in runs:
                (run.folder / OUTCOME).unlink(missing_ok=True)
        now.pending += [run for run in runs if not run_state(run.folder).over]
        _tell(now, trial)
    for run in list(now.pending):
        identifier = now.executor.queued(run.folder)
        if identifier is not None:
            now.active.append((run, SlurmJob(identifier)))
            now.pending.remove(run)


def _filled(now: _Sweep) -> bool:
    """Starts what there is room for; whether anything is left to be done."""
    whole_array = now.executor.queues and not now.plan.adaptive
    room = now.plan.num_runs if whole_array else max(0, now.executor.workers - len(now.active))
    while len(now.pending) < room:
        trial = now.study.ask()
        if trial is None:
            break
        now.trials.append(trial)
        runs = now.plan.runs(trial, now.folder)
        now.pending += [run for run in runs if not run_state(run.folder).over]
    starting, now.pending = now.pending[:room], now.pending[room:]
    if starting:
        tasks = [_task(now, run) for run in starting]
        jobs = now.executor.submit(tasks, now.folder)
        now.active += zip(starting, jobs, strict=True)
        now.submitted.update(run.folder for run in starting)
    return bool(now.active)


def _task(now: _Sweep, run: Run) -> RunTask:
    run.folder.mkdir(parents=True, exist_ok=True)
    return RunTask(tuple(now.prepare(run)), str(run.folder), now.executor.environment)


def _settle(now: _Sweep) -> None:
    """Looks after the runs whose process has ended."""
    queue = in_queue() if now.executor.queues else None
    ended = [run for run, job in now.active if job.ended(queue)]
    now.active = [(run, job) for run, job in now.active if run not in ended]
    for run in ended:
        if not run_state(run.folder).over and now.submitted[run.folder] < ATTEMPTS:
            now.pending.insert(0, run)
            continue
        if not run_state(run.folder).over:
            logs = now.folder / "jobs"
            reason = f"its process ended {ATTEMPTS} times without a result; see {logs}"
            write_outcome(run.folder, FAILED, reason, ATTEMPTS)
        now.report(value_of(run, now.plan), _over(now))
        _tell(now, run.trial)


def _over(now: _Sweep) -> int:
    runs = [run for trial in now.trials for run in now.plan.runs(trial, now.folder)]
    return sum(run_state(run.folder).over for run in runs)


def _tell(now: _Sweep, trial: Trial) -> None:
    """Tells the sampler the mean over seeds, once every run of the trial is over."""
    results = [value_of(run, now.plan) for run in now.plan.runs(trial, now.folder)]
    if all(result.state.over for result in results):
        values = [result.value for result in results if result.value is not None]
        whole = len(values) == len(results)
        now.study.tell(trial, sum(values) / len(values) if whole else None)


def _leave(now: _Sweep, stop: Interruption) -> None:
    for _, job in now.active:
        job.stop()
    until = time.monotonic() + PATIENCE_SECONDS
    while _ending(now) and time.monotonic() < until:
        time.sleep(POLL_SECONDS)
    goes_on = now.executor.queues and bool(now.active)
    raise SweepInterrupted(stop.reason, _over(now), now.plan.num_runs, now.folder, goes_on=goes_on)


def _ending(now: _Sweep) -> bool:
    """Whether a local run is still on its way to its checkpoint."""
    if now.executor.queues:
        return False
    return any(held(run.folder) or not job.ended(None) for run, job in now.active)
