r"""VAEs that games train: hybrids with adversaries, and AVB with its implicit posterior.

A :class:`Hybrid` *is* a VAE, with an explicit q(z|x) and p(x|z), so that each of its numbers can
be measured as any VAE's can: its log-likelihood, its KL, its marginal posterior. How it was
trained is another matter: by a game (:mod:`elboscope.training.games.base`) against the
adversaries that it carries by name,

- ``"data"``: x → logit, tells data from reconstructions and samples (VGH, VGH++),
- ``"code"``: z → logit, tells draws of the prior from codes (AAE, WAE-GAN, VGH, VGH++),
- ``"joint"``: (x, z) → logit (AVB, VEEGAN).

No value of an adversary enters a number that is reported as a likelihood or as a bound.

References:
    | Distribution Matching in Variational Inference (Rosca et al., 2018),
      https://arxiv.org/abs/1802.06847
"""

from __future__ import annotations

__all__ = [
    "Adversary",
    "Hybrid",
    "color_mnist_hybrid",
    "dcgan_hybrid",
    "implicit_posterior",
    "mlp_avb",
    "mlp_hybrid",
]

import math
from collections.abc import Callable, Mapping
from typing import Literal

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from elboscope.core import InputError
from elboscope.distributions import ImplicitPosterior, Scale
from elboscope.nn import (
    Activation,
    AVBAdversary,
    NoiseBasis,
    NoiseBasisEncoder,
    Norm,
    code_discriminator,
    color_mnist_discriminator,
    color_mnist_encoder,
    color_mnist_generator,
    conv_joint_discriminator,
    dcgan_discriminator,
    dcgan_encoder,
    dcgan_generator,
    mlp,
    mlp_discriminator,
    mlp_joint_discriminator,
)
from elboscope.nn.dcgan import COLOR_MNIST_MAPS as COLOUR_MAPS
from elboscope.nn.dcgan import DISCRIMINATOR_MAPS
from elboscope.nn.dcgan import MAPS as DCGAN_MAPS
from elboscope.nn.games import CODE_HIDDEN

from .from_modules import LikelihoodName, make_likelihood
from .vae import VAE, EncoderOutput, Head, channels_first, num_outputs

Adversary = Literal["data", "code", "joint"]
BOTH: tuple[Adversary, ...] = ("data", "code")


class Hybrid(VAE):
    """A VAE with adversaries.

    Args:
        encoder: As in :class:`VAE`, like all others but the last.
        decoder: Its mean is the generator of the games.
        likelihood: p(x|z) from the decoder's output.
        latent_shape: ``(*Z)``.
        data_shape: ``(*X)``.
        adversaries: Networks by the names "data", "code" and "joint".
        encoder_output: How to read the encoder.
        input_shape: The shape in which the encoder takes one datapoint.
        prior: p(z).

    Example:
        >>> import torch
        >>> model = mlp_hybrid((6,), 2, (8,), code_hidden=(8,))
        >>> model.encode(torch.zeros(5, 6)).event_shape, sorted(model.adversaries)
        (torch.Size([2]), ['code', 'data'])
    """

    def __init__(
        self,
        encoder: nn.Module,
        decoder: nn.Module,
        likelihood: Head,
        *,
        latent_shape: tuple[int, ...],
        data_shape: tuple[int, ...],
        adversaries: Mapping[str, nn.Module],
        encoder_output: EncoderOutput | Callable[..., Distribution] = "mu_logvar",
        input_shape: tuple[int, ...] | None = None,
        prior: Distribution | nn.Module | None = None,
    ) -> None:
        super().__init__(
            encoder, decoder, likelihood,
            latent_shape=latent_shape, data_shape=data_shape,
            encoder_output=encoder_output, input_shape=input_shape, prior=prior,
        )  # fmt: skip
        self.adversaries = nn.ModuleDict(dict(adversaries))

    def generate(self, z: Tensor) -> Tensor:
        """Returns E[x|z], what the games call G(z)."""
        x: Tensor = self.decode(z).mean
        return x


def mlp_hybrid(
    data_shape: tuple[int, ...],
    latent_dim: int,
    hidden: tuple[int, ...] = (512, 512),
    adversaries: tuple[Adversary, ...] = BOTH,
    adversary_hidden: tuple[int, ...] = (512, 512),
    code_hidden: tuple[int, ...] = CODE_HIDDEN,
    nonlinearity: Activation = "relu",
    likelihood: LikelihoodName = "bernoulli",
    scale: Scale | None = None,
) -> Hybrid:
    """Returns a hybrid of multilayer perceptrons on flattened x, without batch normalisation.

    Args:
        data_shape: ``(*X)``.
        latent_dim: d.
        hidden: Widths of the encoder's hidden layers; the decoder has them in reverse.
        adversaries: Which of "data", "code" and "joint" it carries.
        adversary_hidden: Widths of the adversaries on data and on pairs.
        code_hidden: Widths of the adversary on codes.
        nonlinearity: Activation of encoder and decoder.
        likelihood: A word, as in :func:`elboscope.from_modules`.
        scale: Scale of a likelihood that has one.

    Example:
        >>> sorted(mlp_hybrid((6,), 2, (8,), adversaries=("joint",)).adversaries)
        ['joint']
    """
    shape, wide = tuple(data_shape), tuple(adversary_hidden)
    pixels = math.prod(shape)
    head = make_likelihood(likelihood, shape, scale=scale)
    outputs = num_outputs(head, shape)
    return Hybrid(
        mlp(pixels, tuple(hidden), 2 * latent_dim, nonlinearity),
        mlp(latent_dim, tuple(reversed(hidden)), outputs, nonlinearity),
        head,
        latent_shape=(latent_dim,),
        data_shape=shape,
        input_shape=(pixels,),
        adversaries=chosen(
            adversaries,
            data=lambda: mlp_discriminator(shape, wide),
            code=lambda: code_discriminator(latent_dim, tuple(code_hidden)),
            joint=lambda: mlp_joint_discriminator(shape, latent_dim, wide),
        ),
    )


