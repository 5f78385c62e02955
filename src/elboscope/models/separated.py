r"""Posteriors that do not overlap: q(z | x = n) = N(20n, 1), a mixture whose surgery is known.

The index n of a datapoint can be read from its z, so that I(n; z) = ln N up to e^(−50), and the
marginal KL of the mixture q_N is the analytic average KL minus ln N: the ceiling that every
estimate of the mutual information over N datapoints reaches but cannot pass.
"""

from __future__ import annotations

__all__ = ["SeparatedPosteriors"]

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, Normal


class SeparatedPosteriors(nn.Module):
    r"""p(z) = N(0, 1), p(x | z) = N(z/spacing, 1), q(z | x) = N(spacing·x, 1), in float64.

    Args:
        spacing: Distance between the posteriors of x = n and x = n + 1, in their widths.

    Example:
        >>> model = SeparatedPosteriors()
        >>> x = model.data(5)
        >>> round(model.mutual_information(x).item() - math.log(5), 12)
        0.0
    """

    def __init__(self, spacing: float = 20.0) -> None:
        super().__init__()
        self.spacing = nn.Parameter(torch.tensor(spacing, dtype=torch.float64))

    def data(self, n: int) -> Float[Tensor, "n 1"]:
        """x = 0, 1, …, n − 1."""
        return torch.arange(n, dtype=torch.float64)[:, None]

    def prior(self) -> Distribution:
        """p(z) = N(0, 1), event shape ``(1,)``."""
        zero = torch.zeros_like(self.spacing)[None]
        return Independent(Normal(zero, torch.ones_like(zero)), 1)

    def decode(self, z: Float[Tensor, "*K 1"]) -> Distribution:
        """p(x | z) = N(z/spacing, 1)."""
        return Independent(Normal(z / self.spacing, torch.ones_like(z)), 1)

    def encode(self, x: Float[Tensor, "B 1"]) -> Distribution:
        """q(z | x) = N(spacing·x, 1)."""
        return Independent(Normal(self.spacing * x, torch.ones_like(x)), 1)

    def kl(self, x: Float[Tensor, "B 1"]) -> Float[Tensor, "B"]:
        """KL(q(z | x)‖p(z)) = ½(spacing·x)²."""
        return 0.5 * (self.spacing * x[:, 0]) ** 2

    def mutual_information(self, x: Float[Tensor, "N 1"]) -> Float[Tensor, ""]:
        """I(n; z) of q_N = ln N − E ln Σ_m q(z | x_m)/q(z | x_n), by quadrature around each n."""
        u = torch.linspace(-12, 12, 2001, dtype=torch.float64)[:, None]
        weight, means = torch.softmax(-0.5 * u[:, 0] ** 2, 0), self.spacing * x[:, 0]
        log_ratio = (0.5 * u**2 - 0.5 * (mean + u - means) ** 2 for mean in means)
        redundancy = torch.stack([weight @ ratio.logsumexp(1) for ratio in log_ratio])
        return math.log(len(x)) - redundancy.mean()

    def marginal_kl(self, x: Float[Tensor, "N 1"]) -> Float[Tensor, ""]:
        """KL(q_N‖p) = average KL − I(n; z), of this finite mixture."""
        return self.kl(x).mean() - self.mutual_information(x)
