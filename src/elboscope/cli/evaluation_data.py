"""What a command evaluates: a run or an object of yours, and data in the shape of the model."""

from __future__ import annotations

__all__ = ["EvaluationData", "Target", "evaluation_data", "load_target"]

import inspect
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from elboscope import data
from elboscope.core import GenerativeModel, InputError, Sampled, as_generative, is_implicit, seeded
from elboscope.core.files import expanded
from elboscope.data import Binarisation
from elboscope.data.inputs import as_tensor
from elboscope.training import load_run
from elboscope.training.data import prepare_data

from .config import read_config
from .load import EXPECTED, call, import_object, is_reference, require_trust
from .parser import Arguments
from .resolve import Resolved, resolve_saved
from .terminal import UsageError, did_you_mean

# Training data get a draw of their own, as in training with fixed binarisation.
TRAIN_STREAM = 1


class EvaluationData(NamedTuple):
    """Data and what they are called.

    Attributes:
        x: Evaluation data, binarised.
        x_train: Training data, binarised, if there are any.
        binarisation: How they were binarised, in words.
        name: Name of the evaluation data.
        notes: What was done to them, in words.
        images: What x was drawn from, where it was binarised.
    """

    x: Tensor
    x_train: Tensor | None
    binarisation: Binarisation
    name: str
    notes: str
    images: Tensor | None = None


class _Part(NamedTuple):
    test: Tensor
    train: Tensor | None
    notes: str


def evaluation_data(target: Target, arguments: Arguments) -> EvaluationData:
    """Returns the data that the arguments name, or those the run was trained on.

    A named set gives its test part, and its training part for comparison. A file of your own is
    evaluated whole, unless it holds both parts; the data a run was trained on are split as then.

    Raises:
        UsageError: No data, or their size does not fit the model.
        InputError: What the loader raises.
    """
    mode = arguments.binarise
    own = target.binarisation
    binarisation = own if mode is None else Binarisation(mode, seed=own.seed)
    name = arguments.data or (target.run.data if target.run is not None else None)
    if name is None:
        raise UsageError(
            "--data", expected="the name or file of evaluation data", got="none",
            do=f"For example --data x.npy, or --data digits, for {target.name}.",
        )  # fmt: skip
    part = _load(name, arguments.data_dir, whole=arguments.data is not None)
    given = getattr(arguments, "train_data", None)
    x = _shaped(part.test, target.model, name)
    if given is None and target.run is not None:
        x_train: Tensor | None = _trained_on(target, target.run, binarisation, arguments.data_dir)
    else:
        train = part.train if given is None else _training(given, arguments.data_dir)
        option = "--data" if given is None else "--train-data"
        x_train = None if train is None else _shaped(train, target.model, given or name, option)
        x_train = None if x_train is None else binarisation.fixed_draw(x_train, stream=TRAIN_STREAM)
    notes = part.notes if x.shape == part.test.shape else f"{part.notes}, as {tuple(x.shape[1:])}"
    images = None if binarisation.mode == "none" else x
    return EvaluationData(binarisation.fixed_draw(x), x_train, binarisation, name, notes, images)


def _trained_on(
    target: Target, run: Resolved, binarisation: Binarisation, data_dir: str | None
) -> Tensor:
    """Returns what the run was fitted to, without the part it held out; dynamic: one draw."""
    images = data.load(run.data, data_dir)
    x = prepare_data(target.model, images.train, run.settings, binarisation).x_train
    again = binarisation.mode == "dynamic"
    return binarisation.fixed_draw(x, stream=TRAIN_STREAM) if again else x


def _load(name: str, data_dir: str | None, *, whole: bool) -> _Part:
    path = expanded(name)
    if whole and (path.suffix == ".npy" or path.is_dir()):
        batch = data.read_array(path)
        return _Part(batch.x, None, f"all of {path.name}, {batch.treatment}")
    if whole and path.suffix == ".npz":
        try:
            batch = data.read_array(path)
            return _Part(batch.x, None, f"all of {path.name}, {batch.treatment}")
        except InputError:  # several arrays: train and test, or an error that from_file tells
            pass
    images = data.load(name, data_dir)
    return _Part(images.test, images.train, f"test part of {images.name}, {images.treatment}")


