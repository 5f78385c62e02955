r"""Ready-made variational autoencoders: multilayer perceptrons and convolutions.

All arguments are numbers, tuples and words, so that a configuration file can name these functions
and fill them in. The last layer of a decoder can start at the mean image, as in Burda et al.:
with zero weights elsewhere, p(x|z) then is the best image that ignores z, which spares the first
epochs; see :func:`start_at_mean`.
"""

from __future__ import annotations

__all__ = ["conv_vae", "mlp_vae", "start_at_mean", "starting_output"]

import math
from collections.abc import Callable
from typing import TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributions import Distribution

from elboscope.core import InputError
from elboscope.distributions import (
    CategoricalLikelihood,
    DiscretisedLogisticLikelihood,
    LaplaceLikelihood,
    Scale,
)
from elboscope.nn import Activation, conv_decoder, conv_encoder, mlp

from .from_modules import LikelihoodName, make_likelihood
from .hierarchical import HierarchicalVAE
from .posteriors import PosteriorFamily
from .priors import PriorFamily
from .vae import VAE, EncoderOutput, channels_first, num_outputs

CONVOLUTIONS = (nn.Conv2d, nn.ConvTranspose2d)
M = TypeVar("M", bound=VAE | HierarchicalVAE)


def mlp_vae(
    data_shape: tuple[int, ...],
    latent_dim: int,
    hidden: tuple[int, ...] = (200, 200),
    nonlinearity: Activation = "relu",
    likelihood: LikelihoodName = "bernoulli",
    scale: Scale | None = None,
    levels: int | None = None,
    posterior: PosteriorFamily | None = None,
    prior: PriorFamily | None = None,
) -> VAE:
    r"""Returns a VAE whose encoder and decoder are multilayer perceptrons on flattened x.

    Args:
        data_shape: ``(*X)``.
        latent_dim: d, the number of latent units.
        hidden: Widths of the encoder's hidden layers; the decoder has them in reverse.
        nonlinearity: Activation of the hidden layers.
        likelihood: A word, as in :func:`from_modules`: ``"bernoulli"``, ``"gaussian"``, ….
        scale: Scale of the likelihoods that have one: a number or a word, as in
            :func:`from_modules`.
        levels: L, the number of levels of a discrete likelihood; 256 if None.
        posterior: ``FullCovariance()``, ``RealNVP()``, ``MAF()``, ``IAF()``, ``Planar()``,
            ``AuxiliaryRealNVP()`` or ``CommittedGaussian()``; the diagonal Gaussian if None.

    Example:
        >>> model = mlp_vae((1, 28, 28), latent_dim=50)
        >>> sum(p.numel() for p in model.parameters())
        425284
    """
    _require_units("latent_dim", (latent_dim,))
    _require_units("hidden", tuple(hidden))
    pixels = math.prod(data_shape)
    head = make_likelihood(likelihood, tuple(data_shape), scale=scale, levels=levels)
    return VAE(
        mlp(pixels, tuple(hidden), num_encoder_outputs(posterior, latent_dim), nonlinearity),
        mlp(
            latent_dim,
            tuple(reversed(hidden)),
            num_outputs(head, data_shape),
            nonlinearity,
        ),
        head,
        latent_shape=(latent_dim,),
        data_shape=tuple(data_shape),
        input_shape=(pixels,),
        encoder_output=posterior_reader(posterior, latent_dim),
        prior=prior,
    )


def num_encoder_outputs(posterior: PosteriorFamily | None, latent_dim: int) -> int:
    return 2 * latent_dim if posterior is None else posterior.num_outputs(latent_dim)


def posterior_reader(
    posterior: PosteriorFamily | None, latent_dim: int
) -> EncoderOutput | Callable[..., Distribution]:
    return "mu_logvar" if posterior is None else posterior.head(latent_dim)


def _require_units(name: str, widths: tuple[int, ...]) -> None:
    if any(width < 1 for width in widths):
        got = ", ".join(map(str, widths))
        raise InputError(name, expected="at least one unit in every layer", got=got)


def conv_vae(
    data_shape: tuple[int, ...],
    latent_dim: int,
    channels: tuple[int, int] = (32, 64),
    nonlinearity: Activation = "leaky_relu",
    likelihood: LikelihoodName = "bernoulli",
    scale: Scale | None = None,
    levels: int | None = None,
    posterior: PosteriorFamily | None = None,
    prior: PriorFamily | None = None,
) -> VAE:
    r"""Returns a VAE of two strided convolutions and their mirror image.

    Args:
        data_shape: Channels, height, width, the sides divisible by 4: 8, 28 or 32 pixels.
        latent_dim: d, the number of latent units.
        channels: Channels of the two convolutions.
        nonlinearity: Activation of the hidden layers.
        likelihood: A word, as in :func:`from_modules`: ``"bernoulli"``, ``"gaussian"``, ….
        scale: Scale of the likelihoods that have one: a number or a word, as in
            :func:`from_modules`.
        levels: L, the number of levels of a discrete likelihood; 256 if None.
        posterior: As in :func:`mlp_vae`.
        prior: As in :func:`mlp_vae`.

    Example:
        >>> model = conv_vae((1, 28, 28), latent_dim=2, likelihood="gaussian", scale=0.07)
        >>> model.decode(torch.zeros(5, 3, 2)).event_shape
        torch.Size([1, 28, 28])
    """
    _require_units("latent_dim", (latent_dim,))
    _require_units("channels", tuple(channels))
    shape = tuple(data_shape)
    head = make_likelihood(likelihood, shape, scale=scale, levels=levels)
    return VAE(
        conv_encoder(shape, num_encoder_outputs(posterior, latent_dim), channels, nonlinearity),
        conv_decoder(latent_dim, channels_first(head, shape), channels, nonlinearity),
        head,
        latent_shape=(latent_dim,),
        data_shape=shape,
        encoder_output=posterior_reader(posterior, latent_dim),
        prior=prior,
    )


