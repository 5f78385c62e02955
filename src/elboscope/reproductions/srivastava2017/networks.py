r"""Five models of Stacked MNIST with one generator, each with the game that trains it.

Generator, encoder and discriminators are the convolutions of ColorMNIST; the data are grey, and
generators learn means of a Bernoulli whose bias begins at the mean colours (the GAN has none).
AVB's encoder mixes noise into its code: the posterior can be drawn and has no density.

VEEGAN's discriminator of pairs is the one of data with batch normalisation, whose features meet
those of z behind the convolutions. Without it T tells all pairs apart after some hundred steps,
at T ≈ ±10, and the generator forgets all modes but one.

The file is long because each of the five comes with its game, its pace and its score.

A file of its own because five games are as much as one file can hold.
"""

from __future__ import annotations

__all__ = [
    "CPU",
    "ENCODERS",
    "KINDS",
    "LEARNERS",
    "MODELS",
    "PAPER",
    "SCORES",
    "SMOKE",
    "Model",
    "Pace",
    "PairDiscriminator",
    "Score",
    "StackedPlan",
    "Tally",
    "course_of",
    "game_of",
    "new_model",
    "perfect_modes",
    "scores_of",
    "tally",
]

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from elboscope.classifiers import Extractor
from elboscope.core import seeded
from elboscope.estimators import reconstructions_of, sampler_of
from elboscope.estimators.samples.classifier import mode_kl, modes_covered
from elboscope.estimators.samples.critic import Sampler
from elboscope.models import (
    Hybrid,
    color_mnist_gan,
    color_mnist_hybrid,
    implicit_posterior,
    mlp_avb,
    start_at_mean,
)
from elboscope.models.hybrids import Adversary
from elboscope.nn import (
    AVBAdversary,
    NoiseBasisEncoder,
    color_mnist_discriminator,
    color_mnist_encoder,
)
from elboscope.training import AVB, VEEGAN, VGH, GANGame, VGHPlusPlus
from elboscope.training.data import Minibatch
from elboscope.training.games.adversarial import Cost
from elboscope.training.games.base import Game
from elboscope.training.games.step import adversarial_step, game_optimizer

from ..frame.course import Course, Trained
from ..frame.training import derived_seed

BETAS = (0.5, 0.9)
# AVB's noise; it begins about as wide as the prior, see NoiseBasisEncoder.
NUM_BASES, NOISE_DIM, BASIS_HIDDEN, SHIFT = 16, 32, (64,), 0.5
ADVERSARIES: Mapping[Model, tuple[Adversary, ...]] = {
    "VGH": ("data", "code"),
    "VGH++": ("data", "code"),
}


class PairDiscriminator(nn.Module):
    """Logits of pairs (x, z): features of both are added, and judged by a perceptron.

    Args:
        data_shape: Channels, height, width.
        latent_dim: d.
        maps: Channels of the convolutions of x.
        hidden: Number of features.

    Example:
        >>> T = PairDiscriminator((3, 8, 8), 2, (4, 4), 8)
        >>> T(torch.zeros(5, 3, 8, 8), torch.zeros(5, 2)).shape
        torch.Size([5])
    """

    def __init__(
        self, data_shape: tuple[int, ...], latent_dim: int, maps: tuple[int, ...], hidden: int
    ) -> None:
        super().__init__()
        *layers, last, _ = color_mnist_discriminator(data_shape, maps)
        assert isinstance(last, nn.Linear)
        self.of_x = nn.Sequential(*layers, nn.Linear(last.in_features, hidden))
        self.of_z = nn.Linear(latent_dim, hidden)
        act, out = nn.LeakyReLU(0.2), nn.Linear(hidden, 1)
        self.judge = nn.Sequential(act, nn.Linear(hidden, hidden), act, out, nn.Flatten(0))

    def forward(self, x: Float[Tensor, "N C H W"], z: Float[Tensor, "N d"]) -> Float[Tensor, " N"]:
        """Returns the logits."""
        t: Tensor = self.judge(self.of_x(x) + self.of_z(z))
        return t


