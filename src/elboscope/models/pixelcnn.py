r"""A VAE whose decoder is a gated PixelCNN: pixels that depend on each other, given z.

.. math:: p(x \mid z) = \prod_i p(x_i \mid x_{<i}, z)

is one distribution over the whole image. Its density takes one pass of the network, a draw one
pass over a row for every value; its mean has no closed form and is not implemented, which callers
take for *unavailable*. A strong decoder can explain x without z: then the bound is good and the
code empty. So look at the mutual information and the active units of such a model first.
"""

from __future__ import annotations

__all__ = ["AutoregressiveImage", "PixelCNNVAE", "pixelcnn_vae"]

import math
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import Distribution, constraints

from elboscope.core import InputError
from elboscope.distributions import Scale
from elboscope.nn import Activation, GatedPixelCNN, mlp

from .architectures import num_encoder_outputs, posterior_reader
from .from_modules import LikelihoodName, make_likelihood
from .posteriors import PosteriorFamily
from .priors import PriorFamily
from .vae import VAE, Head, output_shape

Shape = torch.Size | list[int] | tuple[int, ...]


class AutoregressiveImage(Distribution):
    """The distribution p(x|z) of images, value by value.

    Args:
        network: From (x, z) to the numbers of every value, each from the values before it.
        likelihood: From these numbers, laid out ``(*batch, *X)``, to the values given them.
        z: Latents, ``(*batch, d)``.
        data_shape: ``(*X)``.
    """

    arg_constraints: ClassVar[dict[str, constraints.Constraint]] = {}

    def __init__(
        self, network: GatedPixelCNN, likelihood: Head, z: Tensor, data_shape: tuple[int, ...]
    ) -> None:
        self.network, self.likelihood, self.z = network, likelihood, z
        super().__init__(z.shape[:-1], torch.Size(data_shape), validate_args=False)

    @property
    def support(self) -> constraints.Constraint:
        """The support of the values of x."""
        nothing = torch.zeros(output_shape(self.likelihood, tuple(self.event_shape)))
        support = self.likelihood(nothing).support
        assert support is not None
        return support

    def given_before(self, x: Float[Tensor, "*B_and_X"]) -> Distribution:
        """Returns the distribution of every value given those of x before it, all at once."""
        X = tuple(self.event_shape)
        lead = torch.broadcast_shapes(x.shape[: x.ndim - len(X)], self.batch_shape)
        flat = x.expand(*lead, *X).reshape(-1, *X)
        z = self.z.expand(*lead, self.z.shape[-1]).reshape(len(flat), -1)
        output = self.network(flat, z)
        return self.likelihood(output.reshape(*lead, *output_shape(self.likelihood, X)))

    def log_prob(self, value: Tensor) -> Tensor:
        """Returns log p(x|z) in nats."""
        log_p: Tensor = self.given_before(value).log_prob(value)
        return log_p

    def sample(self, sample_shape: Shape = ()) -> Tensor:
        """Draws images: the vertical stack passes once a row, the horizontal once a value."""
        shape = self._extended_shape(torch.Size(sample_shape))
        x = torch.zeros(shape, dtype=self.z.dtype, device=self.z.device)
        x = x.reshape(-1, *self.event_shape)
        z = self.z.expand(*shape[:-3], self.z.shape[-1]).reshape(len(x), -1)
        with torch.no_grad():
            for i in range(x.shape[2]):
                told = [here[:, :, i:] for here in self.network.from_above(x[:, :, : i + 1], z)]
                self._draw_row(x, i, told)
        return x.reshape(shape)

    def _draw_row(self, x: Tensor, i: int, told: list[Tensor]) -> None:
        N, colours, _, width = x.shape
        shape = output_shape(self.likelihood, (colours, 1, width))
        for j in range(width):
            for c in range(colours):
                numbers = self.network.along_rows(x[:, :, i : i + 1], told)
                drawn = self.likelihood(numbers.reshape(N, *shape)).sample()
                # a scale for each pixel makes all rows of one
                x[:, c, i, j] = drawn[:, c, i if drawn.shape[2] > 1 else 0, j]

    def __repr__(self) -> str:
        return f"AutoregressiveImage(x {tuple(self.event_shape)}, {tuple(self.batch_shape)})"


class PixelCNNVAE(VAE):
    """A :class:`~elboscope.models.VAE` whose decoder is a :class:`GatedPixelCNN`."""

    def _decode(self, z: Tensor, c: Tensor | None) -> Distribution:
        assert isinstance(self.decoder, GatedPixelCNN)
        return AutoregressiveImage(self.decoder, self.likelihood, z, self.data_shape)


def pixelcnn_vae(
    data_shape: tuple[int, ...],
    latent_dim: int,
    hidden: tuple[int, ...] = (200, 200),
    features: int = 32,
    kernels: tuple[int, ...] = (9, 7, 5, 3),
    nonlinearity: Activation = "relu",
    likelihood: LikelihoodName = "bernoulli",
    scale: Scale | None = None,
    levels: int | None = None,
    posterior: PosteriorFamily | None = None,
    prior: PriorFamily | None = None,
) -> PixelCNNVAE:
    r"""Returns a VAE with an MLP encoder and a gated PixelCNN decoder.

    Args:
        data_shape: Channels, height, width.
        latent_dim: d, the number of latent units.
        hidden: Widths of the encoder's hidden layers.
        features: Feature maps of each of the decoder's two stacks, a multiple of the channels.
        kernels: Odd sizes of the decoder's kernels, one a layer.
        nonlinearity: Activation of the encoder's hidden layers.
        likelihood: Likelihood of a value given those before it: a word, as in :func:`from_modules`.
        scale: As in :func:`from_modules`.
        levels: As in :func:`from_modules`.
        posterior: As in :func:`mlp_vae`.
        prior: As in :func:`mlp_vae`.

    Raises:
        InputError: Sizes that do not fit.

    References:
        | Conditional Image Generation with PixelCNN Decoders (van den Oord et al., 2016),
          https://arxiv.org/abs/1606.05328
        | PixelVAE (Gulrajani et al., 2017), https://arxiv.org/abs/1611.05013

    Example:
        >>> model = pixelcnn_vae((1, 4, 4), latent_dim=2, hidden=(8,), features=4, kernels=(3, 3))
        >>> p = model.decode(torch.zeros(5, 3, 2))
        >>> p.log_prob(torch.zeros(3, 1, 4, 4)).shape
        torch.Size([5, 3])
    """
    if latent_dim < 1:
        raise InputError("latent_dim", expected="at least 1", got=repr(latent_dim))
    shape = tuple(data_shape)
    head = make_likelihood(likelihood, shape, scale=scale, levels=levels)
    pixels = math.prod(shape)
    n = getattr(head, "num_outputs", 1)
    return PixelCNNVAE(
        mlp(pixels, tuple(hidden), num_encoder_outputs(posterior, latent_dim), nonlinearity),
        GatedPixelCNN(shape, latent_dim, n, features, tuple(kernels)),
        head,
        latent_shape=(latent_dim,),
        data_shape=shape,
        input_shape=(pixels,),
        encoder_output=posterior_reader(posterior, latent_dim),
        prior=prior,
    )