@torch.no_grad()
def start_at_mean(model: M, x: Float[Tensor, "N *X"]) -> M:
    r"""Sets the bias of the decoder's last layer to the best image without z, in place.

    For the Bernoullis on logits it is :math:`\mathrm{logit}(\bar x)` with :math:`\bar x`
    clipped to [0.001, 0.999]; for the Gaussian :math:`\bar x` itself; for a categorical
    likelihood the log of how often each level is seen; for a predicted scale the log of that of
    :math:`x - \bar x`. A linear last layer gets one start per pixel, a convolution one per
    channel.

    Args:
        model: A VAE whose decoder ends in a linear layer or a (transposed) convolution.
        x: The training data.

    Returns:
        The same model.

    Raises:
        InputError: Another last layer, or one without a bias.

    References:
        | Importance Weighted Autoencoders (Burda et al., 2016), https://arxiv.org/abs/1509.00519

    Example:
        >>> model = start_at_mean(mlp_vae((2,), 1), torch.tensor([[0.0, 1.0], [0.0, 0.0]]))
        >>> model.decoder[-1].bias.data
        tensor([-6.9068,  0.0000])
    """
    last = [m for m in model.decoder.modules() if not any(True for _ in m.children())][-1]
    bias = getattr(last, "bias", None)
    values = x.flatten(1)
    if isinstance(last, CONVOLUTIONS):
        values = x.flatten(2).transpose(1, 2).flatten(0, 1)
    start = starting_output(model.likelihood, values)
    if not isinstance(bias, nn.Parameter) or bias.numel() != start.numel():
        raise InputError(
            "the decoder's last layer",
            expected="a linear layer or a convolution with a bias",
            got=str(last),
            do="Train without start_at_mean.",
        )
    bias.copy_(start.flatten())
    return model


# The decoder's output that, without any z, is the best image: where its last bias may begin.
#
# Bernoulli: :math:`\mathrm{logit}(\bar x)`. Levels: the log of how often each is seen, one more
# datapoint being spread evenly over all of them, so that none is impossible. Location and
# predicted scale: :math:`\bar x` and the log of the scale of :math:`x - \bar x`, which is the
# standard deviation of a normal, the mean absolute deviation of a Laplace, and √3/π standard
# deviations of a logistic distribution; at least a tenth of that of all values together, since a
# pixel that never changes would otherwise begin as if it were known exactly.

MEAN_RANGE = (0.001, 0.999)
LEAST_SCALE = 0.1
LOGISTIC = math.sqrt(3) / math.pi


def starting_output(likelihood: object, x: Float[Tensor, "N D"]) -> Float[Tensor, "n D"]:
    """Returns the best output that ignores z, n numbers for each of D values.

    Args:
        likelihood: A head, as :func:`elboscope.models.from_modules` takes it.
        x: Data, flattened.

    Example:
        >>> from elboscope.distributions import CategoricalLikelihood
        >>> x = torch.tensor([[0.0], [0.0], [1.0]])
        >>> starting_output(CategoricalLikelihood((1,), levels=2), x).softmax(0).flatten()
        tensor([0.6250, 0.3750])
    """
    if isinstance(likelihood, CategoricalLikelihood):
        return _log_frequencies(x, likelihood.levels)
    mean = x.mean(0)
    if getattr(likelihood, "parameter", None) == "logits":
        return mean.clamp(*MEAN_RANGE).logit()[None]
    if getattr(likelihood, "num_outputs", 1) == 1:
        return mean[None]
    error = x - mean
    scale = _scale(likelihood, error)
    together = _scale(likelihood, error.reshape(-1, 1))
    return torch.stack([mean, scale.clamp(min=LEAST_SCALE * together).log()])


def _scale(likelihood: object, error: Tensor) -> Tensor:
    if isinstance(likelihood, LaplaceLikelihood):
        return error.abs().mean(0)
    factor = LOGISTIC if isinstance(likelihood, DiscretisedLogisticLikelihood) else 1.0
    return factor * error.square().mean(0).sqrt()


def _log_frequencies(x: Tensor, L: int) -> Tensor:
    k = (x * (L - 1)).round()
    seen = torch.stack([(k == level).sum(0) for level in range(L)]).to(x)
    return ((seen + 1 / L) / (len(x) + 1)).log()
