"""The images of a reproduction of hybrids: trained on, compared with, reconstructed; a classifier.

Data that nothing was trained on have two parts. Samples are compared with the first; the second
is reconstructed, since a reconstruction lies near *its* datapoint whatever the model.
"""

from __future__ import annotations

__all__ = ["HybridImages", "load_hybrid_images"]

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import interpolate

from elboscope.classifiers import classifier_for
from elboscope.core import InputError, seeded
from elboscope.data import Images, celeba, cifar10, color_digits, color_mnist
from elboscope.data.color_mnist import NUM_TRAIN
from elboscope.data.images import content_checksum
from elboscope.estimators.sample_scores import Reference, reference_of

from .hybrids_plan import HybridsPlan
from .options import Options
from .training import derived_seed

# Pictures that are looked at together, by neighbours and by the Fréchet distance.
NEIGHBOURS = 10_000
SMOKE_SIDES = {"large digits": 32, "larger digits": 64}


class HybridImages(NamedTuple):
    """Images in [0, 1].

    Attributes:
        train: Trained on.
        compared: Held out, to compare samples with.
        reconstructed: Held out, to reconstruct.
        reference: The compared ones with their classifier's features; None where no classifier
            of them is at hand.
        checksum: Of all.
    """

    train: Float[Tensor, "N C H W"]
    compared: Float[Tensor, "M C H W"]
    reconstructed: Float[Tensor, "R C H W"]
    reference: Reference | None
    checksum: str

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of an image."""
        colours, height, width = self.train.shape[1:]
        return colours, height, width


def load_hybrid_images(
    plan: HybridsPlan, options: Options, seed: int, device: torch.device
) -> HybridImages:
    """Returns the images of a plan, on a device.

    Args:
        plan: Which, and how many.
        options: Where the data are.
        seed: Of the order in which images are compared.
        device: Where they are used.

    Raises:
        InputError: The data are neither there nor to be had, or too few.

    Example:
        >>> plan = HybridsPlan("ColorMNIST", 20, 40, 10, 1, 1, 1e-3, (), (), (4, 8),
        ...                    stand_in="color digits")
        >>> found = load_hybrid_images(plan, Options(), 0, torch.device("cpu"))
        >>> len(found.compared), len(found.reconstructed), found.reference.label[:17]
        (40, 10, 'digits classifier')
    """
    images = _images(plan, options)
    needed = plan.num_compared + plan.num_samples
    if len(images.test) < needed:
        got = f"{len(images.test)} of {plan.data}"
        do = "Take the whole data set, or a smaller scale."
        raise InputError("test images", expected=f"{needed}", got=got, do=do)
    train = images.train[: plan.num_train].to(device)
    held_out = images.test[:needed].to(device)
    compared, others = held_out[: plan.num_compared], held_out[plan.num_compared :]
    return HybridImages(
        train, compared, others, _reference(compared, plan, seed), content_checksum(train, held_out)
    )


def _reference(compared: Tensor, plan: HybridsPlan, seed: int) -> Reference | None:
    try:
        classifier = classifier_for(tuple(compared.shape[1:]))
    except InputError:  # nobody packaged one for faces
        return None
    with seeded(derived_seed("compared", seed)) as used:
        most = min(NEIGHBOURS, plan.num_compared)
        return reference_of(compared, None, classifier, most, None, used)


def _images(plan: HybridsPlan, options: Options) -> Images:
    num_train, num_test = plan.num_train, plan.num_compared + plan.num_samples
    match plan.stand_in or plan.data:
        case "ColorMNIST":
            return color_mnist(
                options.data_dir, num_train=num_train or NUM_TRAIN, num_test=num_test
            )
        case "CIFAR-10":
            return cifar10(options.data_dir)
        case "CelebA":
            return celeba(
                data_dir=options.data_dir, num_train=num_train, num_test=num_test,
                num_validation=0,
            )  # fmt: skip
    digits = color_digits(num_train or num_test, num_test)
    side = SMOKE_SIDES.get(plan.stand_in)
    if side is None:
        return digits
    return Images(plan.stand_in, interpolate(digits.train, side), interpolate(digits.test, side),
                  source=digits.source, value_range=digits.value_range)  # fmt: skip
