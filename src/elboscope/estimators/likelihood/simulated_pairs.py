r"""Thousands of simulated pairs (x, z*), scored by q alone: where does q not go?

For :math:`z^* \sim p(z)`, :math:`x \sim p(x \mid z^*)`, z* is an exact draw of the posterior.
Among K − 1 draws of q it gives an upper bound, in expectation, that falls to log p(x) with K,

.. math:: U_K = \mathbb{E} \log \frac1K \Bigl(w(z^*) + \sum_{k=2}^{K} w_k\Bigr)
          \ge \mathbb{E} \log p(x)

and its own weight says more: :math:`\log w(z^*) - \log \hat p(x)` is large where q, and whatever
starts from q, does not go to z*. No annealing is needed, so that thousands of pairs take seconds:
a mode that q never visits is seen if it holds more than about 3/n of the data (the rule of three,
95 %). The pairs that lie far beyond the others are then annealed with a few at random
(:mod:`.certificate`).

A file of its own because it neither anneals nor judges.
"""

from __future__ import annotations

__all__ = ["ScoredPairs", "simulated_pairs"]

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from elboscope.core import (
    Estimate,
    LatentVariableModel,
    Side,
    evaluating,
    given,
    log_joint,
    log_mean_exp,
    sample_posterior,
    seeded,
    values_per_sample,
)

from ..inputs import log_prob_within, require_positive
from ..streaming import Progress, reporting
from .bidirectional import simulate

# A fold that holds 0.06 % of the data is seen with 95 %, and one of 1 % by fifty pairs.
NUM_PAIRS, NUM_SAMPLES = 5000, 32
# Decoded elements of one block of pairs.
BLOCK_ELEMENTS, LARGEST_BLOCK = 2**22, 256
# Tukey's outer fence: beyond the third quartile by three times the distance of the quartiles. Of
# normal values three in a million lie there, of exponential ones one in a hundred.
FENCE = 3.0


