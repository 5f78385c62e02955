r"""The VAEs whose marginal KL is reproduced: which images, likelihood, posterior and latents.

Networks and training are those of Rosca et al.: Adam with β = (0.5, 0.9), a fixed rate,
minibatches of 64, 100 000 steps on ColorMNIST and 200 000 on CIFAR-10. Grey values are data as
they are: under a Bernoulli that is a cross-entropy, as in the paper; QuantizedNormal is its
dequantised bound, a mean and a scale for each value; Categorical has a logit for each level.
"""

from __future__ import annotations

__all__ = [
    "LABELS",
    "Family",
    "Grey",
    "KLPlan",
    "Likelihood",
    "Subject",
    "load_grey",
    "trained_subject",
    "untrained_subject",
]

from dataclasses import dataclass
from typing import Literal, NamedTuple

from jaxtyping import Float
from torch import Tensor

from elboscope.core import InputError
from elboscope.data import Binarisation
from elboscope.data.images import content_checksum
from elboscope.models import VAE, RealNVP
from elboscope.training import ELBO
from elboscope.training.slices import train_in_slices

from .low_posterior_plan import BATCH_SIZE, BETAS, EPS, constant_rate, load_pictures
from .options import Options
from .rosca_networks import color_mnist_vae, dcgan_vae
from .sitting import Sitting
from .training import file_name

Likelihood = Literal["bernoulli", "categorical", "dequantized_normal"]
Family = Literal["FFG", "RNVP"]
LABELS = {
    "bernoulli": "Bernoulli",
    "categorical": "Categorical",
    "dequantized_normal": "QuantizedNormal",
}
ALL_LEVELS = 256


class Subject(NamedTuple):
    """One VAE.

    Attributes:
        data: "ColorMNIST" or "CIFAR-10".
        likelihood: p(x|z).
        posterior: q(z|x): "FFG" or "RNVP".
        latents: d.
    """

    data: str
    likelihood: Likelihood
    posterior: Family
    latents: int

    @property
    def label(self) -> str:
        """In the tables."""
        likelihood = LABELS[self.likelihood]
        return f"{self.data}, {likelihood}, {self.posterior}, {self.latents} latents"


@dataclass(frozen=True)
class KLPlan:
    """What a scale means.

    Attributes:
        subjects: The VAEs.
        num_images: N of the mixture: images trained on, and those after them.
        num_train: Trained on, the first of the N.
        epochs: Passes over them, by data set.
        maps: Of the convolutions, by data set; two numbers: the network of ColorMNIST.
        num_draws: S.
        num_reconstructed: Images whose reconstruction is scored.
        levels: Of every value; the images are rounded to them.
        flow_hidden: Units of the flow's networks.
        flow_context: Numbers that they see of the image.
        rate: Adam's.
        stand_in: The data set in the place of both, if one is.
    """

    subjects: tuple[Subject, ...]
    num_images: int
    num_train: int
    epochs: dict[str, int]
    maps: dict[str, tuple[int, ...]]
    num_draws: int
    num_reconstructed: int = 1000
    levels: int = ALL_LEVELS
    flow_hidden: int = 200
    flow_context: int = 50
    rate: float = 3e-4
    stand_in: str = ""

    def record(self) -> dict[str, object]:
        """Returns what is saved beside a number."""
        own = ("num_images", "num_train", "epochs", "num_draws", "num_reconstructed", "levels",
               "flow_hidden", "flow_context", "rate")  # fmt: skip
        training = {"batch_size": BATCH_SIZE, "betas": list(BETAS)}
        maps = {name: list(maps) for name, maps in self.maps.items()}
        return {name: getattr(self, name) for name in own} | training | {"maps": maps}


class Grey(NamedTuple):
    """Images of a data set, rounded to the levels.

    Attributes:
        x: Values in [0, 1].
        checksum: Of these.
    """

    x: Float[Tensor, "N 3 H W"]
    checksum: str


def load_grey(data: str, plan: KLPlan, options: Options) -> Grey:
    """Returns the first N images of a data set, or of what stands in for it.

    Raises:
        InputError: The data are neither there nor to be had.

    Example:
        >>> plan = KLPlan((), 10, 8, {}, {}, 5, levels=4, stand_in="color digits")
        >>> images = load_grey("ColorMNIST", plan, Options())
        >>> (3 * images.x).unique().tolist()
        [0.0, 1.0, 2.0, 3.0]
    """
    found = load_pictures(plan.stand_in or data, plan.num_images, options).grey
    if len(found) < plan.num_images:
        got = f"{len(found)} images of {data}"
        raise InputError("num_images", expected=f"{plan.num_images} images", got=got)
    top = plan.levels - 1
    x = (found * top).round() / top
    return Grey(x, content_checksum(x))


def untrained_subject(subject: Subject, plan: KLPlan, data_shape: tuple[int, int, int]) -> VAE:
    """Returns the VAE, its weights drawn from the ambient random state."""
    flow = RealNVP(hidden=plan.flow_hidden, context=plan.flow_context)
    normal = subject.likelihood == "dequantized_normal"
    scale: Literal["predicted"] | None = "predicted" if normal else None
    levels = None if subject.likelihood == "bernoulli" else plan.levels
    posterior = flow if subject.posterior == "RNVP" else None
    match plan.maps[subject.data]:
        case (few, many):
            return color_mnist_vae(
                data_shape, subject.latents, (few, many), likelihood=subject.likelihood,
                scale=scale, levels=levels, posterior=posterior,
            )  # fmt: skip
        case (first, second, third):
            return dcgan_vae(
                data_shape, subject.latents, (first, second, third),
                likelihood=subject.likelihood, scale=scale, levels=levels, posterior=posterior,
            )  # fmt: skip
    raise InputError("maps", expected="two or three numbers", got=str(plan.maps[subject.data]))


def trained_subject(
    name: str,
    model: VAE,
    x: Float[Tensor, "N 3 H W"],
    plan: KLPlan,
    epochs: int,
    seed: int,
    now: Sitting,
) -> VAE:
    """Returns the model after its training; what a sitting before did is only read.

    Args:
        name: Of the model, for messages and files.
        model: On the device of x.
        x: Training images.
        plan: How to train.
        epochs: How long.
        seed: Of the order of the images and of all draws.
        now: The sitting.

    Raises:
        Unfinished: The slice of time ended; the state is saved.
        InputError: The training diverged.
    """

    def tell(done: int, bounds: list[float]) -> None:
        now.say(f"{name}: training, {bounds[0]:.1f}", done, epochs)

    run = train_in_slices(
        model,
        ELBO(analytic_kl=not isinstance(_family(model), RealNVP)),
        x,
        now.folder / file_name(name),
        epochs=epochs,
        batch_size=BATCH_SIZE,
        seed=seed,
        learning_rate=plan.rate,
        schedule=constant_rate,
        betas=BETAS,
        eps=EPS,
        binarisation=Binarisation("none"),
        slice_seconds=max(now.left, 0.0),
        progress=tell,
    )
    if run.diverged:
        do = "Another --seed, and a report of this one, would help."
        raise InputError(name, expected="a training that stays finite", got=run.status, do=do)
    if not run.finished:
        raise now.unfinished(f"{name}, epoch {run.epoch:.2f} of {epochs}")
    return model


def _family(model: VAE) -> object:
    return getattr(model.encoder_output, "family", None)
