r"""Generative adversarial networks: a generator x = G(z), z ~ p(z), and what judges it.

A GAN has no p(x|z) and no q(z|x): there is no log p(x), no bound on it, and no code of an x. What
is left to look at are its samples. The discriminator is kept inside the module, so that it is
saved, and resumed, with the generator.

References:
    | Generative Adversarial Nets (Goodfellow et al., 2014), https://arxiv.org/abs/1406.2661
    | Unsupervised Representation Learning with Deep Convolutional GANs (Radford et al., 2016),
      https://arxiv.org/abs/1511.06434
    | Improved Training of Wasserstein GANs (Gulrajani et al., 2017),
      https://arxiv.org/abs/1704.00028
"""

from __future__ import annotations

__all__ = ["GAN", "color_mnist_gan", "dcgan", "mlp_gan"]

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributions import Distribution

from elboscope.core import InputError
from elboscope.distributions import standard_normal
from elboscope.nn import (
    Activation,
    Norm,
    Output,
    color_mnist_discriminator,
    color_mnist_generator,
    dcgan_discriminator,
    dcgan_generator,
    mlp,
    mlp_discriminator,
)
from elboscope.nn.dcgan import COLOR_MNIST_MAPS as COLOUR_MAPS
from elboscope.nn.dcgan import DISCRIMINATOR_MAPS, output_layer
from elboscope.nn.dcgan import MAPS as DCGAN_MAPS

from .vae import reference


class NoDensityError(InputError, AttributeError):
    """A part was asked for that no generator has; to ``hasattr`` it is missing, as any other."""


class GAN(nn.Module):
    """A generator and its discriminator; z ~ N(0, I).

    Args:
        generator: From ``(N, *Z)`` to ``(N, *X)``, or to as many flat numbers.
        discriminator: From ``(N, *X)`` to one logit (or one number of a critic) a datapoint.
        latent_shape: ``(*Z)``.
        data_shape: ``(*X)``.

    Example:
        >>> from elboscope.nn import mlp_discriminator
        >>> gan = GAN(nn.Linear(2, 6), mlp_discriminator((6,)), latent_shape=(2,), data_shape=(6,))
        >>> gan.generate(gan.prior().sample((7, 5))).shape
        torch.Size([7, 5, 6])
    """

    def __init__(
        self,
        generator: nn.Module,
        discriminator: nn.Module,
        *,
        latent_shape: tuple[int, ...],
        data_shape: tuple[int, ...],
    ) -> None:
        super().__init__()
        self.generator = generator
        self.adversaries = nn.ModuleDict({"data": discriminator})
        self.latent_shape, self.data_shape = tuple(latent_shape), tuple(data_shape)
        self.prior_mean: Tensor
        zeros = torch.zeros(self.latent_shape).to(reference(generator))
        self.register_buffer("prior_mean", zeros, persistent=False)

    def __getattr__(self, name: str) -> Tensor | nn.Module:
        """Says of a posterior and a likelihood, which estimators ask for, that there are none."""
        if name in ("encode", "decode"):
            raise NoDensityError(
                f"{type(self).__name__}.{name}",
                expected="a model with an encoder q(z|x) and a likelihood p(x|z)",
                got="a generator, of which neither is known",
                do="Its samples can be scored: es.sample_quality(es.samples.sampler_of(model), x).",
            )
        found: Tensor | nn.Module = super().__getattr__(name)
        return found

    @property
    def discriminator(self) -> nn.Module:
        """The network that tells data from samples."""
        return self.adversaries["data"]

    def prior(self) -> Distribution:
        """Returns p(z) = N(0, I), event ``(*Z)``."""
        return standard_normal(self.latent_shape, self.prior_mean)

    def generate(self, z: Float[Tensor, "*B_and_Z"]) -> Tensor:
        """Returns G(z), ``(*batch, *X)``."""
        lead = z.shape[: z.ndim - len(self.latent_shape)]
        x: Tensor = self.generator(z.reshape(-1, *self.latent_shape))
        return x.reshape(*lead, *self.data_shape)


