r"""The N posteriors of a data set, encoded once: the components of the aggregate posterior.

A diagonal Gaussian is two arrays, a full-covariance one an array and N triangular factors; both
are kept in float64 with the latent axes flattened to d, so that densities, draws and marginals
cost matrix products. Any other family (flows) keeps its own ``log_prob`` and is asked for it
block by block. A family without a density (implicit, auxiliary variables) is refused by name.

Draws take their noise one latent dimension after the other, so that a model with further,
collapsed dimensions draws the same values in the first ones.
"""

from __future__ import annotations

__all__ = [
    "DiagonalPosteriors",
    "FullPosteriors",
    "OtherPosteriors",
    "Posteriors",
    "encode_posteriors",
    "gaussian_posteriors",
]

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor
from torch.distributions import Distribution, Independent, MultivariateNormal, Normal

from elboscope.core import ContractError, LatentVariableModel, family, given

from .inputs import Inputs, blocks

ENCODE_BATCH = 1024
LOG_2PI = math.log(2 * math.pi)
# Components of one block: with as many points a block of log-densities is 8 MB and stays in cache.
BLOCK = 1024
# Elements of what the other families hold at once (whitened differences): 32 MB.
BLOCK_ELEMENTS = 2**22
# Largest error, in nats, that the expanded square may make before differences are taken directly.
TOLERANCE = 1e-6


@dataclass(frozen=True)
class DiagonalPosteriors:
    """N(μ_n, diag σ_n²), n = 1 … N, in float64."""

    mu: Float64[Tensor, "N d"]
    sigma: Float64[Tensor, "N d"]

    def __len__(self) -> int:
        return len(self.mu)

    def draw(self, index: Int64[Tensor, " S"]) -> Float64[Tensor, "S d"]:
        """Draws one z from each of the components in ``index``."""
        return self.mu[index] + self.sigma[index] * _noise(index, self.mu)

    def own_log_prob(
        self, z: Float64[Tensor, "S d"], index: Int64[Tensor, " S"]
    ) -> Float64[Tensor, " S"]:
        """Returns log q(z_s | x_{n_s}), computed directly."""
        sigma = self.sigma[index]
        terms = -0.5 * ((z - self.mu[index]) / sigma).square() - sigma.log()
        return terms.sum(1) - 0.5 * z.shape[1] * LOG_2PI

    def block_size(self, S: int) -> int:
        """Components whose log-densities at S points are computed at once."""
        return BLOCK

    def log_prob(self, z: Float64[Tensor, "S d"], rows: slice) -> Float64[Tensor, "S n"]:
        """Returns log q(z_s | x_n) for some components: one matrix product, or directly."""
        if self._rounding(z - self._centre) > TOLERANCE:
            return self._direct(z, rows)
        z = z - self._centre
        left = torch.cat([-0.5 * z.square(), z, torch.ones_like(z[:, :1])], 1)
        return left @ self._features[rows].T

    def _direct(self, z: Tensor, rows: slice) -> Tensor:
        mu, sigma = self.mu[rows], self.sigma[rows]
        log_q = (-sigma.log().sum(1) - 0.5 * z.shape[1] * LOG_2PI).repeat(len(z), 1)
        for j in range(z.shape[1]):
            u = (z[:, j, None] - mu[:, j]).div_(sigma[:, j])
            log_q.addcmul_(u, u, value=-0.5)
        return log_q

    def _rounding(self, z: Tensor) -> float:
        """Bounds the error of the expanded square by the size of what cancels in it."""
        largest = (z.square() @ self._largest_precision).max().item()
        return 4 * torch.finfo(z.dtype).eps * largest

    @cached_property
    def _centre(self) -> Float64[Tensor, " d"]:
        return self.mu.mean(0)

    @cached_property
    def _largest_precision(self) -> Float64[Tensor, " d"]:
        return self.sigma.square().reciprocal().amax(0)

    @cached_property
    def _features(self) -> Float64[Tensor, "N f"]:
        """(1/σ², μ/σ², c) of each component: the right factor of the product."""
        precision = self.sigma.square().reciprocal()
        mu = self.mu - self._centre
        c = -0.5 * (mu.square() * precision).sum(1) - self.sigma.log().sum(1)
        c = c - 0.5 * mu.shape[1] * LOG_2PI
        return torch.cat([precision, mu * precision, c[:, None]], 1)

    @property
    def marginals(self) -> DiagonalPosteriors:
        """The one-dimensional marginals: the posteriors themselves."""
        return self


