r"""Squared error with a weighted KL: which decoder variance does the weight imply?

Minimising :math:`\|x - \hat x\|^2 + w\, \mathrm{KL}` with the error **summed** over the D pixels
maximises the ELBO of a Gaussian decoder of variance

.. math:: \sigma^2 = w / 2, \qquad \text{and with the \textbf{mean} over pixels}\quad
          \sigma^2 = w D / 2,

since the ELBO times :math:`2\sigma^2` is :math:`-\|x-\hat x\|^2 - 2\sigma^2\,\mathrm{KL}` and a
constant. A weight without its reduction therefore says nothing: 0.01 is σ² = 0.005 with the sum
and 3.92 with the mean over 784 pixels. Texts that weight the error instead, KL + β·error, have
w = 1/β.
"""

from __future__ import annotations

__all__ = [
    "KLWeight",
    "Reconstructs",
    "Reduction",
    "implied_variance",
    "kl_weighted",
    "reconstruction",
]

import math
from typing import Literal, Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from elboscope.core import Bound, InputError, LatentVariableModel, closed_form_kl, family, given

from .settings import Nonnegative, Weight, objective

Reduction = Literal["sum", "mean"]


def implied_variance(kl_weight: float, reduction: Reduction, num_pixels: int) -> float:
    r"""Returns σ² of the Gaussian decoder whose ELBO a weighted squared error optimises.

    Args:
        kl_weight: w, the factor of the KL; the factor of the squared error is 1.
        reduction: How the squared error is taken over pixels: ``"sum"`` or ``"mean"``.
        num_pixels: D.

    Raises:
        InputError: A weight that is not positive, or another reduction.

    Example:
        >>> implied_variance(0.01, "sum", 784), round(implied_variance(0.01, "mean", 784), 2)
        (0.005, 3.92)
    """
    if not (kl_weight > 0 and math.isfinite(kl_weight)):
        raise InputError("kl_weight", expected="a number > 0", got=str(kl_weight))
    match reduction:
        case "sum":
            return kl_weight / 2
        case "mean":
            return kl_weight * num_pixels / 2
    raise InputError("reduction", expected="'sum' or 'mean'", got=repr(reduction))


def kl_weighted(
    model: LatentVariableModel,
    x: Float[Tensor, "B *X"],
    kl_weight: Nonnegative = 1.0,
    reduction: Reduction = "sum",
    num_samples: int = 1,
    *,
    condition: Tensor | None = None,
) -> Bound:
    r"""Minimises :math:`\mathrm{reduce}\,(x - \hat x)^2 + w\, \mathrm{KL}(q(z|x) \| p(z))`.

    :math:`\hat x` is the mean of ``decode(z)``; the scale the likelihood declares is not used.
    ``value`` is the ELBO of the Gaussian decoder with :func:`implied_variance`, all constants
    kept. A model that is to be evaluated as it was trained has ``scale`` = its square root.

    Args:
        model: The model; its posterior and prior must have a known KL.
        x: A minibatch.
        kl_weight: w.
        reduction: ``"sum"`` or ``"mean"`` over pixels; over the minibatch it is always the mean.
        num_samples: K.
        condition: One row per datapoint.

    Raises:
        InputError: As :func:`implied_variance`.

    Example:
        >>> import torch, elboscope as es
        >>> sigma = implied_variance(1.0, "sum", 3) ** 0.5
        >>> model = es.from_modules(torch.nn.Linear(3, 4), torch.nn.Linear(2, 3),
        ...                         likelihood="gaussian", scale=sigma)
        >>> kl_weighted(model, torch.ones(5, 3), 1.0, "sum").value.shape
        torch.Size([5])
    """
    model = given(model, condition)
    D = x[0].numel()
    variance = implied_variance(kl_weight, reduction, D)
    q = model.encode(x)
    squared = (x - model.decode(q.rsample((num_samples,))).mean).square()
    error = squared.flatten(2).sum(-1).mean(0)
    kl = closed_form_kl(q, model.prior())
    if kl is None:
        raise InputError(
            "KL(q(z|x) ‖ p(z))",
            expected="a pair of families with a closed form",
            got=f"{family(q)} and {family(model.prior())}",
        )
    value = -error / (2 * variance) - 0.5 * D * math.log(2 * math.pi * variance) - kl
    reduced = error if reduction == "sum" else error / D
    return Bound(value.detach(), (reduced + kl_weight * kl).mean())


def _constant_weight(epoch: float, kl_weight: float) -> Weight:
    return Weight(kl_weight, kl_weight)


KLWeight = objective("KLWeight", kl_weighted, schedule=_constant_weight, omit=("num_samples",))


# The objective of a deterministic autoencoder, which bounds nothing.
#
# :math:`\log p(x \mid z = f(x))` is the ELBO without its KL, at a posterior without a spread. As
# a density it can be made as large as one likes without saying anything about p(x).


@runtime_checkable
class Reconstructs(Protocol):
    """Anything that scores its own reconstruction of x."""

    def log_reconstruction(self, x: Tensor) -> Tensor:
        """Returns log p(x | z = f(x)), one value per datapoint, in nats."""
        ...


def reconstruction(model: Reconstructs, x: Float[Tensor, "B *X"]) -> Bound:
    """Minimises −log p(x | z = f(x)).

    ``value`` is that log-density. It is **not** a lower bound on log p(x): an autoencoder has no
    prior, hence no p(x).

    Args:
        model: An autoencoder.
        x: A minibatch.

    Example:
        >>> import torch, elboscope as es
        >>> model = es.models.mlp_autoencoder((4,), latent_dim=2)
        >>> reconstruction(model, torch.ones(3, 4)).value.shape
        torch.Size([3])
    """
    value = model.log_reconstruction(x)
    return Bound(value.detach(), -value.mean())
