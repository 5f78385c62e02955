"""Runs of hybrids, one after another or each in a process of its own, and one run alone.

A run is trained and scored into the folder of its name in the state; whoever works in that folder
holds its lock. With workers the runs are those of a sweep, and one more "run" is the score of
held-out data; when all are over, what they kept is read as if it had been made here.
"""

from __future__ import annotations

__all__ = [
    "HybridRun",
    "Outcome",
    "Outcomes",
    "Processes",
    "all_runs",
    "hybrid_runs",
    "one_process_each",
    "run_name",
    "this_run",
]

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from elboscope.core import InputError, seeded
from elboscope.sweeps.state import run_state
from elboscope.sweeps.task import held
from elboscope.training.atomic import only_process

from .hybrids_data import HybridImages
from .hybrids_networks import untrained
from .hybrids_plan import GANS, MODELS, HybridsPlan, Setting
from .hybrids_scores import (
    DATA,
    KINDS,
    PICTURES,
    Scores,
    kept_scores,
    measured_run,
    scores_of_data,
)
from .hybrids_training import ENDED, trained_run
from .options import Workers
from .provenance import device_name
from .sitting import Sitting
from .training import derived_seed, file_name
from .workers import IndependentRuns, in_processes, leave_result

METRIC = "samples: critic_test"


class HybridRun(NamedTuple):
    """A setting with the number of its seed.

    Attributes:
        setting: Which.
        number: 0 for the first seed.
    """

    setting: Setting
    number: int

    @property
    def name(self) -> str:
        """Of its folder in the state.

        Example:
            >>> HybridRun(Setting("VGH++", 1e-3, (1.0, 5.0)), 2).name
            'VGHpp-e-1-g-5-rate-0.001-run-2'
        """
        return f"{file_name(self.setting.label.replace('++', 'pp'))}-run-{self.number}"

    def kinds(self, plan: HybridsPlan) -> tuple[str, ...]:
        """Returns what is scored: reconstructions in a model's own setting alone, if it encodes."""
        own = self.setting == plan.own(self.setting.model)
        return KINDS if own and self.setting.model not in GANS else KINDS[:1]


class Outcome(NamedTuple):
    """What is kept of a run.

    Attributes:
        scores: Of its samples and reconstructions.
        pictures: A few of either.
        steps: That its weights have seen.
    """

    scores: Scores
    pictures: Mapping[str, Tensor]
    steps: int


Outcomes = dict[HybridRun, Outcome]


class Processes(NamedTuple):
    """What became of runs in other processes.

    Attributes:
        failed: Why the runs that failed did, by name.
        devices: On which the others were done.
        seconds: Spent on all together.
    """

    failed: Mapping[str, str]
    devices: tuple[str, ...]
    seconds: float


def hybrid_runs(plan: HybridsPlan) -> tuple[HybridRun, ...]:
    """Returns all runs of a plan."""
    return tuple(HybridRun(*pair) for pair in plan.runs)


def all_runs(
    images: HybridImages, plan: HybridsPlan, seed: int, now: Sitting, failed: Mapping[str, str]
) -> Outcomes:
    """Trains and scores every run but the failed ones, in this process; what is kept is read.

    Raises:
        Unfinished: The slice of time is over.
        InputError: A model of which no run is there; another process works on a run.
    """
    runs = hybrid_runs(plan)
    _require_every_model(runs, plan, failed)
    found: Outcomes = {}
    for index, run in enumerate(runs):
        if run.name not in failed:
            now.say(f"{run.setting.label}, run {run.number}", index, len(runs))
            found[run] = _outcome(run, images, plan, seed, now)
    return found


def _require_every_model(
    runs: tuple[HybridRun, ...], plan: HybridsPlan, failed: Mapping[str, str]
) -> None:
    for model in MODELS:
        own = [run.name for run in runs if run.setting == plan.own(model)]
        if all(name in failed for name in own):
            do = "What has ended is kept; --resume begins failed runs again."
            expected, got = "a run that ends well", f"none: {failed[own[0]]}"
            raise InputError(model, expected=expected, got=got, do=do)


