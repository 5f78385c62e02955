"""Eight Gaussians on a ring: who plays learns all of its modes, in a minute."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from elboscope.core import generated, seeded
from elboscope.models import mlp_avb, mlp_gan, mlp_hybrid
from elboscope.training import AVB, VEEGAN, Game, GANGame, TrainingSettings, VGHPlusPlus, train

MODES, RADIUS, WIDTH = 8, 2.0, 0.1
WIDE = (64, 64)


def centres() -> Tensor:
    angle = 2 * math.pi * torch.arange(MODES) / MODES
    return RADIUS * torch.stack([angle.cos(), angle.sin()], 1)


def ring(n: int) -> Tensor:
    return centres()[torch.randint(MODES, (n,))] + WIDTH * torch.randn(n, 2)


def hybrid(*adversaries: str) -> nn.Module:
    return mlp_hybrid((2,), 2, WIDE, adversaries, WIDE, WIDE, likelihood="gaussian", scale=WIDTH)


def gan() -> nn.Module:
    return mlp_gan((2,), 2, WIDE, WIDE, output="linear")


def avb() -> nn.Module:
    """Its posterior begins as wide as the prior, for rates that learn in a minute."""
    return mlp_avb(
        (2,), 2, WIDE, 4, 8, (32,), WIDE, 64, shift=0.0, likelihood="gaussian", scale=WIDTH
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("game", "build", "near", "epochs", "rate"),
    [
        (GANGame(), gan, 0.6, 50, 1e-3),
        (VGHPlusPlus(1.0, 1.0, "absolute"), lambda: hybrid("data", "code"), 0.6, 50, 1e-3),
        (VEEGAN(), lambda: hybrid("joint"), 0.5, 50, 1e-3),
        (AVB(), avb, 0.5, 80, 4e-3),
    ],
    ids=["GAN", "VGH++", "VEEGAN", "AVB"],
)
def test_all_modes_are_learnt(
    game: Game, build: Callable[[], nn.Module], near: float, epochs: int, rate: float
) -> None:
    """All 8 modes get their samples; of the uniform on their disc 0.3 would be so near to one."""
    with seeded(0):
        x, model = ring(4000), build()
    settings = TrainingSettings(
        epochs=epochs, batch_size=100, objective=game, learning_rate=rate, betas=(0.5, 0.9),
        validation_fraction=0.0, tensorboard=False,
    )  # fmt: skip
    assert train(model, x, settings).status == "finished"
    with seeded(1), torch.no_grad():
        made = generated(model, model.prior().sample((2000,)))
    distance, mode = torch.cdist(made, centres()).min(1)
    good = distance < 5 * WIDTH
    counts = torch.bincount(mode[good], minlength=MODES)
    assert (counts > 0.02 * good.sum()).all()
    assert good.double().mean() > near
