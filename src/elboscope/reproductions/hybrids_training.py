"""Training of one run in slices: a game or an objective, from a checkpoint to the last step.

A run that ended is kept as its weights alone, in ``model.safetensors`` of its folder; it is never
trained again, and its scores lie beside. Ctrl-C and SIGTERM save the state after the current step.
A run whose weights are no longer numbers ends as it was at its last whole checkpoint: in a sweep
that is a finding, and no reason to stop the rest.
"""

from __future__ import annotations

__all__ = ["trained_run"]

import json
from collections.abc import Callable
from pathlib import Path

import torch
from jaxtyping import Float
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from elboscope.core import seeded
from elboscope.training.atomic import replace_file
from elboscope.training.checkpoint import (
    TrainingState,
    load_checkpoint,
    save_checkpoint,
    weights,
)
from elboscope.training.interruption import Interruption, TrainingInterrupted, interruptible
from elboscope.training.minibatches import Minibatch, minibatches

from .hybrids_networks import Trained, optimizer_and_step
from .hybrids_plan import HybridsPlan, Setting
from .sitting import Sitting

CHECKPOINT, ENDED = "checkpoint.safetensors", "model.safetensors"
# Steps between two looks at the weights, at each of which the state is saved.
SAVED_EVERY = 500


def trained_run(
    setting: Setting,
    model: Trained,
    x: Float[Tensor, "N C H W"],
    plan: HybridsPlan,
    folder: Path,
    seed: int,
    now: Sitting,
) -> int:
    """Trains a model in place, or reads its weights.

    Args:
        setting: Which game, and its hyper-parameters.
        model: On the device of x.
        x: Training images.
        plan: How long.
        folder: Of this run.
        seed: Of the order of the images and of all draws.
        now: The sitting; at least one step is taken before it ends.

    Returns:
        The steps that its weights have seen: fewer than planned where it diverged.

    Raises:
        Unfinished: The slice of time ended; the state is saved.
        TrainingInterrupted: Ctrl-C or SIGTERM; the state is saved.
    """
    if (folder / ENDED).is_file():
        model.load_state_dict(load_file(folder / ENDED, device=str(x.device)))
        model.eval()
        return int(json.loads((folder / "steps.json").read_text(encoding="utf-8")))
    folder.mkdir(parents=True, exist_ok=True)
    with seeded(seed), interruptible() as stop:
        steps = _steps(setting, model, x, plan, folder, seed, now, stop)
        model.eval()
        now.keep(f"{folder.name}/steps.json", json.dumps(steps))
        replace_file(folder / ENDED, lambda aside: save_file(weights(model), aside))
        (folder / CHECKPOINT).unlink(missing_ok=True)
    if stop.reason:
        raise TrainingInterrupted(stop.reason, steps, _epoch(steps, setting, x, plan), folder)
    return steps


def _images_a_step(setting: Setting, plan: HybridsPlan) -> int:
    return plan.batch_size * (plan.critic_steps if setting.model == "WGAN-GP" else 1)


def _epoch(steps: int, setting: Setting, x: Tensor, plan: HybridsPlan) -> float:
    return steps * _images_a_step(setting, plan) / len(x)


def _steps(
    setting: Setting,
    model: Trained,
    x: Tensor,
    plan: HybridsPlan,
    folder: Path,
    seed: int,
    now: Sitting,
    stop: Interruption,
) -> int:
    optimizer, step = optimizer_and_step(setting, plan, model)
    identity = {"setting": setting.label, "seed": seed, "batch size": plan.batch_size}
    path, state = folder / CHECKPOINT, TrainingState()

    def keep() -> None:
        save_checkpoint(path, model, optimizer, state, identity)

    if path.is_file():
        state = load_checkpoint(path, model, optimizer, identity)
    else:
        keep()
    model.train()
    batches = minibatches(x, _images_a_step(setting, plan), seed, start=state.step)
    while state.step < plan.steps:
        if not _taken(step, next(batches), model):
            return load_checkpoint(path, model, optimizer, identity).step
        state.step += 1
        late = now.left <= 0 or bool(stop.reason)
        due = state.step % SAVED_EVERY == 0
        if not (late or due or state.step == plan.steps):
            continue
        if not _finite(model):
            return load_checkpoint(path, model, optimizer, identity).step
        now.say(f"{setting.label}: training", state.step, plan.steps)
        keep()
        if stop.reason and state.step < plan.steps:
            epoch = _epoch(state.step, setting, x, plan)
            raise TrainingInterrupted(stop.reason, state.step, epoch, folder)
        if late and state.step < plan.steps:
            raise now.unfinished(f"{setting.label}, step {state.step} of {plan.steps}")
    return state.step


def _taken(step: Callable[[Minibatch], object], batch: Minibatch, model: Trained) -> bool:
    """Takes a step; False where a distribution refused the NaN of weights that diverged."""
    try:
        step(batch)
    except ValueError:
        if _finite(model):
            raise
        return False
    return True


def _finite(module: nn.Module) -> bool:
    tensors = [t for t in module.state_dict().values() if t.is_floating_point()]
    return bool(torch.stack([t.isfinite().all() for t in tensors]).all())
