r"""A variational autoencoder with two stochastic layers.

.. math:: p(z_2)\, p(z_1 \mid z_2)\, p(x \mid z_1), \qquad q(z_1 \mid x)\, q(z_2 \mid z_1)

with diagonal Gaussian conditionals, :math:`p(z_2) = N(0, I)`, and networks between them. The
latent vector is the concatenation :math:`z = (z_1, z_2)`: ``encode(x)`` and ``prior()`` each
return one distribution over it, so that whatever works on a model with one layer works here. KL
and posterior means of :math:`z_2` have no closed form; quantities that need one are unavailable.
"""

from __future__ import annotations

__all__ = ["GaussianLayer", "HierarchicalVAE", "hierarchical_vae"]

import math

from jaxtyping import Float
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, Normal

from elboscope.core import InputError
from elboscope.distributions import LOG_VARIANCE_RANGE, Chained, Scale, standard_normal
from elboscope.nn import Activation, mlp

from .from_modules import LikelihoodName, make_likelihood
from .vae import Head, num_outputs, output_shape, reference


class GaussianLayer(nn.Module):
    r"""A network read as :math:`\mathcal N(\mu(h), \mathrm{diag}\, e^{2 s(h)})`, (μ, s) its output.

    σ = exp(linear), as in Burda et al.; log σ² is clamped to [−14, 6].

    Args:
        net: From ``(*batch, d_in)`` to ``(*batch, 2d)``.

    Example:
        >>> import torch
        >>> GaussianLayer(nn.Linear(3, 4))(torch.zeros(7, 5, 3)).batch_shape
        torch.Size([7, 5])
    """

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, h: Float[Tensor, "*B d_in"]) -> Distribution:
        """Returns the distribution of the next layer, event ``(d,)``."""
        mu, log_sigma = self.net(h).chunk(2, dim=-1)
        low, high = LOG_VARIANCE_RANGE
        sigma = log_sigma.clamp(0.5 * low, 0.5 * high).exp()
        return Independent(Normal(mu, sigma, validate_args=False), 1, validate_args=False)


class HierarchicalVAE(nn.Module):
    r"""The model :math:`p(z_2)\, p(z_1|z_2)\, p(x|z_1)` with :math:`q(z_1|x)\, q(z_2|z_1)`.

    Args:
        encoder_1: From flattened x to :math:`(\mu, \log \sigma)` of z₁.
        encoder_2: From z₁ to those of z₂.
        prior_1: From z₂ to those of z₁ under p(z₁|z₂).
        decoder: From z₁ to flattened pixels.
        likelihood: From the decoder's output, ``(*batch, *X)``, to p(x|z₁).
        latent_dims: (d₁, d₂).
        data_shape: ``(*X)``.

    Example:
        >>> import torch
        >>> model = hierarchical_vae((4,), latent_dims=(3, 2), hidden=((5,), (5,)))
        >>> z = model.encode(torch.zeros(6, 4)).rsample((7,))
        >>> z.shape, model.prior().log_prob(z).shape, model.decode(z).batch_shape
        (torch.Size([7, 6, 5]), torch.Size([7, 6]), torch.Size([7, 6]))
    """

    def __init__(
        self,
        encoder_1: nn.Module,
        encoder_2: nn.Module,
        prior_1: nn.Module,
        decoder: nn.Module,
        likelihood: Head,
        *,
        latent_dims: tuple[int, int],
        data_shape: tuple[int, ...],
    ) -> None:
        super().__init__()
        self.encoder_1, self.encoder_2 = GaussianLayer(encoder_1), GaussianLayer(encoder_2)
        self.prior_1, self.decoder = GaussianLayer(prior_1), decoder
        self.likelihood = likelihood
        self.latent_dims = (latent_dims[0], latent_dims[1])
        self.data_shape = tuple(data_shape)

    @property
    def latent_shape(self) -> tuple[int, ...]:
        """(d₁ + d₂,)."""
        return (sum(self.latent_dims),)

    def prior(self) -> Distribution:
        """Returns p(z₁, z₂) = p(z₂) p(z₁|z₂), event ``(d₁ + d₂,)``."""
        d1, d2 = self.latent_dims
        top = standard_normal((d2,), reference(self.decoder))
        return Chained(top, self.prior_1, d1, first_last=True)

    def encode(self, x: Float[Tensor, "B *X"]) -> Distribution:
        """Returns q(z₁, z₂|x) = q(z₁|x) q(z₂|z₁), batch ``(B,)``, event ``(d₁ + d₂,)``."""
        if tuple(x.shape[1:]) != self.data_shape:
            raise InputError(
                "x",
                expected=f"shape (B, {', '.join(map(str, self.data_shape))})",
                got=str(tuple(x.shape)),
                do="Reshape x, or build the model with that data_shape.",
            )
        return Chained(self.encoder_1(x.flatten(1)), self.encoder_2, self.latent_dims[1])

    def decode(self, z: Float[Tensor, "*B d"]) -> Distribution:
        """Returns p(x|z₁), batch ``z.shape[:-1]``, event ``(*X)``; z₂ plays no part in it."""
        output = self.decoder(z[..., : self.latent_dims[0]])
        return self.likelihood(
            output.reshape(*z.shape[:-1], *output_shape(self.likelihood, self.data_shape))
        )

    def extra_repr(self) -> str:
        """States the chain."""
        d1, d2 = self.latent_dims
        return f"x {self.data_shape}, z₁ ({d1},), z₂ ({d2},), p(z₂): N(0, I), σ = exp(linear)"


