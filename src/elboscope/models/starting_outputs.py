r"""The decoder's output that, without any z, is the best image: where its last bias may begin.

Bernoulli: :math:`\mathrm{logit}(\bar x)`. Levels: the log of how often each is seen, one more
datapoint being spread evenly over all of them, so that none is impossible. Location and predicted
scale: :math:`\bar x` and the log of the scale of :math:`x - \bar x`, which is the standard
deviation of a normal, the mean absolute deviation of a Laplace, and √3/π standard deviations of a
logistic distribution; at least a tenth of that of all values together, since a pixel that never
changes would otherwise begin as if it were known exactly.
"""

from __future__ import annotations

__all__ = ["starting_output"]

import math

import torch
from jaxtyping import Float
from torch import Tensor

from elboscope.distributions import (
    CategoricalLikelihood,
    DiscretisedLogisticLikelihood,
    LaplaceLikelihood,
)

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
