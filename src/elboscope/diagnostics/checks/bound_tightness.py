r"""How far does the ELBO lie below log p(x)? The gap is what the encoder loses.

.. math:: \log p(x) - \mathrm{ELBO}(x) = \mathrm{KL}(q(z|x) \,\|\, p(z|x))

It is estimated by the paired difference of log p̂ and the ELBO on the same datapoints. As log p̂
is itself a lower bound, the gap is *at least* this; and importance sampling from q cannot see
posterior mass that q misses, so a small gap is believed only where the weights are.

References:
    | Inference Suboptimality in Variational Autoencoders (Cremer et al., 2018),
      https://arxiv.org/abs/1801.03558
"""

from __future__ import annotations

__all__ = ["bound_tightness"]

from collections.abc import Iterator

from elboscope.core import Finding, Severity

from ..decision import (
    breach,
    check,
    gap_thresholds,
    graded,
    prior_excess,
    rate_of,
    weights_usable,
)
from ..evidence import Evidence
from ..quantities.inference import INFERENCE_GAP
from ..quantities.likelihood import BOUND_GAP, ELBO, LOG_PX, PRIOR_SAMPLING

CHECK = "bound tightness"


def _elbo_below_log_px(evidence: Evidence) -> Iterator[str]:
    """log p̂ ≥ ELBO, datapoint by datapoint in expectation."""
    gap = evidence[BOUND_GAP]
    text = breach("the ELBO exceeds log p̂", -gap.mean, gap.mc_error_of_mean, _size(evidence))
    if text:
        yield text


def _size(evidence: Evidence) -> float:
    return evidence[ELBO].mean if ELBO in evidence else 1.0


@check(CHECK, asked_in="bound", invariants=(_elbo_below_log_px,))
def bound_tightness(evidence: Evidence) -> Finding:
    """Judges the gap log p̂ − ELBO against the rate, the average KL(q(z|x)‖p(z)).

    Args:
        evidence: Uses ``bound_gap``, ``elbo`` (its KL) and the trust in ``log_px``.

    Returns:
        *warning* from 15 % of the rate, but from no less than 0.2 and no more than 2 nats;
        *problem* from max(2 nats, 50 %);
        *undecided* where the gap looks small but the weights cannot be trusted.
    """
    gap = evidence[BOUND_GAP]
    rate = rate_of(evidence)
    warning, problem = gap_thresholds(rate)
    severity = graded(gap.mean, gap.stderr, warning=warning, problem=problem)
    trusted = _trusted(evidence)
    if severity == "ok" and not trusted:
        severity = "undecided"
    of_rate = (
        f" ({gap.mean / rate:.0%} of the KL term of {rate:.2f} nats)"
        if rate >= gap.mean
        else f", which is more than the KL term of {rate:.2f} nats: inference loses more than the "
        "code carries"
    )
    summary = (
        f"The ELBO lies {'' if trusted else 'at least '}{gap.mean:.3f} ± {gap.stderr:.3f} nats "
        f"below log p̂(x){of_rate}; a warning starts at {warning:.2f}."
        + ("" if trusted else " The weights are not trusted (k̂), so the true gap may be larger.")
    )
    numbers: dict[str, object] = {
        "gap": gap.mean,
        "gap_stderr": gap.stderr,
        "rate": rate,
        "warning_from": warning,
        "problem_from": problem,
        "weights_trusted": trusted,
    }
    return Finding(CHECK, severity, summary, numbers, _action(severity, evidence))


def _trusted(evidence: Evidence) -> bool:
    """Whether the weights of log p̂ say nothing against it."""
    log_px = evidence.get(LOG_PX)
    if log_px is None:
        return True
    return weights_usable(log_px) and prior_excess(log_px, evidence.get(PRIOR_SAMPLING)) is None


def _action(severity: Severity, evidence: Evidence) -> str:
    if severity == "ok":
        return ""
    if severity == "undecided":
        return "es.diagnose(model, x, budget='thorough') uses more samples and datapoints."
    if INFERENCE_GAP in evidence:
        return (
            "Report log p̂ instead of the ELBO. Which part of inference loses it, and what repairs "
            "that part, is the verdict on the inference gap: es.inference_gap(model, x)"
        )
    return (
        "The encoder is the bottleneck: report log p̂ instead of the ELBO, and train on with a "
        "larger encoder (--model.hidden '[400, 400]'), a smaller KL weight if it is above 1, or a "
        "bound that forgives it: elboscope train CONFIG.yaml --objective IWAE "
        "--objective.num_samples 10"
    )
