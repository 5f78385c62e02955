r"""A deterministic autoencoder, to show what the VAE's regularisation buys.

It maximises :math:`\log p(x \mid z = f(x))` alone: z is a point, there is no prior and no bound.
Nothing then keeps the codes together (:mod:`.latent_space` measures what follows): between and
around them the decoder was never asked for anything.
"""

from __future__ import annotations

__all__ = ["Autoencoder", "conv_autoencoder", "mlp_autoencoder"]

import math

from jaxtyping import Float
from torch import Tensor, nn
from torch.distributions import Distribution

from elboscope.distributions import Scale
from elboscope.nn import Activation, conv_decoder, conv_encoder, mlp

from .named_likelihoods import LikelihoodName, make_likelihood
from .output_shapes import channels_first, num_outputs, output_shape
from .vae import Head


class Autoencoder(nn.Module):
    r"""An encoder :math:`z = f(x)` and a decoder with a likelihood :math:`p(x \mid z)`.

    It is not a latent-variable model: it has no prior and no posterior density, and
    :func:`elboscope.core.check_model` refuses it.

    Args:
        encoder: From ``(N, *input_shape)`` to ``(N, d)``.
        decoder: From ``(N, d)`` to ``(N, *X)``, or to as many flat numbers.
        likelihood: From the decoder's output, ``(*batch, *X)``, to p(x|z).
        data_shape: ``(*X)``.
        input_shape: The shape in which the encoder takes one datapoint; by default ``(*X)``.

    Example:
        >>> import torch
        >>> model = mlp_autoencoder((1, 8, 8), latent_dim=2)
        >>> model.encode(torch.zeros(3, 1, 8, 8)).shape
        torch.Size([3, 2])
    """

    def __init__(
        self,
        encoder: nn.Module,
        decoder: nn.Module,
        likelihood: Head,
        *,
        data_shape: tuple[int, ...],
        input_shape: tuple[int, ...] | None = None,
    ) -> None:
        super().__init__()
        self.encoder, self.decoder, self.likelihood = encoder, decoder, likelihood
        self.data_shape = tuple(data_shape)
        self.input_shape = self.data_shape if input_shape is None else tuple(input_shape)

    def encode(self, x: Float[Tensor, "B *X"]) -> Float[Tensor, "B d"]:
        """Returns the code z = f(x)."""
        z: Tensor = self.encoder(x.reshape(len(x), *self.input_shape))
        return z

    def distribution(self, z: Float[Tensor, "*B d"]) -> Distribution:
        """Returns p(x|z), batch ``z.shape[:-1]``, event ``(*X)``."""
        output = self.decoder(z.reshape(-1, z.shape[-1]))
        shape = output_shape(self.likelihood, self.data_shape)
        return self.likelihood(output.reshape(*z.shape[:-1], *shape))

    def decode(self, z: Float[Tensor, "*B d"]) -> Float[Tensor, "*B_and_X"]:
        """Returns the mean image of p(x|z)."""
        mean: Tensor = self.distribution(z).mean
        return mean

    def log_reconstruction(self, x: Float[Tensor, "B *X"]) -> Float[Tensor, " B"]:
        """Returns log p(x | z = f(x)) in nats: no bound on anything, and no model's log p(x)."""
        log_p: Tensor = self.distribution(self.encode(x)).log_prob(x)
        return log_p


def mlp_autoencoder(
    data_shape: tuple[int, ...],
    latent_dim: int,
    hidden: tuple[int, ...] = (200, 200),
    nonlinearity: Activation = "relu",
    likelihood: LikelihoodName = "bernoulli",
    scale: Scale | None = None,
    levels: int | None = None,
) -> Autoencoder:
    """Returns the autoencoder beside :func:`~elboscope.models.mlp_vae`, with the same arguments.

    Example:
        >>> mlp_autoencoder((4,), 2, hidden=()).encoder
        Sequential(
          (0): Linear(in_features=4, out_features=2, bias=True)
        )
    """
    pixels = math.prod(data_shape)
    head = make_likelihood(likelihood, tuple(data_shape), scale=scale, levels=levels)
    return Autoencoder(
        mlp(pixels, tuple(hidden), latent_dim, nonlinearity),
        mlp(
            latent_dim,
            tuple(reversed(hidden)),
            num_outputs(head, data_shape),
            nonlinearity,
        ),
        head,
        data_shape=tuple(data_shape),
        input_shape=(pixels,),
    )


def conv_autoencoder(
    data_shape: tuple[int, ...],
    latent_dim: int,
    channels: tuple[int, int] = (32, 64),
    nonlinearity: Activation = "leaky_relu",
    likelihood: LikelihoodName = "bernoulli",
    scale: Scale | None = None,
    levels: int | None = None,
) -> Autoencoder:
    """Returns the autoencoder beside :func:`~elboscope.models.conv_vae`, with the same arguments.

    Example:
        >>> import torch
        >>> conv_autoencoder((1, 8, 8), 2).decode(torch.zeros(3, 2)).shape
        torch.Size([3, 1, 8, 8])
    """
    shape = tuple(data_shape)
    head = make_likelihood(likelihood, shape, scale=scale, levels=levels)
    return Autoencoder(
        conv_encoder(shape, latent_dim, channels, nonlinearity),
        conv_decoder(latent_dim, channels_first(head, shape), channels, nonlinearity),
        head,
        data_shape=shape,
    )
