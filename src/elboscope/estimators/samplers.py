r"""A model as a sampler, n → images: from its prior, or of its reconstructions.

Two things are both called a sample of a VAE: a draw from p(x|z), with its pixel noise, and the
mean E[x|z], which is smoother and what papers show. They score differently, so a sampler says
which it makes. A generator without a likelihood makes neither: G(z) is the sample.

Where the posteriors of data cover the prior, the two samplers have one distribution of z. What
samples of the prior lack beside reconstructions is the *inference–generation gap*.
"""

from __future__ import annotations

__all__ = ["ModelSampler", "reconstructions_of", "sampler_of"]

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import Distribution

from elboscope.core import (
    ImplicitGenerator,
    InputError,
    LatentVariableModel,
    Sampled,
    as_generative,
    evaluating,
    placed_like,
)
from elboscope.data import as_tensor

from .evaluation import blocks

AT_ONCE = 500


@dataclass(frozen=True, eq=False)
class ModelSampler:
    """From n to n images in [0, 1].

    Args:
        draw: Makes n values of x, of any range.
        description: What they are, in words; printed with every score.
    """

    draw: Callable[[int], Tensor]
    description: str

    def __call__(self, n: int) -> Tensor:
        """Returns n images, clipped to [0, 1]."""
        parts = [self.draw(len(range(n)[rows])) for rows in blocks(n, AT_ONCE)]
        return torch.cat(parts).clamp(0, 1)

    def shaped(self, shape: tuple[int, ...]) -> ModelSampler:
        """Returns the sampler with its values laid out as images, which models may have flat."""
        return ModelSampler(lambda n: self.draw(n).reshape(n, *shape), self.description)


def sampler_of(model: Sampled, *, noise: bool = False) -> ModelSampler:
    """Returns a sampler of x from the prior: E[x|z] with z ~ p(z), or a draw from p(x|z).

    Values outside [0, 1], which a Gaussian mean may take, are clipped; a model of data in another
    range needs a function of its own that rescales them.

    Args:
        model: A model, or a generator without likelihood.
        noise: Draw from p(x|z), with its pixel noise, instead of taking the mean.

    Raises:
        InputError: Noise of a generator that has none.

    Example:
        >>> import elboscope as es
        >>> sampler = sampler_of(es.models.mlp_vae((1, 8, 8), 2, hidden=(4,)))
        >>> sampler(5).shape, sampler.description
        (torch.Size([5, 1, 8, 8]), 'E[x|z] of prior draws')
    """
    _require_noise(model, noise)
    decoder = as_generative(model)

    def draw(n: int) -> Tensor:
        with evaluating(model):
            z = decoder.prior().sample(torch.Size((n,)))
            return _taken(decoder.decode(z), noise)

    return ModelSampler(draw, f"{_what(model, noise)} of prior draws")


def reconstructions_of(model: Sampled, x: object, *, noise: bool = False) -> ModelSampler:
    """Returns a sampler of reconstructions: z ~ q(z|x) of datapoints x in random order.

    Datapoints are taken without replacement; after the last one they are used again with fresh z.

    Args:
        model: The model, with an encoder.
        x: Data.
        noise: Draw from p(x|z) instead of taking the mean.

    Raises:
        InputError: x cannot be data; a model without an encoder.

    Example:
        >>> import elboscope as es
        >>> model = es.models.mlp_vae((1, 8, 8), 2, hidden=(4,))
        >>> sampler = reconstructions_of(model, torch.rand(3, 1, 8, 8))
        >>> sampler(5).shape, sampler.description
        (torch.Size([5, 1, 8, 8]), 'E[x|z] of draws from q(z|x)')
    """
    if not isinstance(model, LatentVariableModel):
        got = f"{type(model).__name__} without one"
        raise InputError("model", expected="a model with an encoder", got=got)
    _require_noise(model, noise)
    data, decoder = placed_like(as_tensor(x).x, model), as_generative(model)
    order: list[int] = []

    def draw(n: int) -> Tensor:
        while len(order) < n:
            order.extend(torch.randperm(len(data)).tolist())
        rows = [order.pop(0) for _ in range(n)]
        with evaluating(model):
            z = model.encode(data[rows])
            return _taken(decoder.decode(z.rsample() if z.has_rsample else z.sample()), noise)

    return ModelSampler(draw, f"{_what(model, noise)} of draws from q(z|x)")


def _taken(p: Distribution, noise: bool) -> Float[Tensor, "n *X"]:
    x: Tensor = p.sample() if noise else p.mean
    return x


def _what(model: object, noise: bool) -> str:
    if not hasattr(model, "decode"):
        return "G(z)"
    return "draws from p(x|z)" if noise else "E[x|z]"


def _require_noise(model: object, noise: bool) -> None:
    if noise and not hasattr(model, "decode") and isinstance(model, ImplicitGenerator):
        raise InputError(
            "noise",
            expected="a model with a likelihood p(x|z)",
            got=f"{type(model).__name__}, which generates without noise",
        )
