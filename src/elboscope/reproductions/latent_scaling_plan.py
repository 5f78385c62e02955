r"""The models of ``latent-scaling``: which data, how many latents, and how long they are trained.

The networks are those of Rosca et al.; between two models of a data set only the width of the
latent space changes: the encoder's last layer, the decoder's first, and the first of the code
discriminator. At the paper's scale an AAE with a wider code discriminator stands beside.
"""

from __future__ import annotations

__all__ = ["PLANS", "Pictures", "ScalingPlan", "Subject", "load_images"]

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from typing import NamedTuple

import torch
from jaxtyping import UInt8
from torch import Tensor

from elboscope.core import InputError
from elboscope.data import celeba
from elboscope.data.images import content_checksum

from .hybrid_course import BATCH_SIZE, BETAS, LEVELS, Kind
from .low_posterior_plan import load_pictures
from .options import Options
from .result import Scale

CODE_HIDDEN, WIDE_HIDDEN = (1000, 1000, 1000), (5000, 5000, 5000)
COLOUR, FACES = "ColorMNIST", "CelebA"


class Subject(NamedTuple):
    """One model.

    Attributes:
        data: "ColorMNIST" or "CelebA".
        kind: "VAE" or "AAE".
        latents: d.
        wide: Whether its code discriminator is the wider one.
    """

    data: str
    kind: Kind
    latents: int
    wide: bool = False

    @property
    def label(self) -> str:
        """In the tables."""
        more = ", wider discriminator" if self.wide else ""
        return f"{self.data}, {self.kind}{more}, {self.latents} latents"


@dataclass(frozen=True)
class ScalingPlan:
    """What a scale means.

    Attributes:
        latents: Sizes of the latent space.
        data: Data sets.
        num_train: Images trained on.
        num_images: N of the mixture, the first of them.
        steps: Of training, by data set.
        maps: Of the convolutions, by data set.
        code_hidden: Of the code discriminator.
        rate: Adam's.
        wide: Whether to train AAEs with a wider code discriminator too.
        stand_in: The data set in the place of ColorMNIST, if one is.
    """

    latents: tuple[int, ...]
    data: tuple[str, ...]
    num_train: int
    num_images: int
    steps: Mapping[str, int]
    maps: Mapping[str, tuple[int, ...]]
    code_hidden: tuple[int, ...] = CODE_HIDDEN
    rate: float = 3e-4
    wide: bool = False
    stand_in: str = ""

    @property
    def subjects(self) -> tuple[Subject, ...]:
        """The models, both kinds of a size side by side."""
        kinds: tuple[Kind, ...] = ("VAE", "AAE")
        plain = [Subject(a, k, d) for a, d, k in product(self.data, self.latents, kinds)]
        wide = [Subject(a, "AAE", d, wide=True) for a, d in product(self.data, self.latents)]
        return (*plain, *(wide if self.wide else ()))

    def record(self) -> dict[str, object]:
        """Returns what is saved beside a number."""
        own = ("num_train", "num_images", "rate")
        training = {"batch_size": BATCH_SIZE, "betas": list(BETAS), "steps": dict(self.steps)}
        lists = {"latents": list(self.latents), "code_hidden": list(self.code_hidden)}
        maps = {name: list(maps) for name, maps in self.maps.items()}
        return {name: getattr(self, name) for name in own} | training | lists | {"maps": maps}


PLANS: Mapping[Scale, ScalingPlan] = {
    "smoke": ScalingPlan(
        (3, 12), (COLOUR,), 128, 64, {COLOUR: 5}, {COLOUR: (2, 4)}, (8,), 1e-3,
        stand_in="color digits",
    ),
    "cpu": ScalingPlan(
        (10, 100, 1000), (COLOUR,), 8192, 1024, {COLOUR: 2000}, {COLOUR: (8, 16)}, (256, 256, 256),
        1e-3,
    ),
    "paper": ScalingPlan(
        (10, 100, 1000, 10_000), (COLOUR, FACES), 50_000, 5000, {COLOUR: 100_000, FACES: 200_000},
        {COLOUR: (32, 64), FACES: (64, 128, 256, 512)}, wide=True,
    ),
}  # fmt: skip


class Pictures(NamedTuple):
    """The images of a data set.

    Attributes:
        x: Grey values, 0 to 255.
        checksum: Of these.
    """

    x: UInt8[Tensor, "N 3 H W"]
    checksum: str


def load_images(data: str, plan: ScalingPlan, options: Options) -> Pictures:
    """Returns the images that are trained on.

    Raises:
        InputError: The data are neither there nor to be had, or too few.

    Example:
        >>> plan = PLANS["smoke"]
        >>> load_images("ColorMNIST", plan, Options()).x.shape
        torch.Size([128, 3, 8, 8])
    """
    if data == FACES:
        found = celeba(
            data_dir=options.data_dir, num_train=plan.num_train, num_test=1, num_validation=0
        )
        x = (found.train * LEVELS).round().to(torch.uint8)
    else:
        x = load_pictures(plan.stand_in or data, plan.num_train, options).bytes
    if len(x) < plan.num_images:
        expected = f"at least {plan.num_images} images"
        raise InputError(data, expected=expected, got=str(len(x)))
    return Pictures(x, content_checksum(x))
