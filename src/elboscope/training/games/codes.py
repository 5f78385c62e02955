r"""Games around a code: adversarial and Wasserstein autoencoders.

With x ~ p*, z ~ p(z), a code ẑ ~ q(z|x), its reconstruction x̂ = E[x|ẑ] and C the discriminator
of codes (label 1 for draws of the prior):

====== ======================================================================================
AAE    reconstruction by encoder and decoder; C; the encoder by −log C(ẑ)
WAE    encoder and decoder by a cost c(x, x̂) + λ·(−log C(ẑ)), or + λ·MMD²(ẑ, z)
====== ======================================================================================

References:
    | Adversarial Autoencoders (Makhzani et al., 2015), https://arxiv.org/abs/1511.05644
    | Wasserstein Auto-Encoders (Tolstikhin et al., 2018), https://arxiv.org/abs/1711.01558
"""

from __future__ import annotations

__all__ = ["AAE", "WAEGAN", "WAEMMD", "Cost", "reconstruction_cost"]

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

from jaxtyping import Float
from torch import Tensor
from torch.distributions import Distribution

from elboscope.core import InputError, LatentVariableModel
from elboscope.objectives import (
    discriminator_loss,
    maximum_mean_discrepancy,
    non_saturating_loss,
    ratio_accuracy,
)

from .base import Game, Turn, require_weights, require_words

Cost = Literal["likelihood", "squared", "absolute", "mean_absolute"]
BOTH = ("encoder", "generator")


def reconstruction_cost(
    p: Distribution, x: Float[Tensor, "B *X"], cost: Cost = "likelihood"
) -> Float[Tensor, ""]:
    r"""Returns the cost of x under p(x|ẑ), the mean over a minibatch.

    Args:
        p: p(x|ẑ), batch ``(B,)``.
        x: The datapoints.
        cost: −log p(x|ẑ) in nats, :math:`\|x - \hat x\|_2^2`, :math:`\|x - \hat x\|_1`, or the
            last divided by the number of values of x.

    Example:
        >>> import torch
        >>> from elboscope.core import PointMass
        >>> p = PointMass(torch.zeros(2, 4), event_dim=1)
        >>> [reconstruction_cost(p, torch.ones(2, 4), c).item() for c in ("squared", "absolute")]
        [4.0, 4.0]
    """
    require_words("cost", cost, get_args(Cost))
    if cost == "likelihood":
        return -p.log_prob(x).mean()
    error = (x - p.mean).flatten(1)
    if cost == "squared":
        return error.square().sum(1).mean()
    return error.abs().sum(1).mean() if cost == "absolute" else error.abs().mean()


