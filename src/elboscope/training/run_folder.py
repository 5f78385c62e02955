"""A run folder: what a run leaves behind, and what a later one may find there.

.. code-block:: text

   config.yaml                 the configuration, fully resolved (written where one is given)
   model.safetensors           the weights to use: the best held-out ones with early stopping
   metrics.csv                 one row an epoch
   run.json                    versions, seed, data, likelihood, binarisation, status
   training_state/             the checkpoint that a resumed run continues from
   events.out.tfevents…        TensorBoard

Every file is replaced in one rename. One process at a time holds the folder.
"""

from __future__ import annotations

__all__ = ["Run", "RunFolder", "SavedRun", "load_run", "open_run", "run_record"]

import json
import platform
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_model, save_model
from torch import Tensor, nn
from torch.optim import Optimizer

from elboscope.core import InputError, Sampled, check_model, evaluating, modules_of
from elboscope.core.errors import blamed_on, first_line
from elboscope.core.files import only_process, output_folder, readable, replace_file, to_disk
from elboscope.data import Binarisation
from elboscope.objectives import Objective, implied_variance, kl_weighted

from .checkpoint import TrainingState, disk_errors, trainable_module, weights
from .data import TrainingData, steps_per_epoch
from .games.base import Game
from .metrics import Row, read_rows
from .settings import TrainingSettings


@dataclass(frozen=True)
class RunFolder:
    """The paths of a run's files.

    Example:
        >>> RunFolder(Path("runs/a")).metrics.as_posix()
        'runs/a/metrics.csv'
    """

    path: Path

    @property
    def config(self) -> Path:
        """The configuration."""
        return self.path / "config.yaml"

    @property
    def model(self) -> Path:
        """The weights to use."""
        return self.path / "model.safetensors"

    @property
    def metrics(self) -> Path:
        """One row an epoch."""
        return self.path / "metrics.csv"

    @property
    def record(self) -> Path:
        """What was run, on what, with which versions."""
        return self.path / "run.json"

    @property
    def checkpoint(self) -> Path:
        """The state of training."""
        return self.path / "training_state" / "checkpoint.safetensors"

    def claim(self, *, resume: bool) -> None:
        """Makes sure that nothing will be overwritten but a run's own files.

        A run makes ``training_state`` before it writes anything. Where that is missing, files of
        these names are not of a run, or of one whose state was left behind; both are kept.

        Args:
            resume: Continue the run that is there, if it had come to a first checkpoint.

        Raises:
            InputError: A run is there and ``resume`` is False, or files that are not of one.
        """
        if self.checkpoint.exists():
            if resume:
                return
            raise InputError(
                str(self.path),
                expected="a folder without a run",
                got="one that contains a run",
                do="Continue it with resume, or choose another folder.",
            )
        begun = self.checkpoint.parent.is_dir()  # and killed before it had a checkpoint
        written = (self.model, self.record) if begun else (
            self.config, self.model, self.metrics, self.record, self.checkpoint.parent
        )  # fmt: skip
        there = [path.name for path in written if path.exists()]
        if there:
            raise InputError(
                str(self.path),
                expected="a new folder, or one of a run with its training_state",
                got=f"one with {' and '.join(there)} of something else",
                do="Nothing was changed. Choose another folder.",
            )
        self.checkpoint.parent.mkdir(exist_ok=True)

    def write_text(self, path: Path, text: str) -> None:
        """Replaces a text file atomically."""
        replace_file(path, lambda aside: aside.write_text(text, encoding="utf-8"))

    def write_record(self, record: Mapping[str, object]) -> None:
        """Replaces ``run.json``."""
        text = json.dumps(record, indent=2, ensure_ascii=False)
        self.write_text(self.record, text + "\n")

    def sync_metrics(self) -> None:
        """Brings the rows to disk, so that a checkpoint never counts rows that a crash lost."""
        if self.metrics.exists():
            to_disk(self.metrics)

    def write_model(self, module: nn.Module, chosen: Mapping[str, Tensor]) -> None:
        """Replaces the weights to use; ``chosen``, where not empty, are written instead of
        the module's own. Tied parameters are stored once.
        """
        own = weights(module) if chosen else {}
        try:
            if chosen:
                module.load_state_dict(chosen)
            with disk_errors(self.model):
                replace_file(self.model, lambda aside: save_model(module, str(aside)))
        finally:
            if chosen:
                module.load_state_dict(own)


@contextmanager
def open_run(folder: str | PathLike[str], *, resume: bool) -> Iterator[RunFolder]:
    """Opens a folder for one process that trains in it.

    Args:
        folder: Created if it does not exist, unless ``resume``.
        resume: Continue the run that is there, if it had come to a first checkpoint.

    Raises:
        InputError: Another process trains there; a run is there and ``resume`` is False;
            nothing is there and ``resume`` is True; files are there that are not of a run; the
            folder is empty text, the root, or contains the current folder.
    """
    path = output_folder(folder, "folder")
    if resume and not path.is_dir():
        raise InputError(
            str(path),
            expected="the folder of a run to resume",
            got="no such folder",
            do="Check the path, or train without resume.",
        )
    if path.exists() and not path.is_dir():
        raise InputError(str(path), expected="a folder", got="a file", do="Choose another path.")
    with blamed_on(str(path), "a folder that can be made", "Choose another path."):
        path.mkdir(parents=True, exist_ok=True)
    with only_process(path):
        run = RunFolder(path)
        run.claim(resume=resume)
        yield run