def _training(name: str, data_dir: str | None) -> Tensor:
    part = _load(name, data_dir, whole=True)
    return part.test if part.train is None else part.train


def _shaped(x: Tensor, model: Sampled, name: str, option: str = "--data") -> Tensor:
    """Lays the values of x out as the model has them: flat or not, with or without axes of 1.

    Other shapes of as many values are refused: (8, 8, 3) read as (3, 8, 8) would be noise.
    """
    shape = _data_shape(model)
    if shape is None or tuple(x.shape[1:]) == shape:
        return as_tensor(x, name=name).x
    has, wants = ([n for n in s if n != 1] for s in (x.shape[1:], shape))
    same = math.prod(has) == math.prod(wants)
    if same and (has == wants or min(len(has), len(wants)) <= 1):
        return x.reshape(len(x), *shape)
    transposed = same and sorted(has) == sorted(wants)
    raise UsageError(
        f"{option} {name}",
        expected=f"datapoints of shape {shape}, as the model's decode(z) has them",
        got=f"{tuple(x.shape[1:])}",
        do="Put the axes in that order: numpy.moveaxis(x, -1, 1) for channels last."
        if transposed
        else "Diagnose the model on the data it was trained on.",
    )


def _data_shape(model: Sampled) -> tuple[int, ...] | None:
    """Returns the event shape of p(x|z), or None where the model cannot be asked.

    A model that breaks the contract here will be told so by its conformance check.
    """
    from torch import Size, no_grad

    try:
        with seeded(0), no_grad():
            z = model.prior().sample(Size((2,)))
            return tuple(as_generative(model).decode(z).event_shape)
    except (Exception, SystemExit):
        return None


# What is diagnosed, sampled or checked: a run folder's model, or an object in the user's code.


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


def load_target(name: str, *, trust: bool = False) -> Target:
    """Returns the model that a word of the command line names.

    Args:
        name: A run folder, ``FILE.py:name`` or ``package.module:name``.
        trust: Import what the run folder's configuration names besides elboscope's own classes.

    Raises:
        UsageError: No run folder, no such file, module or name, their code raised, or a run folder
            names code and is not trusted.
        InputError: A damaged run folder.
    """
    path = expanded(name)
    if path.is_dir():
        return _from_run(name, path, trust=trust)
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


def _from_run(name: str, folder: Path, *, trust: bool) -> Target:
    saved = load_run(folder)
    if not (folder / "config.yaml").is_file():
        raise UsageError(
            name, expected="a run folder with a config.yaml, which says how to build the model",
            got="one without",
            do="Load the weights in a file of yours and diagnose FILE.py:name.",
        )  # fmt: skip
    config = read_config(folder / "config.yaml")
    require_trust(folder / "config.yaml", {"model": config.get("model")}, trust=trust)
    run = resolve_saved(config)
    with seeded(run.settings.seed):
        model = run.model(_recorded_shape(name, saved.record))
    load_run(folder, model)
    return Target(name, model, folder, run, saved.history, saved.record)


def _recorded_shape(name: str, record: Mapping[str, Any]) -> tuple[int, ...]:
    """The shape of a datapoint, for which the model is built."""
    data = record.get("data")
    shape = data.get("shape") if isinstance(data, Mapping) else None
    sizes = shape[1:] if isinstance(shape, list) else []
    if not sizes or not all(isinstance(n, int) and 0 < n < 2**31 for n in sizes):
        raise UsageError(
            f"{name}/run.json, data.shape", expected="the shape of the training data, (N, *X)",
            got=repr(shape), do="The file was changed: restore it.",
        )  # fmt: skip
    return tuple(sizes)
