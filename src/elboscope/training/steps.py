r"""The loop and its step: everything else in this package decides what to do between steps.

.. math:: \theta, \phi \leftarrow \mathrm{Adam}(\nabla\, \mathrm{loss}(x, t))

A step is a function of a minibatch that changes the parameters and returns the bound; ``fit``
takes steps. Nothing in here reads a number back from the device, so on an accelerator the
Python code runs ahead of the arithmetic.
"""

from __future__ import annotations

__all__ = [
    "Interruption",
    "Launcher",
    "SingleDevice",
    "Step",
    "TrainingInterrupted",
    "adam",
    "fit",
    "interruptible",
    "lagging_inference_step",
    "objective_step",
    "random_minibatches",
]

import math
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, Literal, Protocol, TypeVar, runtime_checkable

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from elboscope.core import Bound, LatentVariableModel, evaluating, given, split_parameters
from elboscope.data import Binarisation

from .data import Minibatch

Step = Callable[[Minibatch], Bound]
R = TypeVar("R")


def fit(step: Callable[[Minibatch], R], batches: Iterable[Minibatch]) -> Iterator[R]:
    """Takes a step on each minibatch and yields its bound: the whole loop.

    The next minibatch is drawn when the next bound is asked for, so between two bounds the
    random state, the parameters and the optimiser belong together and can be saved.

    Example:
        >>> from elboscope.training import minibatches
        >>> batches = minibatches(torch.ones(4, 1), 2, seed=0)
        >>> step = lambda batch: Bound(batch.x[:, 0], batch.x.sum())
        >>> next(fit(step, batches)).loss
        tensor(2.)
    """
    for batch in batches:
        yield step(batch)


def adam(
    parameters: Iterable[nn.Parameter],
    learning_rate: float = 1e-3,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
) -> torch.optim.Adam:
    """Returns Adam with its fused kernel: one call for all parameters.

    Example:
        >>> adam([nn.Parameter(torch.zeros(1))]).defaults["fused"]
        True
    """
    return torch.optim.Adam(list(parameters), lr=learning_rate, betas=betas, eps=eps, fused=True)


def objective_step(
    model: LatentVariableModel,
    objective: Callable[[LatentVariableModel, Tensor, float], Bound],
    optimizer: Optimizer,
    *,
    learning_rate: Callable[[float], float] | None = None,
    max_grad_norm: float | None = None,
    only: Literal["encoder", "decoder"] | None = None,
    backward: Callable[..., None] = Tensor.backward,
) -> Step:
    """Returns the step that follows the gradient of an objective.

    Args:
        model: The model.
        objective: ``(model, x, epoch) -> Bound``; an ``encoder_loss`` is followed by the
            encoder's parameters alone, and the loss then by the rest.
        optimizer: Holds the parameters.
        learning_rate: The learning rate at a time in epochs; ``None`` leaves the optimiser's.
        max_grad_norm: Rescale gradients of a larger Euclidean norm.
        only: Move the encoder's parameters alone, or the rest alone.
        backward: Computes the gradients of a loss.

    Returns:
        The step; its bound is detached.

    Example:
        >>> import elboscope as es
        >>> from elboscope.training import Minibatch
        >>> model = es.models.LinearGaussian.instance_1()
        >>> def away(model, x, epoch):  # the distance of b from 0
        ...     return Bound(-(model.b**2).sum().expand(len(x)), (model.b**2).sum())
        >>> step = objective_step(model, away, torch.optim.SGD(model.parameters(), lr=0.5))
        >>> _ = step(Minibatch(torch.zeros(1, 3), 1.0))
        >>> model.b.tolist()
        [0.0, 0.0, 0.0]
    """
    groups = optimizer.param_groups
    parameters = [p for group in groups for p in group["params"]]
    apart: list[tuple[list[nn.Parameter], list[nn.Parameter]]] = []

    def step(batch: Minibatch) -> Bound:
        if learning_rate is not None:
            rate = learning_rate(batch.epoch)
            for group in groups:
                group["lr"] = rate
        optimizer.zero_grad(set_to_none=True)
        local = given(model, batch.condition)
        bound = objective(local, batch.x, batch.epoch)
        if bound.encoder_loss is None and only is None:
            backward(bound.loss)
        else:
            if not apart:  # traced once: the graph of later steps has the same leaves
                apart.append(_encoder_and_rest(local, batch.x))
            encoder, decoder = apart[0]
            if decoder and only != "encoder":  # one of the two may be frozen
                backward(bound.loss, inputs=decoder, retain_graph=only is None)
            if encoder and only != "decoder":
                own = bound.loss if bound.encoder_loss is None else bound.encoder_loss
                backward(own, inputs=encoder)
        if max_grad_norm is not None:
            nn.utils.clip_grad_norm_(parameters, max_grad_norm)
        optimizer.step()
        return Bound(bound.value.detach(), bound.loss.detach())

    return step


