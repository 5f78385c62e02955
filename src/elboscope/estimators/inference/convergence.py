r"""Whether q* has been found: within how many nats the mean of L[q*] over the data is right.

L[q] of any q of the family is a lower bound on :math:`\max_q L[q]`; what certifies that it is close
is the sum c of three things, each with two of its own errors:

- restarts: what other starts reached beyond the one that was used, selected on one set of samples
  and measured on another, since the largest of several noisy values is too large;
- slope: the gain in nats that the slope of the last window of steps still promises; steps of all
  datapoints share their noise, so that a mean below zero shows its size, and counts as much;
- noise: the Monte Carlo error of the reported mean, of fresh samples.

No finite number of starts proves a global optimum: what no start found stays unknown.
"""

from __future__ import annotations

__all__ = ["Convergence", "Trial", "joined", "judge"]

import math
from collections.abc import Mapping
from dataclasses import dataclass

from jaxtyping import Float64, Int64
from torch import Tensor

from elboscope.core import Estimate

# Errors of each part that are added to it.
ERRORS = 2.0
# At most so many indices of these datapoints are printed.
NAMED = 8


@dataclass(frozen=True, eq=False)
class Trial:
    """What the starts reached on the datapoints on which they were compared.

    Attributes:
        scores: Mean L[q] of each start on the selection samples, in nats.
        chosen: The start that the others followed, or ``"best of all"`` for each datapoint.
        num_data: Datapoints on which the starts were compared.
        spread: What the starts that were not used would have added to the mean, in nats.
        error: Standard error of ``spread``.
    """

    scores: Mapping[str, float]
    chosen: str
    num_data: int
    spread: float
    error: float


def joined(a: Trial, b: Trial) -> Trial:
    """Returns two comparisons, one after the other, as one: what either left behind adds up."""
    scores, error = {**a.scores, **b.scores}, math.hypot(a.error, b.error)
    chosen = f"{a.chosen}, then {b.chosen}"
    spread = max(a.spread, 0.0) + max(b.spread, 0.0)
    return Trial(scores, chosen, min(a.num_data, b.num_data), spread, error)


@dataclass(frozen=True, eq=False)
class Convergence:
    """The certificate of q*: the mean of L[q*] over the datapoints is the maximum's within c.

    Attributes:
        certified: Whether c is within the tolerance and no datapoint diverged.
        tolerance: What was asked for, in nats.
        within: c, in nats.
        trial: The comparison of starts.
        promise: Mean gain, in nats, promised by the slope of the last window.
        promise_error: Standard error of it.
        mc_error: Monte Carlo error of the reported mean.
        unconverged: Indices of datapoints that had not arrived when the steps were used up. Their
            values are in the mean: they are bounds all the same, and what they still promise is
            in ``promise``.
        diverged: Indices of datapoints without a finite value, which are not in the mean.
        kept_encoder: Indices of datapoints where no start did better than the encoder's own q,
            which was taken.
        reasons: Why it is not certified.
    """

    certified: bool
    tolerance: float
    within: float
    trial: Trial
    promise: float
    promise_error: float
    mc_error: float
    unconverged: tuple[int, ...]
    diverged: tuple[int, ...]
    kept_encoder: tuple[int, ...]
    reasons: tuple[str, ...]

    def __str__(self) -> str:
        parts = (
            f"restarts {_signed(self.trial.spread)} ± {self.trial.error:.3f} "
            f"({self.trial.chosen} of {', '.join(self.trial.scores)}; n={self.trial.num_data}), "
            f"slope {_signed(self.promise)} ± {self.promise_error:.3f}, "
            f"noise {self.mc_error:.3f} nats"
        )
        notes = [
            f"{len(found)} {what} (datapoints {_list(found)})"
            for what, found in (
                ("not converged", self.unconverged),
                ("diverged and left out", self.diverged),
                ("kept the encoder's q", self.kept_encoder),
            )
            if found
        ]
        head = f"certified to ±{self.within:.3f} nats"
        if not self.certified:
            head = f"not certified, because {'; '.join(self.reasons)}"
        return "; ".join([f"{head} ({parts})", *notes])


def judge(
    elbo: Estimate,
    trial: Trial,
    promise: Float64[Tensor, " n"],
    unconverged: Int64[Tensor, " u"],
    diverged: Int64[Tensor, " v"],
    kept_encoder: Int64[Tensor, " w"],
    tolerance: float,
) -> Convergence:
    """Adds up what is unknown about the mean of L[q*].

    Args:
        elbo: L[q*] of the datapoints that did not diverge.
        trial: The comparison of starts.
        promise: Nats still promised, for the same datapoints as ``elbo``.
        unconverged: Indices.
        diverged: Indices.
        kept_encoder: Indices.
        tolerance: Nats.
    """
    n = len(promise)
    mean = promise.mean().item() if n else math.nan
    error = promise.std().item() / math.sqrt(n) if n > 1 else 0.0
    noise = elbo.mc_error_of_mean if n else math.nan
    parts = {
        "other starts reach more": max(trial.spread, 0.0) + ERRORS * trial.error,
        "the slope of the last window promises more": abs(mean) + ERRORS * error,
        "the Monte Carlo error is large": ERRORS * noise,
    }
    within = sum(parts.values())
    reasons = _reasons(parts, within, tolerance, len(diverged), n)
    return Convergence(
        not reasons, tolerance, within, trial, mean, error, noise,
        _indices(unconverged), _indices(diverged), _indices(kept_encoder), reasons,
    )  # fmt: skip


def _reasons(
    parts: Mapping[str, float], within: float, tolerance: float, lost: int, n: int
) -> tuple[str, ...]:
    reasons = []
    if lost:
        reasons.append(f"{lost} of {lost + n} datapoints diverged")
    if n and not within <= tolerance:
        largest = max(parts, key=lambda name: parts[name])
        reasons.append(
            f"within ±{within:.3g} and not ±{tolerance:g} nats: {largest} ({parts[largest]:.3g})"
        )
    return tuple(reasons)


def _indices(index: Tensor) -> tuple[int, ...]:
    return tuple(int(i) for i in index.tolist())


def _signed(value: float) -> str:
    """Three decimals; what rounds to zero has no sign."""
    return f"{round(value, 3) + 0.0:.3f}".replace("-", "−")


def _list(index: tuple[int, ...]) -> str:
    shown = ", ".join(str(i) for i in index[:NAMED])
    return shown + (", …" if len(index) > NAMED else "")