@dataclass(frozen=True)
class FullPosteriors:
    """N(μ_n, L_n L_nᵀ), n = 1 … N, in float64."""

    mu: Float64[Tensor, "N d"]
    scale_tril: Float64[Tensor, "N d d"]

    def __len__(self) -> int:
        return len(self.mu)

    def draw(self, index: Int64[Tensor, " S"]) -> Float64[Tensor, "S d"]:
        """Draws one z from each of the components in ``index``."""
        return self.mu[index] + (self.scale_tril[index] @ _noise(index, self.mu)[..., None])[..., 0]

    def own_log_prob(
        self, z: Float64[Tensor, "S d"], index: Int64[Tensor, " S"]
    ) -> Float64[Tensor, " S"]:
        """Returns log q(z_s | x_{n_s}), computed directly."""
        parts = []
        for rows in blocks(len(z), ENCODE_BATCH):
            mu, L = self.mu[index[rows]], self.scale_tril[index[rows]]
            u = torch.linalg.solve_triangular(L, (z[rows] - mu)[..., None], upper=False)[..., 0]
            log_det = L.diagonal(dim1=-2, dim2=-1).log().sum(-1)
            parts.append(-0.5 * u.square().sum(-1) - log_det - 0.5 * z.shape[1] * LOG_2PI)
        return torch.cat(parts)

    def block_size(self, S: int) -> int:
        """Components whose whitened differences from S points are held at once."""
        return max(1, BLOCK_ELEMENTS // (S * self.mu.shape[1]))

    def log_prob(self, z: Float64[Tensor, "S d"], rows: slice) -> Float64[Tensor, "S n"]:
        """Returns log q(z_s | x_n): all whitened differences by one matrix product."""
        W, centre = self._whiteners[rows], self.mu.mean(0)
        n, d = W.shape[:2]
        u = ((z - centre) @ W.reshape(n * d, d).T).reshape(-1, n, d)
        u -= (W @ (self.mu[rows] - centre)[..., None])[..., 0]
        log_det = W.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        return -0.5 * u.square_().sum(-1) + log_det - 0.5 * d * LOG_2PI

    @cached_property
    def _whiteners(self) -> Float64[Tensor, "N d d"]:
        eye = torch.eye(self.mu.shape[1]).to(self.mu)
        whiteners: Tensor = torch.linalg.solve_triangular(self.scale_tril, eye, upper=False)
        return whiteners

    @property
    def marginals(self) -> DiagonalPosteriors:
        """The one-dimensional marginals, which are Gaussian."""
        return DiagonalPosteriors(self.mu, self.scale_tril.square().sum(-1).sqrt())


@dataclass(frozen=True)
class OtherPosteriors:
    """Any family with a ``log_prob``: N·S evaluations of it, no matrix product."""

    model: LatentVariableModel
    inputs: Inputs
    latent_shape: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.inputs.x)

    def draw(self, index: Int64[Tensor, " S"]) -> Float64[Tensor, "S d"]:
        """Draws one z from each of the components in ``index``."""
        parts = [self._encoded(index[r]).sample() for r in blocks(len(index), ENCODE_BATCH)]
        return torch.cat(parts).reshape(len(index), -1).double()

    def own_log_prob(
        self, z: Float64[Tensor, "S d"], index: Int64[Tensor, " S"]
    ) -> Float64[Tensor, " S"]:
        """Returns log q(z_s | x_{n_s})."""
        rows = blocks(len(index), ENCODE_BATCH)
        return torch.cat([self._score(self._encoded(index[r]), z[r]) for r in rows])

    def block_size(self, S: int) -> int:
        """Components at which S points are scored at once."""
        return max(1, BLOCK_ELEMENTS // (16 * S * math.prod(self.latent_shape)))

    def log_prob(self, z: Float64[Tensor, "S d"], rows: slice) -> Float64[Tensor, "S n"]:
        """Returns log q(z_s | x_n), every z under every component."""
        q = self._encoded(rows)
        return self._score(q, z[:, None].expand(-1, rows.stop - rows.start, -1))

    def _encoded(self, index: slice | Tensor) -> Distribution:
        x, condition = self.inputs.rows(index)
        return given(self.model, condition).encode(x)

    def _score(self, q: Distribution, z: Tensor) -> Tensor:
        try:
            shaped = z.reshape(*z.shape[:-1], *self.latent_shape).to(self.inputs.x.dtype)
            log_q: Tensor = q.log_prob(shaped).double()
        except NotImplementedError as error:
            raise ContractError(
                "encode(x).log_prob",
                expected="a density, which the aggregate posterior q(z) is made of",
                got=f"{family(q)}, which can only be sampled",
                do="Use a posterior that has one; for this one q(z) is unavailable.",
            ) from error
        return log_q


Posteriors = DiagonalPosteriors | FullPosteriors | OtherPosteriors


def encode_posteriors(model: LatentVariableModel, inputs: Inputs) -> Posteriors:
    """Encodes every datapoint once and returns the posteriors as arrays where they are Gaussian.

    The model is expected to be in evaluation mode, without gradients (``core.evaluating``).
    """
    parts: list[Posteriors] = []
    for rows in blocks(len(inputs.x), ENCODE_BATCH):
        x, condition = inputs.rows(rows)
        q = given(model, condition).encode(x)
        part = gaussian_posteriors(q)
        if part is None:
            return OtherPosteriors(model, inputs, tuple(q.event_shape))
        parts.append(part)
    return _join(parts)


def gaussian_posteriors(q: Distribution) -> DiagonalPosteriors | FullPosteriors | None:
    """Returns a batch of Gaussians as float64 arrays with d latent dimensions; None for others.

    Args:
        q: Batch shape ``(B,)``, any event shape: ``(C, H, W)`` is flattened.
    """
    base, depth = q, 0
    while isinstance(base, Independent):
        base, depth = base.base_dist, depth + base.reinterpreted_batch_ndims
    B = q.batch_shape[0] if q.batch_shape else 1
    if isinstance(base, Normal) and type(base).log_prob is Normal.log_prob:
        mu, sigma = base.loc.reshape(B, -1), base.scale.reshape(B, -1)
        return DiagonalPosteriors(mu.detach().double(), sigma.detach().double())
    if isinstance(base, MultivariateNormal) and depth == 0:
        L = base.scale_tril.expand(*q.batch_shape, *base.event_shape, *base.event_shape)
        mu = base.mean.reshape(B, -1).detach().double()
        return FullPosteriors(mu, L.reshape(B, *L.shape[-2:]).detach().double())
    return None


def _join(parts: list[Posteriors]) -> Posteriors:
    mu = torch.cat([p.mu for p in parts if not isinstance(p, OtherPosteriors)])
    if isinstance(parts[0], FullPosteriors):
        L = torch.cat([p.scale_tril for p in parts if isinstance(p, FullPosteriors)])
        return FullPosteriors(mu, L)
    sigma = torch.cat([p.sigma for p in parts if isinstance(p, DiagonalPosteriors)])
    return DiagonalPosteriors(mu, sigma)


def _noise(index: Int64[Tensor, " S"], mu: Float[Tensor, "N d"]) -> Float64[Tensor, "S d"]:
    """Standard normal noise, dimension by dimension."""
    columns = [torch.randn(len(index), dtype=mu.dtype, device=mu.device) for _ in mu[0]]
    return torch.stack(columns, dim=1)