def color_mnist_hybrid(
    data_shape: tuple[int, ...],
    latent_dim: int = 50,
    maps: tuple[int, int] = COLOUR_MAPS,
    adversaries: tuple[Adversary, ...] = BOTH,
    discriminator_maps: tuple[int, ...] = DISCRIMINATOR_MAPS,
    code_hidden: tuple[int, ...] = CODE_HIDDEN,
    norm: Norm = "batch",
    likelihood: LikelihoodName = "bernoulli",
    scale: Scale | None = None,
) -> Hybrid:
    """Returns the networks of Rosca et al. for ColorMNIST; any sides divisible by four will do.

    Args:
        data_shape: Channels, height, width.
        latent_dim: d.
        maps: Channels of encoder and decoder, near the image and near the code.
        adversaries: Which of "data", "code" and "joint" it carries.
        discriminator_maps: Channels of the adversary on data.
        code_hidden: Widths of the adversary on codes.
        norm: Normalisation in the adversary on data: "batch", "layer" or "none".
        likelihood: A word, as in :func:`elboscope.from_modules`.
        scale: Scale of a likelihood that has one.

    Example:
        >>> model = color_mnist_hybrid((3, 8, 8), 4, (4, 8), discriminator_maps=(4, 8))
        >>> model.data_shape
        (3, 8, 8)
    """
    shape = tuple(data_shape)
    head = make_likelihood(likelihood, shape, scale=scale)
    return Hybrid(
        color_mnist_encoder(shape, 2 * latent_dim, maps),
        color_mnist_generator(channels_first(head, shape), latent_dim, maps, "linear"),
        head,
        latent_shape=(latent_dim,),
        data_shape=shape,
        adversaries=chosen(
            adversaries,
            data=lambda: color_mnist_discriminator(shape, tuple(discriminator_maps), norm),
            code=lambda: code_discriminator(latent_dim, tuple(code_hidden)),
            joint=lambda: conv_joint_discriminator(shape, latent_dim),
        ),
    )


def dcgan_hybrid(
    data_shape: tuple[int, ...] = (3, 32, 32),
    latent_dim: int = 50,
    maps: tuple[int, ...] = DCGAN_MAPS,
    adversaries: tuple[Adversary, ...] = BOTH,
    code_hidden: tuple[int, ...] = CODE_HIDDEN,
    norm: Norm = "batch",
    likelihood: LikelihoodName = "bernoulli",
    scale: Scale | None = None,
) -> Hybrid:
    """Returns the networks of the DCGAN, the encoder a generator transposed.

    Args:
        data_shape: Channels and two equal sides: 32 for three maps, 64 for four.
        latent_dim: d.
        maps: Channels of all convolutional networks, from the image on.
        adversaries: Which of "data", "code" and "joint" it carries.
        code_hidden: Widths of the adversary on codes.
        norm: Normalisation in the adversary on data: "batch", "layer" or "none".
        likelihood: A word, as in :func:`elboscope.from_modules`.
        scale: Scale of a likelihood that has one.

    Example:
        >>> dcgan_hybrid((3, 16, 16), 4, (4, 8)).latent_shape
        (4,)
    """
    shape, side = tuple(data_shape), data_shape[-1]
    head = make_likelihood(likelihood, shape, scale=scale)
    return Hybrid(
        dcgan_encoder(shape[0], 2 * latent_dim, tuple(maps), side),
        dcgan_generator(channels_first(head, shape)[0], latent_dim, tuple(maps), side, "linear"),
        head,
        latent_shape=(latent_dim,),
        data_shape=shape,
        adversaries=chosen(
            adversaries,
            data=lambda: dcgan_discriminator(shape[0], tuple(maps), side, norm),
            code=lambda: code_discriminator(latent_dim, tuple(code_hidden)),
            joint=lambda: conv_joint_discriminator(shape, latent_dim),
        ),
    )


def chosen(
    names: tuple[Adversary, ...], **builders: Callable[[], nn.Module]
) -> dict[str, nn.Module]:
    """Builds the adversaries that are asked for.

    Raises:
        InputError: Another name.

    Example:
        >>> list(chosen(("code",), code=lambda: nn.Linear(2, 1), data=lambda: nn.Linear(6, 1)))
        ['code']
    """
    for name in names:
        if name not in builders:
            expected = f"some of {', '.join(builders)}"
            raise InputError("adversaries", expected=expected, got=repr(name))
    return {name: builders[name]() for name in names}


# Models with an implicit posterior: q(z|x) by its draws alone, for adversarial variational Bayes.
#
# The encoder turns noise and x into z (:class:`elboscope.nn.NoiseBasisEncoder`); p(x|z) and p(z)
# are explicit. Hence log p(x) can be estimated by annealed importance sampling, from the prior,
# while importance sampling from q, the ELBO and its KL have no density to work with. Moments of q
# are taken over draws of the noise, once for all x.
#
# References:
#     | Adversarial Variational Bayes (Mescheder et al., 2017), https://arxiv.org/abs/1701.04722

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
        basis_hidden: Widths of the networks that turn noise into basis vectors.
        adversary_hidden: Widths of each of the adversary's four networks.
        adversary_features: Length of its two feature vectors.
        shift: How small the posterior's noise begins, about e to its negative; 5 is the authors',
            for rates of 5e-5; 0 is as wide as the prior, for rates of 1e-3.
        likelihood: A word, as in :func:`elboscope.from_modules`.
        scale: Scale of a likelihood that has one.

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
