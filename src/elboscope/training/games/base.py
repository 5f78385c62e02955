r"""Games as settings: players with losses of their own, who move in turns.

A game is a frozen dataclass with a generator function ``turns(model, x, epoch)``, which yields one
:class:`Turn` after the other; the next is computed after the last was stepped. A turn moves the
parameters of its player and of no one else: an adversary learns from detached draws, and its
weights stand still while others learn from it.

A model that plays carries its adversaries in ``model.adversaries``, by name. The encoder's
parameters are those that a draw of q(z|x) is computed from; the generator's are the rest.

No loss of a game is a bound on log p(x), and none is reported as one. Beside each loss stands the
accuracy of the adversary: ½ is one that sees nothing, 1 one whose ratio is beyond its means.
"""

from __future__ import annotations

__all__ = ["Game", "Turn", "adversary", "encoder_parameters", "require_weights", "require_words"]

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from elboscope.core import (
    InputError,
    LatentVariableModel,
    Sampled,
    evaluating,
    modules_of,
    reached_parameters,
    seeded,
)

NOTHING: Mapping[str, Tensor] = MappingProxyType({})


class Turn(NamedTuple):
    """One move of a game.

    Attributes:
        player: Whose loss it is; its column is ``PLAYER_loss``.
        loss: The scalar to minimise.
        observed: What else is written into the metrics, by column: detached scalars.
        moves: The players whose parameters move; the one of the loss by default.
        keep_graph: Whether the next turn uses the same forward pass.
    """

    player: str
    loss: Tensor
    observed: Mapping[str, Tensor] = NOTHING
    moves: tuple[str, ...] = ()
    keep_graph: bool = False


@dataclass(frozen=True, kw_only=True)
class Game(ABC):
    """What players do in a step.

    Args:
        adversary_rate: The adversaries' learning rate, as a multiple of ``learning_rate``.
    """

    adversary_rate: float = 1.0

    # Names in model.adversaries, whether an encoder plays, and the columns of the metrics.
    adversaries: ClassVar[tuple[str, ...]] = ()
    encodes: ClassVar[bool] = True
    columns: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        _require_positive(adversary_rate=self.adversary_rate)

    @abstractmethod
    def turns(self, model: Any, x: Float[Tensor, "B *X"], epoch: float) -> Iterator[Turn]:
        """Yields the turns of one minibatch, each after the one before was stepped."""

    def players(self, model: Sampled) -> Mapping[str, list[nn.Parameter]]:
        """Returns each player's trainable parameters, which no two of them share.

        Raises:
            InputError: An adversary of this game is missing.
        """
        theirs = {name: _trainable(self.adversary(model, name)) for name in self.adversaries}
        owned = {p for module in _carried(model).values() for p in module.parameters()}
        own = [p for m in modules_of(model) for p in _trainable(m) if p not in owned]
        if not self.encodes:
            return {"generator": own, **theirs}
        reached = encoder_parameters(model)
        encoder = [p for p in own if p in reached]
        generator = [p for p in own if p not in reached]
        return {"encoder": encoder, "generator": generator, **theirs}

    def adversary(self, model: object, name: str) -> nn.Module:
        """Returns an adversary of a model, by name.

        Raises:
            InputError: It has none of that name.
        """
        return adversary(model, name, type(self).__name__)

    def rate(self, player: str) -> float:
        """Returns the player's learning rate, as a multiple of ``learning_rate``."""
        return self.adversary_rate if player in self.adversaries else 1.0


def adversary(model: object, name: str, game: str) -> nn.Module:
    """Returns an adversary of a model, by name.

    Raises:
        InputError: It has none of that name.

    Example:
        >>> import elboscope as es
        >>> adversary(es.models.mlp_gan((6,), 2), "code", "AAE")
        Traceback (most recent call last):
        elboscope.core.errors.InputError: model: expected an adversary 'code', against which ...
    """
    found = _carried(model)
    if name not in found:
        raise InputError(
            "model",
            expected=f"an adversary {name!r}, against which {game} plays",
            got=f"adversaries {', '.join(map(repr, found))}" if found else "no adversaries",
            do=f"Build one of models.*_hybrid with adversaries=[{name}], or set "
            f"model.adversaries = nn.ModuleDict({{{name!r}: network}}).",
        )
    return found[name]


def _carried(model: object) -> dict[str, nn.Module]:
    return dict(getattr(model, "adversaries", {}))


def _trainable(module: nn.Module) -> list[nn.Parameter]:
    return [p for p in module.parameters() if p.requires_grad]


def encoder_parameters(model: Sampled) -> set[nn.Parameter]:
    """Returns the parameters from which a draw of q(z|x) is computed.

    Raises:
        InputError: The model has no encoder, does not tell its ``data_shape``, or its posterior
            is not reparameterised.

    Example:
        >>> import elboscope as es
        >>> model = es.models.mlp_hybrid((6,), 2, (8,), code_hidden=(8,))
        >>> encoder_parameters(model) == set(model.encoder.parameters())
        True
    """
    shape = getattr(model, "data_shape", None)
    if not isinstance(model, LatentVariableModel) or shape is None:
        raise InputError(
            "model",
            expected="an encoder, and data_shape, the shape of one datapoint",
            got=f"{type(model).__name__} without",
            do="Play a game of generators (GANGame, WGANGP), or build one of models.*_hybrid.",
        )
    with evaluating(model), seeded(0), torch.enable_grad():
        z = model.prior().sample()
        q = model.encode(z.new_zeros((1, *shape)))
        if not q.has_rsample:
            got = f"{type(q).__name__}, without rsample"
            raise InputError("encode(x)", expected="reparameterised draws", got=got)
        return reached_parameters(q.rsample())


def require_words(name: str, value: str, known: tuple[str, ...]) -> None:
    """Raises an InputError unless the word is known."""
    if value not in known:
        raise InputError(name, expected=f"one of {', '.join(known)}", got=repr(value))


def require_weights(**weights: float) -> None:
    """Raises an InputError unless each weight is a number that is not negative."""
    for name, value in weights.items():
        if not 0 <= value < float("inf"):
            raise InputError(name, expected="a finite number ≥ 0", got=repr(value))


def _require_positive(**values: float) -> None:
    for name, value in values.items():
        if not 0 < value < float("inf"):
            raise InputError(name, expected="a finite number > 0", got=repr(value))
