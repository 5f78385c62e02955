r"""Long training in short sittings: the lean course of the reproductions.

Published runs take thousands of epochs of small networks. Nothing else is done here: the data
stay on the device, each step is replayed there (:mod:`elboscope.training.graphed`), the bound is
read once an epoch, a sitting ends after some minutes, and the next one continues it from a
checkpoint of a few megabytes; on a CPU bit for bit. A stack of S models
(:func:`elboscope.models.stack`) trains as one, each member on its own shuffling and noise.

There is no validation and no early stopping here: see :func:`elboscope.training.train`.
"""

from __future__ import annotations

__all__ = ["Slice", "SlicedRun", "train_in_slices"]

import json
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from os import PathLike
from pathlib import Path

import torch
from jaxtyping import Float64, Shaped
from torch import Tensor, nn

from elboscope.core import Bound, InputError, LatentVariableModel, data_id, seeded
from elboscope.core.files import only_process, replace_file
from elboscope.data import Binarisation
from elboscope.nn import num_members

from .checkpoint import TrainingState, load_checkpoint, save_checkpoint, trainable_module
from .graphed import GraphedStep, captured
from .loop import take_steps
from .settings import burda_rate
from .steps import TrainingInterrupted, interruptible


@dataclass(frozen=True)
class Slice:
    """Where a run stands after a sitting.

    Attributes:
        status: "finished", "to be continued", or "diverged …" and what did.
        epoch: Passes over the data done, all sittings together.
        step: Steps done.
        seconds: Time spent, all sittings together.
        bounds: The mean bound of each finished epoch and member, in nats, ``(E, S)``; the
            parameters moved while it was taken.
    """

    status: str
    epoch: float
    step: int
    seconds: float
    bounds: Float64[Tensor, "E S"]

    @property
    def finished(self) -> bool:
        """Whether nothing remains to be done."""
        return self.status == "finished"

    @property
    def diverged(self) -> bool:
        """Whether a bound or a weight became NaN or infinite."""
        return self.status.startswith("diverged")


