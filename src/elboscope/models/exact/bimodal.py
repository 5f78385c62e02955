r"""A posterior with two modes: z ~ N(0, 1), x | z ~ N(z², s²).

For x > 0 the posterior sits at ±√x, and the best Gaussian covers one mode: it loses about ln 2.
Its ELBO is a polynomial in (μ, v), so the optimum is the root of a quadratic; log p(x) is a
quadrature. A mixture of two Gaussians or a flow must win the ln 2 back, and a local optimisation
started at μ = 0 stays there (a saddle by symmetry): restarts matter.
"""

from __future__ import annotations

__all__ = ["Bimodal", "SeparatedPosteriors"]

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, Normal

from elboscope.core import InputError

from .quadrature import line, log_integral


class Bimodal(nn.Module):
    r"""p(x, z) = N(z; 0, 1) N(x; z², s²) with q(z | x) the best Gaussian at the positive mode.

    Computed in the dtype of x; log p(x) in float64.

    Args:
        scale: s > 0.

    Raises:
        InputError: If s is not positive.

    Example:
        >>> model, x = Bimodal(0.25), torch.ones(1, 1, dtype=torch.float64)
        >>> round(model.log_likelihood(x).item(), 10), round(model.elbo(x).item(), 10)
        (-1.3651923785, -2.0752300528)
    """

    def __init__(self, scale: float) -> None:
        super().__init__()
        if not scale > 0:
            raise InputError("scale of Bimodal", expected="a positive number", got=str(scale))
        self.log_scale = nn.Parameter(torch.tensor(math.log(scale), dtype=torch.float64))

    def prior(self) -> Distribution:
        """p(z) = N(0, 1), event shape ``(1,)``."""
        zero = torch.zeros_like(self.log_scale)[None]
        return Independent(Normal(zero, torch.ones_like(zero)), 1)

    def decode(self, z: Float[Tensor, "*K 1"]) -> Distribution:
        """p(x | z) = N(z², s²)."""
        return Independent(Normal(z**2, self.log_scale.exp().expand_as(z)), 1)

    def encode(self, x: Float[Tensor, "B 1"]) -> Distribution:
        """The best Gaussian, at the positive mode where there are two."""
        mean, variance = self.optimal_diagonal(x)
        return Independent(Normal(mean, variance.sqrt()), 1)

    def optimal_diagonal(
        self, x: Float[Tensor, "B 1"]
    ) -> tuple[Float[Tensor, "B 1"], Float[Tensor, "B 1"]]:
        """Mean and variance of the largest ELBO.

        Stationary points: μ² = x − 3v − s²/2 with 12v² − (4x − 2s²)v + s² = 0 (two modes), or
        μ = 0 with 6v² + (s² − 2x)v − s² = 0 (between them).
        """
        s2 = (2 * self.log_scale).exp()
        between = ((2 * x - s2) + ((2 * x - s2) ** 2 + 24 * s2).sqrt()) / 12
        a = 4 * x - 2 * s2
        root = (a**2 - 48 * s2).clamp(min=0).sqrt()
        at_mode = (a - root).clamp(min=1e-30) / 24
        mean = (x - 3 * at_mode - s2 / 2).clamp(min=0).sqrt()
        two_modes = (a > 0) & (a**2 > 48 * s2) & (mean > 0)
        better = self._elbo(x, mean, at_mode) > self._elbo(x, 0 * x, between)
        chosen = two_modes & better
        return torch.where(chosen, mean, 0 * x), torch.where(chosen, at_mode, between)

    def elbo(
        self,
        x: Float[Tensor, "B 1"],
        mean: Float[Tensor, "B 1"] | None = None,
        variance: Float[Tensor, "B 1"] | None = None,
    ) -> Float[Tensor, "B"]:
        """The ELBO of N(μ, v); of the best Gaussian's mean or variance where not given."""
        best_mean, best_variance = self.optimal_diagonal(x)
        return self._elbo(
            x,
            best_mean if mean is None else mean,
            best_variance if variance is None else variance,
        )[:, 0]

    def log_likelihood(self, x: Float[Tensor, "B 1"]) -> Float[Tensor, "B"]:
        """log p(x), by a sum over 40,001 equidistant z in [−10, 10]."""
        z, log_cell = line(10.0, 40_001)
        z = z[:, None, None]
        log_p = self.prior().log_prob(z) + self.decode(z).log_prob(x)
        return log_integral(log_p, log_cell)

    def approximation_gap(self, x: Float[Tensor, "B 1"]) -> Float[Tensor, "B"]:
        """log p(x) − ELBO of the best Gaussian; about ln 2 when the modes are apart."""
        return self.log_likelihood(x) - self.elbo(x)

    def mixture_elbo(self, x: Float[Tensor, "B 1"]) -> Float[Tensor, "B"]:
        """The ELBO of ½N(μ, v) + ½N(−μ, v), (μ, v) the best Gaussian's, by quadrature."""
        mean, variance = self.optimal_diagonal(x)
        z, log_cell = line(10.0, 40_001)
        z = z[:, None, None]
        q = Independent(Normal(mean, variance.sqrt()), 1)
        log_q = torch.logaddexp(q.log_prob(z), q.log_prob(-z)) - math.log(2)
        log_w = self.prior().log_prob(z) + self.decode(z).log_prob(x) - log_q
        return (log_q.exp() * log_w).sum(0) * math.exp(log_cell)

    def _elbo(self, x: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
        """E(x − z²)² = x² − 2x(μ² + v) + μ⁴ + 6μ²v + 3v²."""
        m2, v, s2 = mean**2, variance, (2 * self.log_scale).exp()
        square = x**2 - 2 * x * (m2 + v) + m2**2 + 6 * m2 * v + 3 * v**2
        recon = -0.5 * (math.log(2 * math.pi) + s2.log() + square / s2)
        return recon - 0.5 * (m2 + v - 1 - v.log())


# Posteriors that do not overlap: q(z | x = n) = N(20n, 1), a mixture whose surgery is known.
#
# The index n of a datapoint can be read from its z, so that I(n; z) = ln N up to e^(−50), and the
# marginal KL of the mixture q_N is the analytic average KL minus ln N: the ceiling that every
# estimate of the mutual information over N datapoints reaches but cannot pass.


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
