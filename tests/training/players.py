"""Tiny models that play, and a game that watches another one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from elboscope.core import seeded
from elboscope.models import GAN, Hybrid, mlp_avb, mlp_gan, mlp_hybrid
from elboscope.nn import mlp_discriminator
from elboscope.training import (
    AAE,
    AVB,
    VEEGAN,
    VGH,
    WAEGAN,
    WAEMMD,
    WGANGP,
    Game,
    GANGame,
    MatchedELBO,
    Turn,
    VGHPlusPlus,
)


def data(n: int = 40, seed: int = 1) -> Tensor:
    with seeded(seed):
        return torch.rand(n, 6).round()


def gan(seed: int = 0) -> GAN:
    """With batch normalisation, for its buffers."""
    with seeded(seed):
        generator = nn.Sequential(nn.Linear(2, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 6))
        judge = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 1))
        return GAN(generator, nn.Sequential(judge, nn.Flatten(0)), latent_shape=(2,),
                   data_shape=(6,))  # fmt: skip


def critic(seed: int = 0) -> GAN:
    with seeded(seed):
        return mlp_gan((6,), 2, (8,), (8,))


def hybrid(*adversaries: str) -> Callable[..., Hybrid]:
    def build(seed: int = 0) -> Hybrid:
        with seeded(seed):
            return mlp_hybrid((6,), 2, (8,), adversaries, (8,), (8,))

    return build


def avb(seed: int = 0) -> Hybrid:
    with seeded(seed):
        return mlp_avb((6,), 2, (8,), 3, 4, (8,), (8,), 8)


GAMES: list[tuple[Game, Callable[..., nn.Module]]] = [
    (GANGame(), gan),
    (GANGame("reverse_kl"), gan),
    (WGANGP(critic_steps=2), critic),
    (AAE(), hybrid("code")),
    (WAEGAN(), hybrid("code")),
    (WAEMMD(), hybrid()),
    (VGH(), hybrid("data", "code")),
    (VGHPlusPlus(), hybrid("data", "code")),
    (AVB(), avb),
    (AVB(adaptive_contrast=False, adversary_steps=2), avb),
    (VEEGAN(), hybrid("joint")),
    (MatchedELBO(), hybrid("data")),
    (MatchedELBO(reconstruction_weight=1.0), hybrid("data")),
]
NAMES = [f"{type(game).__name__}-{i}" for i, (game, _) in enumerate(GAMES)]


@dataclass(frozen=True)
class Watched(Game):
    """Another game; calls ``before`` and ``after`` around each of its turns."""

    game: Game = field(default_factory=GANGame)
    before: Callable[[Turn], None] = lambda turn: None
    after: Callable[[Turn], None] = lambda turn: None

    def __getattribute__(self, name: str):  # type: ignore[no-untyped-def]
        if name in ("adversaries", "encodes", "columns", "players", "rate"):
            return getattr(object.__getattribute__(self, "game"), name)
        return object.__getattribute__(self, name)

    def turns(self, model: nn.Module, x: Tensor, epoch: float) -> Iterator[Turn]:
        for turn in self.game.turns(model, x, epoch):
            self.before(turn)
            yield turn
            self.after(turn)


class Judge(nn.Module):
    """A given function as an adversary, which keeps what it was shown."""

    def __init__(self, logit: Callable[..., Tensor]) -> None:
        super().__init__()
        self.logit, self.shown = logit, []
        self.scale = nn.Parameter(torch.ones((), dtype=torch.float64))

    def forward(self, *given: Tensor) -> Tensor:
        self.shown.append(given)
        return self.scale.to(given[0].dtype) * self.logit(*given)


def judged(model: nn.Module, **logits: Callable[..., Tensor]) -> nn.Module:
    """Replaces a model's adversaries by given functions."""
    model.adversaries = nn.ModuleDict({name: Judge(f) for name, f in logits.items()})
    return model


def flat_judge() -> nn.Module:
    return mlp_discriminator((6,), (8,))
