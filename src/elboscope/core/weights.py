r"""The second noun: log-weights, the currency of estimation.

.. math:: \log w_k = \log p(x, z_k) - \log q(z_k \mid x), \qquad z_k \sim q(z \mid x)

with shape ``(K, B)``. Since :math:`\mathbb{E}_q[w] = p(x)`, every bound of the ELBO family and
every importance-sampling estimate of :math:`\log p(x)` is a function of them. They are never
exponentiated, and reductions over samples accumulate in float64.
"""

from __future__ import annotations

__all__ = [
    "ParetoSmoothed",
    "effective_sample_size",
    "half_means",
    "log_joint",
    "log_mean_exp",
    "log_mean_exp_stderr",
    "log_weights",
    "pareto_smoothed",
    "sample_posterior",
]

import copy
import math
from collections.abc import Mapping
from contextlib import nullcontext
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Float64
from torch import Tensor
from torch.distributions import Distribution

from .blocks import Grid, Pieces, Streams, decode_in_pieces
from .errors import ContractError, InputError
from .model import GenerativeModel, LatentVariableModel, given


@runtime_checkable
class SamplesWithDensity(Protocol):
    """A posterior that scores its own draws, as flows do: inverting them would be slow or worse."""

    def rsample_and_log_prob(
        self, shape: torch.Size, freeze: bool = False
    ) -> tuple[Tensor, Tensor]:
        """Draws z and its log-density; ``freeze`` stops gradients through the density only."""
        ...


def log_joint(
    model: GenerativeModel, x: Float[Tensor, "B *X"], z: Float[Tensor, "K B *Z"]
) -> Float[Tensor, "K B"]:
    r"""Returns :math:`\log p(x, z) = \log p(z) + \log p(x \mid z)`, in nats."""
    return model.prior().log_prob(z) + model.decode(z).log_prob(x)


def sample_posterior(
    model: LatentVariableModel,
    x: Float[Tensor, "B *X"],
    num_samples: int,
    *,
    freeze: bool = False,
) -> tuple[Float[Tensor, "K B *Z"], Float[Tensor, "K B"]]:
    r"""Draws :math:`z_k \sim q(z \mid x)` and scores it: the one place that does.

    Args:
        model: The model.
        x: Data.
        num_samples: K.
        freeze: Stop the gradient through the parameters of the density, but not through z
            (sticking the landing, DReG). A posterior that holds more than tensors and other
            distributions (a transformed one) is linearised at the draws, which costs a backward
            pass and keeps first derivatives only; ``rsample_and_log_prob`` does better.

    Returns:
        z, and ``log q(z | x)`` in nats. For an auxiliary-variable posterior the second is
        ``log q(z, v | x) − log r(v | x, z)``, which keeps the weights unbiased for p(x).

    Raises:
        ContractError: The posterior has no density (an implicit one).
    """
    q = model.encode(x)
    shape = torch.Size((num_samples,))
    if isinstance(q, SamplesWithDensity):
        return q.rsample_and_log_prob(shape, freeze=freeze)
    z = q.rsample(shape) if q.has_rsample else q.sample(shape)
    frozen = _frozen(q) if freeze else q
    try:
        return z, _linearise(q, z) if frozen is None else frozen.log_prob(z)
    except NotImplementedError as error:
        raise ContractError(
            "encode(x).log_prob",
            expected="a density, which importance weights need",
            got=f"{type(q).__name__}, which can only be sampled",
            do="Use a check that needs no density, or a posterior that has one.",
        ) from error


# What a distribution may hold beside tensors and distributions without hiding a parameter in it.
_PLAIN = (torch.Size, bool, int, float, str, type(None))


def _frozen(q: Distribution) -> Distribution | None:
    """The same density with every tensor detached; ``None`` where something else is inside.

    Encoding again would be another density under dropout, and would move batch statistics.
    """
    twin = copy.copy(q)
    for name, value in vars(q).items():
        if isinstance(value, Tensor):
            vars(twin)[name] = value.detach()
        elif isinstance(value, Distribution):
            inner = _frozen(value)
            if inner is None:
                return None
            vars(twin)[name] = inner
        elif not isinstance(value, _PLAIN):
            return None
    return twin


def _linearise(q: Distribution, z: Float[Tensor, "K B *Z"]) -> Float[Tensor, "K B"]:
    r"""log q at z, with :math:`\nabla_z \log q` as its only derivative, and that to first order."""
    fixed = z.detach()
    slope = torch.func.grad(lambda z: q.log_prob(z).sum())(fixed).detach()
    log_q: Tensor = q.log_prob(fixed).detach()
    step: Tensor = slope * (z - fixed)  # zero, but not its gradient
    return log_q + step.reshape(*log_q.shape, -1).sum(-1)


