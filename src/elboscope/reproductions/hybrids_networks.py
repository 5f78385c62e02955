r"""The seven models with their networks, and the games they are trained by.

All have the generator of one size, those with an encoder the generator transposed. The networks
of ColorMNIST have two numbers of maps, those of the DCGAN three for 32 × 32 pixels and four for
64 × 64. The paper has batch normalisation everywhere: a critic whose gradient is penalised for
each datapoint cannot, and has none.
"""

from __future__ import annotations

__all__ = ["Trained", "optimizer_and_step", "untrained"]

from collections.abc import Callable, Mapping

import torch
from torch import nn

from elboscope.models import (
    GAN,
    Hybrid,
    color_mnist_gan,
    color_mnist_hybrid,
    dcgan,
    dcgan_hybrid,
)
from elboscope.models.hybrids import Adversary
from elboscope.nn import Norm, conv_joint_discriminator
from elboscope.training import AAE, ELBO, VEEGAN, VGH, WGANGP, GANGame, VGHPlusPlus
from elboscope.training.adversarial import adversarial_step, game_optimizer
from elboscope.training.games import Game
from elboscope.training.minibatches import Minibatch
from elboscope.training.steps import adam, objective_step

from .hybrids_plan import BETAS, GANS, HybridsPlan, Model, Setting

Trained = Hybrid | GAN
ADVERSARIES: Mapping[Model, tuple[Adversary, ...]] = {
    "AAE": ("code",),
    "VGH": ("data", "code"),
    "VGH++": ("data", "code"),
}


def untrained(model: Model, plan: HybridsPlan, shape: tuple[int, int, int]) -> Trained:
    """Returns a model, its weights drawn from the ambient random state.

    Example:
        >>> plan = HybridsPlan("ColorMNIST", 9, 9, 9, 1, 1, 1e-3, (), (), (4, 8), latents=2)
        >>> sorted(untrained("VEEGAN", plan, (3, 8, 8)).adversaries)
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
        >>> plan = HybridsPlan("ColorMNIST", 9, 9, 9, 1, 1, 1e-3, (), (), (4, 8), latents=2)
        >>> gan = untrained("DCGAN", plan, (3, 8, 8))
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
