r"""Why does the ELBO fall short of log p(x): for want of a family, or for want of an encoder?

.. math:: \log p(x) - L[q] = \underbrace{\log p(x) - L[q^*]}_{\text{approximation}}
                           + \underbrace{L[q^*] - L[q]}_{\text{amortisation}}

with q* the best posterior of the encoder's own family, found for each datapoint by itself. How
large the sum is, the check of bound tightness judges too, with the same thresholds; this one says
which part is the larger, by their paired difference in units of its error. The search may have
stopped short of the best q*, by at most the c of its certificate: the approximation gap is then
too large by c and the amortisation gap too small. log p̂ is a lower bound: with weights that cannot
be trusted the approximation gap may be larger than it reads.

References:
    | Inference Suboptimality in Variational Autoencoders (Cremer et al., 2018),
      https://arxiv.org/abs/1801.03558
"""

from __future__ import annotations

__all__ = ["FAMILIES", "inference_gap", "remedy"]

import math
from collections.abc import Iterator
from typing import NamedTuple

from elboscope.core import Estimate, Finding, Severity, paired_difference
from elboscope.estimators import InferenceGap

from ..decision import (
    ERRORS,
    breach,
    check,
    exceeds,
    gap_thresholds,
    graded,
    rate_of,
    weights_usable,
)
from ..evidence import Evidence
from ..quantities.inference import INFERENCE_GAP

CHECK = "inference gap"
# A datapoint that diverged is probably unusual: its gap could be this many times the largest.
ODD = 3.0
UNTRUSTED = "the weights of log p̂ are not trusted (k̂), so"


class Parts(NamedTuple):
    """Which part is the larger.

    Attributes:
        difference: Approximation − amortisation, in nats.
        error: Its standard error, paired.
        within: How far L[q*] may be below the family's best, in nats.
        larger: The larger part, or ``""`` where that is not decided.
        open: Why it is not decided.
    """

    difference: float
    error: float
    within: float
    larger: str
    open: str = ""


def _parts_not_negative(evidence: Evidence) -> Iterator[str]:
    """L[q] ≤ L[q*] ≤ log p(x), each beyond the error of its samples and of the search."""
    gap = evidence[INFERENCE_GAP]
    within = gap.optimal[gap.family].certificate.within
    for name, part in (("amortisation", gap.amortisation), ("approximation", gap.approximation)):
        error = math.hypot(part.mc_error_of_mean, within)
        text = breach(f"the {name} gap is negative,", -part.mean, error, gap.elbo.mean)
        if text:
            yield text


@check(CHECK, asked_in="inference", invariants=(_parts_not_negative,))
def inference_gap(evidence: Evidence) -> Finding:
    """Judges log p̂ − L[q] beside the KL term, and says which of its two parts is the larger.

    Args:
        evidence: Uses ``inference_gap``, and the KL for the thresholds.

    Returns:
        *ok* where the whole gap is small, whatever its parts; *warning* or *problem* with the
        larger part and what repairs it; *undecided* where the size or the larger part is not
        decided, or where datapoints that diverged could change either.
    """
    gap = evidence[INFERENCE_GAP]
    limits = gap_thresholds(rate_of(evidence))
    parts = _parts(gap)
    size, doubt = _size(gap, limits)
    if size in ("warning", "problem") and not parts.larger:
        size, doubt = "undecided", parts.open
    summary = _summary(gap, parts, limits[0], size, doubt)
    numbers = _numbers(gap, parts, limits)
    action = remedy(gap, size, parts.larger, trusted=UNTRUSTED not in doubt)
    return Finding(CHECK, size, summary, numbers, action)


def _size(gap: InferenceGap, limits: tuple[float, float]) -> tuple[Severity, str]:
    """The severity by size, and why it is undecided."""
    warning, problem = limits
    mean, error = gap.inference.mean, gap.inference.stderr
    severity = graded(mean, error, warning=warning, problem=problem)
    if severity == "undecided":
        return severity, f"the threshold of {warning:.2f} nats lies within the error"
    if severity == "ok" and not weights_usable(gap.log_px):
        return "undecided", f"{UNTRUSTED} the gap may be larger"
    for threshold in limits:
        value = _would_need(gap, gap.inference, threshold)
        if value is not None and value >= 0:
            return "undecided", _could(gap, gap.inference, value, "lost")
    return severity, ""


