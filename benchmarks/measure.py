"""Interleaved rounds in one process, medians, and a JSON file.

Candidates take turns within each round, so that a slow moment of the machine hits all of them;
ratios are taken within a round, and their median is reported.
"""

from __future__ import annotations

import json
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import torch

RESULTS = Path(__file__).parent / "results"


def interleaved(
    candidates: Mapping[str, Callable[[], object]], rounds: int
) -> dict[str, list[float]]:
    """Returns the seconds of each candidate in each round, after one round to warm up."""
    seconds: dict[str, list[float]] = {name: [] for name in candidates}
    for number in range(rounds + 1):
        for name, run in candidates.items():
            began = time.perf_counter()
            run()
            if number:
                seconds[name].append(time.perf_counter() - began)
    return seconds


def ratio(seconds: Mapping[str, list[float]], slow: str, fast: str) -> float:
    """Returns the median over rounds of how many times longer ``slow`` took than ``fast``."""
    pairs = zip(seconds[slow], seconds[fast], strict=True)
    return statistics.median(a / b for a, b in pairs)


def write(name: str, seconds: Mapping[str, list[float]], facts: Mapping[str, object]) -> None:
    """Writes medians, rounds, ratios and the machine to ``results/NAME.json``."""
    content = {
        **facts,
        "median_seconds": {k: statistics.median(v) for k, v in seconds.items()},
        "seconds": seconds,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "processor": _processor(),
    }
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps(content, indent=2) + "\n")
    print(f"  written to {path}")


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor()