def new_model(model: Model, plan: StackedPlan, x: Float[Tensor, "N 3 H W"]) -> Trained:
    """Returns a model, its weights drawn from the ambient random state.

    Args:
        model: Which.
        plan: Its size.
        x: Images, for their shape and their mean.

    Example:
        >>> from elboscope.reproductions.srivastava2017.networks import SMOKE
        >>> sorted(new_model("VEEGAN", SMOKE, torch.rand(4, 3, 8, 8)).adversaries)
        ['joint']
    """
    shape = tuple(x.shape[1:])
    if model == "DCGAN":
        return color_mnist_gan(shape, plan.latents, plan.maps, plan.discriminator_maps)
    if model == "AVB":
        return start_at_mean(_avb(plan, shape), x)
    hybrid = color_mnist_hybrid(
        shape, plan.latents, plan.maps, ADVERSARIES.get(model, ()), plan.discriminator_maps,
        plan.code_hidden,
    )  # fmt: skip
    if model == "VEEGAN":
        T = PairDiscriminator(shape, plan.latents, plan.discriminator_maps, plan.joint_hidden)
        hybrid.adversaries["joint"] = T
    return start_at_mean(hybrid, x)


def _avb(plan: StackedPlan, shape: tuple[int, ...]) -> Hybrid:
    hidden, features = plan.avb_adversary
    if plan.avb_hidden:
        return mlp_avb(
            shape, plan.latents, plan.avb_hidden, NUM_BASES, NOISE_DIM, BASIS_HIDDEN, hidden,
            features, SHIFT,
        )  # fmt: skip
    network = color_mnist_encoder(shape, (1 + NUM_BASES) * plan.latents, plan.maps)
    plain = color_mnist_hybrid(shape, plan.latents, plan.maps, ())
    return Hybrid(
        NoiseBasisEncoder(network, plan.latents, NUM_BASES, NOISE_DIM, BASIS_HIDDEN, SHIFT),
        plain.decoder,
        plain.likelihood,
        latent_shape=(plan.latents,),
        data_shape=shape,
        encoder_output=implicit_posterior,
        adversaries={"joint": AVBAdversary(shape, plan.latents, hidden, features)},
    )


def game_of(model: Model, plan: StackedPlan) -> Game:
    """Returns what trains a model.

    Example:
        >>> from elboscope.reproductions.srivastava2017.networks import SMOKE
        >>> type(game_of("VGH++", SMOKE)).__name__
        'VGHPlusPlus'
    """
    pace = plan.paces[model]
    rate, (encoder, generator) = pace.adversary_rate, pace.weights
    match model:
        case "AVB":
            return AVB(adversary_rate=rate)
        case "VEEGAN":
            return VEEGAN(encoder, adversary_rate=rate)
        case "VGH++":
            return VGHPlusPlus(encoder, generator, pace.cost, adversary_rate=rate)
        case "VGH":
            return VGH(encoder, generator, pace.cost, adversary_rate=rate)
    return GANGame(adversary_rate=rate)


def course_of(
    model: Model,
    plan: StackedPlan,
    built: Trained,
    x: Float[Tensor, "N 3 H W"],
    look: Callable[[int], Mapping[str, float]],
    seed: int,
    name: str,
    identity: Mapping[str, object],
) -> Course:
    """Returns the training of a model, to be run in sittings.

    Args:
        model: Which.
        plan: Its pace.
        built: The model that :func:`new_model` returned, on the device of x.
        x: Training images; a minibatch is drawn with replacement.
        look: Called at the steps that are measured.
        seed: Random seed of all draws of the training.
        name: What its files are called after.
        identity: What else must not change between two sittings.
    """
    pace, game = plan.paces[model], game_of(model, plan)
    optimizer = game_optimizer(game, built, pace.rate, BETAS)
    step = adversarial_step(built, game, optimizer)

    def take() -> None:
        built.train()
        step(Minibatch(x[_rows(len(x), pace.batch_size, x.device)], 0.0))

    about = {"model": model, **pace._asdict(), **identity}
    measured: Sequence[int] = plan.measured(model)
    return Course(name, _module(built), optimizer, take, look, measured, seed, about)


