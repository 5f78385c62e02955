r"""The space of hyper-parameters: choices and ranges, their grid, and their draws.

A range is uniform in the value, or with ``log`` in its logarithm. A *choice* is drawn without
order: 16 and 32 are no nearer to each other than 16 and 1024, so numbers belong into ranges where
a sampler is to learn from neighbours.
"""

from __future__ import annotations

__all__ = [
    "Choices",
    "Direction",
    "Epoch",
    "Parameters",
    "Range",
    "Run",
    "Sampler",
    "SweepPlan",
    "Trial",
    "Value",
    "grid",
]

import itertools
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple, get_args

from elboscope.core import InputError

if TYPE_CHECKING:
    from optuna.trial import Trial as Draw

Value = object
"""What YAML can hold: a number, a text, a list, ..."""


@dataclass(frozen=True)
class Choices:
    """Some values, of any kind.

    Args:
        name: The dotted name of the hyper-parameter, for messages.
        values: At least one, each once.

    Raises:
        InputError: None, or one twice.

    Example:
        >>> Choices("model.hidden", ((16,), (32, 32))).values
        ((16,), (32, 32))
    """

    name: str
    values: tuple[Value, ...]

    def __post_init__(self) -> None:
        texts = [json.dumps(v) for v in self.values]
        if not texts:
            raise InputError(self.name, expected="at least one value", got="none")
        twice = next((t for t in texts if texts.count(t) > 1), None)
        if twice is not None:
            raise InputError(self.name, expected="each value once", got=f"{twice} twice")

    def points(self) -> tuple[Value, ...]:
        """Returns all values."""
        return self.values

    def ends(self) -> tuple[Value, ...]:
        """Returns the values that stand for all where a configuration is checked: each."""
        return self.values

    def key(self, value: Value) -> str:
        """Returns the text under which the journal knows a value."""
        return json.dumps(value)

    def draw(self, draw: Draw) -> Value:
        """Draws one; asked again of the same draw, the answer is the same."""
        text = draw.suggest_categorical(self.name, [json.dumps(v) for v in self.values])
        return self.values[[json.dumps(v) for v in self.values].index(str(text))]

    def __str__(self) -> str:
        return ", ".join(map(str, self.values))


@dataclass(frozen=True)
class Range:
    """All numbers from ``low`` to ``high``, whole ones if both are.

    Args:
        name: The dotted name of the hyper-parameter, for messages.
        low: The least.
        high: The largest.
        log: Uniform in the logarithm.
        num_points: Points of a grid, ends included; without it the range has no grid.

    Raises:
        InputError: low ≥ high, a value that is not finite, a logarithm of what is not positive.

    Example:
        >>> Range("rate", 1e-4, 1e-2, log=True, num_points=3).points()
        (0.0001, 0.001, 0.01)
        >>> Range("units", 10, 20, num_points=3).points()
        (10, 15, 20)
    """

    name: str
    low: int | float
    high: int | float
    log: bool = False
    num_points: int | None = None

    def __post_init__(self) -> None:
        def require(holds: bool, expected: str, got: object) -> None:
            if not holds:
                raise InputError(self.name, expected=expected, got=str(got))

        ends = f"low {self.low}, high {self.high}"
        require(math.isfinite(self.low) and math.isfinite(self.high), "finite ends", ends)
        require(self.low < self.high, "low < high", ends)
        require(not self.log or self.low > 0, "low > 0, for a logarithm", ends)
        points = self.num_points
        require(points is None or points >= 2, "points: a whole number ≥ 2", points)

    @property
    def whole(self) -> bool:
        """Whether the values are whole numbers."""
        return isinstance(self.low, int) and isinstance(self.high, int)

    def points(self) -> tuple[Value, ...]:
        """Returns equally spaced values, in the logarithm with ``log``.

        Raises:
            InputError: How many was not said.
        """
        if self.num_points is None:
            raise InputError(
                self.name, expected="points, how many a grid takes of a range", got="none",
                do="For example {low: 1.0e-4, high: 1.0e-2, log: true, points: 3}.",
            )  # fmt: skip
        steps = [i / (self.num_points - 1) for i in range(self.num_points)]
        inner = [self._between(t) for t in steps[1:-1]]
        return tuple(dict.fromkeys((self.low, *inner, self.high)))

    def _between(self, t: float) -> int | float:
        if self.log:
            value = math.exp((1 - t) * math.log(self.low) + t * math.log(self.high))
        else:
            value = (1 - t) * self.low + t * self.high
        return round(value) if self.whole else float(f"{value:.12g}")

    def ends(self) -> tuple[Value, ...]:
        """Returns the values that stand for all where a configuration is checked: both ends."""
        return (self.low, self.high)

    def key(self, value: Value) -> int | float:
        """Returns the number under which the journal knows a value: itself."""
        assert isinstance(value, int | float)
        return value

    def draw(self, draw: Draw) -> Value:
        """Draws one; asked again of the same draw, the answer is the same."""
        if self.whole:
            return draw.suggest_int(self.name, int(self.low), int(self.high), log=self.log)
        return draw.suggest_float(self.name, self.low, self.high, log=self.log)

    def __str__(self) -> str:
        return f"{self.low:g} to {self.high:g}{', logarithmic' if self.log else ''}"


