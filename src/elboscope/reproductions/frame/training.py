r"""Training of the models of one table entry: one objective and schedule, a stack of seeds.

The schedule is that of Burda et al. or its first epochs: Adam with ε = 10⁻⁴, minibatches of 20,
3^i epochs at the rate :math:`10^{-3} \cdot 10^{-i/7}`, i = 0 … 7: 3280 epochs. The seeds are
trained at once, as one stack (:func:`elboscope.models.stacked.stack`), in slices of time
(:func:`elboscope.training.slices.train_in_slices`); every scale takes this one path.
"""

from __future__ import annotations

__all__ = [
    "PUBLISHED_EPOCHS",
    "Build",
    "Schedule",
    "derived_seed",
    "file_name",
    "train_members",
    "train_to",
]

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import cast

import torch
from jaxtyping import Shaped
from torch import Tensor

from elboscope.core import InputError, LatentVariableModel, seeded
from elboscope.data import Binarisation
from elboscope.models import VAE
from elboscope.models.hierarchical import HierarchicalVAE
from elboscope.models.stacked import member, stack
from elboscope.training import Objective
from elboscope.training.slices import train_in_slices

from .images import BINARISATION, Images
from .sitting import Sitting

Build = Callable[[Tensor], VAE] | Callable[[Tensor], HierarchicalVAE]
"""From the training data to an untrained model, drawn from the ambient random state."""

PUBLISHED_EPOCHS = 3280


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

    def record(self) -> dict[str, object]:
        """Returns what is saved beside a number."""
        return asdict(self)

    @property
    def is_published(self) -> bool:
        """Whether it is as long as the published one."""
        return self.epochs == PUBLISHED_EPOCHS

    def remarks(self, num_seeds: int) -> tuple[str, ...]:
        """Returns what a reader must know of few seeds, and of fewer epochs than published."""
        notes = []
        if num_seeds == 1:
            notes.append("One seed: errors hold for these models, and not for another run.")
        if not self.is_published:
            done = f"{self.epochs} of the {PUBLISHED_EPOCHS} published epochs"
            notes.append(f"Trained for {done}: compare signs, not values.")
        return tuple(notes)


def train_members(
    name: str,
    build: Build,
    objective: Objective,
    images: Images,
    schedule: Schedule,
    seeds: Sequence[int],
    now: Sitting,
    device: torch.device,
) -> list[VAE | HierarchicalVAE]:
    """Returns one trained model a seed; what was trained in a sitting before is only read.

    Args:
        name: Of the entry; its folder in the state is called after it.
        build: Makes a model of the training data.
        objective: Its loss is followed.
        images: Training data.
        schedule: How long.
        seeds: Consecutive; each gives initial weights, order of the data, and all draws.
        now: The sitting; its end is kept within a step.
        device: Where to train.

    Raises:
        Unfinished: The slice of time ended; the state is saved.
        TrainingInterrupted: Ctrl-C or SIGTERM; the state is saved.
        InputError: The training diverged.
    """
    untrained = [_untrained(build, name, seed, images.train) for seed in seeds]
    models = stack(cast(Sequence[VAE], untrained)).to(device)  # or of the other kind, all alike

    train_to(
        schedule.epochs, name, models, objective, images.train, schedule, seeds[0], now, device
    )
    return [member(models, s) for s in range(len(seeds))]


def train_to(
    epoch: int,
    name: str,
    model: LatentVariableModel,
    objective: Objective,
    x: Shaped[Tensor, "N *X"],
    schedule: Schedule,
    seed: int,
    now: Sitting,
    device: torch.device,
    *,
    binarisation: Binarisation = BINARISATION,
) -> None:
    """Trains a model, or a stack, on the device up to the end of an epoch, or reads its weights.

    Ask for earlier epochs first: what has been trained further is not taken back.

    Args:
        epoch: At whose end to stop.
        name: Of the model; its folder in the state is called after it.
        model: On the device; its weights are replaced.
        objective: Its loss is followed.
        x: Training data.
        schedule: Its steps.
        seed: Random seed of the order of the data and of all draws.
        now: The sitting; its end is kept within a step.
        device: Where to train.
        binarisation: Of each minibatch; "none" for data that are binary.

    Raises:
        Unfinished: The slice of time ended; the state is saved.
        TrainingInterrupted: Ctrl-C or SIGTERM; the state is saved.
        InputError: The training diverged.
    """

    def tell(done: int, bounds: list[float]) -> None:
        now.say(f"{name}: training, bound {sum(bounds) / len(bounds):.2f}", done, schedule.epochs)

    now.say(f"{name}: training", 0, schedule.epochs)
    run = train_in_slices(
        model,
        objective,
        x.to(device),
        now.folder / file_name(name),
        epochs=epoch,
        batch_size=schedule.batch_size,
        seed=seed,
        learning_rate=schedule.rate,
        eps=schedule.eps,
        binarisation=binarisation,
        slice_seconds=max(now.left, 0.0),
        progress=tell,
    )
    if run.diverged:
        do = "Another --seed, and a report of this one, would help."
        raise InputError(name, expected="a training that stays finite", got=run.status, do=do)
    if not run.finished:
        raise now.unfinished(f"{name}, epoch {run.epoch:.2f} of {schedule.epochs}")


def _untrained(build: Build, name: str, seed: int, x: Tensor) -> VAE | HierarchicalVAE:
    with seeded(derived_seed(name, seed)):
        return build(x)


def file_name(name: str) -> str:
    """Returns a name that is a file's on any system.

    Example:
        >>> file_name("mnist, 1 layer, CIWAE β=0.5")
        'mnist-1-layer-CIWAE-b0.5'
    """
    latin = name.replace("β=", "b").replace("=", "")
    kept = (c if c.isascii() and (c.isalnum() or c in ".-") else " " for c in latin)
    return "-".join("".join(kept).split())


def derived_seed(name: str, seed: int) -> int:
    """Returns a seed for one purpose, so that no two entries share their draws.

    Example:
        >>> derived_seed("VAE", 0) == derived_seed("IWAE", 0)
        False
    """
    digest = hashlib.sha256(f"{name} {seed}".encode()).digest()
    return int.from_bytes(digest[:7], "big")