def _rows(n: int, size: int, device: torch.device) -> Tensor:
    return torch.randint(n, (size,)).to(device)


def _module(built: Trained) -> nn.Module:
    return built


# What is trained on Stacked MNIST, and for how long, at each scale.

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
        cost: Cost of a hybrid's reconstruction; the published one is an ℓ1 distance, which for some
            hundred steps is content with black images.
    """

    steps: int
    rate: float
    adversary_rate: float = 1.0
    batch_size: int = 64
    weights: tuple[float, float] = (10.0, 10.0)
    cost: Cost = "mean_absolute"


@dataclass(frozen=True, kw_only=True)
class StackedPlan:
    """A scale.

    Attributes:
        num_train: Triples of training digits.
        num_test: Triples of test digits, to reconstruct.
        num_samples: Images that are classified at the end; a quarter of them on the way.
        seeds: Runs of each model.
        looks: Measurements during each training, evenly spaced, the last at the end.
        latents: d.
        maps: Channels of generator and encoder.
        discriminator_maps: Channels of the discriminator of data.
        joint_hidden: Features of VEEGAN's discriminator of pairs, whose maps are those of data.
        code_hidden: Widths of the discriminator of codes.
        avb_hidden: Widths of AVB's perceptrons; empty takes convolutions of the same maps.
        avb_adversary: Widths and features of AVB's adversary.
        paces: The pace of each model.
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
            >>> SMOKE.measured("DCGAN")
            [3, 6]
        """
        steps = self.paces[model].steps
        return [steps * (i + 1) // self.looks for i in range(self.looks)]


def _paces(usual: Pace) -> Mapping[Model, Pace]:
    return dict.fromkeys(MODELS, usual) | {"VEEGAN": usual._replace(weights=(1.0, 1.0))}


# The networks of ColorMNIST.
PAPER = StackedPlan(
    num_train=50_000,
    num_test=26_000,
    num_samples=26_000,
    seeds=5,
    looks=20,
    latents=50,
    maps=(32, 64),
    discriminator_maps=(8, 16, 32, 64, 64),
    joint_hidden=256,
    code_hidden=(1000, 1000, 1000),
    avb_hidden=(),
    avb_adversary=((1024, 1024, 1024), 8192),
    paces=_paces(Pace(steps=100_000, rate=3e-4)),
)
_SHORT = Pace(steps=2000, rate=1e-3, batch_size=32)
_GREY = _SHORT._replace(steps=900, weights=(0.1, 0.1), cost="likelihood")
# Some thousand steps of narrow networks, one seed.
CPU = replace(
    PAPER,
    num_train=10_000,
    num_test=10_000,
    num_samples=10_000,
    seeds=1,
    looks=4,
    latents=20,
    maps=(16, 32),
    discriminator_maps=(16, 32, 32),
    joint_hidden=64,
    code_hidden=(128, 128),
    avb_hidden=(256, 256),
    avb_adversary=((128, 128), 128),
    paces={
        "AVB": _SHORT._replace(steps=3600, batch_size=64),
        "VEEGAN": _SHORT._replace(adversary_rate=0.5, weights=(0.1, 0.1)),
        "VGH++": _GREY,
        "VGH": _GREY,
        "DCGAN": _SHORT,
    },
)
SMOKE = replace(
    PAPER,
    num_train=200,
    num_test=60,
    num_samples=60,
    seeds=2,
    looks=2,
    latents=4,
    maps=(4, 4),
    discriminator_maps=(4, 4),
    joint_hidden=8,
    code_hidden=(8,),
    avb_hidden=(8,),
    avb_adversary=((8,), 8),
    paces=_paces(Pace(steps=6, rate=1e-3, batch_size=16)),
    stand_in=True,
)


# Modes that samples and reconstructions meet, by a classifier of each colour's digit.
#
# .. math:: \hat p_c = \frac1n \#\{i : \arg\max_y p(y|x_i) = c\}, \qquad
#           \mathrm{KL}(\hat p \| \text{uniform}) = \sum_c \hat p_c \log (C \hat p_c)
#
# A classifier answers whatever it is shown, so that smears of three colours meet modes too.
# Beside the published count stands one of *sure* images alone, p(y|x) > ½ for the triple: what
# fails there is no digit that could be told.

KINDS = ("samples", "reconstructions")
Score = str
SCORES: Mapping[Score, tuple[str, str]] = {
    "modes": ("modes covered", "modes"),
    "kl": ("KL(modes ‖ uniform)", "nats"),
    "sure": ("share of sure images", "share"),
    "sure_modes": ("modes covered by sure images", "modes"),
}
SURE = 0.5
Tally = Mapping[str, float]
"""Each score, and its error by "… error": a bootstrap's, of these images alone."""


