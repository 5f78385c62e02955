r"""Walks through the latents: from one code to another, and along one unit.

From a = E_q[z|x_a] to b = E_q[z|x_b], for t from 0 to 1,

.. math:: z_t = (1 - t)\,a + t\,b \qquad\text{or}\qquad
          z_t = \frac{\sin((1-t)\Omega)\,a + \sin(t\Omega)\,b}{\sin\Omega},
          \quad \cos\Omega = \frac{a \cdot b}{\|a\| \|b\|}.

The second keeps the length of z, which in many dimensions is nearly the same for all draws of
N(0, I) and much smaller half-way along a straight line. Beside the path stands

.. math:: \log q_N(z_t) - \log p(z_t),

zero where the aggregate posterior is the prior: where it dips, the path crosses a hole, and the
decoder has not been trained for what it shows there. The two ends are left out of the mixture,
each of which would otherwise find itself.

The file is long because both walks, between codes and along a unit, are one idea.

References:
    | Sampling Generative Networks (White, 2016), https://arxiv.org/abs/1609.04468
"""

from __future__ import annotations

__all__ = [
    "LEVELS",
    "LatentInterpolations",
    "LatentTraversals",
    "latent_interpolations",
    "latent_traversals",
]

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral

import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from elboscope.core import ContractError, InputError, LatentVariableModel, evaluating, given, seeded
from elboscope.core.errors import first_line

from ..inputs import Inputs, prepared, require_positive
from ..posteriors import LOG_2PI, DiagonalPosteriors, OtherPosteriors, encode_posteriors
from .aggregate import log_marginal_posteriors
from .pictures import decode_points, location, marginal_quantiles, prior_location, ratio_to_prior

PATHS = ("linear", "spherical")
PARALLEL = 1e-6  # of sin Ω: below, an arc is a straight line, or none of its planes is the one


@dataclass(frozen=True, eq=False)
class LatentInterpolations:
    """Some paths, decoded.

    Attributes:
        pairs: The m pairs of rows of x.
        ends: These datapoints.
        t: The s steps, from 0 to 1.
        z: The places, latent axes flattened.
        mean: The decoder's means, or its draws where it has no mean.
        log_ratio: log q(z) − log p(z) along the paths, in nats; None where q has no density.
        why_no_ratio: The reason, or nothing.
        path: "linear" or "spherical".
        decoded: What ``mean`` shows, in words: means or draws of p(x|z).
        settings: What was done.
        data_id: Checksum of x.
    """

    pairs: Int64[Tensor, "m 2"]
    ends: Float[Tensor, "m 2 *X"]
    t: Float64[Tensor, " s"]
    z: Float64[Tensor, "m s d"]
    mean: Float[Tensor, "m s *X"]
    log_ratio: Float64[Tensor, "m s"] | None
    why_no_ratio: str
    path: str
    decoded: str
    settings: Mapping[str, object]
    data_id: str

    @property
    def dips(self) -> Float64[Tensor, " m"] | None:
        """How far log q(z) − log p(z) falls below the lower of its two ends, in nats.

        q(z) is the mixture of N: where posteriors are narrow for N it dips between any two of
        them (by 0.7 nats in a perfect model of six latents with N = 500), hole or not.
        """
        if self.log_ratio is None:
            return None
        lower_end = torch.minimum(self.log_ratio[:, 0], self.log_ratio[:, -1])
        return lower_end - self.log_ratio.amin(1)

    def __str__(self) -> str:
        m, dips = len(self.pairs), self.dips
        beside = self.why_no_ratio if dips is None else f"mean dip {dips.mean().item():.2f} nats"
        return f"{m} {self.path} paths of {len(self.t)} steps; log q(z) − log p(z): {beside}"


def latent_interpolations(
    model: LatentVariableModel,
    x: object,
    pairs: int | Sequence[tuple[int, int]] = 4,
    *,
    path: str = "linear",
    num_steps: int = 9,
    x_train: object | None = None,
    seed: int | None = None,
    condition: Tensor | None = None,
    condition_train: Tensor | None = None,
) -> LatentInterpolations:
    r"""Decodes the way from the code of one datapoint to that of another.

    Smooth pictures are no proof of a good latent space: an autoencoder's decoder is smooth too.
    The density along the path says whether these z are ever sampled.

    Args:
        model: The model, with an encoder.
        x: Datapoints.
        pairs: Pairs of rows of x, or how many to draw.
        path: ``"linear"``, or ``"spherical"`` about the origin; where a and b are parallel the
            arc is the straight line.
        num_steps: s, the ends included; at least two.
        x_train: The data behind q(z); by default all of x that is in no pair.
        seed: Random seed; None picks one and records it.
        condition: One row per datapoint of x; a path keeps the condition of its first end.
        condition_train: The same for ``x_train``.

    Raises:
        InputError: Too few datapoints; no such rows; no such path.

    Example:
        >>> import elboscope as es
        >>> model = es.models.LinearGaussian.perfect(2, 8, sigma2=0.1)
        >>> x, _ = model.sample(500, seed=0)
        >>> ways = latent_interpolations(model, x, [(0, 1)], num_steps=5)
        >>> ways.mean.shape, bool(ways.dips < 2)  # no hole on the way
        (torch.Size([1, 5, 8]), True)
    """
    inputs = prepared(model, x, condition)
    require_positive("num_steps", num_steps, 2)
    if path not in PATHS:
        raise InputError("path", expected="'linear' or 'spherical'", got=repr(path))
    with evaluating(model), seeded(seed) as used:
        chosen = _pairs(pairs, len(inputs.x))
        behind = _behind(model, inputs, chosen, x_train, condition_train)
        t = torch.linspace(0, 1, num_steps, dtype=torch.float64).to(inputs.x.device)
        z = torch.stack([_way(model, inputs, pair, t, path) for pair in chosen])
        parts = [
            decode_points(model, way, inputs.rows(pair[:1])[1])
            for way, pair in zip(z, chosen, strict=True)
        ]
        log_ratio, why = _log_ratio(model, behind, z)
    settings = {
        "path": path,
        "num_steps": num_steps,
        "seed": used,
        "mixture_size": len(behind.x),
        "decoded": parts[0].kind,
    }
    return LatentInterpolations(
        chosen, inputs.x[chosen], t, z, torch.stack([p.x for p in parts]), log_ratio, why, path,
        parts[0].kind, settings, inputs.data_id,
    )  # fmt: skip