@dataclass(frozen=True)
class AAE(Game):
    r"""The adversarial autoencoder: q(z) is matched to p(z) by a discriminator of codes.

    There is no KL in it, and no bound: a posterior may become as narrow as it likes.

    Args:
        cost: Of the reconstruction.
        adversary_rate: The discriminator's learning rate, as a multiple of ``learning_rate``.

    Example:
        >>> import torch, elboscope as es
        >>> model = es.models.mlp_hybrid((6,), 2, (8,), code_hidden=(8,))
        >>> [turn.player for turn in AAE().turns(model, torch.rand(5, 6), 0.0)]
        ['autoencoder', 'code', 'encoder']
    """

    cost: Cost = "likelihood"

    adversaries: ClassVar[tuple[str, ...]] = ("code",)
    columns: ClassVar[tuple[str, ...]] = (
        "autoencoder_loss",
        "code_loss",
        "encoder_loss",
        "code_accuracy",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        require_words("cost", self.cost, get_args(Cost))

    def turns(
        self, model: LatentVariableModel, x: Float[Tensor, "B *X"], epoch: float
    ) -> Iterator[Turn]:
        """Yields the turns of encoder and decoder, of the discriminator, of the encoder."""
        C = self.adversary(model, "code")
        p = model.decode(model.encode(x).rsample())
        yield Turn("autoencoder", reconstruction_cost(p, x, self.cost), moves=BOTH)
        z, code = model.prior().sample((len(x),)), model.encode(x).rsample()
        t_prior, t_code = C(z), C(code.detach())
        accuracy = {"code_accuracy": ratio_accuracy(t_prior, t_code)}
        yield Turn("code", discriminator_loss(t_prior, t_code), accuracy)
        yield Turn("encoder", non_saturating_loss(C(code)))


@dataclass(frozen=True)
class WAEGAN(Game):
    r"""The Wasserstein autoencoder with a discriminator of codes: E c(x, x̂) + λ·E[−log C(ẑ)].

    Args:
        weight: λ; 10 for MNIST and 100 for CelebA in the authors' program, whose cost is
            0.05‖x − x̂‖².
        cost: c.
        adversary_rate: The discriminator's learning rate, as a multiple of ``learning_rate``.

    Example:
        >>> import torch, elboscope as es
        >>> model = es.models.mlp_hybrid((6,), 2, (8,), code_hidden=(8,))
        >>> [turn.player for turn in WAEGAN().turns(model, torch.rand(5, 6), 0.0)]
        ['code', 'autoencoder']
    """

    weight: float = 10.0
    cost: Cost = "squared"

    adversaries: ClassVar[tuple[str, ...]] = ("code",)
    columns: ClassVar[tuple[str, ...]] = (
        "autoencoder_loss",
        "code_loss",
        "reconstruction",
        "code_accuracy",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        require_weights(weight=self.weight)
        require_words("cost", self.cost, get_args(Cost))

    def turns(
        self, model: LatentVariableModel, x: Float[Tensor, "B *X"], epoch: float
    ) -> Iterator[Turn]:
        """Yields the discriminator's turn, and that of encoder and decoder."""
        C = self.adversary(model, "code")
        z, code = model.prior().sample((len(x),)), model.encode(x).rsample()
        t_prior, t_code = C(z), C(code.detach())
        accuracy = {"code_accuracy": ratio_accuracy(t_prior, t_code)}
        yield Turn("code", discriminator_loss(t_prior, t_code), accuracy)
        cost = reconstruction_cost(model.decode(code), x, self.cost)
        loss = cost + self.weight * non_saturating_loss(C(code))
        yield Turn("autoencoder", loss, {"reconstruction": cost.detach()}, BOTH)


@dataclass(frozen=True)
class WAEMMD(Game):
    r"""The Wasserstein autoencoder with a kernel statistic: E c(x, x̂) + λ·MMD²(q(z), p(z)).

    It has one player and no adversary. The statistic is unbiased, and can be negative.

    Args:
        weight: λ.
        cost: c.
        adversary_rate: Not used.

    Example:
        >>> import torch, elboscope as es
        >>> model = es.models.mlp_hybrid((6,), 2, (8,), adversaries=())
        >>> [turn.player for turn in WAEMMD().turns(model, torch.rand(5, 6), 0.0)]
        ['autoencoder']
    """

    weight: float = 10.0
    cost: Cost = "squared"

    columns: ClassVar[tuple[str, ...]] = ("autoencoder_loss", "reconstruction", "mmd")

    def __post_init__(self) -> None:
        super().__post_init__()
        require_weights(weight=self.weight)
        require_words("cost", self.cost, get_args(Cost))

    def turns(
        self, model: LatentVariableModel, x: Float[Tensor, "B *X"], epoch: float
    ) -> Iterator[Turn]:
        """Yields the one turn of encoder and decoder."""
        if len(x) < 2:
            raise InputError(
                "batch_size", expected="at least 2: MMD² compares pairs of codes", got=str(len(x))
            )
        z, code = model.prior().sample((len(x),)), model.encode(x).rsample()
        cost = reconstruction_cost(model.decode(code), x, self.cost)
        mmd = maximum_mean_discrepancy(code.flatten(1), z.flatten(1))
        observed = {"reconstruction": cost.detach(), "mmd": mmd.detach()}
        yield Turn("autoencoder", cost + self.weight * mmd, observed, BOTH)
