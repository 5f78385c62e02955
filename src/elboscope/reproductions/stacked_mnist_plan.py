"""What is trained on Stacked MNIST, and for how long, at each scale."""

from __future__ import annotations

__all__ = ["ENCODERS", "LEARNERS", "MODELS", "PLANS", "Model", "Pace", "StackedPlan"]

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

from elboscope.training.games_of_codes import Cost

from .result import Scale

Model = Literal["AVB", "VEEGAN", "VGH++", "VGH", "DCGAN"]
MODELS: tuple[Model, ...] = ("AVB", "VEEGAN", "VGH++", "VGH", "DCGAN")
ENCODERS: tuple[Model, ...] = MODELS[:-1]
LEARNERS: tuple[Model, ...] = ("AVB", "VEEGAN", "VGH++")


class Pace(NamedTuple):
    """How a model is trained.

    Attributes:
        steps: Rounds of its game.
        rate: Adam's, of encoder and generator.
        adversary_rate: That of the adversaries, as a multiple.
        batch_size: Images a step.
        weights: λ of encoder and generator, of the hybrids; w of the codes of VEEGAN twice.
        cost: Of a hybrid's reconstruction; the published one is an ℓ1 distance, which for some
            hundred steps is content with black images.
    """

    steps: int
    rate: float
    adversary_rate: float = 1.0
    batch_size: int = 64
    weights: tuple[float, float] = (10.0, 10.0)
    cost: Cost = "mean_absolute"


@dataclass(frozen=True)
class StackedPlan:
    """A scale.

    Attributes:
        num_train: Triples of training digits.
        num_test: Triples of test digits, to reconstruct.
        num_samples: Images that are classified at the end; a quarter of them on the way.
        seeds: Runs of each model.
        looks: On the way, evenly spaced, the last at the end.
        latents: d.
        maps: Of generator and encoder.
        discriminator_maps: Of the discriminator of data.
        joint_hidden: Features of VEEGAN's discriminator of pairs, whose maps are those of data.
        code_hidden: Of the discriminator of codes.
        avb_hidden: Widths of AVB's perceptrons; empty takes convolutions of the same maps.
        avb_adversary: Widths and features of AVB's adversary.
        paces: Of each model.
        stand_in: Whether small digits take the place of MNIST.
    """

    num_train: int
    num_test: int
    num_samples: int
    seeds: int
    looks: int
    latents: int
    maps: tuple[int, int]
    discriminator_maps: tuple[int, ...]
    joint_hidden: int
    code_hidden: tuple[int, ...]
    avb_hidden: tuple[int, ...]
    avb_adversary: tuple[tuple[int, ...], int]
    paces: Mapping[Model, Pace]
    stand_in: bool = False

    def measured(self, model: Model) -> list[int]:
        """Returns the steps after which a model is looked at.

        Example:
            >>> PLANS["smoke"].measured("DCGAN")
            [3, 6]
        """
        steps = self.paces[model].steps
        return [steps * (i + 1) // self.looks for i in range(self.looks)]


def _paces(steps: int, rate: float, batch_size: int) -> Mapping[Model, Pace]:
    usual = Pace(steps, rate, 1.0, batch_size)
    return dict.fromkeys(MODELS, usual) | {"VEEGAN": usual._replace(weights=(1.0, 1.0))}


PLANS: Mapping[Scale, StackedPlan] = {
    "smoke": StackedPlan(
        200, 60, 60, 2, 2, 4, (4, 4), (4, 4), 8, (8,), (8,), ((8,), 8), _paces(6, 1e-3, 16),
        stand_in=True,
    ),
    "cpu": StackedPlan(
        10_000, 10_000, 10_000, 1, 4, 20, (16, 32), (16, 32, 32), 64, (128, 128), (256, 256),
        ((128, 128), 128),
        {
            "AVB": Pace(3600, 1e-3, 1.0, 64),
            "VEEGAN": Pace(2000, 1e-3, 0.5, 32, (0.1, 0.1)),
            "VGH++": Pace(900, 1e-3, 1.0, 32, (0.1, 0.1), "likelihood"),
            "VGH": Pace(900, 1e-3, 1.0, 32, (0.1, 0.1), "likelihood"),
            "DCGAN": Pace(2000, 1e-3, 1.0, 32),
        },
    ),
    "paper": StackedPlan(
        50_000, 26_000, 26_000, 5, 20, 50, (32, 64), (8, 16, 32, 64, 64), 256,
        (1000, 1000, 1000), (), ((1024, 1024, 1024), 8192), _paces(100_000, 3e-4, 64),
    ),
}  # fmt: skip
