"""Options of ``elboscope reproduce`` that say who trains its runs, and what each run may take."""

from __future__ import annotations

__all__ = ["ALSO_LOCAL", "SLURM_ONLY", "WHO", "worker_options"]

import argparse

from elboscope.reproductions import INDEPENDENT_RUNS

from .numbers import positive, whole

WHO = ("--workers", "--executor")
ALSO_LOCAL = ("--cpus", "--gpus")
SLURM_ONLY = ("--memory-gb", "--minutes", "--partition", "--account")


def worker_options(parser: argparse.ArgumentParser) -> None:
    """Adds them, and the one by which a worker is told its run."""
    text = f"of {', '.join(INDEPENDENT_RUNS)}: runs as processes of their own"
    group = parser.add_argument_group("workers", text)
    group.add_argument("--workers", type=positive, metavar="N", help="runs at a time")
    group.add_argument(
        "--executor", choices=("local", "slurm"), help="here, or one array of jobs (default: local)"
    )
    group.add_argument("--cpus", type=positive, metavar="N", help="threads of a run")
    group.add_argument(
        "--gpus", type=whole, metavar="N", help="of a run (default: 1 at the paper's scale)"
    )
    group.add_argument("--memory-gb", type=positive, metavar="GB", help="of a SLURM job")
    group.add_argument(
        "--minutes", type=positive, metavar="M", help="after which a job is saved and queued again"
    )
    group.add_argument("--partition", metavar="NAME", help="of SLURM")
    group.add_argument("--account", metavar="NAME", help="of SLURM")
    group.add_argument("--only-run", type=whole, help=argparse.SUPPRESS)
