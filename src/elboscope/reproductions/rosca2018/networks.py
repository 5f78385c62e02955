r"""The networks of Rosca et al. for images in colour: an encoder is the generator, transposed.

ColorMNIST: a linear layer to 64 maps of a quarter of the side, then transposed convolutions 5 × 5
of stride 2, 1 and 2 with 64, 32 and 3 maps. CIFAR-10: the DCGAN for 32 × 32 pixels, 4 × 4 kernels
with 256, 128, 64 and 3 maps. Batch normalisation and ReLUs; the encoder's last layer is linear,
and the decoder's gives what its likelihood asks for, where a GAN's has a tanh.
"""

from __future__ import annotations

__all__ = ["color_mnist_vae", "dcgan_vae", "new_model", "optimizer_and_step"]

from collections.abc import Callable, Mapping

import torch
from torch import nn

from elboscope.core import InputError
from elboscope.distributions import Scale
from elboscope.models import (
    GAN,
    VAE,
    Hybrid,
    color_mnist_gan,
    color_mnist_hybrid,
    dcgan,
    dcgan_hybrid,
)
from elboscope.models.architectures import num_encoder_outputs, posterior_reader
from elboscope.models.from_modules import LikelihoodName, make_likelihood
from elboscope.models.hybrids import Adversary
from elboscope.models.posteriors import PosteriorFamily
from elboscope.models.vae import Head, channels_first
from elboscope.nn import Norm, conv_joint_discriminator
from elboscope.training import AAE, ELBO, VEEGAN, VGH, WGANGP, GANGame, VGHPlusPlus
from elboscope.training.data import Minibatch
from elboscope.training.games.base import Game
from elboscope.training.games.step import adversarial_step, game_optimizer
from elboscope.training.steps import adam, objective_step

from ..frame.course import Trained
from .hybrid_plan import BETAS, GANS, HybridsPlan, Model, Setting

COLOUR_MAPS = (32, 64)
DCGAN_MAPS = (64, 128, 256)
DCGAN_SIDE = 32
# Standard deviation of the DCGAN's initial convolution weights.
WEIGHT_SCALE = 0.02


def color_mnist_vae(
    data_shape: tuple[int, int, int],
    latent_dim: int = 50,
    maps: tuple[int, int] = COLOUR_MAPS,
    *,
    likelihood: LikelihoodName = "bernoulli",
    scale: Scale | None = None,
    levels: int | None = None,
    posterior: PosteriorFamily | None = None,
) -> VAE:
    """Returns an untrained model, its weights drawn from the ambient random state.

    Args:
        data_shape: Channels, height, width; the sides divisible by 4.
        latent_dim: d.
        maps: Channels of the layers near the image, and of those near the code.
        likelihood: As in :func:`elboscope.from_modules`.
        scale: Scale of a likelihood that has one.
        levels: Levels of a discrete likelihood; 256 if None.
        posterior: As in :func:`elboscope.from_modules`.

    Example:
        >>> import torch
        >>> model = color_mnist_vae((3, 28, 28), 10, (4, 8))
        >>> model.decode(torch.zeros(2, 5, 10)).event_shape
        torch.Size([3, 28, 28])
    """
    colours, height, width = data_shape
    few, many = maps
    head = make_likelihood(likelihood, data_shape, scale=scale, levels=levels)
    h, w = height // 4, width // 4
    encoder = nn.Sequential(
        *_down(colours, few, 5, 2, 2),
        *_down(few, many, 5, 1, 2),
        *_down(many, many, 5, 2, 2),
        nn.Flatten(),
        nn.Linear(many * h * w, num_encoder_outputs(posterior, latent_dim)),
    )
    outputs = channels_first(head, data_shape)[0]
    decoder = nn.Sequential(
        nn.Linear(latent_dim, many * h * w),
        nn.BatchNorm1d(many * h * w),
        nn.ReLU(),
        nn.Unflatten(1, (many, h, w)),
        *_up(many, many, 5, 2, 2, 1),
        *_up(many, few, 5, 1, 2, 0),
        nn.ConvTranspose2d(few, outputs, 5, 2, 2, 1),
    )
    return _vae(encoder, decoder, head, data_shape, latent_dim, posterior)


def dcgan_vae(
    data_shape: tuple[int, int, int] = (3, 32, 32),
    latent_dim: int = 50,
    maps: tuple[int, int, int] = DCGAN_MAPS,
    *,
    likelihood: LikelihoodName = "bernoulli",
    scale: Scale | None = None,
    levels: int | None = None,
    posterior: PosteriorFamily | None = None,
) -> VAE:
    """Returns an untrained model, its convolutions drawn from N(0, 0.02²).

    Args:
        data_shape: Channels and sides of 32.
        latent_dim: d.
        maps: Channels of the layers, from the image to the code.
        likelihood: As in :func:`elboscope.from_modules`.
        scale: Scale of a likelihood that has one.
        levels: Levels of a discrete likelihood; 256 if None.
        posterior: As in :func:`elboscope.from_modules`.

    Raises:
        InputError: Other sides.

    Example:
        >>> import torch
        >>> dcgan_vae(latent_dim=10, maps=(4, 4, 8)).encode(torch.zeros(2, 3, 32, 32)).event_shape
        torch.Size([10])
    """
    if data_shape[1:] != (DCGAN_SIDE, DCGAN_SIDE):
        raise InputError("data_shape", expected="sides of 32 pixels", got=str(data_shape))
    head = make_likelihood(likelihood, data_shape, scale=scale, levels=levels)
    first, second, third = maps
    colours = data_shape[0]
    encoder = nn.Sequential(
        nn.Conv2d(colours, first, 4, 2, 1, bias=False),
        nn.ReLU(),
        *_down(first, second, 4, 2, 1),
        *_down(second, third, 4, 2, 1),
        nn.Conv2d(third, num_encoder_outputs(posterior, latent_dim), 4, 1, 0),
        nn.Flatten(),
    )
    decoder = nn.Sequential(
        nn.Unflatten(1, (latent_dim, 1, 1)),
        *_up(latent_dim, third, 4, 1, 0, 0),
        *_up(third, second, 4, 2, 1, 0),
        *_up(second, first, 4, 2, 1, 0),
        nn.ConvTranspose2d(first, channels_first(head, data_shape)[0], 4, 2, 1),
    )
    for layer in (*encoder, *decoder):
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.normal_(layer.weight, 0.0, WEIGHT_SCALE)
    return _vae(encoder, decoder, head, data_shape, latent_dim, posterior)


