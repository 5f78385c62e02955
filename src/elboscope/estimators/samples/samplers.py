r"""A model as a sampler, n → images: from its prior, or of its reconstructions.

Two things are both called a sample of a VAE: a draw from p(x|z), with its pixel noise, and the
mean E[x|z], which is smoother and what papers show. They score differently, so a sampler says
which it makes. A generator without a likelihood makes neither: G(z) is the sample.

Where the posteriors of data cover the prior, the two samplers have one distribution of z. What
samples of the prior lack beside reconstructions is the *inference–generation gap*.
"""

from __future__ import annotations

__all__ = ["ModelSampler", "as_images", "drawn_images", "reconstructions_of", "sampler_of"]

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
    draw_x,
    evaluating,
    mean_of,
    placed_like,
)
from elboscope.data import as_tensor
from elboscope.data.inputs import require_range

from ..inputs import blocks
from .critic import Sampler

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
            return _take(decoder.decode(z), noise, z)

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
            q = model.encode(data[rows])
            z = q.rsample() if q.has_rsample else q.sample()
            return _take(decoder.decode(z), noise, z)

    return ModelSampler(draw, f"{_what(model, noise)} of draws from q(z|x)")


def _take(p: Distribution, noise: bool, like: Tensor) -> Float[Tensor, "n *X"]:
    return draw_x(p, like) if noise else mean_of(p)


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


# Images from a sampler or a user, brought to one form and checked: (N, C, H, W) in [0, 1].

DRAWN_AT_ONCE = 1000


def drawn_images(sampler: Sampler, n: int, like: Tensor) -> Float[Tensor, "n C H W"]:
    """Returns n images of the data's shape, on its device, drawn a thousand at a time.

    Raises:
        InputError: What the sampler returns is no tensor, or of another shape or range.

    Example:
        >>> drawn_images(lambda n: torch.zeros(n, 8, 8), 2, torch.ones(5, 1, 8, 8)).shape
        torch.Size([2, 1, 8, 8])
    """
    if not callable(sampler) or hasattr(sampler, "prior"):
        got, do = f"a {type(sampler).__name__}", "Pass es.samples.sampler_of(model)."
        raise InputError("sampler", expected="a function n → Tensor", got=got, do=do)
    with torch.no_grad():
        parts = [sampler(len(range(n)[rows])) for rows in blocks(n, DRAWN_AT_ONCE)]
    if not all(isinstance(part, Tensor) for part in parts):
        got = f"a {type(parts[0]).__name__}"
        raise InputError("sampler", expected="a function n → Tensor", got=got)
    expected = f"n → images of shape (n, {', '.join(map(str, like.shape[1:]))})"
    if len({part.shape[1:] for part in parts}) > 1 or not parts[0].ndim:
        got = " and ".join(sorted({str(tuple(part.shape)) for part in parts}))
        raise InputError("sampler", expected=expected, got=f"shape {got}")
    samples = as_images(torch.cat(parts), "samples").to(like)
    if samples.shape != (n, *like.shape[1:]):
        got = f"shape {tuple(samples.shape)} for n = {n}"
        raise InputError("sampler", expected=expected, got=got)
    return samples


def as_images(given: object, name: str) -> Float[Tensor, "N C H W"]:
    """Returns images in [0, 1] as float32, with an axis for their channels.

    Raises:
        InputError: Another shape or range.

    Example:
        >>> as_images(torch.ones(2, 8, 8), "x").shape
        torch.Size([2, 1, 8, 8])
    """
    x = as_tensor(given, name=name).x
    x = x[:, None] if x.ndim == 3 else x
    if x.ndim != 4:
        got = f"shape {tuple(x.shape)}"
        raise InputError(name, expected="images (N, C, H, W) or (N, H, W)", got=got)
    require_range(x, 0.0, 1.0, name=name, do="Scale the images to [0, 1].")
    return x.float()
