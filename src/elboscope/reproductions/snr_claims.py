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
from torch import Tensor

from elboscope.estimators.gradient_result import Slope

from .claims import Claim, Difference, Verdict, judged
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
    off = slope.value - published.value
    return Claim(text, published.source, outcome, evidence, off, slope.stderr)


def error_of(row: Mapping[str, Any]) -> float:
    """Returns the standard error of the corrected SNR, from its 95 % interval."""
    return float(row["snr_corrected_high"] - row["snr_corrected_low"]) / 3.92


def order_claims(runs: Sequence[Mapping[str, Rows]], plan: TrainingPlan) -> list[Claim]:
    """Returns a verdict on each neighbouring pair of the published order.

    Log-ratios of SNR are averaged over the epochs after the start; their error is of the draws
    and, with several seeds, of the runs.
    """
    epochs = [epoch for epoch in plan.epochs if epoch > 0]
    claims = []
    for high, low in pairwise(ORDER):
        differences, noise = _compared(runs, high, low, epochs)
        spread = differences.std().item() ** 2 / len(runs) if len(runs) > 1 else 0.0
        found = Difference(
            differences.mean().item(), math.sqrt(noise + spread), len(runs), 0, "of log SNR"
        )
        text = f"during training the encoder's SNR of {high} is above that of {low}"
        claims.append(judged(text, SOURCE, found))
    return claims


def _compared(
    runs: Sequence[Mapping[str, Rows]], high: str, low: str, epochs: Sequence[int]
) -> tuple[Tensor, float]:
    """The mean log-ratio over epochs of each run, and the draws' variance of its mean."""
    values, variance = [], 0.0
    for run in runs:
        pairs = [(run[high][epoch], run[low][epoch]) for epoch in epochs]
        logs = [_log(a["snr_corrected"]) - _log(b["snr_corrected"]) for a, b in pairs]
        values.append(sum(logs) / len(logs))
        relative = [
            (error_of(row) / max(row["snr_corrected"], 1e-12)) ** 2 for p in pairs for row in p
        ]
        variance += sum(relative) / len(epochs) ** 2
    return torch.tensor(values, dtype=torch.float64), variance / len(runs) ** 2


def _log(value: float) -> float:
    return math.log(value) if value > 0 else math.nan
