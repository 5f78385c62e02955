"""What a scale of ``bounds-over-training`` means: networks, steps, looks, seeds."""

from __future__ import annotations

__all__ = ["PLANS", "BoundsPlan", "Data", "load_data"]

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from jaxtyping import UInt8
from torch import Tensor

from elboscope.data import color_digits, color_mnist
from elboscope.data.images import content_checksum
from elboscope.estimators import RatioClassifier

from .hybrid_course import BATCH_SIZE, BETAS, LEVELS
from .options import Options
from .result import Scale


@dataclass(frozen=True)
class BoundsPlan:
    """What a scale means.

    Attributes:
        num_train: Images trained on.
        num_images: N of the mixture, the first of them.
        num_test: Test images on which values are taken; as many draws for VEEGAN.
        steps: Of training.
        every: Steps between two looks.
        seeds: Runs of each model.
        latents: d.
        maps: Of encoder and decoder.
        code_hidden: Of the AAE's discriminator.
        joint_maps: Of VEEGAN's.
        classifier: The one trained beside, at the end.
        rate: Adam's.
        stand_in: Whether small digits stand for MNIST's.
    """

    num_train: int
    num_images: int
    num_test: int
    steps: int
    every: int
    seeds: int
    latents: int
    maps: tuple[int, int]
    code_hidden: tuple[int, ...] = (1000, 1000, 1000)
    joint_maps: tuple[int, int] = (64, 128)
    classifier: RatioClassifier = field(default_factory=RatioClassifier)
    rate: float = 3e-4
    stand_in: bool = False

    @property
    def looks(self) -> range:
        """Steps after which values are taken."""
        return range(self.every, self.steps + 1, self.every)

    def record(self) -> dict[str, object]:
        """Returns what is saved beside a number."""
        own = ("num_images", "num_test", "steps", "every", "seeds", "latents", "rate")
        lists = {name: list(getattr(self, name)) for name in ("maps", "code_hidden", "joint_maps")}
        training = {"batch_size": BATCH_SIZE, "betas": list(BETAS)}
        return {name: getattr(self, name) for name in own} | training | lists


PLANS: Mapping[Scale, BoundsPlan] = {
    "smoke": BoundsPlan(
        128, 64, 48, 6, 2, 2, 3, (2, 4), (8,), (2, 4),
        RatioClassifier((8,), max_steps=5), 1e-3, stand_in=True,
    ),
    "cpu": BoundsPlan(
        8192, 512, 256, 320, 40, 3, 10, (4, 8), (128, 128, 128), (8, 16),
        RatioClassifier((128, 128), max_steps=400), 1e-3,
    ),
    "paper": BoundsPlan(50_000, 20_000, 2000, 100_000, 5000, 3, 50, (32, 64)),
}  # fmt: skip


class Data(NamedTuple):
    """Images of both parts.

    Attributes:
        train: Grey values, 0 to 255.
        test: Of other digits.
        checksum: Of both.
    """

    train: UInt8[Tensor, "N 3 H W"]
    test: UInt8[Tensor, "n 3 H W"]
    checksum: str


def load_data(plan: BoundsPlan, options: Options) -> Data:
    """Returns triples of digits.

    Raises:
        InputError: MNIST is neither there nor to be had.

    Example:
        >>> data = load_data(PLANS["smoke"], Options())
        >>> len(data.train), len(data.test)
        (128, 48)
    """
    if plan.stand_in:
        found = color_digits(plan.num_train, plan.num_test)
    else:
        found = color_mnist(options.data_dir, num_train=plan.num_train, num_test=plan.num_test)
    train, test = ((LEVELS * x).round().to(torch.uint8) for x in (found.train, found.test))
    return Data(train, test, content_checksum(train, test))
