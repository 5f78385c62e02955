"""A model small enough to train in a test, and an objective that needs nothing else.

Run as a program it trains in a folder, so that a test can kill it at any moment.
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.distributions import Bernoulli, Distribution, Independent, Normal

from elboscope.core import Bound, LatentVariableModel, log_weights, seeded
from elboscope.data import Binarisation
from elboscope.training import Objective, TrainingSettings, train


class SmallVAE(nn.Module):
    """Six pixels, two latent units, a batch normalisation (for its buffers)."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        with seeded(seed):
            self.encoder = nn.Sequential(
                nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Linear(8, 4)
            )
            self.decoder = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 6))

    def prior(self) -> Distribution:
        zero = torch.zeros(2)
        return Independent(Normal(zero, zero + 1), 1)

    def encode(self, x: Tensor) -> Distribution:
        mu, log_var = self.encoder(x).chunk(2, -1)
        return Independent(Normal(mu, (0.5 * log_var).exp()), 1)

    def decode(self, z: Tensor) -> Distribution:
        return Independent(Bernoulli(logits=self.decoder(z)), 1)


@dataclass(frozen=True)
class SampledELBO(Objective):
    warm_up: float = 0.0
    pause: float = 0.0

    def __call__(self, model: LatentVariableModel, x: Tensor, epoch: float) -> Bound:
        if self.pause:
            time.sleep(self.pause)
        value = log_weights(model, x, 1)[0]
        return Bound(value.detach(), -value.mean())

    def weight(self, epoch: float) -> float:
        return 1.0 if self.settled(epoch) else 0.5

    def settled(self, epoch: float) -> bool:
        return epoch >= self.warm_up


def grey(n: int = 50, seed: int = 1) -> Tensor:
    with seeded(seed):
        return torch.rand(n, 6)


def settings(**changes: object) -> TrainingSettings:
    base: dict[str, object] = {
        "epochs": 6,
        "batch_size": 8,
        "objective": SampledELBO(),
        "learning_rate": 0.01,
        "tensorboard": False,
        "patience": 5,
    }
    return TrainingSettings(**{**base, **changes})


if __name__ == "__main__":
    torch.set_num_threads(1)
    train(
        SmallVAE(),
        grey(),
        settings(epochs=int(sys.argv[2]), checkpoint_seconds=0.02, patience=1000,
                 objective=SampledELBO(pause=float(sys.argv[3]))),
        sys.argv[1],
        binarisation=Binarisation("dynamic"),
        resume="--resume" in sys.argv,
    )  # fmt: skip
