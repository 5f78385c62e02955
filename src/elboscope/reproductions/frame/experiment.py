"""One published table or figure as one value, and the one way in which any of them is run.

A file of a paper is read from top to bottom: theory, plans, run, rows, claims, figure; and its
last value is an :class:`Experiment` that names these parts. What all of them share is written
here, once: who computes, which folder keeps the state, what is recorded beside every number, that
the smoke scale decides nothing, and that the result is saved. The names are listed in
:mod:`elboscope.reproductions`, which imports no torch.
"""

from __future__ import annotations

__all__ = [
    "Checksummed",
    "Experiment",
    "Request",
    "Run",
    "SeparateRuns",
    "Sets",
    "find_experiment",
    "no_data",
    "reproduce",
    "reproduce_run",
]

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar, runtime_checkable

import torch
from matplotlib.figure import Figure

from .. import listed
from .claims import Claim, without_verdict
from .result import Reproduction, Row, Scale
from .sitting import (
    Options,
    Progress,
    Sitting,
    provenance,
    sitting,
    sitting_of_one_run,
    training_device,
)


@runtime_checkable
class Checksummed(Protocol):
    """Data that know what they are: a sitting goes on only with those it was begun with."""

    @property
    def checksum(self) -> object:
        """A text, or a mapping of texts by data set."""


Plan = TypeVar("Plan")
Data = TypeVar("Data", bound=Checksummed | None)
Found = TypeVar("Found")
Set = TypeVar("Set", bound=Checksummed)


class Sets(dict[str, Set]):
    """Several data sets, by name.

    Example:
        >>> Sets().checksum
        {}
    """

    @property
    def checksum(self) -> dict[str, object]:
        """The checksum of each."""
        return {name: data.checksum for name, data in self.items()}


@dataclass(frozen=True)
class Request(Generic[Plan]):
    """What was asked for, before any data are read.

    Attributes:
        name: Name of the experiment.
        scale: "smoke", "cpu" or "paper".
        plan: What the scale means.
        seed: The first of the seeds, from which all randomness comes.
        options: Where data are, what else the command line said.
        device: Where to compute.
    """

    name: str
    scale: Scale
    plan: Plan
    seed: int
    options: Options
    device: torch.device


@dataclass(frozen=True)
class Run(Request[Plan], Generic[Plan, Data]):
    """A request with its data, and the sitting in which it is done.

    Attributes:
        data: What was loaded.
        now: The sitting: clock, state folder, progress.
    """

    data: Data
    now: Sitting

    def seeds(self, number: int) -> range:
        """Returns so many seeds, one after another from the first."""
        return range(self.seed, self.seed + number)

    @property
    def asked(self) -> Mapping[str, object]:
        """What must not change between two sittings, as ``asked.json`` keeps it."""
        return _asked(self, self.data)

    def provenance(
        self, *, epochs: int | None, data: Mapping[str, object], settings: Mapping[str, object]
    ) -> dict[str, object]:
        """Returns the record that is saved beside every number.

        Args:
            epochs: Passes over the training data; ``None`` where nothing was trained, or where
                steps are counted instead.
            data: Name, number of images, binarisation, checksum.
            settings: What else the numbers depend on.
        """
        return provenance(
            seed=self.seed,
            device=self.device,
            wall_seconds=self.now.seconds,
            epochs=epochs,
            data=data,
            settings=settings,
        )


@dataclass(frozen=True, kw_only=True)
class SeparateRuns(Generic[Plan, Data, Found]):
    """How one of an experiment's runs is done in a process of its own.

    Attributes:
        name: Name of a run, by its number and the plan; the state keeps a folder of this name.
        work: Trains and scores the run of a number.
        failed: Names of runs that ended with an error.
    """

    name: Callable[[int, Plan], str]
    work: Callable[[int, Run[Plan, Data]], None]
    failed: Callable[[Found], Iterable[str]]


def no_data(request: object) -> None:
    """Loads nothing: for experiments that draw their data."""


def _no_figures(run: object, found: object) -> Mapping[str, Figure]:
    return {}


