r"""The single bit: n identical copies of one fair bit, one Gaussian latent, the Bayes decoder.

x ∈ {0…0, 1…1} with probability ½ each, q(z | x) = N(±m, s²) and each copy decoded with the logit
log q(z | 1)/q(z | 0) = 2mz/s², which is the optimal one. With a single copy the ELBO is
−ln 2 − KL(q(z)‖p(z)) for *any* encoder: the optimum −ln 2 needs q(z) = N(0, 1), which two
Gaussians reach only by collapsing. The valley is extremely flat (along s² = 1 − m² the loss rises
as m⁸/12), so test the ELBO, not the KL. With two or more copies the bit is worth transmitting.

References:
    Rui Shu 2017; the flatness and the table over n are exact, computed for this library.
"""

from __future__ import annotations

__all__ = ["SingleBit"]

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributions import Bernoulli, Distribution, Independent, Normal
from torch.nn.functional import logsigmoid

from elboscope.core import InputError
from elboscope.models.quadrature import line


class SingleBit(nn.Module):
    r"""q(z | x) = N(±m, s²), p(x | z) = Bernoulli(logits 2mz/s²) for each copy, in float64.

    Args:
        m: Distance of the posterior means from zero.
        s: Their standard deviation, > 0.
        num_copies: n, the number of identical bits.

    Raises:
        InputError: If s is not positive.

    Example:
        >>> model = SingleBit.optimal(num_copies=2)
        >>> round(model.elbo().item(), 6), round(model.m.item(), 5), round(model.s.item(), 5)
        (-0.907558, 0.86547, 0.50097)
    """

    def __init__(self, m: float, s: float, num_copies: int = 1) -> None:
        super().__init__()
        if not s > 0:
            raise InputError("s of SingleBit", expected="a positive number", got=str(s))
        self.m = nn.Parameter(torch.tensor(m, dtype=torch.float64))
        self.log_s = nn.Parameter(torch.tensor(math.log(s), dtype=torch.float64))
        self.num_copies = num_copies

    @classmethod
    def optimal(cls, num_copies: int) -> SingleBit:
        """The (m, s) of the largest ELBO; for one copy the collapsed (0, 1), exactly."""
        if num_copies == 1:
            return cls(0.0, 1.0)
        model = cls(0.9, 0.4, num_copies)
        optimiser = torch.optim.LBFGS(
            model.parameters(), max_iter=200, tolerance_grad=1e-12, tolerance_change=1e-16,
            line_search_fn="strong_wolfe",
        )  # fmt: skip

        def loss() -> Tensor:
            optimiser.zero_grad()
            value = -model.elbo()
            value.backward()
            return value

        with torch.enable_grad():
            optimiser.step(loss)
        return cls(model.m.item(), model.s.item(), num_copies)

    @property
    def s(self) -> Float[Tensor, ""]:
        """The standard deviation of either posterior."""
        return self.log_s.exp()

    def data(self) -> Float[Tensor, "2 n"]:
        """Both datapoints, all zeros and all ones."""
        return torch.tensor([[0.0], [1.0]], dtype=torch.float64).repeat(1, self.num_copies)

    def prior(self) -> Distribution:
        """p(z) = N(0, 1), event shape ``(1,)``."""
        zero = torch.zeros_like(self.m)[None]
        return Independent(Normal(zero, torch.ones_like(zero)), 1)

    def decode(self, z: Float[Tensor, "*K 1"]) -> Distribution:
        """n Bernoulli bits with the logit 2mz/s²."""
        return Independent(
            Bernoulli(logits=self._logit(z).expand(*z.shape[:-1], self.num_copies)), 1
        )

    def encode(self, x: Float[Tensor, "B n"]) -> Distribution:
        """N(m, s²) for ones, N(−m, s²) for zeros."""
        mean = self.m * (2 * x[:, :1] - 1)
        return Independent(Normal(mean, self.s.expand_as(mean)), 1)

    def reconstruction(self) -> Float[Tensor, ""]:
        """E_q log p(x | z), all copies, by quadrature; the same for both x."""
        u, weight = _standard_normal_nodes()
        return self.num_copies * (weight * logsigmoid(self._logit(self.m + self.s * u))).sum()

    def kl(self) -> Float[Tensor, ""]:
        """KL(q(z | x)‖p(z)), the same for both x."""
        return 0.5 * (self.m**2 + self.s**2 - 1) - self.log_s

    def elbo(self) -> Float[Tensor, ""]:
        """Reconstruction − KL, per datapoint (all copies)."""
        return self.reconstruction() - self.kl()

    def mutual_information(self) -> Float[Tensor, ""]:
        """I(x; z) under q = ln 2 + E log σ(2mz/s²), at most ln 2, by quadrature."""
        return math.log(2) + self.reconstruction() / self.num_copies

    def marginal_kl(self) -> Float[Tensor, ""]:
        """KL(½N(m, s²) + ½N(−m, s²)‖N(0, 1)), by quadrature of q log q/p itself."""
        u, weight = _standard_normal_nodes()
        z = self.m + self.s * u
        log_q = torch.logaddexp(-0.5 * u**2, -0.5 * ((z + self.m) / self.s) ** 2)
        return (weight * (log_q - math.log(2) - self.log_s + 0.5 * z**2)).sum()

    def _logit(self, z: Tensor) -> Tensor:
        return 2 * self.m * z / self.s**2


def _standard_normal_nodes() -> tuple[Tensor, Tensor]:
    """Equidistant nodes and weights for an expectation under N(0, 1)."""
    u, _ = line(12.0, 4001)
    return u, torch.softmax(-0.5 * u**2, 0)