def _vae(
    encoder: nn.Module,
    decoder: nn.Module,
    head: Head,
    data_shape: tuple[int, ...],
    latent_dim: int,
    posterior: PosteriorFamily | None,
) -> VAE:
    return VAE(
        encoder, decoder, head,
        latent_shape=(latent_dim,),
        data_shape=data_shape,
        encoder_output=posterior_reader(posterior, latent_dim),
    )  # fmt: skip


def _down(
    before: int, after: int, kernel: int, stride: int, padding: int
) -> tuple[nn.Module, nn.Module, nn.Module]:
    layer = nn.Conv2d(before, after, kernel, stride, padding, bias=False)
    return layer, nn.BatchNorm2d(after), nn.ReLU()


def _up(
    before: int, after: int, kernel: int, stride: int, padding: int, more: int
) -> tuple[nn.Module, nn.Module, nn.Module]:
    layer = nn.ConvTranspose2d(before, after, kernel, stride, padding, more, bias=False)
    return layer, nn.BatchNorm2d(after), nn.ReLU()


# The seven models with their networks, and the games they are trained by.
#
# All have the generator of one size, those with an encoder the generator transposed. The networks
# of ColorMNIST have two numbers of maps, those of the DCGAN three for 32 × 32 pixels and four for
# 64 × 64. The paper has batch normalisation everywhere: a critic whose gradient is penalised for
# each datapoint cannot, and has none.

ADVERSARIES: Mapping[Model, tuple[Adversary, ...]] = {
    "AAE": ("code",),
    "VGH": ("data", "code"),
    "VGH++": ("data", "code"),
}


def new_model(model: Model, plan: HybridsPlan, shape: tuple[int, int, int]) -> Trained:
    """Returns a model, its weights drawn from the ambient random state.

    Example:
        >>> plan = HybridsPlan(data="ColorMNIST", maps=(4, 8), latents=2)
        >>> sorted(new_model("VEEGAN", plan, (3, 8, 8)).adversaries)
        ['joint']
    """
    if model in GANS:
        return _gan(plan, shape, "none" if model == "WGAN-GP" else "batch")
    hybrid = _hybrid(plan, shape, ADVERSARIES.get(model, ()))
    if model == "VEEGAN":
        joint = conv_joint_discriminator(shape, plan.latents, plan.joint_maps)
        hybrid.adversaries = nn.ModuleDict({"joint": joint})
    return hybrid


def _gan(plan: HybridsPlan, shape: tuple[int, int, int], norm: Norm) -> GAN:
    match plan.maps:
        case (few, many):
            return color_mnist_gan(shape, plan.latents, (few, many), plan.discriminator_maps, norm)
    return dcgan(shape, plan.latents, plan.maps, norm)


def _hybrid(plan: HybridsPlan, shape: tuple[int, int, int], names: tuple[Adversary, ...]) -> Hybrid:
    match plan.maps:
        case (few, many):
            return color_mnist_hybrid(
                shape, plan.latents, (few, many), names, plan.discriminator_maps,
                plan.code_hidden,
            )  # fmt: skip
    return dcgan_hybrid(shape, plan.latents, plan.maps, names, plan.code_hidden)


def optimizer_and_step(
    setting: Setting, plan: HybridsPlan, model: Trained
) -> tuple[torch.optim.Optimizer, Callable[[Minibatch], object]]:
    """Returns the one optimiser of all players, and the step on a minibatch.

    Example:
        >>> plan = HybridsPlan(data="ColorMNIST", maps=(4, 8), latents=2)
        >>> gan = new_model("DCGAN", plan, (3, 8, 8))
        >>> optimizer, step = optimizer_and_step(plan.own("DCGAN"), plan, gan)
        >>> sorted(step(Minibatch(torch.rand(5, 3, 8, 8), 0.0)).measured)
        ['data_accuracy', 'data_loss', 'generator_loss']
    """
    game = _game(setting, plan)
    if game is None:
        assert isinstance(model, Hybrid)
        plain = adam(model.parameters(), setting.rate, BETAS)
        return plain, objective_step(model, ELBO(), plain)
    players = game_optimizer(game, model, setting.rate, BETAS)
    return players, adversarial_step(model, game, players)


def _game(setting: Setting, plan: HybridsPlan) -> Game | None:
    encoder, generator = setting.weights or plan.weights
    match setting.model:
        case "VAE":
            return None
        case "AAE":
            return AAE()
        case "VEEGAN":
            return VEEGAN()
        case "VGH":
            return VGH(encoder, generator)
        case "VGH++":
            return VGHPlusPlus(encoder, generator)
        case "DCGAN":
            return GANGame()
    return WGANGP(plan.critic_steps)