@dataclass(frozen=True, kw_only=True)
class Experiment(Generic[Plan, Data, Found]):
    """One published table or figure: what is computed, and how it is judged.

    Attributes:
        name: As listed in :mod:`elboscope.reproductions`.
        title: What is reproduced, as its paper calls it.
        plans: What each scale means: "paper" in full, the others as their differences from it.
        load: Reads the data, before the folder is opened; ``no_data`` if there are none.
        run: Trains and measures. What it keeps in the state is read by a later sitting.
        provenance: By :meth:`Run.provenance`: training, data, settings.
        rows: Numbers.
        claims: A verdict for each claim of the paper.
        notes: What was done otherwise than in the paper, and what a number is not.
        figures: By file name, without an ending.
        device: Where a scale computes.
        separate: For an experiment whose runs may be processes of their own.
    """

    name: str
    title: str
    plans: Mapping[Scale, Plan]
    load: Callable[[Request[Plan]], Data]
    run: Callable[[Run[Plan, Data]], Found]
    provenance: Callable[[Run[Plan, Data], Found], Mapping[str, object]]
    rows: Callable[[Run[Plan, Data], Found], Iterable[Row]]
    claims: Callable[[Run[Plan, Data], Found], Iterable[Claim]]
    notes: Callable[[Run[Plan, Data], Found], Iterable[str]]
    figures: Callable[[Run[Plan, Data], Found], Mapping[str, Figure]] = _no_figures
    device: Callable[[Scale], torch.device] = training_device
    separate: SeparateRuns[Plan, Data, Found] | None = None


def find_experiment(name: str) -> Experiment[Any, Any, Any]:
    """Returns a listed experiment, whose module is imported now.

    Example:
        >>> find_experiment("iwae-table1").title
        'Importance Weighted Autoencoders, Table 1'
    """
    module, _, attribute = listed(name).where.partition(":")
    found: Experiment[Any, Any, Any] = getattr(
        import_module(f"elboscope.reproductions.{module}"), attribute
    )
    return found


def reproduce(
    experiment: Experiment[Plan, Data, Found],
    scale: Scale,
    *,
    out: Path,
    seed: int = 0,
    options: Options | None = None,
    progress: Progress | None = None,
) -> Reproduction:
    """Runs an experiment, or goes on with it, judges its claims, and saves the result.

    Args:
        experiment: Which.
        scale: "smoke", "cpu" or "paper".
        out: Folder of the state and of the result.
        seed: The first of the seeds.
        options: Where data are; slices and resuming.
        progress: Called with what is being done.

    Raises:
        InputError: Data are unavailable, or the folder is in use.
        Unfinished: The slice of time is over; the state is saved.
        KeyboardInterrupt: Ctrl-C came; the state is saved.
    """
    request = _request(experiment, scale, seed, options)
    data = experiment.load(request)
    with sitting(out, _asked(request, data), request.options, progress) as now:
        run = _run(request, data, now)
        found = experiment.run(run)
        record = experiment.provenance(run, found)
    claims = experiment.claims(run, found)
    separate = experiment.separate
    outcome = Reproduction(
        experiment.name,
        experiment.title,
        scale,
        rows=tuple(experiment.rows(run, found)),
        claims=without_verdict(claims) if scale == "smoke" else tuple(claims),
        notes=tuple(experiment.notes(run, found)),
        provenance=record,
        figures=experiment.figures(run, found),
        failed=() if separate is None else tuple(separate.failed(found)),
    )
    outcome.save(out)
    return outcome


def reproduce_run(
    experiment: Experiment[Plan, Data, Found],
    number: int,
    scale: Scale,
    *,
    out: Path,
    seed: int = 0,
    options: Options | None = None,
    progress: Progress | None = None,
) -> None:
    """Does one of the separate runs for :func:`reproduce`, which holds the folder.

    Args:
        experiment: One that has separate runs.
        number: Number of the run.
        scale: As in :func:`reproduce`.
        out: Folder of the state.
        seed: Random seed of the experiment.
        options: Where data are.
        progress: Called with what is being done.

    Raises:
        InputError: No such run, a folder of something else, or a run that another process does.
        KeyboardInterrupt: Ctrl-C or SIGTERM came; the state is saved.
    """
    assert experiment.separate is not None
    request = _request(experiment, scale, seed, options)
    name = experiment.separate.name(number, request.plan)
    data = experiment.load(request)
    with sitting_of_one_run(out, _asked(request, data), name, progress) as now:
        experiment.separate.work(number, _run(request, data, now))


def _request(
    experiment: Experiment[Plan, Data, Found], scale: Scale, seed: int, options: Options | None
) -> Request[Plan]:
    plan, device = experiment.plans[scale], experiment.device(scale)
    return Request(experiment.name, scale, plan, seed, options or Options(), device)


def _asked(request: Request[Plan], data: Checksummed | None) -> dict[str, object]:
    asked = {"name": request.name, "scale": request.scale, "seed": request.seed}
    return asked if data is None else {**asked, "sha256": data.checksum}


def _run(request: Request[Plan], data: Data, now: Sitting) -> Run[Plan, Data]:
    return Run(
        request.name, request.scale, request.plan, request.seed, request.options, request.device,
        data, now,
    )  # fmt: skip
