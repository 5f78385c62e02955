r"""Exact log p(x) of small models by quadrature over the latent variable.

Where z has one or two dimensions, log p(x) = log ∫ p(z) p(x | z) dz is a sum over a grid: no
sampling, no variational posterior, and for smooth densities that vanish at the edge an error
that falls faster than any power of the spacing. Two rules:

- an equidistant grid (:func:`grid_log_likelihood`), for any prior and any decoder whose posterior
  lies within the grid and is wider than its spacing;
- Gauss–Hermite nodes (:func:`gauss_hermite`), for a standard normal prior and decoders smooth on
  the prior's scale.

Sums are taken in log space and in float64, whatever the model's dtype.
"""

from __future__ import annotations

__all__ = ["gauss_hermite", "grid_log_likelihood", "line", "log_integral"]

import math

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from elboscope.core import GenerativeModel, InputError

_CHUNK = 4_000_000
"""Entries of z × x × data dimensions held at once."""


def line(limit: float, points: int) -> tuple[Float[Tensor, "P"], float]:
    """Equidistant float64 nodes on [−limit, limit] and the log of their spacing."""
    z = torch.linspace(-limit, limit, points, dtype=torch.float64)
    return z, math.log(2 * limit / (points - 1))


def log_integral(log_f: Float[Tensor, "P *B"], log_cell: float) -> Float[Tensor, "*B"]:
    """log Σ_i exp(log f_i) + log(cell), the log of the integral of f over its grid."""
    return log_f.double().logsumexp(0) + log_cell


def gauss_hermite(
    nodes: int, latent_dim: int = 1
) -> tuple[Float[Tensor, "P d"], Float[Tensor, "P"]]:
    r"""Nodes z and log weights with Σ exp(log_w) f(z) ≈ E f(z), z ~ N(0, I_d), in float64.

    Exact for polynomials of degree < 2·nodes in each coordinate; nodes^d points. Nodes whose
    weight underflows are dropped: they hold less than 1e-300 of the mass.

    Example:
        >>> z, log_w = gauss_hermite(200)
        >>> round((log_w.exp() * z[:, 0] ** 4).sum().item(), 10)
        3.0
    """
    node, weight = np.polynomial.hermite_e.hermegauss(nodes)
    kept = weight > 0
    z = torch.from_numpy(node[kept])
    log_w = torch.from_numpy(np.log(weight[kept] / weight.sum()))
    points = torch.cartesian_prod(*[z] * latent_dim).reshape(-1, latent_dim)
    return points, torch.cartesian_prod(*[log_w] * latent_dim).reshape(-1, latent_dim).sum(-1)


def grid_log_likelihood(
    model: GenerativeModel,
    x: Float[Tensor, "B *X"],
    *,
    limit: float = 6.0,
    points: int = 400,
) -> Float[Tensor, "B"]:
    r"""log p(x) = log Σ_ij p(z_ij) p(x | z_ij) + log(cell area), over a square grid of z.

    It is exact only while the posterior is inside [−limit, limit]^d and several spacings wide:
    a deterministic number without an error estimate. Double ``points`` to see what changes.

    Args:
        model: Any model with one or two latent dimensions.
        x: Data, ``(B, *X)``, on the model's device and in its dtype.
        limit: Half the side of the grid, in units of z.
        points: Nodes along a side.

    Returns:
        log p(x) in nats, ``(B,)``, float64.

    Raises:
        InputError: If the model has more than two latent dimensions.

    Example:
        >>> from elboscope.models.exact.linear_gaussian import LinearGaussian
        >>> model = LinearGaussian.instance_1()
        >>> x = torch.tensor([[1.0, -1.0, 0.5]], dtype=torch.float64)
        >>> round(grid_log_likelihood(model, x).item(), 10)
        -3.6964690082
    """
    event = tuple(model.prior().event_shape)
    if math.prod(event) > 2:
        raise InputError(
            "the model's latent space",
            expected="at most 2 dimensions for a grid",
            got=f"event shape {event}",
            do="Use importance sampling or annealed importance sampling.",
        )
    axis, log_cell = line(limit, points)
    grid = torch.cartesian_prod(*[axis] * math.prod(event)).reshape(-1, *event)
    chunk = max(1, _CHUNK // x.numel())
    parts = [_log_evidence(model, x, z) for z in grid.to(x).split(chunk)]
    return log_integral(torch.stack(parts), math.prod(event) * log_cell)


@torch.no_grad()
def _log_evidence(model: GenerativeModel, x: Tensor, z: Tensor) -> Tensor:
    """The log of the sum of p(x, z) over some nodes, one value for each x."""
    log_lik = model.decode(z.unsqueeze(1)).log_prob(x).double()
    return (model.prior().log_prob(z).double()[:, None] + log_lik).logsumexp(0)