def _pairs(pairs: int | Sequence[tuple[int, int]], n: int) -> Int64[Tensor, "m 2"]:
    if isinstance(pairs, int):
        require_positive("pairs", pairs)
        require_positive("number of datapoints", n, 2 * pairs)
        return torch.randperm(n)[: 2 * pairs].reshape(pairs, 2)
    told = isinstance(pairs, Sequence) and len(pairs) > 0
    if not told or not all(_is_pair(pair, n) for pair in pairs):
        raise InputError("pairs", expected=f"pairs of rows of x, 0 to {n - 1}", got=repr(pairs))
    return torch.tensor(pairs)


def _is_pair(pair: object, n: int) -> bool:
    if not isinstance(pair, Sequence) or len(pair) != 2:
        return False
    return all(isinstance(row, Integral) and 0 <= int(row) < n for row in pair)


def _behind(
    model: LatentVariableModel,
    inputs: Inputs,
    chosen: Tensor,
    x_train: object | None,
    condition_train: Tensor | None,
) -> Inputs:
    """The data behind q(z): those given, or those of x that are at no end of a path."""
    if x_train is not None:
        return prepared(model, x_train, condition_train, name="x_train")
    others = torch.ones(len(inputs.x), dtype=torch.bool)
    others[chosen.flatten()] = False
    if not others.any():
        raise InputError(
            "x",
            expected="datapoints besides those of the pairs, which make up q(z)",
            got=f"{len(inputs.x)} datapoints, all in pairs",
            do="Give more, or x_train.",
        )
    return inputs.take(others.nonzero()[:, 0].to(inputs.x.device))


def _way(
    model: LatentVariableModel, inputs: Inputs, pair: Tensor, t: Tensor, path: str
) -> Float64[Tensor, "s d"]:
    x, c = inputs.rows(pair.to(inputs.x.device))
    a, b = location(model, x, c)
    left, right = (1 - t)[:, None], t[:, None]
    cosine = (a @ b / (a.norm() * b.norm())).clamp(-1, 1)
    angle = cosine.arccos()
    if path == "spherical" and bool(angle.sin() > PARALLEL):
        left, right = (left * angle).sin() / angle.sin(), (right * angle).sin() / angle.sin()
    way: Tensor = left * a + right * b
    return way


def _log_ratio(
    model: LatentVariableModel, behind: Inputs, z: Float64[Tensor, "m s d"]
) -> tuple[Float64[Tensor, "m s"] | None, str]:
    prior = given(model, behind.rows(slice(0, 1))[1]).prior()
    try:
        ratio = ratio_to_prior(z.flatten(0, 1), encode_posteriors(model, behind), prior)
    except (ContractError, NotImplementedError) as error:
        return None, first_line(error)
    return ratio.unflatten(0, z.shape[:2]), ""


# Latent traversals: one unit moves over the quantiles of q(z_j), all others stay.
#
# Which units are worth a look: those with the most information about x,
#
# .. math:: I(n; z_j) = \frac1N \sum_n \mathrm{KL}\bigl(q(z_j|x_n) \,\|\, q_N(z_j)\bigr)
#           \le \log N,
#
# estimated from one draw per datapoint. Unlike KL(q(z_j|x) ‖ p(z_j)) it is zero for a unit that
# pays a toll and says nothing, and it needs no factorised prior. Posteriors without Gaussian
# marginals are ranked by what a Gaussian unit of the same variances would tell, ½ ln(Var z_j / E
# Var[z_j|x]), which says so.
#
# How far: to quantiles of the aggregate posterior, not to ±3. A unit that lives in ±0.3 shows
# nothing but the decoder's guesses beyond, and one that reaches 5 is cut short.

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
        information: What they are ranked by, in nats.
        information_stderr: Its standard error; NaN where it is by variances.
        ranked_by: Which of the two it is.
        levels: Levels of the s quantiles.
        values: z_j at them.
        start: Where all others stay, (d,).
        start_is: The same in words.
        mean: The decoder's means, or its draws where it has no mean.
        decoded: What ``mean`` shows, in words: means or draws of p(x|z).
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
    decoded: str
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
        >>> shown.mean.shape, shown.decoded
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
        start, word, pictures.x.unflatten(0, (r, s)), pictures.kind, settings, inputs.data_id,
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
