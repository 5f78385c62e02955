r"""Training of the models of one table entry: the same objective and schedule, one seed each.

The schedule is that of Burda et al. or its first epochs: Adam with ε = 10⁻⁴, minibatches of 20,
3^i epochs at the rate :math:`10^{-3} \cdot 10^{-i/7}`, i = 0 … 7: 3280 epochs.
"""

from __future__ import annotations

__all__ = ["Build", "Objective", "Schedule", "train_members"]

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import islice

import torch
from torch import Tensor, nn

from elboscope.core import Bound, LatentVariableModel, seeded
from elboscope.training.checkpoint import TrainingState, load_checkpoint, save_checkpoint
from elboscope.training.interruption import TrainingInterrupted, interruptible
from elboscope.training.minibatches import minibatches, steps_per_epoch
from elboscope.training.schedules import burda_rate
from elboscope.training.steps import adam, fit, objective_step

from .images import BINARISATION, Images
from .sitting import Sitting

Build = Callable[[Tensor], nn.Module]
"""From the training data to an untrained model, drawn from the ambient random state."""
Objective = Callable[[LatentVariableModel, Tensor], Bound]

SAVE_EVERY = 60.0


@dataclass(frozen=True)
class Schedule:
    """How long, and in which steps.

    Attributes:
        epochs: Passes over the training data; 3280 is the published schedule.
        batch_size: B.
        rate: Learning rate of the first stage.
        eps: Adam's ε.
    """

    epochs: int
    batch_size: int = 20
    rate: float = 1e-3
    eps: float = 1e-4

    def learning_rate(self, epoch: float) -> float:
        """Returns the rate at a time in epochs.

        Example:
            >>> round(Schedule(3280).learning_rate(3000.0), 6)
            0.0001
        """
        return self.rate * burda_rate(epoch)

    def record(self) -> dict[str, object]:
        """Returns what is saved beside a number."""
        return asdict(self)


def train_members(
    name: str,
    build: Build,
    objective: Objective,
    images: Images,
    schedule: Schedule,
    seeds: Sequence[int],
    now: Sitting,
    device: torch.device,
) -> list[LatentVariableModel]:
    """Returns one trained model a seed; what was trained in a sitting before is only read.

    Args:
        name: Of the entry; files of the state begin with it.
        build: Makes a model of the training data.
        objective: Its loss is followed.
        images: Training data.
        schedule: How long.
        seeds: Each gives initial weights, order of the data, and all draws.
        now: The sitting; its end is kept within a step.
        device: Where to train.

    Raises:
        Unfinished: The slice of time ended; the state is saved.
        TrainingInterrupted: Ctrl-C or SIGTERM; the state is saved.
    """
    x = images.train.to(device)
    return [_trained(name, build, objective, x, schedule, seed, now) for seed in seeds]


def _trained(
    name: str,
    build: Build,
    objective: Objective,
    x: Tensor,
    schedule: Schedule,
    seed: int,
    now: Sitting,
) -> LatentVariableModel:
    path = now.folder / f"{file_name(name)}-{seed}.safetensors"
    identity: Mapping[str, object] = {"schedule": schedule.record(), "seed": seed, "name": name}
    with seeded(derived_seed(name, seed)), interruptible() as stop:
        model = build(x).to(x.device)
        optimizer = adam(model.parameters(), schedule.rate, eps=schedule.eps)
        found = path.is_file()
        state = load_checkpoint(path, model, optimizer, identity) if found else TrainingState()
        T = steps_per_epoch(len(x), schedule.batch_size)
        total, saved = schedule.epochs * T, time.monotonic()
        assert isinstance(model, LatentVariableModel)
        step = objective_step(
            model,
            lambda model, x, epoch: objective(model, x),
            optimizer,
            learning_rate=schedule.learning_rate,
        )
        batches = minibatches(
            x, schedule.batch_size, seed, binarisation=BINARISATION, start=state.step
        )
        now.say(f"{name}, seed {seed}: training", state.step, total)
        for _ in islice(fit(step, batches), total - state.step):
            state.step += 1
            ends = bool(stop.reason) or now.is_over or state.step == total
            if ends or time.monotonic() - saved > SAVE_EVERY:
                save_checkpoint(path, model, optimizer, state, identity)
                saved = time.monotonic()
                now.say(f"{name}, seed {seed}: training", state.step, total)
            if stop.reason:
                raise TrainingInterrupted(stop.reason, state.step, state.step / T, now.folder)
            if state.step < total:
                now.require_time(f"{name}, seed {seed}, epoch {state.step / T:.2f}")
    return model


def file_name(name: str) -> str:
    """Returns a name that is a file's on any system.

    Example:
        >>> file_name("mnist, 1 layer, CIWAE β=0.5")
        'mnist-1-layer-CIWAE-b0.5'
    """
    kept = "".join(c if c.isascii() and (c.isalnum() or c in ".-") else " " for c in _latin(name))
    return "-".join(kept.split())


def _latin(name: str) -> str:
    return name.replace("β=", "b").replace("=", "")


def derived_seed(name: str, seed: int) -> int:
    """Returns a seed for one purpose, so that no two entries share their draws.

    Example:
        >>> derived_seed("VAE", 0) == derived_seed("IWAE", 0)
        False
    """
    digest = hashlib.sha256(f"{name} {seed}".encode()).digest()
    return int.from_bytes(digest[:7], "big")
