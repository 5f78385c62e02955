r"""Games whose adversary sees pairs (x, z), and one that leaves the KL where it is known.

======== ======================================================================================
AVB      T tells q(z|x) from p(z) at the same x: its best is log q(z|x) − log p(z), the integrand
         of the KL that an implicit posterior cannot tell
VEEGAN   T tells (G(z), z) from (x, F(x)); F also has to find z again from G(z)
MatchedELBO  an ELBO with its exact KL, and a discriminator of data on samples
======== ======================================================================================

A ratio that a classifier found is not the ratio: AVB's objective with T instead of the KL
exceeds log p(x) on published runs, and is therefore never called a bound here.

References:
    | Adversarial Variational Bayes (Mescheder et al., 2017), https://arxiv.org/abs/1701.04722
    | VEEGAN (Srivastava et al., 2017), https://arxiv.org/abs/1705.07761
    | Distribution Matching in Variational Inference (Rosca et al., 2018),
      https://arxiv.org/abs/1802.06847
"""

from __future__ import annotations

__all__ = ["AVB", "VEEGAN", "MatchedELBO", "contrast"]

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import Distribution

from elboscope import objectives
from elboscope.core import InputError, LatentVariableModel, generated
from elboscope.objectives import discriminator_loss, non_saturating_loss, ratio_accuracy

from .adversarial import BOTH
from .base import Game, Turn, require_weights

# Added to the variance of the contrast, as in the authors' program.
VARIANCE_FLOOR = 1e-4


class Contrast(NamedTuple):
    r"""A Gaussian :math:`r_\alpha(z|x)` of q's moments, without gradient through them.

    Attributes:
        mean: μ, ``(B, *Z)``.
        scale: σ.
    """

    mean: Tensor
    scale: Tensor

    def normalised(self, z: Tensor) -> Tensor:
        """Returns z̃ = (z − μ)/σ."""
        return (z - self.mean) / self.scale

    def log_prob(self, z: Tensor) -> Tensor:
        """Returns log r(z|x), ``(B,)``, in nats."""
        terms = self.normalised(z).square() + math.log(2 * math.pi) + 2 * self.scale.log()
        return -0.5 * terms.flatten(1).sum(1)


def contrast(q: Distribution) -> Contrast:
    """Returns the Gaussian with a posterior's mean and variance (plus 1e-4), detached.

    Example:
        >>> from elboscope.distributions import standard_normal
        >>> q = standard_normal((2,), torch.zeros(1)).expand((3,))
        >>> contrast(q).scale[0, 0].item()
        1.00004...
    """
    moments = getattr(q, "moments", None)  # of one set of samples, where they are estimated
    mean, variance = (q.mean, q.variance) if moments is None else moments()
    return Contrast(mean.detach(), (variance.detach() + VARIANCE_FLOOR).sqrt())


