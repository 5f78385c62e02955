r"""Importance sampling from a defensive mixture of the posterior and a widened one.

.. math:: w_k = \frac{p(x, z_k)}{(1 - \alpha)\, q(z_k \mid x) + \alpha\, q_s(z_k \mid x)}

An encoder trained by the ELBO is too narrow where it is wrong, and the weights of its tails may
have no variance. Here αK of the samples come from q_s, the same q stretched s times about its
mean, and all K are weighted by the density of the mixture (the balance heuristic of multiple
importance sampling). The average stays unbiased for p(x); a weight is at most 1/(1 − α) times
what it was, and it is bounded wherever q_s has the heavier tails. What it costs: αK samples, of
which a few nats' worth are wasted. The stretch is 1 + √(2/d) unless given: a wider one would, in d
dimensions, put its samples where nothing is.

A posterior without a scale (a flow, a mixture, a positive family) is mixed with the prior instead,
whose weights p(x|z) are bounded for discrete data. That is a defence in few dimensions only.

References:
    | Weighted Average Importance Sampling and Defensive Mixture Distributions (Hesterberg, 1995),
      https://doi.org/10.1080/00401706.1995.10484303
    | Optimally Combining Sampling Techniques for Monte Carlo Rendering (Veach, Guibas, 1995),
      https://doi.org/10.1145/218380.218498
"""

from __future__ import annotations

__all__ = ["widened_importance_sampling"]

import math
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import Distribution, constraints

from elboscope.core import (
    ContractError,
    Estimate,
    InputError,
    LatentVariableModel,
    decode_in_pieces,
    evaluating,
    given,
    log_joint,
)

from ..inputs import is_real, log_prob_within, prepared
from ..streaming import Progress, Samples, Streaming, reporting
from .importance import weight_average


def widened_importance_sampling(
    model: LatentVariableModel,
    x: object,
    num_samples: int = 5000,
    *,
    scale: float | None = None,
    share: float = 0.5,
    seed: int | None = None,
    condition: Tensor | None = None,
    sample_chunk: int | None = None,
    batch_size: int | None = None,
    progress: Progress | bool | None = None,
) -> Estimate:
    r"""Estimates log p(x) from a mixture of q(z|x) and a widened q(z|x); a lower bound.

    The average weight is unbiased for p(x), so its logarithm lies below log p(x) in expectation.
    It repairs tails that are too light, not modes that are missed: what lies far outside both
    proposals stays unseen, as in :func:`importance_sampling`.

    Args:
        model: The model, with an encoder whose density is known.
        x: Data, ``(N, *X)``.
        num_samples: K, of both components together.
        scale: How many times q is stretched about its mean; by default 1 + √(2/d). Without
            effect where q has no scale and the prior takes its place.
        share: α, the share of the widened component.
        seed: Random seed; None picks one and records it.
        condition: One row per datapoint.
        sample_chunk: Samples decoded at once.
        batch_size: Datapoints decoded at once; by default all that are drawn together.
        progress: Called with the weights done and their total; True shows a bar.

    Returns:
        As :func:`importance_sampling`; ``settings["widened"]`` says by what. The error is that of
        independent draws, which overstates the error of fixed shares.

    Raises:
        InputError: x cannot be data; K < 1; a scale below 1 or a share outside (0, 1).
        ContractError: The posterior has no density.

    References:
        | Weighted Average Importance Sampling and Defensive Mixture Distributions (Hesterberg),
          https://doi.org/10.1080/00401706.1995.10484303

    Example:
        >>> import elboscope as es
        >>> model = es.models.LinearGaussian.instance_2()  # its plain weights have no variance
        >>> x, _ = model.sample(20, seed=0)
        >>> log_px = widened_importance_sampling(model, x, 1000, seed=0)
        >>> log_px.diagnostics["khat"].median().item() < 0.5
        True
    """
    _require_mixture(scale, share)
    inputs = prepared(model, x, condition)

    def weigh(x: Tensor, condition: Tensor | None, samples: Samples) -> Tensor:
        local = given(model, condition)
        q = local.encode(x)
        wide = widen(q, local.prior(), scale)
        z = _interleave(q, wide or local.prior(), _from_wide(samples, share))
        log_q, log_wide = _log_prob(q, z), log_prob_within(wide or local.prior(), z)
        log_mixture = _mix(log_q, log_wide, _drawn_share(num_samples, share))
        return decode_in_pieces(log_joint, model, x, z, samples.pieces, condition) - log_mixture

    x0, c0 = inputs.rows(slice(0, 1))
    with evaluating(model):
        local = given(model, c0)
        wide = widen(local.encode(x0), local.prior(), scale)
    what = "the prior" if wide is None else f"q stretched {wide.scale:.3g} times"
    return weight_average(
        model,
        inputs,
        weigh,
        "importance sampling, widened",
        Streaming(num_samples, seed, sample_chunk, batch_size, reporting(progress)),
        {"widened": what, "share": share},
    )


