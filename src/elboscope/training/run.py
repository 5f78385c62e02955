r"""Training, from data to a run folder.

All randomness comes from one seed: minibatches follow from (seed, epoch), noise from a random
state that checkpoints carry. Hence a run that was killed and resumed gives the numbers of one
that was not, bit for bit on a CPU with the same number of threads.
"""

from __future__ import annotations

__all__ = ["TrainingResult", "train"]

import json
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Literal, cast

from torch import Tensor, nn

from elboscope.core import (
    Bound,
    ImplicitGenerator,
    InputError,
    LatentVariableModel,
    Sampled,
    seeded,
)
from elboscope.core.errors import blamed_on, require
from elboscope.core.files import expanded
from elboscope.data import Binarisation
from elboscope.objectives import ELBO, Objective

from .checkpoint import trainable_module
from .data import Minibatch, TrainingData, minibatches, prepare_data
from .games.base import Game
from .games.step import Played, adversarial_step, game_optimizer
from .loop import take_steps
from .metrics import Row, open_tracker, reporting
from .recorded import Recorded, begin, finish
from .run_folder import Run, RunFolder, open_run, run_record
from .settings import TrainingSettings
from .steps import (
    Launcher,
    SingleDevice,
    Step,
    TrainingInterrupted,
    adam,
    fit,
    interruptible,
    lagging_inference_step,
    objective_step,
    random_minibatches,
)

PARTS: tuple[Literal["encoder", "decoder"] | None, ...] = (None, "encoder", "decoder")


@dataclass(frozen=True)
class TrainingResult:
    """A trained model and how it came about.

    Attributes:
        model: The model that was given, in evaluation mode, with the weights to use.
        history: The rows of ``metrics.csv``.
        status: "finished", "stopped early at epoch …" or "diverged at step …".
        folder: The run folder, if there is one.
        notes: What was left out, a sentence each.
    """

    model: Sampled
    history: list[Row]
    status: str
    folder: Path | None = None
    notes: tuple[str, ...] = ()

    @property
    def diverged(self) -> bool:
        """Whether the loss or the weights became NaN or infinite."""
        return self.status.startswith("diverged")