def log_weights(
    model: LatentVariableModel,
    x: Float[Tensor, "B *X"],
    num_samples: int,
    *,
    freeze: bool = False,
    sample_chunk: int | None = None,
    batch_size: int | None = None,
    condition: Tensor | None = None,
) -> Float[Tensor, "K B"]:
    r"""Draws :math:`z_k \sim q(z \mid x)` and returns :math:`\log p(x, z_k) - \log q(z_k \mid x)`.

    With gradients enabled all samples are drawn at once and reparameterised where the posterior
    is, so that any bound built from the result has the pathwise gradient. Without gradients the
    draws and their scores are streamed, and only the weights themselves are kept; the draws are
    the same whatever the sizes of the blocks.

    Args:
        model: The model.
        x: Data.
        num_samples: K.
        freeze: As in :func:`sample_posterior`.
        sample_chunk: Samples decoded at once; by default as many as fit in a few megabytes.
        batch_size: Datapoints decoded at once; by default as many as are drawn together.
        condition: One row per datapoint, passed to ``model.given``.

    Returns:
        The log-weights in nats.

    References:
        | Importance Weighted Autoencoders (Burda et al., 2016), https://arxiv.org/abs/1509.00519

    Example:
        >>> import elboscope as es
        >>> model = es.models.LinearGaussian.instance_1()
        >>> x, _ = model.sample(5, seed=0)
        >>> log_weights(model, x, 3).shape
        torch.Size([3, 5])
    """
    if torch.is_grad_enabled() and sample_chunk is None and batch_size is None:
        return _block(given(model, condition), x, num_samples, freeze)
    for name, size in (("batch_size", batch_size), ("sample_chunk", sample_chunk)):
        if size is not None and size < 1:
            raise InputError(name, expected="at least 1", got=repr(size))
    if not len(x):
        return x.new_empty(num_samples, 0)
    grid = Grid.of(model, x, condition, num_samples)
    pieces = Pieces.of(model, x, condition, grid, batch_size, sample_chunk)
    cells, columns = grid.cells(len(x), num_samples), dict[int, list[Tensor]]()
    own_stream = Streams() if len(cells) > 1 else lambda _: nullcontext()  # the one in force
    for number, (rows, samples) in enumerate(cells):
        c, size = None if condition is None else condition[rows], samples.stop - samples.start
        with own_stream(number):
            z, log_q = sample_posterior(given(model, c), x[rows], size, freeze=freeze)
        found = decode_in_pieces(log_joint, model, x[rows], z, pieces, c) - log_q
        columns.setdefault(rows.start, []).append(found)
    return torch.cat([torch.cat(parts) for parts in columns.values()], dim=1)


def _block(model: LatentVariableModel, x: Tensor, K: int, freeze: bool) -> Tensor:
    z, log_q = sample_posterior(model, x, K, freeze=freeze)
    return log_joint(model, x, z) - log_q


def log_mean_exp(log_w: Float[Tensor, "K *B"]) -> Float64[Tensor, "*B"]:
    r"""Returns :math:`\log \frac{1}{K} \sum_k w_k`, K being the length of the first axis.

    Example:
        >>> log_mean_exp(torch.tensor([[0.0], [0.0]])).item()
        0.0
    """
    return log_w.double().logsumexp(0) - math.log(len(log_w))


def log_mean_exp_stderr(log_w: Float[Tensor, "K *B"]) -> Float64[Tensor, "*B"]:
    r"""Returns the delta-method standard error of :func:`log_mean_exp`.

    .. math:: \mathrm{se} = \frac{\mathrm{sd}(w)}{\bar w \sqrt K}
              = \sqrt{\frac{K}{K-1} \Bigl(\frac{1}{\mathrm{ESS}} - \frac{1}{K}\Bigr)}

    It is worth nothing where the weights have no finite variance (Pareto k̂ ≥ 0.5), and NaN
    for K = 1, where there is no spread to measure.
    """
    K = len(log_w)
    if K == 1:
        return torch.full_like(log_w[0], torch.nan, dtype=torch.float64)
    excess = (1 / effective_sample_size(log_w) - 1 / K).clamp(min=0)
    return (excess * K / (K - 1)).sqrt()


