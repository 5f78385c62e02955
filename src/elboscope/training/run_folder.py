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

__all__ = ["RunFolder", "SavedRun", "load_run", "open_run"]

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_model, save_model
from torch import Tensor, nn

from elboscope.core import InputError, modules_of

from .atomic import only_process, replace_file, to_disk
from .checkpoint import trainable_module, weights
from .metrics import Row, read_rows


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
            nothing is there and ``resume`` is True.
    """
    path = Path(folder)
    if resume and not path.is_dir():
        raise InputError(
            str(path),
            expected="the folder of a run to resume",
            got="no such folder",
            do="Check the path, or train without resume.",
        )
    if path.exists() and not path.is_dir():
        raise InputError(str(path), expected="a folder", got="a file", do="Choose another path.")
    path.mkdir(parents=True, exist_ok=True)
    with only_process(path):
        run = RunFolder(path)
        if run.checkpoint.exists() and not resume:
            raise InputError(
                str(path),
                expected="a folder without a run",
                got="one that contains a run",
                do="Continue it with resume, or choose another folder.",
            )
        run.checkpoint.parent.mkdir(exist_ok=True)
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
    try:
        record = json.loads(run.record.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(
            str(run.path),
            expected="a run folder with a run.json",
            got="none" if isinstance(error, OSError) else f"a damaged one ({error})",
            do="A run folder is what elboscope train leaves behind.",
        ) from error
    if modules_of(model):
        _load_weights(run, trainable_module(model))
    return SavedRun(run.path, record, read_rows(run.metrics))


def _load_weights(run: RunFolder, module: nn.Module) -> None:
    try:
        load_model(module, str(run.model))
    except (OSError, SafetensorError, RuntimeError) as error:
        raise InputError(
            str(run.model),
            expected="the weights of this model",
            got=" ".join(str(error).split())[:200],
            do="Build the model as in the run's config.yaml.",
        ) from error
    module.eval()