def _outcome(
    run: HybridRun, images: HybridImages, plan: HybridsPlan, seed: int, now: Sitting
) -> Outcome:
    folder, own_seed = now.folder / run.name, seed + run.number
    folder.mkdir(exist_ok=True)
    with only_process(folder):
        with seeded(derived_seed(f"weights of {run.setting.model}", own_seed)):
            model = untrained(run.setting.model, plan, images.shape).to(images.train.device)
        steps = trained_run(run.setting, model, images.train, plan, folder, own_seed, now)
        scores, pictures = measured_run(
            run.name, model, images, plan, own_seed, now, kinds=run.kinds(plan)
        )
    return Outcome(scores, pictures, steps)


def run_name(number: int, plan: HybridsPlan) -> str:
    """Returns the name of a run by its number; that after the last is the score of held-out data.

    Raises:
        InputError: There is no such run.
    """
    names = _swept(plan, 0).names
    if number >= len(names):
        raise InputError("a run", expected=f"a number below {len(names)}", got=str(number))
    return names[number]


def _swept(plan: HybridsPlan, seed: int) -> IndependentRuns:
    names = (*(run.name for run in hybrid_runs(plan)), DATA)
    return IndependentRuns(names, METRIC, "minimise", seed)


def one_process_each(
    images: HybridImages,
    plan: HybridsPlan,
    seed: int,
    asked: Mapping[str, object],
    workers: Workers,
    now: Sitting,
    *,
    begin_failed: bool,
) -> Processes:
    """Has the runs done by other processes, but for those that are kept already.

    Raises:
        KeyboardInterrupt: Ctrl-C or SIGTERM came; runs were saved first.
    """
    runs = _swept(plan, seed)
    for number, name in enumerate(runs.names):
        folder = runs.folder(now.folder, number)
        if not run_state(folder).over and not held(folder) and _is_whole(number, plan, now.folder):
            scores, _ = _scores_of(number, images, plan, seed, now)
            leave_result(folder, _values(scores), math.nan, {"run": name})
    failed = in_processes(runs, asked, workers, now, begin_failed=begin_failed)
    said = [_record(runs.folder(now.folder, number)) for number in range(len(runs.names))]
    devices = dict.fromkeys(str(one["device"]) for one in said if "device" in one)
    return Processes(failed, tuple(devices), sum(one.get("seconds", 0.0) for one in said))


def _record(folder: Path) -> dict[str, Any]:
    path = folder / "run.json"
    content: dict[str, Any] = json.loads(path.read_text("utf-8")) if path.is_file() else {}
    return content


def _is_whole(number: int, plan: HybridsPlan, state: Path) -> bool:
    runs = hybrid_runs(plan)
    if number == len(runs):
        folder, names = state / DATA, kept_scores(KINDS[:1], plan)
    else:
        run = runs[number]
        folder, names = state / run.name, [ENDED, PICTURES, *kept_scores(run.kinds(plan), plan)]
    return all((folder / name).is_file() for name in names)


def _values(scores: Scores) -> dict[str, float]:
    return {name: found.value for name, found in scores.items()}


def this_run(number: int, images: HybridImages, plan: HybridsPlan, seed: int, now: Sitting) -> None:
    """Trains and scores one run, and leaves what the sweep reads of it.

    Args:
        number: See :func:`run_name`.
        images: Of the reproduction.
        plan: Of the reproduction.
        seed: Of the reproduction.
        now: The sitting of this run.
    """
    runs = _swept(plan, seed)
    scores, steps = _scores_of(number, images, plan, seed, now)
    about = {
        "run": runs.names[number],
        "steps": steps,
        "device": device_name(images.train.device),
        "seconds": round(now.seconds, 1),
    }
    leave_result(runs.folder(now.folder, number), _values(scores), now.seconds, about)


def _scores_of(
    number: int, images: HybridImages, plan: HybridsPlan, seed: int, now: Sitting
) -> tuple[Scores, int]:
    """With the steps of training: none for data."""
    runs = hybrid_runs(plan)
    if number == len(runs):
        return scores_of_data(images, plan, seed, now), 0
    outcome = _outcome(runs[number], images, plan, seed, now)
    return outcome.scores, outcome.steps
