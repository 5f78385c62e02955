r"""Five models of Stacked MNIST with one generator, each with the game that trains it.

Generator, encoder and discriminators are the convolutions of ColorMNIST; the data are grey, and
generators learn means of a Bernoulli whose bias begins at the mean colours (the GAN has none).
AVB's encoder mixes noise into its code: the posterior can be drawn and has no density.

VEEGAN's discriminator of pairs is the one of data with batch normalisation, whose features meet
those of z behind the convolutions. Without it T tells all pairs apart after some hundred steps,
at T ≈ ±10, and the generator forgets all modes but one.
"""

from __future__ import annotations

__all__ = ["PairDiscriminator", "course_of", "game_of", "untrained"]

from collections.abc import Callable, Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

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
from elboscope.training.adversarial import adversarial_step, game_optimizer
from elboscope.training.games import Game
from elboscope.training.minibatches import Minibatch

from .density_ratio_runs import Course
from .hybrids_networks import Trained
from .stacked_mnist_plan import Model, StackedPlan

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
        maps: Of the convolutions of x.
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


def untrained(model: Model, plan: StackedPlan, x: Float[Tensor, "N 3 H W"]) -> Trained:
    """Returns a model, its weights drawn from the ambient random state.

    Args:
        model: Which.
        plan: Its size.
        x: Images, for their shape and their mean.

    Example:
        >>> from elboscope.reproductions.stacked_mnist_plan import PLANS
        >>> sorted(untrained("VEEGAN", PLANS["smoke"], torch.rand(4, 3, 8, 8)).adversaries)
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
        >>> from elboscope.reproductions.stacked_mnist_plan import PLANS
        >>> type(game_of("VGH++", PLANS["smoke"])).__name__
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
        built: Of :func:`untrained`, on the device of x.
        x: Training images; a minibatch is drawn with replacement.
        look: Called at the steps that are measured.
        seed: Of all draws of the training.
        name: Of its files.
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
