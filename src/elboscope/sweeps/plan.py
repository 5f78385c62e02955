"""What a sweep is to do: which points, which seeds, and what is compared."""

from __future__ import annotations

__all__ = ["Direction", "Epoch", "Run", "Sampler", "SweepPlan", "Trial"]

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple, get_args

from elboscope.core import InputError

from .space import Parameters, Value, grid

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
        seed: Of weights, minibatches and noise.
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
        seed: Of the draws of the sampler.

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
