r"""Stochastic gradient descent that keeps the weights which scored best on other datapoints.

The weights at the start are a candidate too: a network that begins as a simple model (a density
as a Gaussian, a classifier as *no difference*) never ends worse than it on the part that
chooses. Where the score has stopped improving, the best weights come back and the rate is
halved; after a few such steps without gain the descent ends. Nothing is adapted on the part that
is reported.
"""

from __future__ import annotations

__all__ = ["Descent", "descend"]

import copy
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn


class Descent(NamedTuple):
    """How a descent ended.

    Attributes:
        score: Of the weights that were kept, the higher the better.
        steps: Gradient steps taken.
        best_step: After how many of them the kept weights were met.
        stopped: Whether the score had stopped improving; else the steps were used up.
    """

    score: float
    steps: int
    best_step: int
    stopped: bool


def descend(
    network: nn.Module,
    loss: Callable[[], Tensor],
    score: Callable[[], float],
    *,
    max_steps: int,
    learning_rate: float,
    betas: tuple[float, float] = (0.9, 0.999),
    check_every: int = 50,
    patience: int = 4,
    keep_best: bool = True,
) -> Descent:
    """Trains a network in place and leaves it in evaluation mode with the best weights.

    Args:
        network: What is trained.
        loss: Of a fresh minibatch; called in training mode with gradients.
        score: On the part that chooses; called in evaluation mode without.
        max_steps: Gradient steps at most.
        learning_rate: Adam's, halved at each check that brings no gain.
        betas: Adam's.
        check_every: Steps between two scores.
        patience: Checks in a row without gain that end the descent.
        keep_best: Keep the weights of the best score; else take all steps at one rate and keep
            the last weights.

    Returns:
        How it ended.
    """
    if not keep_best:
        check_every = max_steps
    adam = torch.optim.Adam(network.parameters(), lr=learning_rate, betas=betas)
    best, best_step, without_gain, step = _score(network, score), 0, 0, 0
    kept = copy.deepcopy(network.state_dict())
    while step < max_steps and without_gain < patience:
        many = min(check_every, max_steps - step)
        _steps(network, loss, adam, many)
        step += many
        value = _score(network, score)
        if value > best or not keep_best:
            best, best_step, without_gain = value, step, 0
            kept = copy.deepcopy(network.state_dict())
        else:
            without_gain += 1
            network.load_state_dict(kept)
            for group in adam.param_groups:
                group["lr"] /= 2
    network.load_state_dict(kept)
    return Descent(best, step, best_step, without_gain >= patience)


def _steps(
    network: nn.Module, loss: Callable[[], Tensor], adam: torch.optim.Adam, many: int
) -> None:
    network.train()
    with torch.enable_grad():
        for _ in range(many):
            adam.zero_grad(set_to_none=True)
            loss().backward()
            adam.step()


def _score(network: nn.Module, score: Callable[[], float]) -> float:
    network.eval()
    with torch.no_grad():
        return score()