@dataclass(frozen=True)
class AVB(Game):
    r"""Adversarial variational Bayes: the KL of a posterior that has no density, by a classifier.

    .. math:: L = -\mathbb{E}_{q(z|x)}[\log p(x|z) - \widehat{\mathrm{KL}}(x, z)], \qquad
              \widehat{\mathrm{KL}} = T(x, z)

    with label 1 for z ~ q(z|x) and 0 for z ~ p(z). With adaptive contrast T compares with a
    Gaussian r of q's moments instead, on normalised codes z̃, which leaves it less to learn:

    .. math:: \widehat{\mathrm{KL}} = T(x, \tilde z) + \log r(z|x) - \log p(z)

    Args:
        adaptive_contrast: Use it.
        adversary_steps: Steps of T for one of encoder and decoder.
        adversary_rate: T's learning rate, as a multiple of ``learning_rate``; 2 as published.

    Example:
        >>> import elboscope as es
        >>> model = es.models.mlp_avb((6,), 2, (8,), 3, 4, (8,), (8,), 8)
        >>> [turn.player for turn in AVB().turns(model, torch.ones(5, 6), 0.0)]
        ['autoencoder', 'joint']
    """

    adaptive_contrast: bool = True
    adversary_steps: int = 1

    adversaries: ClassVar[tuple[str, ...]] = ("joint",)
    columns: ClassVar[tuple[str, ...]] = (
        "autoencoder_loss",
        "joint_loss",
        "reconstruction",
        "kl_by_ratio",
        "joint_accuracy",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.adversary_steps < 1:
            got = str(self.adversary_steps)
            raise InputError("adversary_steps", expected="at least 1", got=got)

    def turns(
        self, model: LatentVariableModel, x: Float[Tensor, "B *X"], epoch: float
    ) -> Iterator[Turn]:
        """Yields the turn of encoder and decoder, and those of T."""
        T = self.adversary(model, "joint")
        q = model.encode(x)
        z = q.rsample()
        r = contrast(q) if self.adaptive_contrast else None
        kl = T(x, z if r is None else r.normalised(z))
        if r is not None:
            kl = kl + r.log_prob(z) - model.prior().log_prob(z)
        log_px = model.decode(z).log_prob(x)
        observed = {"reconstruction": -log_px.mean().detach(), "kl_by_ratio": kl.mean().detach()}
        yield Turn("autoencoder", (kl - log_px).mean(), observed, BOTH)
        for step in range(self.adversary_steps):
            if step:
                with torch.no_grad():
                    q = model.encode(x)
                    z, r = q.rsample(), contrast(q) if self.adaptive_contrast else None
            yield _of_pairs(T, model, x, z.detach(), r)


def _of_pairs(
    T: torch.nn.Module, model: LatentVariableModel, x: Tensor, z: Tensor, r: Contrast | None
) -> Turn:
    """T's turn: draws of q against those of p, or of r, both in the coordinates T takes."""
    if r is None:
        other = model.prior().sample((len(x),))
    else:
        z, other = r.normalised(z), torch.randn_like(z)
    t_q, t_other = T(x, z), T(x, other)
    accuracy = {"joint_accuracy": ratio_accuracy(t_q, t_other)}
    return Turn("joint", discriminator_loss(t_q, t_other), accuracy)


@dataclass(frozen=True)
class VEEGAN(Game):
    r"""A generator G, and F that finds its codes again: modes that G forgets cost F.

    .. math:: L_{G, F} = \mathbb{E}_{z}[T(G(z), z) + w \|z - F(G(z))\|_2^2]
              - \mathbb{E}_{p^*}[T(x, F(x))]

    T has label 1 on (G(z), z) and 0 on (x, F(x)). F(x) is a draw of q(z|x), and G(z) = E[x|z].
    The last term is F's own in the adversarial game; the bound of the paper is without it.

    Args:
        code_weight: w.
        through_data: Whether F also learns from T on data.
        adversary_rate: T's learning rate, as a multiple of ``learning_rate``.

    Example:
        >>> import elboscope as es
        >>> model = es.models.mlp_hybrid((6,), 2, (8,), adversaries=("joint",))
        >>> [turn.player for turn in VEEGAN().turns(model, torch.ones(5, 6), 0.0)]
        ['joint', 'autoencoder']
    """

    code_weight: float = 1.0
    through_data: bool = True

    adversaries: ClassVar[tuple[str, ...]] = ("joint",)
    columns: ClassVar[tuple[str, ...]] = (
        "autoencoder_loss",
        "joint_loss",
        "code_error",
        "kl_by_ratio",
        "joint_accuracy",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        require_weights(code_weight=self.code_weight)

    def turns(
        self, model: LatentVariableModel, x: Float[Tensor, "B *X"], epoch: float
    ) -> Iterator[Turn]:
        """Yields T's turn, and that of F and G."""
        T = self.adversary(model, "joint")
        z = model.prior().sample((len(x),))
        made = generated(model, z)
        found, code = model.encode(made).rsample(), model.encode(x).rsample()
        t_made, t_data = T(made.detach(), z), T(x, code.detach())
        accuracy = {"joint_accuracy": ratio_accuracy(t_made, t_data)}
        yield Turn("joint", discriminator_loss(t_made, t_data), accuracy)
        ratio = T(made, z).mean()
        error = (z - found).flatten(1).square().sum(1).mean()
        loss = ratio + self.code_weight * error
        if self.through_data:
            loss = loss - T(x, code).mean()
        observed = {"code_error": error.detach(), "kl_by_ratio": ratio.detach()}
        yield Turn("autoencoder", loss, observed, BOTH)


@dataclass(frozen=True)
class MatchedELBO(Game):
    r"""An ELBO with its exact conditional KL, and marginals matched where they can be seen: in x.

    .. math::
        L &= -\mathrm{ELBO}(x) + w\, \mathbb{E}_{p(z)}[-\log D(G(z))]
             + w_r\, \mathbb{E}_{q(z|x)}[-\log D(\hat x)] \\
        L_D &= -\log D(x) - \tfrac1n \sum_{i=1}^n \log(1 - D(x_i))

    over the n kinds of fakes: samples G(z) and, if w_r > 0, reconstructions x̂ = G(ẑ), ẑ ~ q(z|x).
    Latents are matched conditionally, q(z|x) with p(z) by a KL, and no codes are judged; data are
    matched in their marginal, by D. The encoder learns from the ELBO alone: what D says of x̂
    stops at its code, so that no judge rewards codes that are easy to decode.

    The likelihood is explicit, and so is its bound: ``train_bound`` is one, of log p(x) of this
    model. The adversarial terms are none, and pull the decoder away from its best bound. This is
    not VAE/GAN of Larsen et al., which has the same KL but reconstructs the *features* of D
    instead of x, and so has no likelihood of x.

    Args:
        weight: w, of samples of the prior.
        reconstruction_weight: w_r, of reconstructions; 0 does not show them to D.
        adversary_rate: D's learning rate, as a multiple of ``learning_rate``.

    References:
        Distribution Matching in Variational Inference (Rosca et al., 2018),
        https://arxiv.org/abs/1802.06847; Autoencoding beyond pixels using a learned similarity
        metric (Larsen et al., 2016), https://arxiv.org/abs/1512.09300

    Example:
        >>> import elboscope as es
        >>> model = es.models.mlp_hybrid((6,), 2, (8,), adversaries=("data",))
        >>> [turn.player for turn in MatchedELBO().turns(model, torch.ones(5, 6), 0.0)]
        ['autoencoder', 'data']
    """

    weight: float = 1.0
    reconstruction_weight: float = 0.0

    adversaries: ClassVar[tuple[str, ...]] = ("data",)
    columns: ClassVar[tuple[str, ...]] = (
        "train_bound",
        "autoencoder_loss",
        "data_loss",
        "data_accuracy",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        weights = {"weight": self.weight, "reconstruction_weight": self.reconstruction_weight}
        require_weights(**weights)

    def turns(
        self, model: LatentVariableModel, x: Float[Tensor, "B *X"], epoch: float
    ) -> Iterator[Turn]:
        """Yields the turn of encoder and decoder, and that of D."""
        D = self.adversary(model, "data")
        bound = objectives.elbo(model, x)
        fakes = [generated(model, model.prior().sample((len(x),)))]
        loss = bound.loss + self.weight * non_saturating_loss(D(fakes[0]))
        if self.reconstruction_weight:
            with torch.no_grad():
                code = model.encode(x).rsample()
            fakes.append(generated(model, code))
            loss = loss + self.reconstruction_weight * non_saturating_loss(D(fakes[1]))
        yield Turn("autoencoder", loss, {"train_bound": bound.value.mean().detach()}, BOTH)
        t_x, t_fakes = D(x), [D(fake.detach()) for fake in fakes]
        accuracy = torch.stack([ratio_accuracy(t_x, t) for t in t_fakes]).mean()
        loss = discriminator_loss(t_x, *t_fakes, fake_weight=1 / len(fakes))
        yield Turn("data", loss, {"data_accuracy": accuracy})
