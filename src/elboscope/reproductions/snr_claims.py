r"""Verdicts on the signal-to-noise of gradients: exponents, and the order of objectives.

The order is judged by log-ratios, averaged over the epochs after the start: SNRs of different
epochs differ by more than those of neighbouring objectives.
"""

from __future__ import annotations

__all__ = ["error_of", "exponent", "order_claims"]

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import torch
from jaxtyping import Float64
from torch import Tensor

from elboscope.estimators.gradient_result import Slope

from .claims import Claim, Difference, Verdict, judged, run_error
from .published import Published
from .snr_training import ORDER, Rows, TrainingPlan

SOURCE = "Rainforth et al. 2018, encoder SNR during training, arXiv 1802.04537"
# A fitted exponent within this of the theorem's agrees: K is finite.
TOLERANCE = 0.05


def exponent(text: str, slope: Slope, published: Published) -> Claim:
    """Returns whether a fitted exponent is the published one.

    Reproduced if it is within the tolerance, one error included; contradicted if it is beyond it
    by more than two; undecided between, and where nothing could be fitted.

    Example:
        >>> exponent("a law", Slope(0.49, 0.01), Published(0.5, "a theorem")).verdict
        'reproduced'
    """
    distance = abs(slope.value - published.value)
    outcome: Verdict = "undecided"
    if distance + slope.stderr <= TOLERANCE:
        outcome = "reproduced"
    elif distance > TOLERANCE + 2 * slope.stderr:
        outcome = "contradicted"
    evidence = f"slope {slope} against {published} (within {TOLERANCE:g}?)"
    if math.isnan(slope.value):
        evidence = f"no slope could be fitted: at some K all is noise; published {published}"
    off = slope.value - published.value
    return Claim(text, published.source, outcome, evidence, off, slope.stderr)


def error_of(row: Mapping[str, Any]) -> float:
    """Returns the standard error of the corrected SNR, from its 95 % interval."""
    return float(row["snr_corrected_high"] - row["snr_corrected_low"]) / 3.92


def order_claims(runs: Sequence[Mapping[str, Rows]], plan: TrainingPlan) -> list[Claim]:
    """Returns a verdict on each neighbouring pair of the published order.

    Log-ratios of SNR are averaged over the epochs after the start; their error is of the draws
    and, with several seeds, of the runs, as in the other reproductions.
    """
    epochs = [epoch for epoch in plan.epochs if epoch > 0]
    levels = {name: _levels(runs, name, epochs) for name in ORDER}
    known = [level for level in levels.values() if bool(level.isfinite().all())]
    between = run_error(known) if known else 0.0
    claims = []
    for high, low in pairwise(ORDER):
        noise = math.hypot(*(_noise(runs, name, epochs) for name in (high, low)))
        found = Difference(
            (levels[high] - levels[low]).mean().item(),
            math.hypot(noise, between),
            len(runs),
            0,
            "of log SNR",
        )
        text = f"during training the encoder's SNR of {high} is above that of {low}"
        claims.append(judged(text, SOURCE, found))
    return claims


def _levels(
    runs: Sequence[Mapping[str, Rows]], name: str, epochs: Sequence[int]
) -> Float64[Tensor, "S 1"]:
    """The mean log SNR over epochs of each run."""
    logs = [[_log(run[name][epoch]["snr_corrected"]) for epoch in epochs] for run in runs]
    return torch.tensor(logs, dtype=torch.float64).mean(1, keepdim=True)


def _noise(runs: Sequence[Mapping[str, Rows]], name: str, epochs: Sequence[int]) -> float:
    """The error of the mean log SNR over runs and epochs that the draws leave."""
    rows = [run[name][epoch] for run in runs for epoch in epochs]
    relative = [error_of(row) / max(row["snr_corrected"], 1e-12) for row in rows]
    return math.hypot(*relative) / len(rows)


def _log(value: float) -> float:
    return math.log(value) if value > 0 else math.nan
