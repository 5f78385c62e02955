r"""Is a latent space complete? The share of draws that lie farther from any code than codes do.

A decoder has been asked about the codes of its training data and about nothing else. A latent
space has holes as far as draws, with which new data are to be made, lie apart from all codes:

.. math:: \text{uncovered} = P\bigl(d(z, \text{codes}) > t\bigr), \qquad
          P\bigl(d(\text{further code}, \text{codes}) > t\bigr) = 0.01,

d the distance to the nearest code, in units of the codes' own covariance, which makes it the same
for any affine change of the latents. It is 0.01 if draws are distributed like codes. It asks for
no density, and so can be asked of an autoencoder, which has none; for a model with a posterior
density :func:`elboscope.low_posterior_samples` asks the same of log q(z) − log p(z).

It says nothing of what the decoder makes of a hole: see
:func:`elboscope.models.completeness`, which compares images.
"""

from __future__ import annotations

__all__ = ["Coverage", "coverage", "fitted_draws"]

import math
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.distributions import MultivariateNormal

from elboscope.core import InputError

QUANTILE = 0.99


class Coverage(NamedTuple):
    """What a set of codes covers.

    Attributes:
        uncovered: The share of draws beyond 99 % of further codes; 0.01 without holes.
        stderr: Of that share: of the draws, and of the further codes behind the threshold.
        outside: Which draws they are.
    """

    uncovered: float
    stderr: float
    outside: Bool[Tensor, " n"]


def coverage(
    codes: Float[Tensor, "N d"], further: Float[Tensor, "M d"], drawn: Float[Tensor, "n d"]
) -> Coverage:
    """Returns the share of draws that lie where no code is.

    Args:
        codes: Of some of the data; of a VAE a draw of q(z|x) each.
        further: Codes of other data, made alike: they say how far a code may be from others.
        drawn: From what new data are made of: the prior, or a Gaussian fitted to the codes.

    Raises:
        InputError: Fewer codes than dimensions plus one, or codes without a spread.

    Example:
        >>> from elboscope.core import seeded
        >>> with seeded(0):
        ...     z = torch.randn(4, 2000, 2)
        >>> round(coverage(z[0], z[1], z[2]).uncovered, 2)
        0.01
        >>> coverage(z[0], z[1], z[2] + 10).uncovered
        1.0
    """
    whiten = _whitening(codes)
    near = [torch.cdist(z @ whiten, codes @ whiten).amin(1) for z in (further, drawn)]
    outside = near[1] > near[0].quantile(QUANTILE)
    share = outside.double().mean().item()
    error = share * (1 - share) / len(drawn) + QUANTILE * (1 - QUANTILE) / len(further)
    return Coverage(share, math.sqrt(error), outside)


def _whitening(codes: Float[Tensor, "N d"]) -> Float[Tensor, "d d"]:
    covariance = torch.atleast_2d(torch.cov(codes.T))
    factor, failed = torch.linalg.cholesky_ex(covariance)
    if len(codes) <= codes.shape[1] or int(failed):
        raise InputError(
            "codes",
            expected="more codes than dimensions, spread in each of them",
            got=f"{len(codes)} codes of {codes.shape[1]} dimensions",
            do="A collapsed code covers nothing: ask about another model.",
        )
    identity = torch.eye(len(factor)).to(factor)
    inverse: Tensor = torch.linalg.solve_triangular(factor, identity, upper=False)
    return inverse.T


def fitted_draws(codes: Float[Tensor, "N d"], n: int) -> Float[Tensor, "n d"]:
    """Returns draws of the Gaussian with the codes' mean and covariance, from the ambient state.

    Example:
        >>> fitted_draws(torch.eye(3)[:, :2], 5).shape
        torch.Size([5, 2])
    """
    law = MultivariateNormal(codes.mean(0), torch.atleast_2d(torch.cov(codes.T)))
    return law.sample(torch.Size((n,)))
