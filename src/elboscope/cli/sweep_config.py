"""The ``sweep:`` section of a configuration: what varies, over which seeds, where it is trained.

.. code-block:: yaml

   sweep:
     parameters:
       model.latent_dim: [2, 8, 32]
       training.learning_rate: {low: 1.0e-4, high: 1.0e-2, log: true, points: 3}
     seeds: [0, 1, 2]                     # or 3
     sampler: grid                        # random, tpe: with trials: 20
     metric: validation_elbo              # a column of metrics.csv
     workers: 2
     executor: local                      # slurm, with resources: {cpus: 4, minutes: 120, ...}
     folder: sweeps/digits

A file of its own because a section of the configuration is read without running anything.
"""

from __future__ import annotations

__all__ = ["KEYS", "SweepConfig", "check_points", "configuration", "sweep_config"]

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, get_args

from elboscope.core.files import expanded
from elboscope.sweeps.executor import Executor, Kind, Resources
from elboscope.sweeps.space import Choices, Direction, Epoch, Parameters, Range, Sampler, SweepPlan
from elboscope.training import COLUMNS
from elboscope.training.games.base import Game

from .config import Config, override, require_key
from .resolve import OBJECTIVES, Resolved, find_objective, resolve
from .terminal import UsageError, did_you_mean

KEYS = (
    *("parameters", "seeds", "sampler", "trials", "metric", "direction", "epoch", "seed"),
    *("workers", "executor", "resources", "folder"),
)
RANGE = ("low", "high", "log", "points")
HIGHER_IS_BETTER = ("validation_elbo", "train_bound")
SEED = "training.seed"


@dataclass(frozen=True)
class SweepConfig:
    """A configuration with its sweep.

    Attributes:
        base: The configuration of a run, without what varies.
        plan: What varies.
        executor: Where runs are trained.
        folder: The sweep's folder, if the file names one.
    """

    base: Config
    plan: SweepPlan
    executor: Executor
    folder: Path | None


def sweep_config(base: Config, given: Mapping[str, Any]) -> SweepConfig:
    """Checks the section and returns what it asks for.

    Args:
        base: The other sections.
        given: ``sweep``, as YAML gives it.

    Raises:
        UsageError: An unknown key or a value of the wrong type.
        InputError: A range, a seed, a number of trials that cannot be.
    """
    for key in given:
        require_key(str(key), KEYS, f"sweep.{key}")
    for key, known in (("sampler", Sampler), ("direction", Direction), ("epoch", Epoch),
                       ("executor", Kind)):  # fmt: skip
        if key in given:
            _word(f"sweep.{key}", given[key], get_args(known))
    metric = given.get("metric", "validation_elbo")
    _check_metric(metric, base, given.get("parameters"))
    plan = SweepPlan(
        parameters=_parameters(given.get("parameters")),
        seeds=_seeds(given.get("seeds", 1)),
        sampler=given.get("sampler", "grid"),
        trials=_whole("sweep.trials", given.get("trials")),
        metric=metric,
        direction=given.get("direction") or _direction(metric),
        epoch=given.get("epoch") or ("best" if _training(base).get("patience") else "last"),
        seed=_whole("sweep.seed", given.get("seed", 0)) or 0,
    )
    workers = _whole("sweep.workers", given.get("workers", 1)) or 0
    executor = Executor(given.get("executor", "local"), workers, _resources(given))
    folder = given.get("folder")
    if not isinstance(folder, str | None):
        raise UsageError("sweep.folder", expected="a path", got=repr(folder))
    return SweepConfig(base, plan, executor, expanded(folder) if folder else None)


def _training(base: Config) -> Mapping[str, Any]:
    training = base.get("training", {})
    return training if isinstance(training, Mapping) else {}


def _word(what: str, value: Any, known: tuple[str, ...]) -> None:
    if value not in known:
        listed = f"one of {', '.join(known)}"
        raise UsageError(what, expected=listed, got=repr(value), do=did_you_mean(str(value), known))


def _whole(what: str, value: Any) -> int | None:
    if value is not None and (not isinstance(value, int) or isinstance(value, bool)):
        raise UsageError(what, expected="a whole number", got=repr(value))
    return value


def _seeds(value: Any) -> tuple[int, ...]:
    """A list, or a number S for 0 … S − 1."""
    if isinstance(value, int) and not isinstance(value, bool):
        return tuple(range(value))
    right = isinstance(value, list) and all(type(seed) is int for seed in value)
    if not right:
        raise UsageError("sweep.seeds", expected="whole numbers, or how many", got=repr(value))
    return tuple(value)