def train(
    model: Sampled,
    x_train: object,
    settings: TrainingSettings | None = None,
    folder: str | PathLike[str] | None = None,
    *,
    x: object = None,
    condition_train: Tensor | None = None,
    condition: Tensor | None = None,
    binarisation: Binarisation | None = None,
    resume: bool = False,
    progress: Callable[[int, int], None] | bool | None = None,
    config: str = "",
    about: Mapping[str, object] | None = None,
    launcher: Launcher | None = None,
) -> TrainingResult:
    r"""Trains a model in place by Adam on an objective, and records the run.

    The weights that remain are the last ones, or with ``patience`` those of the highest held-out
    ELBO (at β = 1, counted from the end of warm-up). The history's ``train_bound`` is a mean over
    an epoch during which the parameters moved: not the bound of the final model.

    Args:
        model: Any model of ``nn.Module`` networks; its device and dtype are followed.
        x_train: Training data ``(N, *X)``: a Tensor, array, Dataset or DataLoader.
        settings: Epochs, batch size, objective, learning rate, …
        folder: The run folder; ``None`` leaves nothing on disk and cannot be resumed.
        x: Held-out data; ``None`` holds out ``settings.validation_fraction`` of x_train.
        condition_train: One row per training datapoint, for ``model.given``.
        condition: One row per held-out datapoint.
        binarisation: How grey values become binary; ``None`` leaves the data as they are.
        resume: Continue the run in the folder from its last checkpoint.
        progress: Called with the epochs done and their number; True shows a bar with nats and
            samples per second on standard error.
        config: Text of ``config.yaml``.
        about: More entries of ``run.json``, such as the data set's name.
        launcher: Owns device and backward pass; ``None`` is the one device of the model.

    Returns:
        The model, its history, and how training ended. A run whose loss becomes NaN or
        infinite ends as "diverged at step …", with the last finite weights saved.

    Raises:
        InputError: Data, folder, model or settings do not fit together.
        TrainingInterrupted: Ctrl-C, SIGTERM or SIGHUP came; the state was saved first.

    Example:
        >>> import torch, elboscope as es
        >>> model = es.from_modules(nn.Linear(3, 4), nn.Linear(2, 3))
        >>> x_train = torch.tensor([[0.0, 1.0, 1.0]]).repeat(100, 1)
        >>> result = train(model, x_train, TrainingSettings(epochs=2, learning_rate=0.1))
        >>> result.status, [row["epoch"] for row in result.history]
        ('finished', [1.0, 2.0])
    """
    settings = TrainingSettings() if settings is None else settings
    binarisation = Binarisation("none") if binarisation is None else binarisation
    _require_kinds(settings, binarisation, folder, progress, config, about, launcher, resume)
    if isinstance(settings.objective, Game):
        _require_playable(settings, condition_train)
        settings.objective.players(model)  # raises before anything is written
    else:
        _require_bounded(model, settings)
    module = _place(trainable_module(model), settings)
    _require_batches(module, settings)
    data = prepare_data(
        model, x_train, settings, binarisation,
        x=x, condition_train=condition_train, condition=condition,
    )  # fmt: skip
    record = _record(model, settings, binarisation, data) | dict(about or {})
    launcher = launcher or SingleDevice(data.x_train.device)
    with ExitStack() as stack:
        run_folder = None
        if folder is not None:
            run_folder = stack.enter_context(open_run(folder, resume=resume))
        stack.enter_context(seeded(settings.seed))
        stop = stack.enter_context(interruptible())
        run = _run(model, module, settings, data, run_folder, record, launcher)
        begin(run, resume=resume, config=config)
        notes = _warnings(record)
        events = run_folder.path if run_folder and settings.tensorboard else None
        track = stack.enter_context(open_tracker(events, run.state.step, notes))
        reporter = stack.enter_context(reporting(settings.epochs, progress))
        for note in notes:
            reporter.note(note)
        step = _step(run, binarisation, launcher)
        batches = minibatches(
            data.x_train, settings.batch_size, settings.seed,
            condition=data.condition_train, binarisation=binarisation, start=run.state.step,
        )  # fmt: skip
        status = take_steps(Recorded(run, fit(step, batches), reporter, track), stop)
        finish(run, status if status != "interrupted" else f"interrupted by {stop.reason}")
    where = None if run_folder is None else run_folder.path
    if status == "interrupted":
        raise TrainingInterrupted(stop.reason, run.state.step, run.epoch, where)
    return TrainingResult(model, run.history, status, where, tuple(notes))


def _require_kinds(
    settings: object,
    binarisation: object,
    folder: object,
    progress: object,
    config: object,
    about: object,
    launcher: object,
    resume: object,
) -> None:
    """Refuses what could only fail later, in words about something else, or half-way through."""
    fits = isinstance(settings, TrainingSettings)
    require("settings", fits, "training.TrainingSettings(epochs=10, …)", settings)
    expected = "a Binarisation such as data.Binarisation('fixed')"
    require("binarisation", isinstance(binarisation, Binarisation), expected, binarisation)
    path = folder is None or isinstance(folder, str | PathLike)
    require("folder", path, "the path of a run folder, or None", folder)
    shows = progress is None or isinstance(progress, bool) or callable(progress)
    require("progress", shows, "True, False, None or a function of (done, total)", progress)
    require("config", isinstance(config, str), "the text of a config.yaml", config)
    require("resume", isinstance(resume, bool), "True or False", resume)
    require("about", isinstance(about, Mapping | None), "a mapping, or None", about)
    with blamed_on("about", "values that JSON can hold", "Use numbers, texts, lists and mappings."):
        json.dumps(about)
    drives = launcher is None or all(hasattr(launcher, name) for name in ("setup", "backward"))
    require("launcher", drives, "a Launcher such as training.SingleDevice, or None", launcher)
    if isinstance(folder, str | PathLike):
        expanded(folder)


def _warnings(record: Mapping[str, object]) -> list[str]:
    """What the numbers of this run are not: each would be read as a bound otherwise."""
    found = []
    if not record["in_support"]:
        found.append(
            f"x lies outside the support of the {record['likelihood']} likelihood: its "
            "log p(x|z) is a cross-entropy, and no bound made of it is one on log p(x). Binarise "
            "x, or take another likelihood."
        )
    if "implied_decoder_variance" in record:
        found.append(
            "The bound of this KL weight is that of a Gaussian with σ² = "
            f"{record['implied_decoder_variance']:.4g}; the held-out ELBO is that of the model's "
            f"own {record['likelihood']} likelihood: compare them only where it is the same."
        )
    return found