def _parts(gap: InferenceGap) -> Parts:
    difference = paired_difference(gap.approximation, gap.amortisation, "difference")
    mean, error = difference.mean, difference.stderr
    within = gap.optimal[gap.family].certificate.within
    decided = Parts(mean, error, within, "approximation" if mean > 0 else "amortisation")
    if not abs(mean) > ERRORS * error:
        doubt = "the two parts differ by less than their error"
    elif exceeds(-gap.amortisation.mean, gap.amortisation.stderr, 0.0):
        doubt = "the search for q* ended below the encoder's own q"
    elif mean > 0 and not mean - ERRORS * error - 2 * within > 0:  # c moves from one to the other
        doubt = f"q* is certified to ±{within:.2f} nats only, which could reverse them"
    elif mean < 0 and not weights_usable(gap.log_px):
        doubt = f"{UNTRUSTED} approximation may lose more"
    else:
        value = _would_need(gap, difference, 0.0)
        if value is None:
            return decided
        doubt = _could(gap, difference, value, "differed by")
    return decided._replace(larger="", open=doubt)


def _would_need(gap: InferenceGap, values: Estimate, threshold: float) -> float | None:
    """What each diverged datapoint must have to bring the mean to the threshold.

    ``None`` where none diverged, or where that is far beyond what the others have.
    """
    n, lost = len(values.values), len(gap.diverged)
    if not lost:
        return None
    value = ((n + lost) * threshold - n * values.mean) / lost
    most = values.values.abs().max().item() if n else math.inf
    return value if abs(value) <= ODD * most else None


def _could(gap: InferenceGap, values: Estimate, value: float, verb: str) -> str:
    most = values.values.abs().max().item()
    n, lost = len(values.values) + len(gap.diverged), len(gap.diverged)
    return (
        f"{lost} of {n} datapoints diverged and are left out; if they {verb} {value:.2f} nats on "
        f"average, the verdict would be another (the most of the others: {most:.2f})"
    )


def _summary(
    gap: InferenceGap, parts: Parts, warning: float, severity: Severity, doubt: str
) -> str:
    text = (
        f"Inference loses {_plus_minus(gap.inference)} nats per datapoint (n={len(gap.index)}): "
        f"{_plus_minus(gap.approximation)} by its family, {FAMILIES[gap.family]} "
        f"(approximation), and "
        f"{_plus_minus(gap.amortisation)} by its encoder (amortisation); a warning starts at "
        f"{warning:.2f}."
    )
    if severity == "undecided":
        text += f" Not decided: {doubt}."
    elif severity != "ok":
        sure = f"{abs(parts.difference) / parts.error:.0f} errors" if parts.error > 0 else "exact"
        text += (
            f" {parts.larger.capitalize()} is the larger by {abs(parts.difference):.2f} ± "
            f"{parts.error:.2f} nats ({sure}; q* certified to ±{parts.within:.3f})."
        )
    if gap.richer is not None and severity != "ok":
        text += f" {gap.richer.name} is {_plus_minus(gap.richer)} nats."
    return text + _generalises(gap)


def _generalises(gap: InferenceGap) -> str:
    if gap.generalisation is None:
        return ""
    d = gap.generalisation.amortisation
    text = f" On training data amortisation loses {abs(d.value):.2f} ± {d.stderr:.2f} nats "
    worse = exceeds(d.value, d.stderr, 0.0)
    text += "less" if d.value > 0 else "more"
    return text + (": inference overfits." if worse else ": no sign that inference overfits.")


def _plus_minus(estimate: Estimate) -> str:
    return f"{round(estimate.mean, 2) + 0.0:.2f} ± {estimate.stderr:.2f}".replace("-", "−")