def _check_metric(metric: Any, base: Config, parameters: Any) -> None:
    """A column that not all runs will have is refused before hours of training."""
    varied = parameters.get("objective") if isinstance(parameters, Mapping) else None
    paths = varied if isinstance(varied, list) else [base.get("objective", {}).get("class_path")]
    known = [_columns(path or "ELBO") for path in paths if path is None or path in OBJECTIVES]
    first, *others = known or [COLUMNS]
    if len(known) == len(paths) or not isinstance(metric, str):
        shared = tuple(c for c in first if all(c in other for other in others))
        _word("sweep.metric", metric, shared)
    if str(metric).startswith("validation_") and _training(base).get("validation_fraction") == 0:
        raise UsageError(
            "sweep.metric", expected="a column that the runs fill", got=repr(metric),
            do="With training.validation_fraction 0 nothing is held out.",
        )  # fmt: skip


def _columns(path: str) -> tuple[str, ...]:
    """The columns that the runs of an objective, or of a game, fill."""
    kind = find_objective(path)
    if not issubclass(kind, Game):
        return COLUMNS
    empty = ("train_bound",) if kind.encodes else (*HIGHER_IS_BETTER, "validation_kl")
    return (*kind.columns, *(c for c in COLUMNS if c not in {*empty, *kind.columns}))


def _direction(metric: str) -> Direction:
    if metric in HIGHER_IS_BETTER:
        return "maximise"
    expected = f"maximise or minimise, for the metric {metric}"
    raise UsageError("sweep.direction", expected=expected, got="none")


def _resources(given: Mapping[str, Any]) -> Resources:
    value = given.get("resources") or {}
    if not isinstance(value, Mapping):
        raise UsageError("sweep.resources", expected="keys with values", got=repr(value))
    known = [field.name for field in fields(Resources)]
    for key, number in value.items():
        what = f"sweep.resources.{key}"
        require_key(str(key), known, what)
        kinds = {"memory_gb": (int, float), "partition": (str,), "account": (str,)}.get(key, (int,))
        if number is not None and (not isinstance(number, kinds) or isinstance(number, bool)):
            expected = "a name" if kinds == (str,) else "a number"
            expected = "a whole number" if kinds == (int,) else expected
            raise UsageError(what, expected=expected, got=repr(number))
    return Resources(**value)


def _parameters(given: Any) -> Parameters:
    if given is None:
        return {}  # seeds alone
    if not isinstance(given, Mapping):
        expected = "dotted names with their values, such as model.latent_dim: [2, 8]"
        raise UsageError("sweep.parameters", expected=expected, got=repr(given))
    return {str(name): _parameter(str(name), value) for name, value in given.items()}


def _parameter(name: str, given: Any) -> Choices | Range:
    what = f"sweep.parameters, {name}"
    if name == SEED:
        do = "The seeds of a sweep are sweep.seeds."
        raise UsageError(what, expected="a hyper-parameter", got="the seed", do=do)
    if isinstance(given, list):
        return Choices(name, tuple(_plain(what, _number_of(value)) for value in given))
    if not isinstance(given, Mapping):
        expected = "a list of values, or {low: …, high: …}"
        raise UsageError(what, expected=expected, got=repr(given))
    return _range(name, what, given)


def _range(name: str, what: str, given: Mapping[str, Any]) -> Range:
    for key in given:
        require_key(str(key), RANGE, f"{what}.{key}")
    ends = [_number_of(given.get(key)) for key in ("low", "high")]
    for key, end in zip(("low", "high"), ends, strict=True):
        if not isinstance(end, int | float) or isinstance(end, bool):
            got = "none" if end is None else repr(end)
            raise UsageError(f"{what}.{key}", expected="a number", got=got)
    log = given.get("log", False)
    if not isinstance(log, bool):
        raise UsageError(f"{what}.log", expected="true or false", got=repr(log))
    low, high = ends
    return Range(name, low, high, log, _whole(f"{what}.points", given.get("points")))


def _plain(what: str, value: Any) -> Any:
    """YAML takes 2020-01-01 for a date, which no journal can hold."""
    try:
        json.dumps(value)
    except TypeError:
        expected = "numbers, texts, lists"
        raise UsageError(what, expected=expected, got=str(value), do="Quote it.") from None
    return value


def _number_of(value: Any) -> Any:
    """YAML takes 1e-4, without a point, for a text; no one means one."""
    if isinstance(value, str) and value[:1] in "+-.0123456789":
        try:
            return float(value)
        except ValueError:
            return value
    return value


def configuration(base: Config, parameters: Mapping[str, object], seed: int) -> Resolved:
    """Returns the complete configuration of one run.

    Raises:
        UsageError: A name or value that the configuration does not take.
    """
    return resolve(override(base, [*parameters.items(), (SEED, seed)]))


def check_points(config: SweepConfig) -> None:
    """Resolves configurations with each value in turn, the others at their first.

    Raises:
        UsageError: A name or value that the configuration does not take.
    """
    plan = config.plan
    first = {name: parameter.ends()[0] for name, parameter in plan.parameters.items()}
    for name, parameter in plan.parameters.items():
        require_key(name.split(".")[0], config.base, f"sweep.parameters, {name}")
        for value in parameter.ends():
            configuration(config.base, first | {name: value}, plan.seeds[0])
    if not plan.parameters:
        configuration(config.base, {}, plan.seeds[0])