def mlp_gan(
    data_shape: tuple[int, ...],
    latent_dim: int,
    hidden: tuple[int, ...] = (512, 512),
    discriminator_hidden: tuple[int, ...] = (512, 512),
    nonlinearity: Activation = "relu",
    output: Output = "sigmoid",
) -> GAN:
    """Returns a GAN of multilayer perceptrons, without batch normalisation.

    Args:
        data_shape: ``(*X)``.
        latent_dim: d.
        hidden: Widths of the generator's hidden layers.
        discriminator_hidden: Those of the discriminator, with leaky ReLUs.
        nonlinearity: Activation of the generator's hidden layers.
        output: "sigmoid" for data in [0, 1], "tanh" in [−1, 1], "linear" for any.

    Example:
        >>> mlp_gan((1, 8, 8), 4, (16,)).generate(torch.zeros(3, 4)).shape
        torch.Size([3, 1, 8, 8])
    """
    flat = mlp(latent_dim, tuple(hidden), math.prod(data_shape), nonlinearity)
    return GAN(
        nn.Sequential(*flat, *output_layer(output)),
        mlp_discriminator(tuple(data_shape), tuple(discriminator_hidden)),
        latent_shape=(latent_dim,),
        data_shape=tuple(data_shape),
    )


def color_mnist_gan(
    data_shape: tuple[int, ...],
    latent_dim: int = 50,
    maps: tuple[int, int] = COLOUR_MAPS,
    discriminator_maps: tuple[int, ...] = DISCRIMINATOR_MAPS,
    norm: Norm = "batch",
    output: Output = "sigmoid",
) -> GAN:
    """Returns the GAN of Rosca et al. for ColorMNIST; any sides divisible by four will do.

    Args:
        data_shape: Channels, height, width.
        latent_dim: d.
        maps: Channels of the generator's layers, near the image and near the code.
        discriminator_maps: Channels of the discriminator's convolutions.
        norm: Normalisation in the discriminator: "batch"; "none" or "layer" for a critic with a
            gradient penalty.
        output: As in :func:`mlp_gan`.

    Example:
        >>> color_mnist_gan((3, 8, 8), 4, (4, 8), (4, 8)).generate(torch.zeros(2, 4)).shape
        torch.Size([2, 3, 8, 8])
    """
    return GAN(
        color_mnist_generator(tuple(data_shape), latent_dim, maps, output),
        color_mnist_discriminator(tuple(data_shape), tuple(discriminator_maps), norm),
        latent_shape=(latent_dim,),
        data_shape=tuple(data_shape),
    )


def dcgan(
    data_shape: tuple[int, ...] = (3, 32, 32),
    latent_dim: int = 100,
    maps: tuple[int, ...] = DCGAN_MAPS,
    norm: Norm = "batch",
    output: Output = "sigmoid",
) -> GAN:
    """Returns the DCGAN for images of 4·2ⁿ pixels.

    Args:
        data_shape: Channels and two equal sides: 32 for three maps, 64 for four.
        latent_dim: d.
        maps: Channels of the layers of both networks, from the image on.
        norm: Normalisation in the discriminator: "batch"; "none" or "layer" for a critic with a
            gradient penalty.
        output: As in :func:`mlp_gan`.

    Raises:
        InputError: Maps that do not make these sides.

    Example:
        >>> dcgan((3, 16, 16), 4, (4, 8)).generate(torch.zeros(2, 4)).shape
        torch.Size([2, 3, 16, 16])
    """
    colours, side = data_shape[0], data_shape[-1]
    return GAN(
        dcgan_generator(colours, latent_dim, tuple(maps), side, output),
        dcgan_discriminator(colours, tuple(maps), side, norm),
        latent_shape=(latent_dim,),
        data_shape=tuple(data_shape),
    )
