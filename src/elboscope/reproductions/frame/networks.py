r"""The networks of Burda et al.: two tanh layers, 50 latents, σ = exp(linear), Glorot weights.

.. math:: p(z) = \mathcal N(0, I), \quad p(x|z) = \mathrm{Bernoulli}(\mathrm{sigmoid}(g(z))),
          \quad q(z|x) = \mathcal N(\mu(x), \mathrm{diag}\, e^{2 s(x)})

With two stochastic layers, 100 and 50 latents with networks of 200-200 and 100-100 units. The
bias of the last layer begins at the logit of the mean image.
"""

from __future__ import annotations

__all__ = ["LATENTS_2", "burda_hierarchical_vae", "burda_vae"]

import math
from typing import TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from elboscope.models import VAE
from elboscope.models.from_modules import make_likelihood
from elboscope.models.hierarchical import HierarchicalVAE, hierarchical_vae
from elboscope.nn import mlp

LATENTS_2 = (100, 50)
MEAN_RANGE = (0.001, 0.999)
M = TypeVar("M", VAE, HierarchicalVAE)


def burda_vae(
    x: Float[Tensor, "N *X"], latent_dim: int = 50, hidden: tuple[int, ...] = (200, 200)
) -> VAE:
    """Returns an untrained model, its weights drawn from the ambient random state.

    Args:
        x: Training data, whose mean image the decoder begins at.
        latent_dim: d.
        hidden: Widths of the hidden layers of either network.

    Example:
        >>> import torch
        >>> model = burda_vae(torch.rand(5, 1, 8, 8), latent_dim=2, hidden=(16,))
        >>> model.encode(torch.zeros(3, 1, 8, 8)).event_shape
        torch.Size([2])
    """
    shape = tuple(x.shape[1:])
    pixels = math.prod(shape)
    model = VAE(
        mlp(pixels, hidden, 2 * latent_dim, "tanh"),
        mlp(latent_dim, hidden[::-1], pixels, "tanh"),
        make_likelihood("bernoulli", shape),
        latent_shape=(latent_dim,),
        data_shape=shape,
        encoder_output="mu_logsigma",
        input_shape=(pixels,),
    )
    return _started(model, x)


def burda_hierarchical_vae(x: Float[Tensor, "N *X"]) -> HierarchicalVAE:
    """Returns an untrained model with two stochastic layers.

    Args:
        x: Training data, whose mean image the decoder begins at.

    Example:
        >>> burda_hierarchical_vae(torch.rand(5, 1, 8, 8)).prior().event_shape
        torch.Size([150])
    """
    return _started(hierarchical_vae(tuple(x.shape[1:]), LATENTS_2), x)


@torch.no_grad()
def _started(model: M, x: Tensor) -> M:
    """Draws Glorot's weights, and puts the mean image into the last bias."""
    layers = [layer for layer in model.modules() if isinstance(layer, nn.Linear)]
    for layer in layers:
        nn.init.xavier_uniform_(layer.weight)
        nn.init.zeros_(layer.bias)
    last = [layer for layer in model.decoder.modules() if isinstance(layer, nn.Linear)][-1]
    last.bias.copy_(x.mean(0).clamp(*MEAN_RANGE).logit().flatten())
    return model
