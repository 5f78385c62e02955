r"""Latent traversals: one unit moves over the quantiles of q(z_j), all others stay.

Which units are worth a look: those with the most information about x,

.. math:: I(n; z_j) = \frac1N \sum_n \mathrm{KL}\bigl(q(z_j|x_n) \,\|\, q_N(z_j)\bigr)
          \le \log N,

estimated from one draw per datapoint. Unlike KL(q(z_j|x) ‖ p(z_j)) it is zero for a unit that pays
a toll and says nothing, and it needs no factorised prior. Posteriors without Gaussian marginals
are ranked by what a Gaussian unit of the same variances would tell,
½ ln(Var z_j / E Var[z_j|x]), which says so.

How far: to quantiles of the aggregate posterior, not to ±3. A unit that lives in ±0.3 shows
nothing but the decoder's guesses beyond, and one that reaches 5 is cut short.
"""

from __future__ import annotations

__all__ = ["LEVELS", "LatentTraversals", "latent_traversals"]

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from elboscope.core import InputError, LatentVariableModel, evaluating, given, seeded

from ..inputs import Inputs, prepared, require_positive
from ..posteriors import LOG_2PI, DiagonalPosteriors, OtherPosteriors, encode_posteriors
from .aggregate import log_marginal_posteriors
from .pictures import decode_points, location, marginal_quantiles, prior_location

LEVELS = (0.01, 0.05, 0.15, 0.3, 0.5, 0.7, 0.85, 0.95, 0.99)
# One-dimensional densities scored to rank the units: a second's work.
TERMS = 5 * 10**7
FEWEST, MOST = 100, 4000
# Draws of each datapoint where nothing about a posterior is known but its draws.
OTHER_DRAWS, OTHER_DATA = 16, 500
INFORMATION = "I(n; z_j)"
BY_VARIANCE = "½ ln(Var z_j / E Var[z_j|x])"


@dataclass(frozen=True, eq=False)
class LatentTraversals:
    """What the decoder shows while one unit at a time moves.

    Attributes:
        units: The r units, by their index in z flattened, the most informative first.
        information: By what they are ranked, in nats.
        information_stderr: Its standard error; NaN where it is by variances.
        ranked_by: Which of the two it is.
        levels: Levels of the s quantiles.
        values: z_j at them.
        start: Where all others stay, (d,).
        start_is: The same in words.
        mean: The decoder's means, or its draws where it has no mean.
        settings: What was done.
        data_id: Checksum of the data behind q(z).
    """

    units: Int64[Tensor, " r"]
    information: Float64[Tensor, " r"]
    information_stderr: Float64[Tensor, " r"]
    ranked_by: str
    levels: Float64[Tensor, " s"]
    values: Float64[Tensor, "r s"]
    start: Float64[Tensor, " d"]
    start_is: str
    mean: Float[Tensor, "r s *X"]
    settings: Mapping[str, object]
    data_id: str

    def __str__(self) -> str:
        pairs = zip(self.units.tolist(), self.information.tolist(), strict=True)
        named = ", ".join(f"{unit} ({nats:.2f} nats)" for unit, nats in pairs)
        return f"traversals of units {named}; others at {self.start_is}"


