r"""The networks of Cremer et al.: two ELU layers of 200 units either way, 50 latents.

The posterior is a diagonal Gaussian ("FFG"), or the flow on (z, v) of
:class:`~elboscope.models.AuxiliaryRealNVP`, two steps that see ELU of 50 more numbers from the
encoder's last hidden layer. Weights begin as torch draws them. A larger encoder has 500-500 units
and leaves the decoder as it is, so that the family of models p(x) stays the same.
"""

from __future__ import annotations

__all__ = ["FLOW", "cremer_vae"]

import math

from jaxtyping import Shaped
from torch import Tensor

from elboscope.models import VAE, AuxiliaryRealNVP
from elboscope.models.from_modules import make_likelihood
from elboscope.models.posterior_heads import PosteriorFamily
from elboscope.nn import Activation, mlp

FLOW = AuxiliaryRealNVP(num_steps=2, hidden=200, context=50)


def cremer_vae(
    x: Shaped[Tensor, "N *X"],
    posterior: PosteriorFamily | None = None,
    *,
    encoder: tuple[int, ...] = (200, 200),
    decoder: tuple[int, ...] = (200, 200),
    latent_dim: int = 50,
    nonlinearity: Activation = "elu",
) -> VAE:
    """Returns an untrained model, its weights drawn from the ambient random state.

    Args:
        x: Training data, of which only the shape is used.
        posterior: The family of q; the diagonal Gaussian if None.
        encoder: Widths of its hidden layers.
        decoder: The same, from the latents on.
        latent_dim: d.
        nonlinearity: Of the hidden layers.

    Example:
        >>> import torch
        >>> model = cremer_vae(torch.zeros(1, 1, 28, 28))
        >>> sum(p.numel() for p in model.parameters())
        425284
    """
    shape = tuple(x.shape[1:])
    pixels = math.prod(shape)
    outputs = 2 * latent_dim if posterior is None else posterior.num_outputs(latent_dim)
    return VAE(
        mlp(pixels, encoder, outputs, nonlinearity),
        mlp(latent_dim, decoder, pixels, nonlinearity),
        make_likelihood("bernoulli", shape),
        latent_shape=(latent_dim,),
        data_shape=shape,
        encoder_output="mu_logvar" if posterior is None else posterior.head(latent_dim),
        input_shape=(pixels,),
    )
