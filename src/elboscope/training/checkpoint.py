"""The whole state of training in one file, so that a resumed run is the run itself.

A checkpoint holds the weights, the best weights so far, the optimiser's state, the random states
(as bytes), the unfinished epoch's bounds and losses, and the counters. It is one safetensors
file: tensors by name, scalars as JSON in its header. Being one file it is replaced in one
rename, so its parts are always of the same moment. Nothing is pickled.
"""

from __future__ import annotations

__all__ = [
    *("TrainingState", "disk_errors", "load_checkpoint", "save_checkpoint", "trainable_module"),
    "weights",
]

import errno
import json
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.optim import Optimizer

from elboscope.core import InputError, modules_of
from elboscope.core.errors import first_line
from elboscope.core.files import readable, replace_file, require_same

SCALARS = ("step", "seconds", "epoch_seconds", "best", "best_step", "misses", "num_rows")


@dataclass
class TrainingState:
    """What changes from step to step beside parameters, optimiser and random state.

    Attributes:
        step: Steps taken.
        seconds: Time spent, all sittings together.
        epoch_seconds: Time spent on steps of the unfinished epoch.
        best: Highest held-out bound since warm-up ended, in nats.
        best_step: When.
        misses: Evaluations since.
        num_rows: Rows of ``metrics.csv`` written.
        best_weights: The weights at ``best_step``; empty where none are kept.
        values: The bounds of the unfinished epoch, a tensor a step.
        losses: Its losses, a scalar a step.
    """

    step: int = 0
    seconds: float = 0.0
    epoch_seconds: float = 0.0
    best: float = -math.inf
    best_step: int = 0
    misses: int = 0
    num_rows: int = 0
    best_weights: dict[str, Tensor] = field(default_factory=dict)
    values: list[Tensor] = field(default_factory=list)
    losses: list[Tensor] = field(default_factory=list)


def trainable_module(model: object) -> nn.Module:
    """Returns the one module that holds a model's parameters.

    Raises:
        InputError: There is nothing to train.

    Example:
        >>> trainable_module(nn.Linear(1, 2))
        Linear(in_features=1, out_features=2, bias=True)
    """
    modules = modules_of(model)
    module = modules[0] if len(modules) == 1 else nn.ModuleList(modules)
    if not any(p.requires_grad for p in module.parameters()):
        raise InputError(
            "model",
            expected="an nn.Module with parameters that require gradients",
            got=f"{type(model).__name__} without any",
            do="Keep the networks as attributes of the model; unfreeze with requires_grad_(True).",
        )
    return module


def weights(module: nn.Module) -> dict[str, Tensor]:
    """Returns a copy of a module's parameters and buffers, by name."""
    state = module.state_dict()
    return {
        name: value.detach().clone(memory_format=torch.contiguous_format)
        for name, value in state.items()
        if isinstance(value, Tensor)
    }


def save_checkpoint(
    path: Path,
    module: nn.Module,
    optimizer: Optimizer,
    state: TrainingState,
    identity: Mapping[str, object],
) -> None:
    """Writes everything that a resumed run needs.

    Args:
        path: The file, replaced atomically.
        module: Weights.
        optimizer: Its state is flattened to ``optimizer.PARAMETER.NAME``.
        state: Counters, best weights, unfinished epoch.
        identity: What must not change between sittings: settings, data.
    """
    tensors = {f"model.{k}": v for k, v in weights(module).items()}
    tensors |= {f"best.{k}": v for k, v in state.best_weights.items()}
    tensors |= _optimizer_tensors(optimizer)
    tensors |= {f"random.{k}": v for k, v in _random_states(module).items()}
    if state.losses:
        tensors["epoch.values"] = torch.cat(state.values)
        tensors["epoch.losses"] = torch.stack(state.losses)
    scalars = {name: getattr(state, name) for name in SCALARS}
    header = {"state": json.dumps(scalars), "identity": json.dumps(identity)}
    with disk_errors(path):
        replace_file(path, lambda aside: save_file(tensors, aside, metadata=header))


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turns what safetensors raises where a disk is full into the error that it is.

    Example:
        >>> with disk_errors(Path("a.safetensors")):
        ...     raise SafetensorError("No space left on device")
        Traceback (most recent call last):
        OSError: [Errno 5] No space left on device: 'a.safetensors'
    """
    try:
        yield
    except SafetensorError as error:
        raise OSError(errno.EIO, first_line(error), str(path)) from error


def _optimizer_tensors(optimizer: Optimizer) -> dict[str, Tensor]:
    return {
        f"optimizer.{index}.{name}": torch.as_tensor(value).detach().clone()
        for index, entries in optimizer.state_dict()["state"].items()
        for name, value in entries.items()
    }


def _random_states(module: nn.Module) -> dict[str, Tensor]:
    states = {"cpu": torch.get_rng_state()}
    device = next(module.parameters()).device
    return states | ({"cuda": torch.cuda.get_rng_state(device)} if device.type == "cuda" else {})


def load_checkpoint(
    path: Path,
    module: nn.Module,
    optimizer: Optimizer,
    identity: Mapping[str, object],
) -> TrainingState:
    """Puts module, optimiser and ambient random state back where a checkpoint left them.

    Raises:
        InputError: The file is damaged, or of other settings, data or another model.
    """
    device = next(module.parameters()).device
    tensors, header = _read(path)
    try:
        saved, scalars = (dict(json.loads(header[name])) for name in ("identity", "state"))
        state = TrainingState(**scalars)
    except (KeyError, ValueError, TypeError, RecursionError) as error:
        raise _damaged(path, f"a header of another form ({first_line(error)})") from error
    begun = f"the run in {path.parent.parent}"
    do = "Resume with the same settings and data, or begin in another folder."
    require_same(saved, identity, begun, do)
    _load_weights(module, _part(tensors, "model."), path)
    try:
        _load_optimizer(optimizer, _part(tensors, "optimizer."))
        _load_random(_part(tensors, "random."), device)
    except (KeyError, ValueError, TypeError, RuntimeError) as error:
        raise _damaged(path, f"other tensors than it writes ({first_line(error)})") from error
    state.best_weights = {k: v.to(device) for k, v in _part(tensors, "best.").items()}
    if "epoch.losses" in tensors:
        state.values = [tensors["epoch.values"].to(device)]
        state.losses = list(tensors["epoch.losses"].to(device))
    return state


def _load_random(saved: Mapping[str, Tensor], device: torch.device) -> None:
    torch.set_rng_state(saved["cpu"])
    if "cuda" in saved and device.type == "cuda":
        torch.cuda.set_rng_state(saved["cuda"], device)


def _damaged(path: Path, got: str) -> InputError:
    return InputError(
        str(path),
        expected="a checkpoint of this program",
        got=got,
        do="The file was changed from outside: train again in another folder.",
    )


def _part(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    try:
        with safe_open(readable(path), framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise _damaged(path, first_line(error)) from error


def _load_weights(module: nn.Module, saved: Mapping[str, Tensor], path: Path) -> None:
    try:
        module.load_state_dict(saved)
    except RuntimeError as error:
        raise InputError(
            "model",
            expected=f"the model whose weights are in {path}",
            got=" ".join(str(error).split())[:200],
            do="Build the model as in the run's config.yaml.",
        ) from error


def _load_optimizer(optimizer: Optimizer, saved: Mapping[str, Tensor]) -> None:
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in saved.items():
        index, name = key.split(".", 1)
        state.setdefault(int(index), {})[name] = value
    optimizer.load_state_dict(optimizer.state_dict() | {"state": state})