def half_means(log_w: Float[Tensor, "K *B"]) -> Mapping[str, Float64[Tensor, "*B"]]:
    r"""Returns log of the mean weight of either half of the samples, each with its error, in nats.

    Two independent estimates, from which a pilot and what it decides can be told apart. The halves
    are split at an even sample; of a single sample both are that sample.

    Example:
        >>> halves = half_means(torch.tensor([[0.0], [0.0], [1.0], [1.0]]))
        >>> halves["half"].item(), halves["other_half"].item()
        (0.0, 1.0)
    """
    K = len(log_w)
    at = max(1, K // 2)
    at -= at % 2 if at > 1 else 0
    first, second = log_w[:at], log_w[at:] if K > 1 else log_w
    return {
        "half": log_mean_exp(first),
        "half_stderr": log_mean_exp_stderr(first),
        "other_half": log_mean_exp(second),
        "other_half_stderr": log_mean_exp_stderr(second),
    }


def effective_sample_size(log_w: Float[Tensor, "K *B"]) -> Float64[Tensor, "*B"]:
    r"""Returns Kish's :math:`\mathrm{ESS} = (\sum_k w_k)^2 / \sum_k w_k^2 \in [1, K]`.

    Example:
        >>> effective_sample_size(torch.zeros(4, 1)).item()
        4.0
    """
    log_w = log_w.double()
    return (2 * log_w.logsumexp(0) - (2 * log_w).logsumexp(0)).exp()


# Pareto smoothing: whether an importance-sampling average can be believed at all.
#
# The largest weights are fitted by a generalised Pareto distribution with tail index k. For k < ½
# the weights have a variance and the central limit theorem holds; beyond 0.7 the average is not
# usable at practical K; for k ≥ 1 its mean does not exist. The fit is that of arviz-stats, the
# reference implementation, whose convention is that of leave-one-out (it smooths the *other*
# sign): the weights go in negated.

# Weights this close (in nats) are equal but for the rounding of sums over thousands of terms: an
# exact posterior gives them, and no tail can be fitted to rounding.
EQUAL = 1e-9
# Six weights in the tail: some versions of the reference fit five, others refuse.
FEWEST = 30


class ParetoSmoothed(NamedTuple):
    """The tail index of each column of weights and the smoothed log-mean."""

    khat: Float64[Tensor, " B"]
    log_mean: Float64[Tensor, " B"]


def pareto_smoothed(log_w: Float[Tensor, "K B"]) -> ParetoSmoothed:
    r"""Fits the tail of each datapoint's weights; returns k̂ and the PSIS value of log mean w.

    The PSIS value has less variance than the plain average and a bias of unknown side: it is
    not a bound. Columns that are not finite, and K < 30 (fewer than six weights in the tail),
    give NaN; where the largest weights are all equal (an exact posterior, few discrete latents)
    nothing is heavy: k̂ = −∞, and the value is the plain one.

    Args:
        log_w: Log-weights, in nats.

    References:
        | Pareto Smoothed Importance Sampling (Vehtari et al.), https://arxiv.org/abs/1507.02646

    Example:
        >>> from elboscope.core import seeded
        >>> with seeded(0):  # log w = c·Exp(1) has tail index c
        ...     log_w = 0.6 * torch.empty(20_000, 1, dtype=torch.float64).exponential_()
        >>> bool((pareto_smoothed(log_w).khat - 0.6).abs() < 0.1)
        True
    """
    rows = log_w.detach().double().cpu().T.numpy()
    pairs = [_smooth(row) for row in rows]
    khat, log_mean = torch.tensor(pairs, dtype=torch.float64).reshape(-1, 2).T
    return ParetoSmoothed(khat.to(log_w.device), log_mean.to(log_w.device))


def _tail_length(K: int) -> int:
    """How many weights are fitted, as arviz-stats does."""
    return math.floor(min(K / 5, 3 * math.sqrt(K)))


def _smooth(log_w: np.ndarray) -> tuple[float, float]:
    from arviz_stats.base import array_stats

    K = len(log_w)
    if K < FEWEST or not np.isfinite(log_w).all():
        return math.nan, math.nan
    lowest = int(log_w.argmin())
    if log_w.max() - log_w[lowest] <= EQUAL:
        return -math.inf, float(log_w[lowest])
    tail = np.partition(log_w, K - _tail_length(K))[-_tail_length(K) :]
    if tail.max() - tail.min() <= EQUAL:
        return -math.inf, float(np.logaddexp.reduce(log_w) - math.log(K))
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):  # ties: k̂ is NaN
        normalised, khat = array_stats.psislw(-log_w)
    # psislw returns weights that sum to one; the lowest weight lies outside the tail and was
    # not smoothed, so the difference there is the normaliser that was taken away.
    log_sum = log_w[lowest] - normalised[lowest]
    return float(khat), float(log_sum - math.log(K))
