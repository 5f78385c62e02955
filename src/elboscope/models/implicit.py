r"""Models with an implicit posterior: q(z|x) by its draws alone, for adversarial variational Bayes.

The encoder turns noise and x into z (:class:`elboscope.nn.NoiseBasisEncoder`); p(x|z) and p(z)
are explicit. Hence log p(x) can be estimated by annealed importance sampling, from the prior,
while importance sampling from q, the ELBO and its KL have no density to work with. Moments of q
are taken over draws of the noise, once for all x.

References:
    | Adversarial Variational Bayes (Mescheder et al., 2017), https://arxiv.org/abs/1701.04722
"""

from __future__ import annotations

__all__ = ["implicit_posterior", "mlp_avb"]

import math

import torch
from torch import Tensor

from elboscope.distributions import ImplicitPosterior, Scale
from elboscope.nn import AVBAdversary, NoiseBasis, NoiseBasisEncoder, mlp

from .from_modules import LikelihoodName, make_likelihood
from .hybrids import Hybrid
from .vae import num_outputs

# Draws of the noise from which moments are taken, at least.
NUM_MOMENT_DRAWS = 256


def implicit_posterior(basis: NoiseBasis) -> ImplicitPosterior:
    r"""Returns q(z|x), whose draws are :math:`z_0 + \sum_i a_i \odot v_i`.

    Example:
        >>> ones = torch.ones(3, 4, 2)
        >>> basis = NoiseBasis(torch.zeros(3, 2), ones, lambda n: torch.ones(n, 4, 2))
        >>> implicit_posterior(basis).rsample(torch.Size((5,)))[0, 0].tolist()
        [4.0, 4.0]
    """
    origin, coefficients, draw = basis
    B, d = origin.shape

    def draws(K: int) -> Tensor:
        v = draw(K * B).reshape(K, B, *coefficients.shape[1:])
        z: Tensor = origin + (coefficients * v).sum(-2)
        return z

    def moments() -> tuple[Tensor, Tensor]:
        v = draw(max(NUM_MOMENT_DRAWS, B))
        mean = origin + (coefficients * v.mean(0)).sum(-2)
        return mean, (coefficients.square() * v.var(0)).sum(-2)

    return ImplicitPosterior(draws, torch.Size((B,)), torch.Size((d,)), moments)


def mlp_avb(
    data_shape: tuple[int, ...],
    latent_dim: int,
    hidden: tuple[int, ...] = (512, 512),
    num_bases: int = 16,
    noise_dim: int = 32,
    basis_hidden: tuple[int, ...] = (128, 128, 128),
    adversary_hidden: tuple[int, ...] = (1024, 1024, 1024),
    adversary_features: int = 8192,
    shift: float = 5.0,
    likelihood: LikelihoodName = "bernoulli",
    scale: Scale | None = None,
) -> Hybrid:
    """Returns a model with an implicit posterior and the adversary of AVB, for that game.

    Args:
        data_shape: ``(*X)``.
        latent_dim: d.
        hidden: Widths of the encoder's hidden layers; the decoder has them in reverse.
        num_bases: m of the noise basis: 16 for 8 latents, 32 for 32.
        noise_dim: Length of each ε.
        basis_hidden: Of the networks of the noise.
        adversary_hidden: Of each branch of the adversary.
        adversary_features: Length of its two feature vectors.
        shift: How small the posterior's noise begins, about e to its negative; 5 is the authors',
            for rates of 5e-5; 0 is as wide as the prior, for rates of 1e-3.
        likelihood: A word, as in :func:`elboscope.from_modules`.
        scale: Of a likelihood that has one.

    Example:
        >>> model = mlp_avb((6,), 2, (8,), 3, 4, (8,), (8,), 8)
        >>> q = model.encode(torch.zeros(5, 6))
        >>> q.rsample(torch.Size((7,))).shape, q.variance.min().item() > 0
        (torch.Size([7, 5, 2]), True)
    """
    shape = tuple(data_shape)
    pixels = math.prod(shape)
    head = make_likelihood(likelihood, shape, scale=scale)
    network = mlp(pixels, tuple(hidden), (1 + num_bases) * latent_dim, "elu")
    return Hybrid(
        NoiseBasisEncoder(
            network, latent_dim, num_bases, noise_dim, tuple(basis_hidden), shift=shift
        ),
        mlp(latent_dim, tuple(reversed(hidden)), num_outputs(head, shape), "elu"),
        head,
        latent_shape=(latent_dim,),
        data_shape=shape,
        input_shape=(pixels,),
        encoder_output=implicit_posterior,
        adversaries={
            "joint": AVBAdversary(shape, latent_dim, tuple(adversary_hidden), adversary_features)
        },
    )