@dataclass(frozen=True)
class SavedRun:
    """A run read back from its folder.

    Attributes:
        folder: Where.
        record: ``run.json``.
        history: The rows of ``metrics.csv``.
    """

    folder: Path
    record: Mapping[str, Any]
    history: list[Row]


def load_run(folder: str | PathLike[str], model: object = None) -> SavedRun:
    """Reads a run's record and history, and puts its weights into a model of the same shape.

    Args:
        folder: The run folder.
        model: Where the weights go, in place, moved to where its parameters are and put in
            evaluation mode; ``None`` reads no weights.

    Returns:
        The record and the history.

    Raises:
        InputError: It is no run folder, a file in it is damaged, or the model is another one.

    Example:
        >>> load_run("no/such/run")
        Traceback (most recent call last):
        elboscope.core.errors.InputError: no/such/run: expected a run folder with a run.json; ...
    """
    run = RunFolder(Path(folder))
    record = _read_record(run)
    if modules_of(model):
        _load_weights(run, trainable_module(model))
    return SavedRun(run.path, record, read_rows(run.metrics))


def _read_record(run: RunFolder) -> Mapping[str, Any]:
    got, record = "", None
    try:
        record = json.loads(readable(run.record).read_text(encoding="utf-8"))
    except OSError:
        got = "none"
    except (ValueError, RecursionError) as error:
        got = f"a damaged one ({first_line(error)})"
    if got or not isinstance(record, Mapping):
        raise InputError(
            str(run.path),
            expected="a run folder with a run.json",
            got=got or f"one that holds a {type(record).__name__}",
            do="A run folder is what elboscope train leaves behind.",
        )
    return record


def _load_weights(run: RunFolder, module: nn.Module) -> None:
    try:
        readable(run.model)
        load_model(module, str(run.model))
    except (OSError, SafetensorError, RuntimeError) as error:
        raise InputError(
            str(run.model),
            expected="the weights of this model",
            got=" ".join(str(error).split())[:200],
            do="Build the model as in the run's config.yaml.",
        ) from error
    module.eval()


# ``run.json``: what was run, on what, with which versions.

FORMAT = 1
PACKAGES = ("elboscope", "numpy", "safetensors")


def run_record(
    model: Sampled,
    x: Tensor,
    settings: TrainingSettings,
    objective: Objective | Game,
    binarisation: Binarisation,
    *,
    condition: Tensor | None,
    data: Mapping[str, object],
) -> dict[str, object]:
    """Checks the model against the contract and returns what its numbers must be read with.

    Raises:
        ContractError: The model breaks a clause.
    """
    with evaluating(model):
        found = check_model(model, x, condition=condition)
    record: dict[str, object] = {
        "format": FORMAT,
        "versions": {"python": platform.python_version(), "torch": torch.__version__}
        | {p: version(p) for p in PACKAGES},
        "seed": settings.seed,
        "settings": settings.record(),
        "objective": repr(objective),
        "data": dict(data),
        "binarisation": str(binarisation),
        "likelihood": found.likelihood,
        "posterior": found.posterior,
        "latent_shape": list(found.latent_shape),
        "in_support": found.in_support,
        "has_bound": found.has_likelihood
        and (found.has_posterior_density or found.scores_own_draws),
        "device": str(x.device),
        "dtype": str(x.dtype),
        "threads": torch.get_num_threads(),
    }
    if isinstance(objective, Objective) and objective.binds(kl_weighted):
        variance = implied_variance(**objective.settings, num_pixels=x[0].numel())
        record["implied_decoder_variance"] = variance
    return record


# A run in progress: what was asked for, where it is, and what identifies it.

# Settings that may change between two sittings of one run.
FREE = ("epochs", "patience", "device", "compile", "tensorboard", "checkpoint_seconds",
        "checkpoint_epochs")  # fmt: skip


@dataclass
class Run:
    """A run in progress: what was asked for, and where it is.

    Attributes:
        record: ``run.json``.
        kept: The last finite weights, where there is no folder to keep them.
        looked_at: Losses of this epoch known to be finite.
        saved_at: When the last checkpoint was written, on the monotonic clock.
        began_at: When this sitting began, less the time of earlier ones.
    """

    model: Sampled
    module: nn.Module
    optimizer: Optimizer
    objective: Objective | Game
    settings: TrainingSettings
    data: TrainingData
    folder: RunFolder | None
    record: dict[str, object]
    state: TrainingState = field(default_factory=TrainingState)
    history: list[Row] = field(default_factory=list)
    kept: dict[str, Tensor] = field(default_factory=dict)
    looked_at: int = 0
    saved_at: float = 0.0
    began_at: float = 0.0

    @property
    def steps_per_epoch(self) -> int:
        """T."""
        return steps_per_epoch(len(self.data.x_train), self.settings.batch_size)

    @property
    def epoch(self) -> float:
        """Training time, in epochs."""
        return self.state.step / self.steps_per_epoch

    @property
    def bounded(self) -> bool:
        """Whether q(z|x) and p(x|z) have the densities that an ELBO is made of."""
        return bool(self.record["has_bound"])

    @property
    def identity(self) -> dict[str, object]:
        """What may not change between two sittings."""
        kept = {k: v for k, v in self.settings.record().items() if k not in FREE}
        data = {f"data {k}": v for k, v in self.data.record.items()}
        return kept | data | {"binarisation": self.record["binarisation"]}