Parameters = Mapping[str, Choices | Range]


def grid(parameters: Parameters) -> list[dict[str, Value]]:
    """Returns every combination; the last hyper-parameter changes fastest.

    Example:
        >>> grid({"a": Choices("a", (1, 2)), "b": Choices("b", ("x",))})
        [{'a': 1, 'b': 'x'}, {'a': 2, 'b': 'x'}]
    """
    values = [parameter.points() for parameter in parameters.values()]
    return [dict(zip(parameters, point, strict=True)) for point in itertools.product(*values)]


# What a sweep is to do: which points, which seeds, and what is compared.

Sampler = Literal["grid", "random", "tpe"]
Direction = Literal["maximise", "minimise"]
Epoch = Literal["last", "best"]


class Trial(NamedTuple):
    """A point of the space.

    Attributes:
        number: From 0, in the order in which they were asked for.
        parameters: Its values.
    """

    number: int
    parameters: Mapping[str, Value]


class Run(NamedTuple):
    """A trial with one seed.

    Attributes:
        trial: The point.
        seed: Random seed of weights, minibatches and noise.
        folder: Its run folder.
    """

    trial: Trial
    seed: int
    folder: Path

    def __str__(self) -> str:
        return f"trial {self.trial.number}, seed {self.seed}"


@dataclass(frozen=True)
class SweepPlan:
    """What a sweep is to do.

    Args:
        parameters: The space, by dotted names.
        seeds: Each trial is trained once with each.
        sampler: "grid", every combination; "random"; "tpe", optuna's tree-structured Parzen
            estimator, which learns from the trials that ended.
        trials: How many are drawn; a grid has as many as it has points.
        metric: A column of ``metrics.csv``.
        direction: Which values are better.
        epoch: The value of the "last" epoch, or of the "best": that is a choice made by the
            number itself and flatters it.
        seed: Random seed of the sampler.

    Raises:
        InputError: No seed or one twice, a number of trials missing or not wanted.

    Example:
        >>> from elboscope.sweeps.space import Choices
        >>> space = {"model.latent_dim": Choices("model.latent_dim", (2, 8))}
        >>> plan = SweepPlan(space, seeds=(0, 1, 2))
        >>> plan.num_trials, plan.num_runs
        (2, 6)
    """

    parameters: Parameters
    seeds: tuple[int, ...] = (0,)
    sampler: Sampler = "grid"
    trials: int | None = None
    metric: str = "validation_elbo"
    direction: Direction = "maximise"
    epoch: Epoch = "last"
    seed: int = 0

    def __post_init__(self) -> None:
        for name, known in (("sampler", Sampler), ("direction", Direction), ("epoch", Epoch)):
            value, words = getattr(self, name), get_args(known)
            _require(value in words, name, f"one of {', '.join(words)}", repr(value))
        seeds = self.seeds
        _require(len(seeds) > 0, "seeds", "at least one", "none")
        _require(len(set(seeds)) == len(seeds), "seeds", "each once", str(list(seeds)))
        bad = [s for s in seeds if not 0 <= s < 2**63]
        _require(not bad, "seeds", "whole numbers ≥ 0", str(bad))
        _require(len(self.parameters) > 0 or self.sampler == "grid", "parameters", "some", "none")
        if self.sampler == "grid":
            expected = "nothing with the grid sampler: a grid has as many as it has points"
            _require(self.trials is None, "trials", expected, str(self.trials))
            grid(self.parameters)  # a range without points is refused now
        else:
            right = self.trials is not None and self.trials >= 1
            expected = f"a whole number ≥ 1 for the {self.sampler} sampler"
            _require(right, "trials", expected, str(self.trials))

    @property
    def num_trials(self) -> int:
        """Points in all."""
        return len(grid(self.parameters)) if self.trials is None else self.trials

    @property
    def num_runs(self) -> int:
        """Trainings in all."""
        return self.num_trials * len(self.seeds)

    @property
    def adaptive(self) -> bool:
        """Whether later points depend on the results of earlier ones."""
        return self.sampler == "tpe"

    def runs(self, trial: Trial, folder: Path) -> list[Run]:
        """Returns the runs of a trial, with their folders in that of the sweep."""
        where = folder / f"trial-{trial.number:03d}"
        return [Run(trial, seed, where / f"seed-{seed}") for seed in self.seeds]


def _require(holds: bool, what: str, expected: str, got: str) -> None:
    if not holds:
        raise InputError(what, expected=expected, got=got)