def _encoder_and_rest(
    model: LatentVariableModel, x: Tensor
) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    with evaluating(model):  # tracing must not count in a batch normalisation's statistics
        return split_parameters(model, x[:1])


# Ctrl-C, SIGTERM and SIGHUP end training between two steps, never within one.

NAMES = {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "SIGTERM", signal.SIGHUP: "SIGHUP"}


class TrainingInterrupted(KeyboardInterrupt):
    """Training was stopped from outside, after saving; the text says how to continue.

    Args:
        reason: "Ctrl-C", "SIGTERM" or "SIGHUP".
        step: Steps taken.
        epoch: The same in epochs.
        folder: Where the state was saved, if anywhere.
    """

    def __init__(self, reason: str, step: int, epoch: float, folder: Path | None) -> None:
        self.reason, self.step, self.epoch, self.folder = reason, step, epoch, folder
        where = (
            f"saved in {folder}. Continue with the same command and --resume, "
            "or the same call of train with resume=True."
            if folder
            else "not saved, for no folder was given."
        )
        super().__init__(f"Stopped by {reason} at epoch {epoch:.2f} (step {step}); {where}")


@dataclass
class Interruption:
    """Whether an end was asked for, and by what; empty while no one did."""

    reason: str = ""


@contextmanager
def interruptible() -> Iterator[Interruption]:
    """Notes a first Ctrl-C, SIGTERM or SIGHUP instead of raising; a second one raises at once.

    Outside the main thread signals cannot be caught, and they keep their usual meaning. SIGHUP
    stays ignored where it was (under ``nohup``).

    Example:
        >>> import os, signal
        >>> with interruptible() as stop:
        ...     os.kill(os.getpid(), signal.SIGINT)
        ...     stop.reason
        'Ctrl-C'
    """
    stop = Interruption()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def note(number: int, frame: FrameType | None) -> None:
        if stop.reason:
            raise KeyboardInterrupt
        stop.reason = NAMES[signal.Signals(number)]

    alone = signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    heard = [number for number in NAMES if not (alone and number == signal.SIGHUP)]
    before = {number: signal.signal(number, note) for number in heard}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)


# Aggressive training of the encoder: against an inference that lags behind the decoder.
#
# Early in training the decoder learns to do without z before q(z|x) has learnt to follow p(z|x):
# the encoder lags, its KL has nothing to show for it, and the code collapses. The remedy of He et
# al.: for the first epochs, before each step of the decoder, step the encoder alone on
# minibatches drawn at random, until the mean loss of ten steps no longer falls.
#
# The encoder's steps are taken by the same optimiser, whose moments of the decoder they leave
# alone. Their minibatches and noise come from the ambient random state, which checkpoints carry,
# so that a resumed run repeats them.
#
# References:
#     | Lagging Inference Networks and Posterior Collapse in Variational Autoencoders (He et al.,
#       2019), https://arxiv.org/abs/1901.05534

# He et al.: the loss is judged over ten steps, and there are at most a hundred.
WINDOW, MOST_STEPS = 10, 100


