"""Estimates as rows of a table: every number with its errors, its side, K, n and its trust."""

from __future__ import annotations

__all__ = ["Row", "number", "row_of", "scale_rows"]

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from elboscope.core import Estimate, Side
from elboscope.diagnostics import NUMBERS, ImpliedScale
from elboscope.diagnostics.quantity import Show

_SIDES: dict[Side, str] = {
    "lower": "lower bound",
    "upper": "upper bound",
    "unbiased": "unbiased",
    "none": "no bound",
}
_MARKS: dict[Side, str] = {"lower": "≥", "upper": "≤", "unbiased": "", "none": "≈"}
_COUNTS = {"datapoint": "datapoints", "draw": "draws", "unit": "units", "split": "splits",
           "group": "groups", "pair": "pairs", "seed": "critics"}  # fmt: skip


@dataclass(frozen=True)
class Row:
    """One line of a table, as text.

    Attributes:
        quantity: What was estimated.
        value: The mark of its side, the value, ± its standard error, the unit.
        side: On which side of the truth its expectation lies, in words.
        mc_error: The Monte Carlo part of the error, the data held fixed.
        samples: K, or the temperatures and chains of AIS; a dash where nothing was sampled.
        count: n, and of what.
        trust: k̂ and ESS where importance weights are used.
        method: How it was estimated.
        is_not: What the number does not say.
    """

    quantity: str
    value: str
    side: str = ""
    mc_error: str = "–"
    samples: str = "–"
    count: str = "–"
    trust: str = "–"
    method: str = ""
    is_not: str = ""


def number(value: float, stderr: float | None = None, *, nonnegative: bool = False) -> str:
    """Formats a value to the digits that its error leaves meaning.

    Example:
        >>> number(-89.8512, 0.2123), number(float("nan")), number(-0.02, 0.1, nonnegative=True)
        ('−89.85 ± 0.21', 'NaN', '0 within the error (−0.02 ± 0.10)')
    """
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else ("∞" if value > 0 else "−∞")
    if stderr is None or not math.isfinite(stderr):
        return f"{value:.4g}".replace("-", "−")
    digits = 4 if stderr <= 0 else min(8, max(2, 1 - math.floor(math.log10(stderr))))
    shown = f"{value:.{digits}f} ± {stderr:.{digits}f}".replace("-", "−")
    within = nonnegative and value < 0 and -value <= 2 * stderr
    return f"0 within the error ({shown})" if within else shown


def row_of(key: str, estimate: Estimate) -> Row:
    """Returns the row of an estimate; ``key`` finds its title and what the number is not.

    Args:
        key: Its name in the diagnosis; one of no known number is shown as its mean.
        estimate: The estimate.

    Example:
        >>> v = torch.tensor([-1.0, -2.0])
        >>> e = Estimate.per_datapoint("log p(x)", "exact", v, v * 0, "lower")
        >>> row_of("log_px", e).value, row_of("log_px", e).side
        ('≥ −1.50 ± 0.50 nats', 'lower bound')
    """
    number = NUMBERS.get(key)
    title, is_not = (number.title, number.is_not) if number else (estimate.name, "")
    show = number.show if number else "mean"
    total = estimate.axis == "unit" and show == "mean"
    return Row(
        quantity=title + (", total" if total else ""),
        value=_value(show, estimate),
        side=_SIDES[estimate.side],
        mc_error=_mc_error(show, estimate),
        samples=_samples(estimate),
        count=f"{len(estimate.values)} {_COUNTS[estimate.axis]}",
        trust=_trust(estimate),
        method=estimate.method,
        is_not=is_not,
    )


def _samples(estimate: Estimate) -> str:
    """K; temperatures and chains where there is annealing."""
    parts = [str(estimate.num_samples)] if estimate.num_samples is not None else []
    if estimate.num_temperatures is not None:
        parts.append(f"T={estimate.num_temperatures}, C={estimate.num_chains}")
    return "; ".join(parts) or "–"


def _value(show: Show, estimate: Estimate) -> str:
    if show == "count":
        active = int((estimate.values > 0.01).sum())
        return f"{active} of {len(estimate.values)} above 0.01"
    if show == "range":
        values = estimate.values.double()
        return f"{number(values.min().item())} to {number(values.max().item())} nats"
    value = estimate.total if estimate.axis == "unit" else estimate.mean
    shown = number(value, estimate.stderr, nonnegative=estimate.nonnegative)
    return f"{_MARKS[estimate.side]} {shown} {estimate.measured_in}".lstrip()


def _mc_error(show: Show, estimate: Estimate) -> str:
    if show != "mean" or not len(estimate.values):
        return "–"
    error = estimate.mc_error_of_mean
    error *= len(estimate.values) if estimate.axis == "unit" else 1
    return f"{error:.2g}" if error > 0 else ("none" if error == 0 else "unknown")


def _trust(estimate: Estimate) -> str:
    """The tail index and the effective sample size of the importance weights."""
    khat, ess = estimate.diagnostics.get("khat"), estimate.diagnostics.get("ess")
    parts = [] if khat is None else [_khat(khat.double())]
    if ess is not None and len(ess):
        parts.append(f"ESS median {ess.double().median().item():.0f}")
    return "; ".join(part for part in parts if part) or "–"


def _khat(khat: Tensor) -> str:
    known = khat[~khat.isnan()]
    if not len(known):
        return "k̂ unknown"
    bad = (known >= 0.7).double().mean().item()
    highest = torch.clamp(known.max(), min=-9.99).item()
    share = f"{bad:.1%} ≥ 0.7" if bad else "none ≥ 0.7"
    return f"k̂ at most {highest:.2f}, {share}".replace("-", "−")


def scale_rows(scale: ImpliedScale | None) -> list[Row]:
    """Returns the declared and the implied σ² of a Gaussian decoder, or b of a Laplace one.

    Args:
        scale: What was measured; ``None`` for other decoders.
    """
    if scale is None:
        return []
    ratio = number(scale.ratio, scale.ratio_stderr)
    laplace = scale.family == "Laplace"
    name, error = ("b", "absolute") if laplace else ("σ²", "squared")
    return [
        Row(
            f"implied {name}",
            f"≈ {number(scale.implied, scale.implied_stderr)}",
            "no bound",
            method=f"mean {error} error per value, z ~ q(z|x)",
            is_not="Not the noise of the data: the errors of this decoder.",
        ),
        Row(
            f"declared {name}",
            number(scale.declared),
            "exact",
            method=("the decoder's b" if laplace else "the decoder's variance")
            + ("" if scale.constant else ", mean over values"),
            is_not="Not estimated: what the model states.",
        ),
        Row(
            "mean of |x − μ| / b" if laplace else "mean of (x − μ)² / σ²",
            f"≈ {ratio}",
            "no bound",
            method="1 where the scale is right",
            is_not="Not a likelihood: each value on its own.",
        ),
    ]
