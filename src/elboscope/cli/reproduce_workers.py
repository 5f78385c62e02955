"""``elboscope reproduce`` with ``--workers`` or ``--executor slurm``: who trains the runs.

Each run is the same command with ``--only-run NUMBER``, an option that is not for users.
"""

from __future__ import annotations

__all__ = ["require_fitting", "workers_of"]

import sys
from pathlib import Path

from elboscope.reproductions import INDEPENDENT_RUNS
from elboscope.reproductions.options import Workers
from elboscope.sweeps.executor import Executor, Kind, Resources, require_slurm
from elboscope.sweeps.study import require_extra

from .errors import UsageError
from .parser import Arguments
from .worker_options import ALSO_LOCAL, SLURM_ONLY, WHO

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
    if arguments.name not in INDEPENDENT_RUNS and (given or number):
        expected = f"nothing, except with {', '.join(INDEPENDENT_RUNS)}, whose runs are independent"
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
        arguments: Of ``elboscope reproduce``, fitting.
        folder: Of the result.

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
        words += ["--data-dir", str(Path(arguments.data_dir).expanduser().resolve())]
    return (*words, "--only-run")


def _value(arguments: Arguments, option: str) -> object:
    return getattr(arguments, option.removeprefix("--").replace("-", "_"))