@dataclass(frozen=True, eq=False)
class ScoredPairs:
    """What q says of data whose latents are known, and which of them lie far beyond the others.

    Attributes:
        upper: U_K per pair, an upper bound on log p(x) in expectation.
        lower: log p̂(x) of K draws of q, a lower bound.
        excess: log w(z*) − log p̂(x), in nats; +∞ where q cannot reach z*.
        outlying: The pairs far beyond the others, the farthest first: those beyond Tukey's outer
            fence, and at least a few.
        seed: The seed in force.
    """

    upper: Estimate
    lower: Estimate
    excess: Float64[Tensor, " n"]
    outlying: Int64[Tensor, " m"]
    seed: int

    def __str__(self) -> str:
        n, K = len(self.excess), self.upper.num_samples
        return (
            f"{n} simulated pairs: {self.lower.mean:.3f} ≤ E log p(x) ≤ {self.upper.mean:.3f} nats "
            f"(L_{K} and U_{K} of q alone)"
        )

    @property
    def share(self) -> float:
        """The share of the outlying pairs."""
        return len(self.outlying) / len(self.excess)

    def farthest(self, count: int) -> Int64[Tensor, " k"]:
        """Returns so many outlying pairs, evenly over their ranks."""
        m = len(self.outlying)
        k = min(count, m)
        return self.outlying[torch.arange(k) * m // k] if k else self.outlying

    def random_others(self, count: int) -> Int64[Tensor, " k"]:
        """Returns so many pairs that do not lie far beyond the others, at random."""
        with seeded(self.seed + 1):
            order = torch.randperm(len(self.excess))
        return order[~torch.isin(order, self.outlying)][:count]


def simulated_pairs(
    model: LatentVariableModel,
    num_pairs: int = NUM_PAIRS,
    num_samples: int = NUM_SAMPLES,
    *,
    least_outlying: int = 20,
    seed: int | None = None,
    condition: Tensor | None = None,
    progress: Progress | bool | None = None,
) -> ScoredPairs:
    r"""Scores z* of simulated pairs among K draws of q: :math:`U_K \ge \mathbb{E} \log p(x)`.

    Nothing is said of real data that the model does not resemble, and nothing of a region that
    holds less than about 3/n of the model's own.

    Args:
        model: The model, with an encoder that can score any z.
        num_pairs: n, the pairs that are simulated.
        num_samples: K.
        least_outlying: So many pairs count as outlying in any case.
        seed: Random seed; None picks one and records it.
        condition: Conditions; the simulated data take theirs from these in turn.
        progress: Called with the pairs done and their total; True shows a bar.

    Returns:
        Both bounds and the excess of each pair, in nats.

    Raises:
        InputError: A count below 1.
        ContractError: p(x|z) cannot be sampled.

    References:
        | Sandwiching the marginal likelihood using bidirectional Monte Carlo (Grosse et al.,
          2015), https://arxiv.org/abs/1511.02543

    Example:
        >>> import elboscope as es
        >>> model = es.models.LinearGaussian.instance_1()
        >>> pairs = simulated_pairs(model, 2000, seed=0)
        >>> truth = model.expected_log_likelihood().item()
        >>> pairs.lower.mean < pairs.upper.mean
        True
        >>> abs(pairs.upper.mean - truth) < 4 * pairs.upper.stderr
        True
    """
    require_positive("num_pairs", num_pairs)
    require_positive("num_samples", num_samples)
    report, parts = reporting(progress), []
    with evaluating(model), seeded(seed) as used:
        for block in _blocks(model, num_pairs, num_samples, used, condition):
            parts.append(_score(model, block, num_samples))
            if report is not None:
                report(min(block.stop, num_pairs), num_pairs)
    at_z, log_w = (torch.cat(values, -1) for values in zip(*parts, strict=True))
    lower = log_mean_exp(log_w)
    beside = torch.cat([at_z[None], log_w[1:]])
    excess = (at_z - lower).nan_to_num(torch.inf, torch.inf, -torch.inf)
    outlying = _outlying(excess, least_outlying)
    upper = _estimate("z* among draws of q", log_mean_exp(beside), "upper", used, num_samples)
    below = _estimate("importance sampling", lower, "lower", used, num_samples)
    return ScoredPairs(upper, below, excess, outlying, used)


def _estimate(
    method: str, values: Float64[Tensor, " n"], side: Side, seed: int, K: int
) -> Estimate:
    nothing = torch.zeros_like(values)  # the pairs are fresh draws: their spread is the error
    settings = {"seed": seed, "simulated": len(values)}
    return Estimate.per_datapoint(
        "log p(x) of simulated data", method, values, nothing, side, settings=settings,
        num_samples=K,
    )  # fmt: skip


def pairs_at(
    model: LatentVariableModel,
    pairs: ScoredPairs,
    rows: Int64[Tensor, " k"],
    condition: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Simulates these pairs again: x, z* and their conditions. No more than they are ever kept."""
    n, K = len(pairs.excess), pairs.upper.num_samples or 1
    found: dict[int, tuple[Tensor, Tensor, Tensor | None]] = {}
    wanted = set(rows.tolist())
    with evaluating(model):
        for block in _blocks(model, n, K, pairs.seed, condition):
            here = wanted.intersection(range(block.start, block.stop))
            if not here:
                continue
            x, z = block.simulate(model)
            for row in here:
                i = row - block.start
                c = None if block.condition is None else block.condition[i]
                found[row] = (x[i].clone(), z[i].clone(), c)
    xs, zs, cs = zip(*(found[row] for row in rows.tolist()), strict=True)
    return torch.stack(xs), torch.stack(zs), None if condition is None else torch.stack(cs)


class _Block(NamedTuple):
    """Consecutive pairs with a random stream of their own, so that they can be drawn again."""

    start: int
    stop: int
    seed: int
    condition: Tensor | None

    def simulate(self, model: LatentVariableModel) -> tuple[Tensor, Tensor]:
        with seeded(self.seed):
            return simulate(model, self.stop - self.start, self.condition)


def _blocks(
    model: LatentVariableModel, n: int, K: int, seed: int, condition: Tensor | None
) -> Iterator[_Block]:
    first = None if condition is None else condition[:1]
    with seeded(seed):
        one, _ = simulate(model, 1, first)
        each = values_per_sample(model, one, first)
        size = max(1, min(LARGEST_BLOCK, BLOCK_ELEMENTS // (K * each)))
        seeds = torch.randint(2**62, (-(-n // size),)).tolist()
    for start, own in zip(range(0, n, size), seeds, strict=True):
        stop = min(start + size, n)
        rows = torch.arange(start, stop)
        taken = (
            None if condition is None else condition[(rows % len(condition)).to(condition.device)]
        )
        yield _Block(start, stop, own, taken)


def _score(model: LatentVariableModel, block: _Block, K: int) -> tuple[Tensor, Tensor]:
    """log w(z*), and log-weights of K draws of q."""
    x, z = block.simulate(model)
    local = given(model, block.condition)
    with seeded(block.seed + 1):
        drawn, log_q = sample_posterior(local, x, K)
        log_w = log_joint(local, x, drawn) - log_q
        at_z = log_joint(local, x, z[None]) - log_prob_within(local.encode(x), z[None])
    return at_z[0].double(), log_w.double()


def _outlying(excess: Float64[Tensor, " n"], least: int) -> Int64[Tensor, " m"]:
    order = excess.argsort(descending=True)
    low, high = excess.quantile(torch.tensor([0.25, 0.75], dtype=excess.dtype)).tolist()
    beyond = int((excess > high + FENCE * (high - low)).sum())
    return order[: max(beyond, min(least, len(excess) // 2))]
