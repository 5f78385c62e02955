"""What training is asked to do: plain numbers that a YAML file or a call can give."""

from __future__ import annotations

__all__ = ["TrainingSettings", "burda_rate", "constant"]

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from numbers import Integral, Real
from typing import Literal, get_args

from elboscope.core import InputError
from elboscope.core.errors import shown
from elboscope.objectives import Objective

from .games.base import Game

RateSchedule = Literal["constant", "burda"]


@dataclass(frozen=True)
class TrainingSettings:
    """Settings of one training run; every one is recorded in ``run.json``.

    Args:
        epochs: Passes over the training data.
        batch_size: Datapoints of one step.
        objective: What is maximised, or the game that is played; ``None`` is :class:`ELBO`.
        learning_rate: Adam's.
        rate_schedule: "constant", or "burda": times 10^{-i/7} in stages of 3^i epochs.
        betas: Adam's decay rates.
        eps: Adam's ε.
        max_grad_norm: Rescale gradients whose Euclidean norm is larger; ``None``: never.
        aggressive_epochs: Epochs at the start in which the encoder is stepped alone, until its
            loss no longer falls, before each step of the decoder (He et al., 2019): against an
            inference that lags behind and collapses. ``None``: none.
        seed: Seed of minibatches, noise, and the held-out part.
        validation_fraction: Part of the data held out where no validation data are given.
        validate_every: Epochs between two evaluations of the held-out bound.
        validation_samples: K per held-out datapoint.
        patience: Evaluations without improvement after which training ends, with the best
            weights kept; counted from the end of warm-up. ``None`` trains all epochs and keeps
            the last weights.
        checkpoint_seconds: The most work, in seconds, that a killed process loses.
        checkpoint_epochs: Save after so many epochs too; 0: by the clock only.
        device: "cpu", "cuda", "cuda:1"…; ``None``: where the model is.
        compile: Compile the model's networks (``torch.compile``): half a minute at the start for
            5–15 % a step on a CPU. The numbers differ in the last digits.
        tensorboard: Write TensorBoard events, where TensorBoard is installed.

    Raises:
        InputError: A value outside its range.

    Example:
        >>> TrainingSettings(epochs=3).batch_size
        100
        >>> TrainingSettings(epochs=0)
        Traceback (most recent call last):
        elboscope.core.errors.InputError: epochs: expected a whole number ≥ 1; got 0.
    """

    epochs: int = 50
    batch_size: int = 100
    objective: Objective | Game | None = None
    learning_rate: float = 1e-3
    rate_schedule: str = "constant"
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    max_grad_norm: float | None = None
    aggressive_epochs: float | None = None
    seed: int = 0
    validation_fraction: float = 0.1
    validate_every: int = 1
    validation_samples: int = 1
    patience: int | None = None
    checkpoint_seconds: float = 30.0
    checkpoint_epochs: int = 0
    device: str | None = None
    compile: bool = False
    tensorboard: bool = True

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "validate_every", "validation_samples"):
            value = getattr(self, name)
            _require(name, value, "a whole number ≥ 1", _is_whole(value) and 1 <= value < 2**63)
        whole = _is_whole(self.seed) and self.seed < 2**63
        _require("seed", self.seed, "a whole number below 2⁶³", whole)
        for name in ("learning_rate", "eps"):
            value = getattr(self, name)
            _require(name, value, "a number > 0", _is_number(value) and 0 < value < math.inf)
        for name in ("seed", "checkpoint_seconds", "checkpoint_epochs"):
            value = getattr(self, name)
            _require(name, value, "a number ≥ 0", _is_number(value) and value >= 0)
        for name in ("patience", "max_grad_norm", "aggressive_epochs"):
            value = getattr(self, name)
            holds = value is None or (_is_number(value) and value > 0)
            _require(name, value, "a number > 0, or none", holds)
        fraction = self.validation_fraction
        holds = _is_number(fraction) and 0 <= fraction < 1
        _require("validation_fraction", fraction, "a number in [0, 1)", holds)
        schedule, known = self.rate_schedule, get_args(RateSchedule)
        _require("rate_schedule", schedule, " or ".join(known), schedule in known)
        self._require_others()

    def _require_others(self) -> None:
        betas = self.betas
        pair = isinstance(betas, tuple | list) and len(betas) == 2
        holds = pair and all(_is_number(beta) and 0 <= beta < 1 for beta in betas)
        _require("betas", betas, "two numbers in [0, 1)", holds)
        for name in ("compile", "tensorboard"):
            value = getattr(self, name)
            _require(name, value, "true or false", isinstance(value, bool))
        device = self.device
        _require("device", device, "a text such as 'cuda', or none", isinstance(device, str | None))
        objective = self.objective
        expected = "an objective such as training.IWAE(5), a game, or none"
        _require("objective", objective, expected, isinstance(objective, Objective | Game | None))

    def rate(self, epoch: float) -> float:
        """Returns the learning rate at a time in epochs."""
        factor = burda_rate if self.rate_schedule == "burda" else constant
        return self.learning_rate * factor(epoch)

    def record(self) -> dict[str, object]:
        """Returns the settings as JSON-ready values, the objective by its name and values."""
        values = asdict(self)
        values["betas"] = list(self.betas)
        if self.objective is not None:
            values["objective"] = {
                "class": type(self.objective).__name__,
                **(values["objective"] if isinstance(values["objective"], Mapping) else {}),
            }
        return values


def _is_number(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


def _is_whole(value: object) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool)


def _require(name: str, value: object, expected: str, holds: bool) -> None:
    if not holds:
        raise InputError(name, expected=expected, got=shown(value))


# Learning rates as pure functions of training time, in epochs: a resumed run remembers nothing.

# Σ 3^i for i = 0 … 7: the passes over the data in Burda et al.
BURDA_STAGES = 8


def constant(epoch: float, value: float = 1.0) -> float:
    """Returns the value, whatever the time.

    Example:
        >>> constant(3.0, 0.5)
        0.5
    """
    return value


def burda_rate(epoch: float) -> float:
    r"""Returns the factor :math:`10^{-i/7}` of stage i, which lasts :math:`3^i` epochs.

    The stages i = 0 … 7 take 3280 epochs together; the last factor, 0.1, stays after them.

    References:
        | Importance Weighted Autoencoders (Burda et al., 2016), arXiv 1509.00519

    Example:
        >>> [round(burda_rate(t), 4) for t in (0.5, 1.0, 3.9, 4.0, 5000.0)]
        [1.0, 0.7197, 0.7197, 0.5179, 0.1]
    """
    ends = ((3 ** (i + 1) - 1) / 2 for i in range(BURDA_STAGES - 1))
    stage = sum(epoch >= end for end in ends)
    return math.pow(10.0, -stage / 7)
