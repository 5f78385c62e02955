"""What the experiments on gaps share: what a scale means, a training, a row of the table.

Images are binary once, the ELBO is sampled for every family alike, and every value is one of the
same first training images.
"""

from __future__ import annotations

__all__ = ["IMAGES", "GapPlan", "gap_row", "trained"]

from typing import NamedTuple

import torch
from jaxtyping import Float64, UInt8
from torch import Tensor

from elboscope.data import Binarisation
from elboscope.models import VAE
from elboscope.training import ELBO

from .claims import difference
from .result import Row
from .sitting import Sitting
from .training import Schedule, train_to

IMAGES = "training images"


class GapPlan(NamedTuple):
    """What a scale means: training, images, samples, search, sizes.

    Attributes:
        data: Name of the data set.
        schedule: Of each training.
        num_seeds: Of the models that are compared.
        num_images: On which the gaps are measured.
        num_samples: K of every value.
        max_steps: Of the search for q*.
        num_temperatures: Of annealing, if log p̂ is also to be had by it.
        width: Of hidden layers.
        latents: d.
    """

    data: str
    schedule: Schedule
    num_seeds: int
    num_images: int
    num_samples: int = 5000
    max_steps: int = 400
    num_temperatures: int | None = None
    width: int = 200
    latents: int = 50

    def record(self) -> dict[str, object]:
        """Returns what is saved beside a number."""
        own = ("num_samples", "max_steps", "num_temperatures", "width", "latents")
        return self.schedule.record() | {name: getattr(self, name) for name in own}


def trained(
    name: str,
    model: VAE,
    x: UInt8[Tensor, "N *X"],
    plan: GapPlan,
    seed: int,
    now: Sitting,
    device: torch.device,
) -> VAE:
    """Returns the model after its training, of which frozen parameters take no part.

    Args:
        name: Of the model; its folder in the state is called after it.
        model: On the device.
        x: Binary training images.
        plan: How long.
        seed: Of the order of the data and of all draws.
        now: The sitting.
        device: Where to train.

    Raises:
        Unfinished: The slice of time ended; the state is saved.
        InputError: The training diverged.
    """
    train_to(
        plan.schedule.epochs, name, model, ELBO(analytic_kl=False), x, plan.schedule, seed, now,
        device, binarisation=Binarisation("none"),
    )  # fmt: skip
    return model


def gap_row(
    label: str,
    quantity: str,
    values: Float64[Tensor, "S n"],
    plan: GapPlan,
    runs: str = "seeds",
) -> Row:
    """Returns the mean of a value over runs and images, in nats.

    Args:
        label: Of what.
        quantity: Which.
        values: One per run and image.
        plan: Of the training.
        runs: What the S are.

    Example:
        >>> from elboscope.reproductions.training import Schedule
        >>> row = gap_row("VAE", "gap", torch.tensor([[1.0, 3.0]]).double(), GapPlan("", Schedule(1), 1, 2))
        >>> row.value, row.error, row.error_kind
        (2.0, 1.0, 'se over images')
    """  # noqa: E501
    S, n = values.shape
    ours = difference(values, torch.zeros_like(values))
    kind = "se over images" + (f" and {runs}" if S > 1 else "")
    return Row(
        label, quantity, ours.value, ours.error, kind, plan.schedule.epochs, plan.num_samples, n,
        per_seed=tuple(values.mean(1).tolist()),
    )  # fmt: skip
