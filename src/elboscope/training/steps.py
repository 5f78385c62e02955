r"""The loop and its step: everything else in this package decides what to do between steps.

.. math:: \theta, \phi \leftarrow \mathrm{Adam}(\nabla\, \mathrm{loss}(x, t))

A step is a function of a minibatch that changes the parameters and returns the bound; ``fit``
takes steps. Nothing in here reads a number back from the device, so on an accelerator the
Python code runs ahead of the arithmetic.
"""

from __future__ import annotations

__all__ = ["Step", "adam", "fit", "objective_step"]

from collections.abc import Callable, Iterable, Iterator
from typing import Literal, TypeVar

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from elboscope.core import Bound, LatentVariableModel, evaluating, given, split_parameters

from .minibatches import Minibatch

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
        learning_rate: The rate at a time in epochs; ``None`` leaves the optimiser's.
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
