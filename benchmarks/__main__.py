"""``python -m benchmarks [NAME …]``: run, print, write ``results/*.json``."""

import sys

from . import (
    aggregate_posterior,
    annealed,
    game_throughput,
    importance,
    optimal_posterior,
    training_throughput,
)

BENCHMARKS = {
    "training": training_throughput.main,
    "aggregate": aggregate_posterior.main,
    "importance": importance.main,
    "annealed": annealed.main,
    "optimal": optimal_posterior.main,
    "games": game_throughput.main,
}

if __name__ == "__main__":
    for name in sys.argv[1:] or BENCHMARKS:
        if name not in BENCHMARKS:
            sys.exit(f"benchmarks: expected {' or '.join(BENCHMARKS)}; got {name!r}")
        BENCHMARKS[name]()
