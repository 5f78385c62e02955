r"""What is compared: VAEs, hybrids and GANs of one size, and the sweep of their settings.

Networks and training are those of Rosca et al.: Adam with β = (0.5, 0.9), a fixed rate,
minibatches of 64, 100 000 steps on ColorMNIST and 200 000 on CIFAR-10 and CelebA; the hybrids'
weights λ_e and λ_g of the reconstruction are swept over {1, 5, 10, 50}. Grey values are data as
they are: the VAE's Bernoulli is then a cross-entropy, as in the paper. Of the rates only the
existence of a sweep is known: {1, 2, 3, 5}·10⁻⁴ are ours.
"""

from __future__ import annotations

__all__ = [
    "AUTOENCODERS",
    "BETAS",
    "GANS",
    "HYBRIDS",
    "MODELS",
    "RATES",
    "WEIGHT_PAIRS",
    "HybridImages",
    "HybridsPlan",
    "Model",
    "Setting",
    "load_hybrid_images",
]

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from itertools import product
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import interpolate

from elboscope.classifiers import classifier_for
from elboscope.core import InputError, seeded
from elboscope.data import Images, celeba, cifar10, color_digits, color_mnist
from elboscope.data.color_mnist import NUM_TRAIN
from elboscope.data.images import content_checksum
from elboscope.estimators.samples.critic import CriticTraining
from elboscope.estimators.samples.quality import Reference, reference_of

from ..frame.sitting import Options
from ..frame.training import derived_seed

Model = Literal["VAE", "AAE", "VEEGAN", "VGH", "VGH++", "DCGAN", "WGAN-GP"]
AUTOENCODERS: tuple[Model, ...] = ("VAE", "AAE")
HYBRIDS: tuple[Model, ...] = ("VEEGAN", "VGH", "VGH++")
GANS: tuple[Model, ...] = ("DCGAN", "WGAN-GP")
MODELS: tuple[Model, ...] = (*AUTOENCODERS, *HYBRIDS, *GANS)
WEIGHTED: tuple[Model, ...] = ("VGH", "VGH++")
BETAS = (0.5, 0.9)
RATES = (1e-4, 2e-4, 3e-4, 5e-4)
WEIGHTS = (1.0, 5.0, 10.0, 50.0)
WEIGHT_PAIRS = tuple(product(WEIGHTS, WEIGHTS))


class Setting(NamedTuple):
    """A model and its hyper-parameters.

    Attributes:
        model: Which.
        rate: Adam's, of all players.
        weights: λ_e and λ_g; None where the model has none.
    """

    model: Model
    rate: float
    weights: tuple[float, float] | None = None

    @property
    def label(self) -> str:
        """In the tables."""
        weights = "" if self.weights is None else "λ_e {:g}, λ_g {:g}, ".format(*self.weights)
        return f"{self.model}, {weights}rate {self.rate:g}"