def hierarchical_vae(
    data_shape: tuple[int, ...],
    latent_dims: tuple[int, int] = (100, 50),
    hidden: tuple[tuple[int, ...], tuple[int, ...]] = ((200, 200), (100, 100)),
    nonlinearity: Activation = "tanh",
    likelihood: LikelihoodName = "bernoulli",
    scale: Scale | None = None,
    levels: int | None = None,
) -> HierarchicalVAE:
    r"""Returns a VAE with two stochastic layers, by default of the widths of Burda et al.

    Args:
        data_shape: ``(*X)``.
        latent_dims: (d₁, d₂), z₁ being the layer next to x.
        hidden: Widths between x and z₁, and between z₁ and z₂; the generative networks have them
            in reverse.
        nonlinearity: Activation of the hidden layers.
        likelihood: A word, as in :func:`from_modules`: ``"bernoulli"``, ``"gaussian"``, ….
        scale: Scale of the likelihoods that have one: a number or a word, as in
            :func:`from_modules`.
        levels: L, the number of levels of a discrete likelihood; 256 if None.

    Raises:
        InputError: A layer without units.

    References:
        | Importance Weighted Autoencoders (Burda et al., 2016), https://arxiv.org/abs/1509.00519

    Example:
        >>> model = hierarchical_vae((1, 28, 28))
        >>> sum(p.numel() for p in model.parameters())
        521084
    """
    (d1, d2), (below, above) = latent_dims, hidden
    widths = (d1, d2, *below, *above)
    if any(width < 1 for width in widths):
        raise InputError(
            "latent_dims and hidden",
            expected="at least one unit in every layer",
            got=", ".join(map(str, widths)),
        )
    pixels = math.prod(data_shape)
    head = make_likelihood(likelihood, tuple(data_shape), scale=scale, levels=levels)
    outputs = num_outputs(head, data_shape)
    return HierarchicalVAE(
        mlp(pixels, tuple(below), 2 * d1, nonlinearity),
        mlp(d1, tuple(above), 2 * d2, nonlinearity),
        mlp(d2, tuple(reversed(above)), 2 * d1, nonlinearity),
        mlp(d1, tuple(reversed(below)), outputs, nonlinearity),
        head,
        latent_dims=(d1, d2),
        data_shape=tuple(data_shape),
    )
