r"""The networks of Rosca et al. for images in colour: an encoder is the generator, transposed.

ColorMNIST: a linear layer to 64 maps of a quarter of the side, then transposed convolutions 5 × 5
of stride 2, 1 and 2 with 64, 32 and 3 maps. CIFAR-10: the DCGAN for 32 × 32 pixels, 4 × 4 kernels
with 256, 128, 64 and 3 maps. Batch normalisation and ReLUs; the encoder's last layer is linear,
and the decoder's gives what its likelihood asks for, where a GAN's has a tanh.
"""

from __future__ import annotations

__all__ = ["color_mnist_vae", "dcgan_vae"]

from torch import nn

from elboscope.core import InputError
from elboscope.distributions import Scale
from elboscope.models import VAE
from elboscope.models.architectures import num_encoder_outputs, posterior_reader
from elboscope.models.named_likelihoods import LikelihoodName, make_likelihood
from elboscope.models.output_shapes import channels_first
from elboscope.models.posterior_heads import PosteriorFamily
from elboscope.models.vae import Head

COLOUR_MAPS = (32, 64)
DCGAN_MAPS = (64, 128, 256)
DCGAN_SIDE = 32
# Of the DCGAN's convolutions.
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
        maps: Of the layers near the image, and of those near the code.
        likelihood: As in :func:`elboscope.from_modules`.
        scale: Of a likelihood that has one.
        levels: Of a discrete likelihood; 256 if None.
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
        maps: Of the layers, from the image to the code.
        likelihood: As in :func:`elboscope.from_modules`.
        scale: Of a likelihood that has one.
        levels: Of a discrete likelihood; 256 if None.
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