def latent_traversals(
    model: LatentVariableModel,
    x: object,
    *,
    num_units: int = 8,
    levels: Sequence[float] = LEVELS,
    datapoint: int | None = 0,
    seed: int | None = None,
    condition: Tensor | None = None,
) -> LatentTraversals:
    r"""Decodes the most informative units at quantiles of q(z_j), one unit at a time.

    A picture that does not change does not prove that the decoder ignores the unit at other z:
    see :func:`zeroing_effect`. Nor does moving one unit alone stay on q(z) where units depend.

    Args:
        model: The model, with an encoder.
        x: The data behind q(z).
        num_units: How many units, of at most d.
        levels: Levels of the quantiles, between 0 and 1.
        datapoint: The row of x at whose posterior mean all other units stay; ``None``: at the
            mean of the prior.
        seed: Random seed of the draws that rank the units; None picks one.
        condition: One row per datapoint; decoding takes that of ``datapoint``, else the first.

    Raises:
        InputError: x cannot be data; a level outside (0, 1); no such datapoint.

    Example:
        >>> import elboscope as es
        >>> model = es.models.LinearGaussian.instance_1()
        >>> x, _ = model.sample(300, seed=0)
        >>> shown = latent_traversals(model, x, levels=(0.1, 0.5, 0.9), seed=0)
        >>> shown.mean.shape, shown.settings["decoded"]
        (torch.Size([2, 3, 3]), 'means of p(x|z)')
    """
    inputs = prepared(model, x, condition)
    require_positive("num_units", num_units)
    _check(levels, datapoint, len(inputs.x))
    row = slice(datapoint or 0, (datapoint or 0) + 1)
    first, c = inputs.rows(row)
    with evaluating(model), seeded(seed) as used:
        found = _rank(model, inputs, torch.tensor(levels, dtype=torch.float64), num_units)
        if datapoint is None:
            start, word = prior_location(given(model, c).prior()), "the prior's mean"
        else:
            start, word = location(model, first, c)[0], f"the posterior mean of x[{datapoint}]"
        r, s = found.values.shape
        z = start.repeat(r, s, 1)
        z.scatter_(2, found.units[:, None, None].expand(r, s, 1), found.values[..., None])
        pictures = decode_points(model, z.reshape(r * s, -1), c)
    settings = {"num_data": len(inputs.x), "seed": used, "decoded": pictures.kind}
    return LatentTraversals(
        found.units, found.information, found.stderr, found.ranked_by, found.levels, found.values,
        start, word, pictures.x.unflatten(0, (r, s)), settings, inputs.data_id,
    )  # fmt: skip


@dataclass(frozen=True)
class _Ranked:
    units: Tensor
    information: Tensor
    stderr: Tensor
    ranked_by: str
    levels: Tensor
    values: Tensor


def _rank(model: LatentVariableModel, inputs: Inputs, levels: Tensor, num_units: int) -> _Ranked:
    q = encode_posteriors(model, inputs)
    levels = levels.to(inputs.x.device)
    if isinstance(q, OtherPosteriors):
        return _rank_by_variance(q, levels, num_units)
    marginals = q.marginals
    information, stderr = _information(marginals)
    units = information.argsort(descending=True, stable=True)[:num_units]
    values = marginal_quantiles(marginals, units, levels)
    return _Ranked(units, information[units], stderr[units], INFORMATION, levels, values)


def _information(q: DiagonalPosteriors) -> tuple[Float64[Tensor, " d"], Float64[Tensor, " d"]]:
    """One draw of each of n datapoints, scored by the mixture of these n."""
    d = q.mu.shape[1]
    n = min(len(q), MOST, max(FEWEST, math.isqrt(TERMS // d)))
    chosen = torch.randperm(len(q))[:n].to(q.mu.device)
    some, own = DiagonalPosteriors(q.mu[chosen], q.sigma[chosen]), torch.arange(n).to(q.mu.device)
    z = some.draw(own)
    log_own = -0.5 * ((z - some.mu) / some.sigma).square() - some.sigma.log() - 0.5 * LOG_2PI
    gained = log_own - log_marginal_posteriors(z, some, own)
    spread = gained.std(0) if n > 1 else torch.full_like(gained[0], math.nan)
    return gained.mean(0).clamp(min=0), spread / math.sqrt(n)


def _rank_by_variance(q: OtherPosteriors, levels: Tensor, num_units: int) -> _Ranked:
    n = min(len(q), OTHER_DATA)
    chosen = torch.randperm(len(q))[:n].repeat_interleave(OTHER_DRAWS).to(levels.device)
    z = q.draw(chosen)
    within = z.unflatten(0, (n, OTHER_DRAWS)).var(1).mean(0)
    told = 0.5 * (z.var(0) / within).clamp(min=1).log()
    units = told.argsort(descending=True, stable=True)[:num_units]
    values = z[:, units].quantile(levels, dim=0).T
    nothing = torch.full_like(told[units], math.nan)
    return _Ranked(units, told[units], nothing, BY_VARIANCE, levels, values)


def _check(levels: Sequence[float], datapoint: int | None, n: int) -> None:
    if not levels or not all(0 < level < 1 for level in levels):
        raise InputError("levels", expected="numbers between 0 and 1", got=repr(tuple(levels)))
    if datapoint is not None and not 0 <= datapoint < n:
        raise InputError("datapoint", expected=f"a row of x, 0 to {n - 1}", got=repr(datapoint))
