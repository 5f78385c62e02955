r"""Approximate posteriors q(z|x): from what an encoder computes to a distribution.

Scales are carried as :math:`\log \sigma^2`, clamped to [−14, 6], that is σ between 9.1e-4 and
20.1: outside, :math:`e^{\log\sigma^2}` overflows or a posterior becomes narrower than any use of
it. The clamp has zero gradient outside the interval.
"""

from __future__ import annotations

__all__ = [
    "LOG_VARIANCE_RANGE",
    "Conditional",
    "diagonal_gaussian",
    "full_covariance_gaussian",
    "standard_normal",
    "with_fixed_parameters",
]

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, MultivariateNormal, Normal

from elboscope.core import InputError

LOG_VARIANCE_RANGE = (-14.0, 6.0)


def diagonal_gaussian(
    mu: Float[Tensor, "B *Z"], log_variance: Float[Tensor, "B *Z"]
) -> Distribution:
    r"""Returns :math:`\mathcal N(\mu, \mathrm{diag}\,\sigma^2)`, the event being all of (*Z).

    Args:
        mu: Means, one row a datapoint.
        log_variance: :math:`\log\sigma^2`, clamped to :data:`LOG_VARIANCE_RANGE`.

    Example:
        >>> q = diagonal_gaussian(torch.zeros(4, 2), torch.full((4, 2), -100.0))
        >>> q.stddev[0, 0].log().item()  # clamped: σ = e^-7
        -7.0
    """
    sigma = (0.5 * log_variance.clamp(*LOG_VARIANCE_RANGE)).exp()
    return Independent(Normal(mu, sigma, validate_args=False), mu.ndim - 1, validate_args=False)


def standard_normal(latent_shape: tuple[int, ...], like: Tensor) -> Distribution:
    """Returns N(0, I) with event shape ``(*Z)``, on the device and in the dtype of ``like``.

    Example:
        >>> standard_normal((2,), torch.zeros(1)).log_prob(torch.zeros(2)).item()
        -1.837...
    """
    zeros = torch.zeros(latent_shape, device=like.device, dtype=like.dtype)
    p = Normal(zeros, torch.ones_like(zeros), validate_args=False)
    return Independent(p, len(latent_shape), validate_args=False)


# Networks whose parameters are constants: gradients pass to their arguments alone.
#
# Freezing a density (sticking the landing, DReG) means :math:`\nabla \log q` at fixed parameters
# but through z. Where z is the input of a network, detaching numbers is not enough: the network
# itself has to be called with detached parameters.

Conditional = Callable[..., Any]


class _Method(nn.Module):
    """One method of a module as the ``forward`` of another."""

    def __init__(self, module: nn.Module, name: str) -> None:
        super().__init__()
        self.module, self.name = module, name

    def forward(self, *args: object) -> Any:
        return getattr(self.module, self.name)(*args)


def with_fixed_parameters(module: nn.Module, method: str = "forward") -> Conditional:
    """Returns a method of a module as a function that passes gradients to its arguments alone.

    Args:
        module: Any module; its parameters are detached, not copied.
        method: Which of its methods.

    Example:
        >>> layer, x = nn.Linear(2, 1), torch.ones(3, 2, requires_grad=True)
        >>> y = with_fixed_parameters(layer)(x).sum()
        >>> torch.autograd.grad(y, [x, layer.weight], allow_unused=True)[1] is None
        True
    """
    called = _Method(module, method)
    state = {name: p.detach() for name, p in called.named_parameters()}
    return lambda *args: torch.func.functional_call(called, state, args)


# A Gaussian posterior with all its correlations, :math:`\mathcal N(\mu, LL^\top)`.
#
# It contains the exact posterior of every linear-Gaussian model, where a factorised one is off by
# :math:`\frac12(\sum_j \ln \Lambda_{jj} - \ln|\Lambda|)` nats. The factor is lower triangular;
# its diagonal is carried as a logarithm and clamped as the diagonal Gaussian's, so that L is
# never singular and log|L| never overflows.


def full_covariance_gaussian(
    mu: Float[Tensor, "*B d"], factor: Float[Tensor, "*B n m"]
) -> MultivariateNormal:
    r"""Returns :math:`\mathcal N(\mu, LL^\top)`, batch ``(*B,)``, event ``(d,)``.

    Args:
        mu: Means.
        factor: L below the diagonal, and :math:`\log L_{jj}` on it, clamped to half of
            :data:`LOG_VARIANCE_RANGE`; what stands above the diagonal is ignored.

    Raises:
        InputError: The factor is not d × d.

    Example:
        >>> factor = torch.tensor([[0.0, 9.0], [0.5, 0.0]])  # the 9 is not looked at
        >>> full_covariance_gaussian(torch.zeros(3, 2), factor.expand(3, 2, 2)).covariance_matrix[0]
        tensor([[1.0000, 0.5000],
                [0.5000, 1.2500]])
    """
    d = mu.shape[-1]
    if tuple(factor.shape[-2:]) != (d, d):
        raise InputError(
            "factor",
            expected=f"a matrix of {d} × {d} for each mean, lower triangular",
            got=f"shape {tuple(factor.shape)}",
        )
    low, high = LOG_VARIANCE_RANGE
    diagonal = factor.diagonal(dim1=-2, dim2=-1).clamp(0.5 * low, 0.5 * high).exp()
    L = factor.tril(-1) + torch.diag_embed(diagonal)
    return MultivariateNormal(mu, scale_tril=L, validate_args=False)
