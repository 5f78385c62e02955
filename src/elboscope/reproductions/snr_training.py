r"""The encoder's SNR while a model is trained: each objective on its own trajectory.

Every objective spends T = 64 samples a step, as M = T/K averages of K where it averages: VAE is
K = 1, M = 64. The gradient measured is the one that training follows, on one fixed minibatch of
test images, before the first step and after some epochs. Results are kept as they come, so that
a sitting that ends goes on where it stopped.
"""

from __future__ import annotations

__all__ = ["OBJECTIVES", "ORDER", "TrainingPlan", "snr_while_training"]

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from torch import Tensor

from elboscope.core import InputError, LatentVariableModel, seeded
from elboscope.estimators import gradient_snr
from elboscope.models import VAE
from elboscope.training.importance_objectives import CIWAE, IWAE, MIWAE, PIWAE
from elboscope.training.objective import Objective
from elboscope.training.slices import train_in_slices

from .images import BINARISATION
from .networks import burda_vae
from .sitting import Sitting
from .training import Schedule, file_name

BUDGET = 64
OBJECTIVES: Mapping[str, Objective] = {
    "VAE": MIWAE(64, 1),
    "θ: L_64, φ: L_1": PIWAE(64, 1),
    "θ: L_64, φ: L_8": PIWAE(8, 8),
    "MIWAE(8,8)": MIWAE(8, 8),
    "CIWAE β=0.5": CIWAE(64, 0.5),
    "IWAE": IWAE(64),
}
# The published order of the encoder's SNR, largest first.
ORDER = ("VAE", "θ: L_64, φ: L_1", "θ: L_64, φ: L_8", "IWAE")

Rows = dict[int, Mapping[str, Any]]


class TrainingPlan(NamedTuple):
    """What a scale means: images, measured epochs (the last ends training), seeds, draws."""

    num_train: int | None
    epochs: tuple[int, ...]
    num_seeds: int
    num_draws: int
    latents: int = 50
    hidden: tuple[int, ...] = (200, 200)

    @property
    def schedule(self) -> Schedule:
        """The steps of the training."""
        return Schedule(self.epochs[-1])


def snr_while_training(
    train: Tensor, x: Tensor, plan: TrainingPlan, seed: int, now: Sitting
) -> Mapping[str, Rows]:
    """Returns the encoder's row of every objective and measured epoch.

    Args:
        train: Training images.
        x: The minibatch at which gradients are measured.
        plan: How long, how many draws.
        seed: Of weights, data order and draws: the same for each objective.
        now: The sitting.

    Raises:
        Unfinished: The slice of time is over; the state is saved.
        TrainingInterrupted: Ctrl-C or SIGTERM.
    """
    return {
        name: _trajectory(name, objective, train, x, plan, seed, now)
        for name, objective in OBJECTIVES.items()
    }


def _trajectory(
    name: str,
    objective: Objective,
    train: Tensor,
    x: Tensor,
    plan: TrainingPlan,
    seed: int,
    now: Sitting,
) -> Rows:
    rows: Rows = {}
    with seeded(seed):
        model = burda_vae(train, plan.latents, plan.hidden).to(train.device)
    for epoch in plan.epochs:
        path = now.folder / f"{_file(name, seed)}-{epoch}.json"
        if not path.is_file():
            if epoch:
                _train_to(epoch, name, objective, model, train, plan.schedule, seed, now)
            now.say(f"{name}, seed {seed}: drawing gradients", epoch, plan.epochs[-1])
            now.keep(path.name, json.dumps(_measured(name, objective, model, x, plan, seed)))
        rows[epoch] = json.loads(path.read_text(encoding="utf-8"))
    return rows


def _measured(
    name: str,
    objective: Objective,
    model: LatentVariableModel,
    x: Tensor,
    plan: TrainingPlan,
    seed: int,
) -> Mapping[str, Any]:
    named = {name: lambda model, x, K: objective(model, x, 0.0)}
    found = gradient_snr(model, x, named, BUDGET, plan.num_draws, seed=seed)
    return found.find(name, BUDGET, "encoder").to_row()


def _train_to(
    epoch: int,
    name: str,
    objective: Objective,
    model: VAE,
    train: Tensor,
    schedule: Schedule,
    seed: int,
    now: Sitting,
) -> None:
    """Trains, or restores, the model up to the end of an epoch."""

    def tell(done: int, bounds: list[float]) -> None:
        now.say(f"{name}, seed {seed}: training, bound {bounds[0]:.2f}", done, schedule.epochs)

    run = train_in_slices(
        model,
        objective,
        train,
        now.folder / _file(name, seed),
        epochs=epoch,
        batch_size=schedule.batch_size,
        seed=seed,
        learning_rate=schedule.rate,
        eps=schedule.eps,
        binarisation=BINARISATION,
        slice_seconds=max(now.left, 0.0),
        progress=tell,
    )
    if run.diverged:
        do = "Another --seed, and a report of this one, would help."
        raise InputError(name, expected="a training that stays finite", got=run.status, do=do)
    if not run.finished:
        raise now.unfinished(f"{name}, seed {seed}, epoch {run.epoch:.2f} of {schedule.epochs}")


def _file(name: str, seed: int) -> str:
    latin = name.replace("θ", "theta").replace("φ", "phi")
    return f"{file_name(latin)}-{seed}"