def train_in_slices(
    model: LatentVariableModel,
    objective: Callable[[LatentVariableModel, Tensor, float], Bound],
    x_train: Shaped[Tensor, "N *X"],
    folder: str | PathLike[str],
    *,
    epochs: int,
    batch_size: int = 20,
    seed: int = 0,
    learning_rate: float = 1e-3,
    schedule: Callable[[float], float] = burda_rate,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-4,
    binarisation: Binarisation | None = None,
    slice_seconds: float = 480.0,
    checkpoint_seconds: float = 60.0,
    progress: Callable[[int, list[float]], None] | None = None,
) -> Slice:
    r"""Trains for one sitting, continuing the run in the folder if there is one.

    Call it until the answer is ``finished``. By default the settings are those of Burda et al.:
    Adam with ε = 1e-4, minibatches of 20, a rate of 1e-3·10^{−i/7} for 3^i epochs. An epoch takes
    ⌊N/B⌋ steps; the few datapoints left over are others in each epoch.

    Args:
        model: A model of ``nn.Module`` networks, or a stack of S; trained in place.
        objective: ``(model, x, epoch) -> Bound``, such as :class:`~elboscope.training.IWAE`. A
            weight that moves, such as that of :class:`~elboscope.training.AnnealedEntropy`, is
            asked for in the middle of each epoch and stays for all of it; a function without a
            ``weight`` must not change with the epoch.
        x_train: Training data, on the device of the model. Bytes are grey values 0 … 255, made
            [0, 1]; floating values are taken as they are.
        folder: Where the run is kept.
        epochs: Passes over the data, all sittings together.
        batch_size: B, of each member.
        seed: Random seed of the shuffling and of all noise; member s is shuffled with seed + s.
        learning_rate: Adam's rate.
        schedule: Its factor at a time in epochs, asked once an epoch.
        betas: Adam's decay rates.
        eps: Adam's ε, against the gradient of one member's mean bound.
        binarisation: By default dynamic: x ~ Bernoulli(grey), afresh in each minibatch.
        slice_seconds: A sitting's length. At least one step is taken.
        checkpoint_seconds: Time between two savings at an epoch's end; the end always saves.
        progress: Called after each epoch with its number and each member's mean bound.

    Returns:
        Where the run stands. After a divergence the weights of the last checkpoint are put back.

    Raises:
        InputError: Fewer datapoints than a minibatch; another model, data or setting than the
            run in the folder was begun with.
        TrainingInterrupted: Ctrl-C or SIGTERM came; the state was saved first.

    References:
        | Importance Weighted Autoencoders (Burda et al., 2016), https://arxiv.org/abs/1509.00519

    Example:
        >>> import tempfile, torch, elboscope as es
        >>> model = es.models.mlp_vae((6,), 2, (8,))
        >>> x_train = torch.full((40, 6), 51, dtype=torch.uint8)
        >>> run = train_in_slices(model, es.training.IWAE(5), x_train, tempfile.mkdtemp(),
        ...                       epochs=3)
        >>> run.status, run.step, run.bounds.shape
        ('finished', 6, torch.Size([3, 1]))
    """
    began = time.monotonic()
    path, binarisation = Path(folder), binarisation or Binarisation("dynamic")
    _check(x_train, epochs, batch_size)
    module = trainable_module(model)
    members = num_members(module)
    optimizer = torch.optim.Adam(
        [p for p in module.parameters() if p.requires_grad],
        lr=torch.full((), learning_rate, device=x_train.device),
        betas=betas,
        eps=eps,
        fused=True,
        capturable=x_train.device.type == "cuda",
    )
    identity = {
        "objective": _name(objective),
        "members": members,
        "batch size": batch_size,
        "seed": seed,
        "learning rate": learning_rate,
        "schedule": _name(schedule),
        "betas": list(betas),
        "eps": eps,
        "binarisation": str(binarisation),
        "data": data_id(x_train),
    }
    path.mkdir(parents=True, exist_ok=True)
    with only_process(path), seeded(seed), interruptible() as stop:
        module.train()
        step = GraphedStep(model, objective, optimizer, x_train, batch_size, members, binarisation)
        run = SlicedRun(path, step, module, identity, seed, epochs,
                   lambda epoch: learning_rate * schedule(epoch), began,
                   slice_seconds, checkpoint_seconds, progress)  # fmt: skip
        run.restore()
        if not run.state.step:
            run.save()
        run.saved_at = time.monotonic()
        status = take_steps(run, stop)
        module.eval()
    if stop.reason and not status.startswith("diverged"):  # after the last step too
        raise TrainingInterrupted(stop.reason, run.state.step, run.epoch, path)
    bounds = torch.tensor(run.rows, dtype=torch.float64).reshape(-1, members)
    return Slice(status, run.epoch, run.state.step, run.state.seconds, bounds)


def _name(function: object) -> str:
    """A text that is the same in every process, which the repr of a function is not."""
    if isinstance(function, partial):
        return f"{_name(function.func)} {function.args} {function.keywords}"
    return str(getattr(function, "__qualname__", repr(function)))


def _check(x: Tensor, epochs: int, batch_size: int) -> None:
    if not 1 <= batch_size <= len(x):
        raise InputError("batch_size", expected=f"1 to {len(x)}, the data", got=str(batch_size))
    if epochs < 1:
        raise InputError("epochs", expected="at least 1", got=str(epochs))


# What happens between the steps of a sitting: epochs and savings.
#
# Nothing that is not finite is saved, so that a run that diverged stands where it was last whole.
# Bounds go to ``bounds.json`` before the checkpoint that counts them: of a process killed between
# the two, the rows too many are cut off.

CHECKPOINT, BOUNDS = "checkpoint.safetensors", "bounds.json"