def tally(log_probs: Float[Tensor, "n y"]) -> Tally:
    """Returns the scores of images.

    Args:
        log_probs: log p(y|x) of each, nats.

    Example:
        >>> found = tally(torch.tensor([[0.9, 0.1], [0.4, 0.6], [0.5, 0.5]]).log())
        >>> found["modes"], found["sure_modes"], round(found["sure"], 3)
        (2.0, 2.0, 0.667)
    """
    n = len(log_probs)
    sure = log_probs.exp().max(1).values > SURE
    share = sure.double().mean().item()
    covered, kl = modes_covered(log_probs), mode_kl(log_probs)
    found = {"modes": covered.total, "modes error": covered.stderr}
    found |= {"kl": kl.mean, "kl error": kl.stderr}
    found |= {"sure": share, "sure error": math.sqrt(share * (1 - share) / n)}
    of_sure = modes_covered(log_probs[sure]) if bool(sure.any()) else None
    found["sure_modes"] = 0.0 if of_sure is None else of_sure.total
    found["sure_modes error"] = math.nan if of_sure is None else of_sure.stderr
    return found


def perfect_modes(n: int, classes: int) -> float:
    r"""Returns the modes that n perfect samples cover: :math:`C(1 - (1 - 1/C)^n)`.

    Example:
        >>> round(perfect_modes(26_000, 1000), 2), perfect_modes(1, 1000)
        (1000.0, 1.0)
    """
    return -classes * math.expm1(n * math.log1p(-1 / classes))


def scores_of(
    model: Trained, x: Float[Tensor, "N C H W"], num: int, classifier: Extractor, seed: int
) -> Mapping[str, float]:
    """Returns the tallies of samples and, where there is an encoder, of reconstructions.

    Args:
        model: The model, on the device of x.
        x: Held-out images, to reconstruct; each once, and again after the last.
        num: Number of images of each kind.
        classifier: A classifier of triples.
        seed: Random seed of all draws; the caller's random state stays as it is.

    Returns:
        Values by "samples: modes" and so on.
    """
    makers: dict[str, Callable[[], Sampler]] = {"samples": lambda: sampler_of(model)}
    if isinstance(model, Hybrid):
        makers["reconstructions"] = lambda: reconstructions_of(model, x)
    found: dict[str, float] = {}
    for kind, make in makers.items():
        with seeded(derived_seed(kind, seed)), torch.no_grad():
            values = tally(classifier(make()(num)).log_probs)
        found |= {f"{kind}: {name}": value for name, value in values.items()}
    return found
