r"""The step of a game: each turn moves its players, and no one else, by one Adam.

.. code-block:: text

   for turn in game.turns(model, x, epoch):
       forget all gradients
       gradient of turn.loss with respect to the turn's parameters alone
       one step of the optimiser, which leaves parameters without a gradient as they are

There is one optimiser with a group of parameters, and a learning rate, for each player; moments
of those who do not move stand still too. So a checkpoint holds all players, and a resumed game is
the game itself. Networks are in training mode in every turn, as those of a plain step are: data
and fakes pass through an adversary in separate batches, so that their batch statistics never mix.
"""

from __future__ import annotations

__all__ = ["Played", "adversarial_step", "game_optimizer"]

from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.optim import Optimizer

from elboscope.core import InputError, Sampled

from ..data import Minibatch
from .base import Game, Turn

PLAYER = "player"


class Played(NamedTuple):
    """What one step of a game was.

    Attributes:
        measured: Each player's loss and what it observed, by column; the mean over its turns.
        loss: The sum of all: of no meaning, but a number as long as each of them is one.
    """

    measured: Mapping[str, Tensor]
    loss: Float[Tensor, ""]


def game_optimizer(
    game: Game,
    model: Sampled,
    learning_rate: float = 1e-3,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
) -> torch.optim.Adam:
    """Returns one Adam with a group of parameters for each player.

    Args:
        game: Says who plays, and at which multiple of the learning rate.
        model: With the adversaries of the game.
        learning_rate: Adam's, as all others.
        betas: Its decay rates; (0.5, 0.999) or (0.5, 0.9) are usual for games.
        eps: ε.

    Raises:
        InputError: An adversary of the game is missing.

    Example:
        >>> import elboscope as es
        >>> from elboscope.training import GANGame
        >>> optimizer = game_optimizer(GANGame(adversary_rate=2.0), es.models.mlp_gan((6,), 2))
        >>> [(group["player"], group["lr"]) for group in optimizer.param_groups]
        [('generator', 0.001), ('data', 0.002)]
    """
    groups = [
        {"params": parameters, PLAYER: player, "lr": learning_rate * game.rate(player)}
        for player, parameters in game.players(model).items()
        if parameters
    ]
    return torch.optim.Adam(groups, lr=learning_rate, betas=betas, eps=eps, fused=True)


def adversarial_step(
    model: Sampled,
    game: Game,
    optimizer: Optimizer,
    *,
    learning_rate: Callable[[float], float] | None = None,
    max_grad_norm: float | None = None,
    backward: Callable[..., None] = Tensor.backward,
) -> Callable[[Minibatch], Played]:
    """Returns the step that plays one round of a game on a minibatch.

    Args:
        model: The model, with its adversaries.
        game: The game that is played.
        optimizer: The optimiser that :func:`game_optimizer` returned.
        learning_rate: The learning rate at a time in epochs; ``None`` leaves the optimiser's.
        max_grad_norm: Rescale the gradient of a turn of larger Euclidean norm.
        backward: Computes the gradients of a loss.

    Raises:
        InputError: A turn reports other columns than its game announced.

    Example:
        >>> import elboscope as es
        >>> from elboscope.training import GANGame
        >>> gan, game = es.models.mlp_gan((6,), 2, (8,), (8,)), GANGame()
        >>> step = adversarial_step(gan, game, game_optimizer(game, gan))
        >>> sorted(step(Minibatch(torch.rand(5, 6), 0.1)).measured)
        ['data_accuracy', 'data_loss', 'generator_loss']
    """
    groups = {group[PLAYER]: group for group in optimizer.param_groups}

    def move(turn: Turn) -> None:
        names = turn.moves or (turn.player,)
        moved = [p for name in names if name in groups for p in groups[name]["params"]]
        optimizer.zero_grad(set_to_none=True)
        if not moved:  # all of them are frozen
            return
        backward(turn.loss, inputs=moved, retain_graph=turn.keep_graph)
        if max_grad_norm is not None:
            nn.utils.clip_grad_norm_(moved, max_grad_norm)
        optimizer.step()

    def step(batch: Minibatch) -> Played:
        if learning_rate is not None:
            for player, group in groups.items():
                group["lr"] = learning_rate(batch.epoch) * game.rate(player)
        seen: dict[str, list[Tensor]] = {}
        for turn in game.turns(model, batch.x, batch.epoch):
            move(turn)
            told = {f"{turn.player}_loss": turn.loss, **turn.observed}
            for name, value in told.items():
                seen.setdefault(name, []).append(value.detach())
        measured = {name: torch.stack(values).mean() for name, values in seen.items()}
        _require_columns(game, measured)
        losses = [value for name, value in measured.items() if name.endswith("_loss")]
        return Played(measured, torch.stack(losses).sum())

    return step


def _require_columns(game: Game, measured: Mapping[str, Tensor]) -> None:
    if set(measured) != set(game.columns):
        raise InputError(
            f"{type(game).__name__}.columns",
            expected=", ".join(sorted(measured)) + ", what its turns report",
            got=", ".join(sorted(game.columns)) or "none",
        )