def _numbers(gap: InferenceGap, parts: Parts, limits: tuple[float, float]) -> dict[str, object]:
    found: dict[str, object] = {
        "gap": gap.inference.mean,
        "gap_stderr": gap.inference.stderr,
        "approximation": gap.approximation.mean,
        "approximation_stderr": gap.approximation.stderr,
        "amortisation": gap.amortisation.mean,
        "amortisation_stderr": gap.amortisation.stderr,
        "difference": parts.difference,
        "difference_stderr": parts.error,
        "larger": parts.larger or "undecided",
        "family": gap.family,
        "within": parts.within,
        "certified": gap.certified,
        "optimal_posterior_certified": gap.optimal_posterior_certified,
        "log_px_certified": gap.log_px_certified,
        "reasons": gap.reasons,
        "diverged": len(gap.diverged),
        "warning_from": limits[0],
        "problem_from": limits[1],
    }
    if gap.richer is not None:
        found |= {"richer": gap.richer.mean, "richer_stderr": gap.richer.stderr}
    if gap.generalisation is not None:
        d = gap.generalisation.amortisation
        found |= {"amortisation_test_minus_train": d.value, "test_minus_train_stderr": d.stderr}
    return found


# What repairs each part of the inference gap, as commands or code that run today.

FAMILIES = {
    "diagonal": "diagonal Gaussians",
    "full": "Gaussians with a full covariance",
    "flow": "flows",
}
_FEWER = (
    "es.diagnose(model, x, budget='thorough') optimises more datapoints; "
    "es.inference_gap(model, x, max_steps=1600) searches longer."
)
_TRUSTED = (
    "es.inference_gap(model, x, richer='flow') weighs with the best flow of each datapoint too, "
    "and num_temperatures=500 adds annealed importance sampling, which has no k̂."
)
_LARGER = (
    "The family can do better than this encoder. Train a larger one: elboscope train CONFIG.yaml "
    "--model.hidden '[400, 400]'; let it catch up with a frozen decoder: "
    "model.decoder.requires_grad_(False), and train on"
)
_OVERFITS = (
    "Most of what the encoder loses it loses only on new data. Give it more of them, or a fresh "
    "binarisation of each minibatch: elboscope train CONFIG.yaml --binarisation dynamic; stop "
    "earlier: --training.patience 20; or take a smaller network: --model.hidden '[100]'"
)
_REFINE = "; or improve its answers at inference time: es.refine(model, steps=20)"
_RICHER = (
    "No encoder of this family can win it back. Take a richer family, and anneal the entropy so "
    "that the decoder learns to use it: elboscope train CONFIG.yaml --model.posterior {family} "
    "--objective AnnealedEntropy --objective.epochs 50"
)
_RICHEST = (
    "Even the best flow for each datapoint misses it: train with a bound that forgives the rest: "
    "elboscope train CONFIG.yaml --objective IWAE --objective.num_samples 10"
)


def remedy(gap: InferenceGap, severity: Severity, larger: str, *, trusted: bool = True) -> str:
    """Returns what to do about the larger part; nothing where inference is fine.

    Args:
        gap: The gap.
        severity: The verdict.
        larger: ``"approximation"``, ``"amortisation"``, or ``""`` where it is not decided.
        trusted: Whether it is not for want of trusted weights that a verdict is undecided.
    """
    if severity == "ok":
        return ""
    if severity == "undecided":
        return _FEWER if trusted else _TRUSTED
    if larger == "amortisation":
        refine = _REFINE if gap.family == "diagonal" else ""
        return (_OVERFITS if _overfits(gap) else _LARGER) + refine + "."
    if gap.family == "flow":
        return _RICHEST
    return _RICHER.format(family="AuxiliaryRealNVP")


def _overfits(gap: InferenceGap) -> bool:
    """Whether most of the amortisation gap is not there on training data, decidedly."""
    if gap.generalisation is None:
        return False
    d = gap.generalisation.amortisation
    return d.value > gap.amortisation.mean / 2 and exceeds(d.value, d.stderr, 0.0) is True