def _place(module: nn.Module, settings: TrainingSettings) -> nn.Module:
    if settings.device is not None:
        do = "PyTorch names them: 'cpu', and 'cuda' where torch.cuda.is_available()."
        with blamed_on("device", f"a device that is here; not {settings.device!r}", do):
            module.to(settings.device)
            meta = any(p.is_meta for p in module.parameters())
            require("device", not meta, "a device that holds values", settings.device)
    if settings.compile:
        for network in module.children():
            network.compile()
    return module


def _require_playable(settings: TrainingSettings, condition_train: Tensor | None) -> None:
    """Refuses what has no meaning in a game."""
    watched = {"patience": settings.patience, "aggressive_epochs": settings.aggressive_epochs}
    for name, value in {**watched, "condition_train": condition_train}.items():
        if value is not None:
            raise InputError(
                name,
                expected=f"none for a game ({type(settings.objective).__name__})",
                got="a condition" if name == "condition_train" else repr(value),
                do="A game follows no bound that could be watched; train all epochs.",
            )


def _require_batches(module: nn.Module, settings: TrainingSettings) -> None:
    """Refuses one datapoint at a time where a layer normalises over the minibatch."""
    if settings.batch_size == 1 and any(isinstance(m, nn.BatchNorm1d) for m in module.modules()):
        raise InputError(
            "batch_size", expected="at least 2, for the model's batch normalisation", got="1"
        )


def _require_bounded(model: Sampled, settings: TrainingSettings) -> None:
    """Refuses a bound of a generator, which has no density of x."""
    if isinstance(model, ImplicitGenerator) and not isinstance(model, LatentVariableModel):
        raise InputError(
            "model",
            expected="an encoder and a likelihood, "
            f"without which there is no {type(settings.objective or ELBO()).__name__}",
            got=f"{type(model).__name__}, which generates only",
            do="Play a game instead: objective: GANGame, or WGANGP.",
        )


def _record(
    model: Sampled,
    settings: TrainingSettings,
    binarisation: Binarisation,
    data: TrainingData,
) -> dict[str, object]:
    sample = (
        binarisation.fixed_draw(data.x_train[:16])
        if binarisation.mode == "dynamic"
        else data.x_train
    )
    rows = data.condition_train
    objective = settings.objective or ELBO()
    return run_record(
        model, sample, settings, objective, binarisation, condition=rows, data=data.record
    )


def _step(
    run: Run, binarisation: Binarisation, launcher: Launcher
) -> Callable[[Minibatch], Bound | Played]:
    if isinstance(run.objective, Game):
        return adversarial_step(
            run.model, run.objective, run.optimizer, learning_rate=run.settings.rate,
            max_grad_norm=run.settings.max_grad_norm, backward=launcher.backward,
        )  # fmt: skip
    return _bounded_step(run, run.objective, binarisation, launcher)


def _bounded_step(
    run: Run, objective: Objective, binarisation: Binarisation, launcher: Launcher
) -> Step:
    """The objective's step, behind the encoder's own for the aggressive epochs."""
    settings, data, model = run.settings, run.data, cast(LatentVariableModel, run.model)
    step, encoder_step, decoder_step = (
        objective_step(
            model, objective, run.optimizer, learning_rate=settings.rate,
            max_grad_norm=settings.max_grad_norm, only=only, backward=launcher.backward,
        )
        for only in PARTS
    )  # fmt: skip
    if settings.aggressive_epochs is None:
        return step
    draw = random_minibatches(data.x_train, settings.batch_size, data.condition_train, binarisation)
    return lagging_inference_step(
        step, encoder_step, decoder_step, draw, settings.aggressive_epochs
    )


def _run(
    model: Sampled,
    module: nn.Module,
    settings: TrainingSettings,
    data: TrainingData,
    folder: RunFolder | None,
    record: dict[str, object],
    launcher: Launcher,
) -> Run:
    parameters = (p for p in module.parameters() if p.requires_grad)
    objective = settings.objective or ELBO()
    if isinstance(objective, Game):
        optimizer = game_optimizer(
            objective, model, settings.learning_rate, settings.betas, settings.eps
        )
    else:
        optimizer = adam(parameters, settings.learning_rate, settings.betas, settings.eps)
    placed, optimizer = launcher.setup(module, optimizer)
    return Run(model, placed, optimizer, objective, settings, data, folder, record)