def lagging_inference_step(
    step: Step,
    encoder_step: Step,
    decoder_step: Step,
    draw: Callable[[float], Minibatch],
    epochs: float,
    *,
    most_steps: int = MOST_STEPS,
) -> Step:
    """Returns a step that lets the encoder catch up before the decoder moves, for some epochs.

    It is not stopped by the mutual information, as He et al. do, but by the clock: choose about
    as many epochs as it takes the held-out bound to settle. Each costs several ordinary ones.

    Args:
        step: The ordinary step, taken from then on.
        encoder_step: Moves the encoder alone: ``objective_step(…, only="encoder")``.
        decoder_step: Moves the rest alone.
        draw: Returns a random minibatch for the encoder, given the time in epochs.
        epochs: For how many epochs the encoder catches up first.
        most_steps: The most steps of the encoder for one of the decoder.

    Example:
        >>> taken = []
        >>> def named(name, loss):
        ...     return lambda batch: taken.append(name) or Bound(batch.x, torch.tensor(loss))
        >>> batch = Minibatch(torch.zeros(1), 0.5)
        >>> encoder, decoder = named("encoder", 1.0), named("decoder", 1.0)
        >>> step = lagging_inference_step(decoder, encoder, decoder, lambda epoch: batch, 1.0)
        >>> _ = step(batch)
        >>> taken.count("encoder"), taken[-1]  # twice ten: the loss did not fall
        (20, 'decoder')
    """

    def lagging(batch: Minibatch) -> Bound:
        if batch.epoch > epochs:
            return step(batch)
        _while_falling(lambda: encoder_step(draw(batch.epoch)).loss, most_steps)
        return decoder_step(batch)

    return lagging


def _while_falling(take: Callable[[], Tensor], most_steps: int) -> None:
    """Takes steps as long as the mean loss of one window is below that of the last."""
    before = math.inf
    for start in range(0, most_steps, WINDOW):
        losses = [take() for _ in range(min(WINDOW, most_steps - start))]
        mean = torch.stack(losses).mean().item()
        if not mean < before:
            return
        before = mean


def random_minibatches(
    x: Tensor, batch_size: int, condition: Tensor | None, binarisation: Binarisation
) -> Callable[[float], Minibatch]:
    """Returns a function of the time that draws B rows, from the ambient random state.

    Example:
        >>> draw = random_minibatches(torch.zeros(9, 2), 4, None, Binarisation("none"))
        >>> draw(0.5).x.shape
        torch.Size([4, 2])
    """

    def draw(epoch: float) -> Minibatch:
        rows = torch.randint(len(x), (min(batch_size, len(x)),)).to(x.device)
        batch = binarisation.batch(x.index_select(0, rows))
        return Minibatch(
            batch, epoch, None if condition is None else condition.index_select(0, rows)
        )

    return draw


# The one place that owns device, optimiser set-up and the backward pass.
#
# ``SingleDevice`` has the three members of lightning-fabric's ``Fabric`` that the loop uses, by
# the same names, so that a ``Fabric`` can stand in its place and the loop runs on several
# processes as it is.


@runtime_checkable
class Launcher(Protocol):
    """What the loop asks of whoever places the work."""

    @property
    def device(self) -> torch.device:
        """Where data and parameters live."""
        ...

    def setup(self, module: nn.Module, optimizer: Optimizer) -> Any:
        """Returns the pair, placed and wrapped as needed."""
        ...

    def backward(self, tensor: Tensor, **options: Any) -> None:
        """Computes gradients; ``options`` are those of :meth:`torch.Tensor.backward`."""
        ...


@dataclass(frozen=True)
class SingleDevice:
    """One device in this process.

    Example:
        >>> SingleDevice(torch.device("cpu")).device
        device(type='cpu')
    """

    device: torch.device

    def setup(self, module: nn.Module, optimizer: Optimizer) -> tuple[nn.Module, Optimizer]:
        """Returns the pair as it is: the module was moved before the optimiser was built."""
        return module, optimizer

    def backward(self, tensor: Tensor, **options: Any) -> None:
        """Calls ``tensor.backward``."""
        tensor.backward(**options)
