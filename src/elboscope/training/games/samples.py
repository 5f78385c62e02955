r"""Games between a generator and a judge of its samples: GAN and WGAN-GP.

References:
    | Generative Adversarial Nets (Goodfellow et al., 2014), https://arxiv.org/abs/1406.2661
    | Improved Training of Wasserstein GANs (Gulrajani et al., 2017),
      https://arxiv.org/abs/1704.00028
"""

from __future__ import annotations

__all__ = ["WGANGP", "GANGame", "GeneratorLoss"]

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from elboscope.core import InputError, Sampled, generated
from elboscope.objectives import (
    discriminator_loss,
    gradient_penalty,
    non_saturating_loss,
    ratio_accuracy,
    reverse_kl_loss,
    saturating_loss,
    wasserstein_critic_loss,
)

from .base import Game, Turn, require_weights, require_words

GeneratorLoss = Literal["non_saturating", "reverse_kl", "saturating"]
LOSSES = {
    "non_saturating": non_saturating_loss,
    "reverse_kl": reverse_kl_loss,
    "saturating": saturating_loss,
}


@dataclass(frozen=True)
class GANGame(Game):
    r"""The discriminator tells data (label 1) from samples (label 0), then the generator moves.

    .. math:: L_D = \mathbb{E}_{p^*}[-\log D] + \mathbb{E}_{p(z)}[-\log(1 - D(G(z)))]

    Args:
        loss: The generator's: −log D ("non_saturating"), log(1 − D) ("saturating"), or their sum
            ("reverse_kl").
        adversary_rate: The discriminator's learning rate, as a multiple of ``learning_rate``.

    Example:
        >>> import elboscope as es
        >>> gan = es.models.mlp_gan((6,), 2, (8,), (8,))
        >>> [turn.player for turn in GANGame().turns(gan, torch.rand(5, 6), 0.0)]
        ['data', 'generator']
    """

    loss: GeneratorLoss = "non_saturating"

    adversaries: ClassVar[tuple[str, ...]] = ("data",)
    encodes: ClassVar[bool] = False
    columns: ClassVar[tuple[str, ...]] = ("generator_loss", "data_loss", "data_accuracy")

    def __post_init__(self) -> None:
        super().__post_init__()
        require_words("loss", self.loss, get_args(GeneratorLoss))

    def turns(self, model: Sampled, x: Float[Tensor, "B *X"], epoch: float) -> Iterator[Turn]:
        """Yields the discriminator's turn and the generator's."""
        D = self.adversary(model, "data")
        fake = generated(model, model.prior().sample((len(x),)))
        t_real, t_fake = D(x), D(fake.detach())
        accuracy = {"data_accuracy": ratio_accuracy(t_real, t_fake)}
        yield Turn("data", discriminator_loss(t_real, t_fake), accuracy)
        yield Turn("generator", LOSSES[self.loss](D(fake)))


@dataclass(frozen=True)
class WGANGP(Game):
    r"""A critic of slope about one, several of its steps for one of the generator.

    .. math:: L_f = \mathbb{E} f(G(z)) - \mathbb{E}_{p^*} f + \lambda\, \mathbb{E}
              (\|\nabla f(\hat x)\|_2 - 1)^2, \qquad L_G = -\mathbb{E} f(G(z))

    A minibatch is dealt out to the critic's steps, so that each sees other data: for 64 of them in
    each of 5 steps ask for ``batch_size`` 320. The critic must have no batch normalisation.

    Args:
        critic_steps: Steps of the critic in one of the generator; fewer for a minibatch with
            less than two datapoints for each.
        penalty: λ.
        adversary_rate: The critic's learning rate, as a multiple of ``learning_rate``.

    Example:
        >>> import elboscope as es
        >>> gan = es.models.mlp_gan((6,), 2, (8,), (8,))
        >>> [turn.player for turn in WGANGP(critic_steps=2).turns(gan, torch.rand(5, 6), 0.0)]
        ['data', 'data', 'generator']
    """

    critic_steps: int = 5
    penalty: float = 10.0

    adversaries: ClassVar[tuple[str, ...]] = ("data",)
    encodes: ClassVar[bool] = False
    columns: ClassVar[tuple[str, ...]] = ("generator_loss", "data_loss", "critic_difference")

    def __post_init__(self) -> None:
        super().__post_init__()
        require_weights(penalty=self.penalty)
        if self.critic_steps < 1:
            raise InputError("critic_steps", expected="at least 1", got=str(self.critic_steps))

    def players(self, model: Sampled) -> Mapping[str, list[nn.Parameter]]:
        """Returns each player's parameters.

        Raises:
            InputError: A critic with batch normalisation, whose datapoints have no slopes.
        """
        critic = self.adversary(model, "data")
        if any(isinstance(module, _BatchNorm) for module in critic.modules()):
            raise InputError(
                "adversary 'data'",
                expected="a critic without batch normalisation: its penalty is of each datapoint",
                got="one with",
                do="Build the model with norm='none' (--model.norm none).",
            )
        return super().players(model)

    def turns(self, model: Sampled, x: Float[Tensor, "B *X"], epoch: float) -> Iterator[Turn]:
        """Yields the critic's turns and the generator's."""
        f = self.adversary(model, "data")
        steps = max(1, min(self.critic_steps, len(x) // 2))
        for real in x.tensor_split(steps):
            with torch.no_grad():
                fake = generated(model, model.prior().sample((len(real),)))
            loss = wasserstein_critic_loss(f(real), f(fake))
            penalty = gradient_penalty(f, real, fake)
            observed = {"critic_difference": -loss.detach()}
            yield Turn("data", loss + self.penalty * penalty, observed)
        z = model.prior().sample((max(2, len(x) // steps),))
        yield Turn("generator", -f(generated(model, z)).mean())