@dataclass
class SlicedRun:
    """A run in progress, as the loop sees it: its step, its past, when to save and to stop.

    Attributes:
        identity: What may not change between two sittings.
        rate: The learning rate at a time in epochs.
        began: When this sitting began, on the monotonic clock.
        rows: The members' mean bounds of each finished epoch.
        earlier: Seconds spent in earlier sittings.
        saved_at: When the last checkpoint was written.
        now: The time after the last step.
        replay: Takes the step; captured again when the objective's weight moves.
        weight: The weight that the captured step follows.
    """

    path: Path
    step: GraphedStep
    module: nn.Module
    identity: Mapping[str, object]
    seed: int
    epochs: int
    rate: Callable[[float], float]
    began: float
    slice_seconds: float
    checkpoint_seconds: float
    progress: Callable[[int, list[float]], None] | None
    state: TrainingState = field(default_factory=TrainingState)
    rows: list[list[float]] = field(default_factory=list)
    earlier: float = 0.0
    saved_at: float = 0.0
    now: float = 0.0
    replay: Callable[[], object] | None = None
    weight: float = math.nan

    @property
    def steps_per_epoch(self) -> int:
        """T."""
        return len(self.step.order)

    @property
    def epoch(self) -> float:
        """Training time, in epochs."""
        return self.state.step / self.steps_per_epoch

    @property
    def complete(self) -> bool:
        """Whether the epochs are over."""
        return self.state.step >= self.epochs * self.steps_per_epoch

    def over(self) -> str:
        """Returns "finished" once the epochs are over."""
        return "finished" if self.complete else ""

    def advance(self) -> bool:
        """Takes a step, on the order of its epoch."""
        if self.replay is None or self.state.step % self.steps_per_epoch == 0:
            _begin_epoch(self)
            if self.step.weight != self.weight:
                self.replay, self.weight = captured(self.step), self.step.weight
        assert self.replay is not None
        self.replay()
        return True

    def late(self) -> bool:
        """Whether the sitting's time is over; reads the clock."""
        self.now = time.monotonic()
        return self.now - self.began >= self.slice_seconds

    def due(self, ends_epoch: bool) -> bool:
        """Whether to save: after the last step, or by the clock at an epoch's end."""
        return self.complete or (ends_epoch and self.now - self.saved_at >= self.checkpoint_seconds)

    def fault(self, ends_epoch: bool, saves: bool) -> str:
        """Names members without a finite bound; weights are looked at before a saving."""
        if ends_epoch:
            bad = [str(s) for s, bound in enumerate(self._bounds()) if not math.isfinite(bound)]
            if bad:
                return f"no finite bound for member {', '.join(bad)}"
        tensors = [*self.step.parameters, self.step.sums]
        if saves and not bool(torch.stack([t.isfinite().all() for t in tensors]).all()):
            return "a weight is not finite"
        return ""

    def _bounds(self) -> list[float]:
        """Reads the epoch's bounds, the one time that the device is waited for."""
        bounds: list[float] = (self.step.sums / self.steps_per_epoch).tolist()
        return bounds

    def diverge(self, fault: str) -> str:
        """Puts the last saved state back; returns the status."""
        status = f"diverged before epoch {self.epoch:.2f}: {fault}"
        self.restore()
        return status

    def end_epoch(self) -> None:
        """Adds the epoch's bounds to the rows."""
        bounds = self._bounds()
        self.step.sums.zero_()
        self.rows.append(bounds)
        if self.progress is not None:
            self.progress(len(self.rows), bounds)

    def restore(self) -> None:
        """Puts everything back where the last saving left it, if there was one."""
        path = self.path / CHECKPOINT
        if not path.exists():
            return
        self.state = load_checkpoint(path, self.module, self.step.optimizer, self.identity)
        self.step.sums.copy_(self.state.values[0])
        rows = json.loads((self.path / BOUNDS).read_text(encoding="utf-8"))
        self.rows = rows[: self.state.num_rows]
        self.earlier = self.state.seconds

    def save(self) -> None:
        """Writes bounds and checkpoint."""
        state = self.state
        state.seconds = self.earlier + time.monotonic() - self.began
        state.num_rows = len(self.rows)
        state.values, state.losses = [self.step.sums.clone()], [torch.zeros(())]
        text = json.dumps(self.rows)
        replace_file(self.path / BOUNDS, lambda aside: aside.write_text(text, encoding="utf-8"))
        save_checkpoint(
            self.path / CHECKPOINT, self.module, self.step.optimizer, state, self.identity
        )
        self.saved_at = time.monotonic()


def _begin_epoch(run: SlicedRun) -> None:
    epoch, position = divmod(run.state.step, run.steps_per_epoch)
    run.step.time = epoch + 0.5
    run.step.shuffle(run.seed, epoch)
    run.step.position.fill_(position)
    for group in run.step.optimizer.param_groups:
        group["lr"].fill_(run.rate(float(epoch)))
