r"""The VAE-GAN hybrids of Rosca et al.: one discriminator of data, another of codes.

With x ~ p*, z ~ p(z), a code ẑ ~ q(z|x), its reconstruction x̂ = E[x|ẑ], D the discriminator of
data (label 1 for data) and C that of codes (label 1 for draws of the prior):

====== ======================================================================================
VGH    L_enc = λ_e‖x − x̂‖₁ − log C(ẑ), L_gen = λ_g‖x − x̂‖₁ − log D(x̂), then D and C
VGH++  the same, and D takes samples G(z) for false beside reconstructions
====== ======================================================================================

References:
    | Distribution Matching in Variational Inference (Rosca et al., 2018), equations 8, 9, 13, 14
      and algorithm 5, https://arxiv.org/abs/1802.06847
"""

from __future__ import annotations

__all__ = ["VGH", "VGHPlusPlus"]

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from elboscope.core import LatentVariableModel, generated
from elboscope.objectives import discriminator_loss, non_saturating_loss, ratio_accuracy

from .adversarial import Cost, reconstruction_cost
from .base import Game, Turn, require_weights, require_words


@dataclass(frozen=True)
class VGH(Game):
    r"""The VAE-GAN hybrid of Rosca et al.: each player its own loss, one step each.

    .. math::
        L_{enc} &= \lambda_e \|x - \hat x\|_1 - \log C(\hat z), \quad
        L_{gen} = \lambda_g \|x - \hat x\|_1 - \log D(\hat x) \\
        L_D &= -\log D(x) - \log(1 - D(\hat x)), \quad
        L_C = -\log C(z) - \log(1 - C(\hat z))

    All losses of a step are of one forward pass of encoder and decoder.

    Args:
        encoder_weight: λ_e; the paper sweeps {1, 5, 10, 50}.
        generator_weight: λ_g; likewise.
        cost: What the reconstruction costs. The paper does not tell whether its ℓ1 distance is a
            sum over the values of x ("absolute") or their mean; with a sum, weights in its range
            leave the adversaries no say.
        adversary_rate: The discriminators' learning rate, as a multiple of ``learning_rate``.

    Example:
        >>> import torch, elboscope as es
        >>> model = es.models.mlp_hybrid((6,), 2, (8,), code_hidden=(8,))
        >>> steps = torch.optim.SGD(model.parameters(), 0.1)
        >>> from elboscope.training import adversarial_step, game_optimizer, minibatches
        >>> step = adversarial_step(model, VGH(), game_optimizer(VGH(), model))
        >>> sorted(step(next(minibatches(torch.rand(5, 6), 5, 0))).measured)[:2]
        ['code_accuracy', 'code_loss']
    """

    encoder_weight: float = 10.0
    generator_weight: float = 10.0
    cost: Cost = "mean_absolute"

    adversaries: ClassVar[tuple[str, ...]] = ("data", "code")
    columns: ClassVar[tuple[str, ...]] = (
        "encoder_loss",
        "generator_loss",
        "data_loss",
        "code_loss",
        "reconstruction",
        "data_accuracy",
        "code_accuracy",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        require_weights(encoder_weight=self.encoder_weight, generator_weight=self.generator_weight)
        require_words("cost", self.cost, get_args(Cost))

    def turns(
        self, model: LatentVariableModel, x: Float[Tensor, "B *X"], epoch: float
    ) -> Iterator[Turn]:
        """Yields the turns of encoder, generator, and both discriminators."""
        yield from _hybrid_turns(self, model, x, samples=False, fake_weight=1.0)


@dataclass(frozen=True)
class VGHPlusPlus(VGH):
    r"""VGH whose discriminator of data sees samples too: what the prior decodes to is judged.

    .. math::
        L_D = -\log D(x) - w \log(1 - D(\hat x)) - w \log(1 - D(G(z))), \quad
        L_{gen} = \lambda_g \|x - \hat x\|_1 - \log D(\hat x) - \log D(G(z))

    With w = 1, as published, the best D is p*/(p* + p_rec + p_samp), ⅓ where all agree: the
    accuracy in the metrics is counted from there, so that ½ is blind.

    Args:
        encoder_weight: λ_e.
        generator_weight: λ_g.
        cost: As in :class:`VGH`.
        fake_weight: w; ½ balances the classes.
        adversary_rate: As in :class:`VGH`.

    Example:
        >>> VGHPlusPlus(fake_weight=0.5).columns == VGH().columns
        True
    """

    fake_weight: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        require_weights(fake_weight=self.fake_weight)

    def turns(
        self, model: LatentVariableModel, x: Float[Tensor, "B *X"], epoch: float
    ) -> Iterator[Turn]:
        """Yields the turns of encoder, generator, and both discriminators."""
        yield from _hybrid_turns(self, model, x, samples=True, fake_weight=self.fake_weight)


def _hybrid_turns(
    game: VGH, model: LatentVariableModel, x: Tensor, *, samples: bool, fake_weight: float
) -> Iterator[Turn]:
    """Algorithm 5: one forward pass, then one step of each; D sees each source by itself."""
    D, C = game.adversary(model, "data"), game.adversary(model, "code")
    z, code = model.prior().sample((len(x),)), model.encode(x).rsample()
    p = model.decode(code)
    fakes = [p.mean, *([generated(model, z)] if samples else [])]
    cost = reconstruction_cost(p, x, game.cost)
    loss = game.encoder_weight * cost + non_saturating_loss(C(code))
    yield Turn("encoder", loss, {"reconstruction": cost.detach()}, keep_graph=True)
    loss = game.generator_weight * cost
    for fake in fakes:
        loss = loss + non_saturating_loss(D(fake))
    yield Turn("generator", loss)
    t_x, t_fakes = D(x), [D(fake.detach()) for fake in fakes]
    shift = math.log(fake_weight * len(fakes)) if fake_weight else 0.0
    accuracies = [ratio_accuracy(t_x + shift, t + shift) for t in t_fakes]
    accuracy = {"data_accuracy": torch.stack(accuracies).mean()}
    yield Turn("data", discriminator_loss(t_x, *t_fakes, fake_weight=fake_weight), accuracy)
    t_prior, t_code = C(z), C(code.detach())
    accuracy = {"code_accuracy": ratio_accuracy(t_prior, t_code)}
    yield Turn("code", discriminator_loss(t_prior, t_code), accuracy)
