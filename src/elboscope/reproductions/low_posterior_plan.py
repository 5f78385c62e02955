r"""What a scale of ``low-posterior-samples`` means: data, networks, training, draws.

Training is that of Rosca et al.: Adam with β = (0.5, 0.9), a fixed rate, minibatches of 64,
100 000 steps on ColorMNIST and 200 000 on CIFAR-10. A Bernoulli likelihood is a distribution over
binary images: each minibatch is drawn afresh from the grey values, and every likelihood is of one
draw of them, fixed by seed 0. QuantizedNormal takes the 256 levels as they are.
"""

from __future__ import annotations

__all__ = ["PLANS", "Experiment", "LowPlan", "Pictures", "load_pictures", "trained", "untrained"]

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from elboscope.core import InputError
from elboscope.data import Binarisation, cifar10, color_digits, color_mnist
from elboscope.data.color_mnist import NUM_TRAIN
from elboscope.data.images import content_checksum
from elboscope.models import VAE, start_at_mean
from elboscope.training import ELBO
from elboscope.training.slices import train_in_slices

from .options import Options
from .result import Scale
from .rosca_networks import color_mnist_vae, dcgan_vae
from .sitting import Sitting
from .training import file_name

Likelihood = Literal["bernoulli", "quantized_normal"]
SMOKE_SIDE = 32
BATCH_SIZE = 64
BETAS = (0.5, 0.9)
EPS = 1e-8
LEVELS = 255


class Experiment(NamedTuple):
    """One data set with its likelihood.

    Attributes:
        name: In the tables.
        data: "ColorMNIST" or "CIFAR-10", or what stands for it at the smoke scale.
        likelihood: p(x|z).
        epochs: Passes over the images.
        maps: Of the convolutions; more for CIFAR-10.
    """

    name: str
    data: str
    likelihood: Likelihood
    epochs: int
    maps: tuple[int, ...]

    @property
    def is_color_mnist(self) -> bool:
        """Whether the paper's claims are those of ColorMNIST."""
        return self.name.startswith("ColorMNIST")

    @property
    def binarisation(self) -> Binarisation:
        """What makes images data of this likelihood."""
        return Binarisation("dynamic" if self.likelihood == "bernoulli" else "none", seed=0)


@dataclass(frozen=True)
class LowPlan:
    """What a scale means.

    Attributes:
        experiments: Data sets.
        num_images: N, trained on and mixed into q_N; all if None.
        num_prior: S.
        num_low: n, samples of each kind.
        num_data: Datapoints of the histograms.
        num_samples: K of every ELBO.
        num_embedded: Prior and posterior draws on the map.
        latent_dim: d.
        rate: Adam's.
    """

    experiments: tuple[Experiment, ...]
    num_images: int | None
    num_prior: int
    num_low: int = 100
    num_data: int = 500
    num_samples: int = 100
    num_embedded: int = 1000
    latent_dim: int = 50
    rate: float = 3e-4

    def record(self) -> dict[str, object]:
        """Returns what is saved beside a number."""
        own = ("num_images", "num_prior", "num_low", "num_data", "num_samples", "latent_dim")
        training = {"rate": self.rate, "batch_size": BATCH_SIZE, "betas": list(BETAS)}
        networks = {e.name: f"{e.epochs} epochs, maps {e.maps}" for e in self.experiments}
        return {name: getattr(self, name) for name in own} | training | networks


FULL_COLOUR, FULL_DCGAN = (32, 64), (64, 128, 256)
PLANS: Mapping[Scale, LowPlan] = {
    "smoke": LowPlan(
        (
            Experiment("ColorMNIST", "color digits", "bernoulli", 3, (4, 8)),
            Experiment("CIFAR-10, QuantizedNormal", "large digits", "quantized_normal", 1,
                       (4, 4, 4)),
        ),
        200, 400, num_low=20, num_data=50, num_samples=5, num_embedded=30, latent_dim=4, rate=1e-3,
    ),
    "cpu": LowPlan(
        (
            Experiment("ColorMNIST", "ColorMNIST", "bernoulli", 12, (16, 32)),
            Experiment("CIFAR-10", "CIFAR-10", "bernoulli", 15, (16, 32, 64)),
            Experiment("CIFAR-10, QuantizedNormal", "CIFAR-10", "quantized_normal", 15,
                       (16, 32, 64)),
        ),
        8192, 100_000, num_samples=20, num_data=400, num_embedded=300, rate=1e-3,
    ),
    "paper": LowPlan(
        (
            Experiment("ColorMNIST", "ColorMNIST", "bernoulli", 128, FULL_COLOUR),
            Experiment("CIFAR-10", "CIFAR-10", "bernoulli", 256, FULL_DCGAN),
            Experiment("CIFAR-10, QuantizedNormal", "CIFAR-10", "quantized_normal", 256,
                       FULL_DCGAN),
        ),
        None, 100_000, num_data=2000, num_embedded=2000,
    ),
}  # fmt: skip


