r"""The second noun: log-weights, the currency of estimation.

.. math:: \log w_k = \log p(x, z_k) - \log q(z_k \mid x), \qquad z_k \sim q(z \mid x)

with shape ``(K, B)``. Since :math:`\mathbb{E}_q[w] = p(x)`, every bound of the ELBO family and
every importance-sampling estimate of :math:`\log p(x)` is a function of them. They are never
exponentiated, and reductions over samples accumulate in float64.
"""

from __future__ import annotations

__all__ = [
    "effective_sample_size",
    "log_joint",
    "log_mean_exp",
    "log_mean_exp_stderr",
    "log_weights",
    "sample_posterior",
]

import copy
import math
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Float64
from torch import Tensor
from torch.distributions import Distribution

from .decoder_size import values_per_sample
from .errors import ContractError, InputError
from .model import GenerativeModel, LatentVariableModel, given

# Elements of one decoded block (samples × datapoints × pixels). 2²⁰ float32 are 4 MB: around
# the size where a CPU's cache still holds a layer's output; a GPU is full well before.
BLOCK_ELEMENTS = 2**20


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
        return z, _linearised(q, z) if frozen is None else frozen.log_prob(z)
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


def _linearised(q: Distribution, z: Float[Tensor, "K B *Z"]) -> Float[Tensor, "K B"]:
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
    work is streamed over K and over B in blocks, and only the weights themselves are kept.

    Args:
        model: The model.
        x: Data.
        num_samples: K.
        freeze: As in :func:`sample_posterior`.
        sample_chunk: Samples of one block; by default as many as fit in a few megabytes.
        batch_size: Datapoints of one block; by default 256.
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
    B = batch_size or 256
    each = values_per_sample(model, x, condition) if sample_chunk is None and len(x) else 1
    columns = []
    for start in range(0, len(x), B):
        rows = slice(start, start + B)
        local = given(model, None if condition is None else condition[rows])
        chunk = sample_chunk or max(1, BLOCK_ELEMENTS // (each * len(x[rows])))
        columns.append(_streamed(local, x[rows], num_samples, freeze, chunk))
    return torch.cat(columns, dim=1)


def _block(model: LatentVariableModel, x: Tensor, K: int, freeze: bool) -> Tensor:
    z, log_q = sample_posterior(model, x, K, freeze=freeze)
    return log_joint(model, x, z) - log_q


def _streamed(model: LatentVariableModel, x: Tensor, K: int, freeze: bool, chunk: int) -> Tensor:
    sizes = [min(chunk, K - start) for start in range(0, K, chunk)]
    return torch.cat([_block(model, x, size, freeze) for size in sizes])


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


def effective_sample_size(log_w: Float[Tensor, "K *B"]) -> Float64[Tensor, "*B"]:
    r"""Returns Kish's :math:`\mathrm{ESS} = (\sum_k w_k)^2 / \sum_k w_k^2 \in [1, K]`.

    Example:
        >>> effective_sample_size(torch.zeros(4, 1)).item()
        4.0
    """
    log_w = log_w.double()
    return (2 * log_w.logsumexp(0) - (2 * log_w).logsumexp(0)).exp()
