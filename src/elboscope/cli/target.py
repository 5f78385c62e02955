"""What is diagnosed, sampled or checked: a run folder's model, or an object in the user's code."""

from __future__ import annotations

__all__ = ["Target", "load_target"]

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from elboscope.core import GenerativeModel, Sampled, is_implicit, seeded
from elboscope.data import Binarisation
from elboscope.training import load_run

from .config import read_config
from .errors import UsageError, did_you_mean
from .load import EXPECTED, import_object, is_reference
from .resolve import Resolved, call, resolve


@dataclass(frozen=True)
class Target:
    """A model and what is known about it.

    Attributes:
        name: As it was typed.
        model: The model, with its trained weights.
        folder: The run folder, if it is one.
        run: Its configuration.
        history: The rows of its ``metrics.csv``.
        record: Its ``run.json``.
    """

    name: str
    model: Sampled
    folder: Path | None = None
    run: Resolved | None = None
    history: Sequence[Mapping[str, float]] = ()
    record: Mapping[str, Any] = field(default_factory=dict)

    @property
    def binarisation(self) -> Binarisation:
        """How its training data were binarised; "none" where it is unknown."""
        return Binarisation("none") if self.run is None else self.run.binarisation


def load_target(name: str) -> Target:
    """Returns the model that a word of the command line names.

    Raises:
        UsageError: No run folder, no such file, module or name, or their code raised.
        InputError: A damaged run folder.
    """
    path = Path(name).expanduser()
    if path.is_dir():
        return _from_run(name, path)
    if is_reference(name):
        return Target(name, _from_code(name))
    folder = path.parent
    names = [str(p) for p in folder.glob("*/")] if folder.is_dir() else []
    got = "a file" if path.is_file() else "no such folder"
    raise UsageError(name, expected=EXPECTED, got=got, do=did_you_mean(str(path), names))


def _from_code(name: str) -> Sampled:
    found = import_object(name)
    if inspect.isclass(found) or inspect.isfunction(found):
        found = call(name, found, {})
    if not (isinstance(found, GenerativeModel) or is_implicit(found)):
        raise UsageError(
            name, expected="a model, with prior(), decode(z) and encode(x)",
            got=f"{type(found).__name__} without them",
            do="Wrap an encoder and a decoder: es.from_modules(encoder, decoder).",
        )  # fmt: skip
    return found


def _from_run(name: str, folder: Path) -> Target:
    saved = load_run(folder)
    if not (folder / "config.yaml").is_file():
        raise UsageError(
            name, expected="a run folder with a config.yaml, which says how to build the model",
            got="one without",
            do="Load the weights in a file of yours and diagnose FILE.py:name.",
        )  # fmt: skip
    run = resolve(read_config(folder / "config.yaml"))
    with seeded(run.settings.seed):
        model = run.model(tuple(saved.record["data"]["shape"][1:]))
    load_run(folder, model)
    return Target(name, model, folder, run, saved.history, saved.record)