class Pictures(NamedTuple):
    """The images of an experiment.

    Attributes:
        name: Of the data set.
        bytes: The grey values, 0 to 255, ``(N, 3, H, W)``.
        checksum: Of these.
    """

    name: str
    bytes: UInt8[Tensor, "N 3 H W"]
    checksum: str

    @property
    def grey(self) -> Float[Tensor, "N 3 H W"]:
        """The values in [0, 1]."""
        return self.bytes.float() / LEVELS

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of an image."""
        colours, height, width = self.bytes.shape[1:]
        return colours, height, width


def load_pictures(name: str, num_images: int | None, options: Options) -> Pictures:
    """Returns the first training images of a data set, as bytes.

    Args:
        name: "ColorMNIST", "CIFAR-10"; "color digits" and "large digits" need no files.
        num_images: N; all if None.
        options: Where the data are.

    Raises:
        InputError: Another name; the data are neither there nor to be had.

    Example:
        >>> images = load_pictures("large digits", 20, Options())
        >>> images.shape, images.grey.mean().item() > 0.5
        ((3, 32, 32), True)
    """
    some = (_train(name, num_images, options)[:num_images] * LEVELS).round().to(torch.uint8)
    return Pictures(name, some, content_checksum(some))


def _train(name: str, num_images: int | None, options: Options) -> Tensor:
    match name:
        case "ColorMNIST":
            return color_mnist(
                options.data_dir, num_train=num_images or NUM_TRAIN, num_test=1
            ).train
        case "CIFAR-10":
            return cifar10(options.data_dir).train
        case "color digits":
            return color_digits(num_images or 200, 1).train
        case "large digits":
            digits = color_digits(num_images or 200, 1).train
            return 1 - torch.nn.functional.interpolate(digits, SMOKE_SIDE)
    expected = "'ColorMNIST', 'CIFAR-10', 'color digits' or 'large digits'"
    raise InputError("data", expected=expected, got=repr(name))


def untrained(experiment: Experiment, plan: LowPlan, images: Pictures) -> VAE:
    """Returns the model of an experiment, drawn from the ambient random state.

    The bias of its last layer begins at the mean colour of the images.
    """
    scale: Literal["learned"] | None = "learned"
    scale = scale if experiment.likelihood == "quantized_normal" else None
    settings = (images.shape, plan.latent_dim)
    match experiment.maps:
        case (few, many):
            model = color_mnist_vae(*settings, (few, many), likelihood=experiment.likelihood,
                                    scale=scale)  # fmt: skip
        case (first, second, third):
            maps = (first, second, third)
            model = dcgan_vae(*settings, maps, likelihood=experiment.likelihood, scale=scale)
        case _:
            raise InputError("maps", expected="two or three numbers", got=str(experiment.maps))
    return start_at_mean(model, images.grey)


def trained(
    experiment: Experiment,
    model: VAE,
    images: Pictures,
    plan: LowPlan,
    seed: int,
    now: Sitting,
    device: torch.device,
) -> VAE:
    """Returns the model after its training; what a sitting before did is only read.

    Raises:
        Unfinished: The slice of time ended; the state is saved.
        InputError: The training diverged.
    """
    name, epochs = experiment.name, experiment.epochs

    def tell(done: int, bounds: list[float]) -> None:
        now.say(f"{name}: training, bound {bounds[0]:.1f}", done, epochs)

    run = train_in_slices(
        model,
        ELBO(),
        images.bytes.to(device),
        now.folder / file_name(name),
        epochs=epochs,
        batch_size=BATCH_SIZE,
        seed=seed,
        learning_rate=plan.rate,
        schedule=constant_rate,
        betas=BETAS,
        eps=EPS,
        binarisation=experiment.binarisation,
        slice_seconds=max(now.left, 0.0),
        progress=tell,
    )
    if run.diverged:
        do = "Another --seed, and a report of this one, would help."
        raise InputError(name, expected="a training that stays finite", got=run.status, do=do)
    if not run.finished:
        raise now.unfinished(f"{name}, epoch {run.epoch:.2f} of {epochs}")
    return model


def constant_rate(epoch: float) -> float:
    """Returns 1: the rate stays as it is."""
    return 1.0