@dataclass(frozen=True, kw_only=True)
class HybridsPlan:
    """What a scale means; without more words, the published plan of ColorMNIST.

    Attributes:
        data: "ColorMNIST", "CIFAR-10" or "CelebA".
        num_train: Images trained on; all if None.
        num_compared: Held-out images that samples are compared with; the critic learns from one
            half of them and is scored on the other.
        num_samples: Samples, and as many reconstructions of other held-out images.
        steps: Steps of the generator.
        seeds: Runs of each model's own setting.
        rate: Learning rate of that setting.
        weights: λ_e and λ_g of that setting.
        swept_rates: Learning rates of each swept model.
        swept_weights: Pairs (λ_e, λ_g).
        swept: Models whose settings are swept.
        crossed: Whether all pairs are combined with all rates, or one is varied at a time.
        maps: Channels of encoder and generator.
        discriminator_maps: Channels of the discriminator of data, where they are not the
            generator's.
        joint_maps: Channels of VEEGAN's discriminator.
        code_hidden: Widths of the discriminator of codes.
        latents: d.
        batch_size: B.
        critic_steps: WGAN-GP's, for one of its generator.
        critic: The independent critic.
        stand_in: The data set used instead, if any.
    """

    data: str
    num_train: int | None = None
    num_compared: int = 10_000
    num_samples: int = 26_000
    steps: int = 100_000
    seeds: int = 5
    rate: float = 3e-4
    swept_rates: tuple[float, ...] = RATES
    swept_weights: tuple[tuple[float, float], ...] = WEIGHT_PAIRS
    maps: tuple[int, ...] = (32, 64)
    critic: CriticTraining = field(default_factory=CriticTraining.published)
    swept: tuple[Model, ...] = MODELS
    crossed: bool = True
    weights: tuple[float, float] = (10.0, 10.0)
    discriminator_maps: tuple[int, ...] = (8, 16, 32, 64, 64)
    joint_maps: tuple[int, int] = (64, 128)
    code_hidden: tuple[int, ...] = (1000, 1000, 1000)
    latents: int = 50
    batch_size: int = 64
    critic_steps: int = 5
    stand_in: str = ""

    def own(self, model: Model) -> Setting:
        """Returns the setting in which a model is trained with every seed.

        Example:
            >>> plan = HybridsPlan(data="ColorMNIST", rate=1e-3)
            >>> plan.own("VGH").label, plan.own("VAE").label
            ('VGH, λ_e 10, λ_g 10, rate 0.001', 'VAE, rate 0.001')
        """
        return Setting(model, self.rate, self.weights if model in WEIGHTED else None)

    def settings(self, model: Model) -> tuple[Setting, ...]:
        """Returns the settings of a model's sweep, its own first.

        Example:
            >>> plan = HybridsPlan(data="ColorMNIST", rate=1e-3, swept_rates=(1e-3, 2e-3),
            ...                    swept_weights=((1.0, 1.0),), crossed=False)
            >>> [setting.label for setting in plan.settings("VGH")][1:]
            ['VGH, λ_e 1, λ_g 1, rate 0.001', 'VGH, λ_e 10, λ_g 10, rate 0.002']
        """
        own = self.own(model)
        return tuple(dict.fromkeys((own, *(self._swept(own) if model in self.swept else ()))))

    def _swept(self, own: Setting) -> Iterator[Setting]:
        pairs = self.swept_weights if own.weights is not None else (None,)
        if self.crossed:
            yield from (Setting(own.model, r, w) for w, r in product(pairs, self.swept_rates))
            return
        yield from (own._replace(weights=weights) for weights in pairs)
        yield from (own._replace(rate=rate) for rate in self.swept_rates)

    @property
    def runs(self) -> tuple[tuple[Setting, int], ...]:
        """Each setting with the number of its run: own settings by all seeds, others by one."""
        own = [(self.own(model), s) for s in range(self.seeds) for model in MODELS]
        others = [(setting, 0) for model in MODELS for setting in self.settings(model)[1:]]
        return (*own, *others)

    def record(self) -> dict[str, object]:
        """Returns what is saved beside a number."""
        return asdict(self) | {"betas": list(BETAS)}


# The images of a reproduction of hybrids: trained on, compared with, reconstructed; a classifier.
#
# Data that nothing was trained on have two parts. Samples are compared with the first; the second
# is reconstructed, since a reconstruction lies near *its* datapoint whatever the model.

# Pictures that are looked at together, by neighbours and by the Fréchet distance.
NEIGHBOURS = 10_000
SMOKE_SIDES = {"large digits": 32, "larger digits": 64}


class HybridImages(NamedTuple):
    """Images in [0, 1].

    Attributes:
        train: Trained on.
        compared: Held out, to compare samples with.
        reconstructed: Held out, to reconstruct.
        reference: The compared ones with their classifier's features; None where no classifier of
            them is available.
        checksum: Checksum of all images.
    """

    train: Float[Tensor, "N C H W"]
    compared: Float[Tensor, "M C H W"]
    reconstructed: Float[Tensor, "R C H W"]
    reference: Reference | None
    checksum: str

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of an image."""
        colours, height, width = self.train.shape[1:]
        return colours, height, width


def load_hybrid_images(
    plan: HybridsPlan, options: Options, seed: int, device: torch.device
) -> HybridImages:
    """Returns the images of a plan, on a device.

    Args:
        plan: Which, and how many.
        options: Where the data are.
        seed: Random seed of the order in which images are compared.
        device: Where they are used.

    Raises:
        InputError: The data are unavailable, or too few.

    Example:
        >>> plan = HybridsPlan(data="ColorMNIST", num_train=20, num_compared=40, num_samples=10,
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
    except InputError:  # no one packaged one for faces
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