class Widened(Distribution):
    """A distribution stretched about its mean: z = m + s (y − m), y ~ q."""

    arg_constraints: ClassVar[dict[str, constraints.Constraint]] = {}

    def __init__(self, q: Distribution, scale: float) -> None:
        super().__init__(q.batch_shape, q.event_shape, validate_args=False)
        self.q, self.scale, self._centre = q, scale, q.mean

    def sample(self, sample_shape: torch.Size | list[int] | tuple[int, ...] = ()) -> Tensor:
        """Draws z."""
        return self._centre + self.scale * (self.q.sample(torch.Size(sample_shape)) - self._centre)

    def log_prob(self, value: Tensor) -> Tensor:
        """The density of y, less d log s."""
        y = self._centre + (value - self._centre) / self.scale
        return self.q.log_prob(y) - math.prod(self.event_shape) * math.log(self.scale)


def widen(q: Distribution, prior: Distribution, scale: float | None) -> Widened | None:
    """Returns q stretched, or ``None`` if it has no mean or lives on a part of the space."""
    try:
        everywhere = all(is_real(p.support) for p in (q, prior))
        centred = bool(q.mean.isfinite().all())
    except NotImplementedError:
        return None
    if not (everywhere and centred):
        return None
    d = math.prod(q.event_shape)
    return Widened(q, 1 + math.sqrt(2 / d) if scale is None else scale)


def _from_wide(samples: Samples, share: float) -> list[bool]:
    """Which samples come from the wide component: evenly spread, whatever the chunks are."""
    return [
        _wide_before(k + 1, share) > _wide_before(k, share)
        for k in range(samples.start, samples.stop)
    ]


def _wide_before(k: int, share: float) -> int:
    return math.floor(k * share + 1e-9)


def _drawn_share(K: int, share: float) -> float:
    """The share that was in fact drawn, which makes the average unbiased for every K."""
    return _wide_before(K, share) / K


def _interleave(q: Distribution, wide: Distribution, from_wide: list[bool]) -> Tensor:
    count, total = sum(from_wide), len(from_wide)
    chosen = torch.tensor(from_wide)
    plain = q.sample(torch.Size((total - count,)))
    batch = torch.Size((count,)) + (q.batch_shape if not wide.batch_shape else torch.Size())
    z = plain.new_empty((total, *plain.shape[1:]))
    z[~chosen], z[chosen] = plain, wide.sample(batch)
    return z


def _mix(
    log_q: Float[Tensor, "K B"], log_wide: Float[Tensor, "K B"], a: float
) -> Float[Tensor, "K B"]:
    if a == 0:
        return log_q
    if a == 1:
        return log_wide
    return torch.logaddexp(log_q + math.log1p(-a), log_wide + math.log(a))


def _log_prob(q: Distribution, z: Tensor) -> Tensor:
    try:
        return log_prob_within(q, z)
    except NotImplementedError as error:
        raise ContractError(
            "encode(x).log_prob",
            expected="a density at any z, which a mixture of proposals needs",
            got=f"{type(q).__name__}, which has none",
            do="es.annealed_importance_sampling(model, x) needs no posterior.",
        ) from error


def _require_mixture(scale: float | None, share: float) -> None:
    if scale is not None and not scale >= 1:
        raise InputError("scale", expected="at least 1, how many times wider", got=repr(scale))
    if not 0 < share < 1:
        raise InputError("share", expected="a number between 0 and 1", got=repr(share))
