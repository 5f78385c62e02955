r"""Can log p̂(x) and its ± be believed? The tails of the importance weights say.

The printed error of :math:`\log \frac1K \sum_k w_k` is a delta-method error, which needs weights
with a variance. Their tail index k̂ is fitted per datapoint: below ½ the variance exists, above
0.7 (less for small K) no practical K repairs the average. The estimate remains a lower bound in
expectation; what is lost is its error, and possibly nats.

References:
    | Pareto Smoothed Importance Sampling (Vehtari et al.), https://arxiv.org/abs/1507.02646
    | Yes, but Did It Work?: Evaluating Variational Inference (Yao et al., 2018),
      https://arxiv.org/abs/1802.02538
"""

from __future__ import annotations

__all__ = ["likelihood_trust"]

import math

from torch import Tensor

from elboscope.core import Estimate, Finding, Severity

from ..decision import BAD_SHARE, USUAL_K, check, exceeds, prior_excess, share, usable_threshold
from ..evidence import Evidence
from ..quantities.likelihood import LOG_PX, PRIOR_SAMPLING

CHECK = "likelihood trust"
# k̂ ≥ ½: the weights have no variance, so that ± is a fiction (Vehtari et al., §3.2).
UNRELIABLE_K = 0.5
# A fitted k̂ scatters by about (1 + k)/√M around k, M = 3√K weights in the tail: 0.1 at K = 5000,
# 0.14 at K = 1000. Of weights with a true k = 0.35, some 3 % (16 %) of the datapoints therefore
# read ≥ 0.5: three in ten are more than such noise. At ≥ 0.7 a fifth is, BAD_SHARE.
POOR_SHARE = 0.3
# Fewer effective samples than this and even k̂ is fitted to noise.
FEW_SAMPLES = 10.0
# The bias of the estimate roughly halves when K doubles (where the variance exists), so the step
# from K/2 to K is about as large as what is still missing. A quarter nat is visible in any table
# of published values, which are given to 0.1.
UNCONVERGED = 0.25


@check(CHECK, asked_in="trust")
def likelihood_trust(evidence: Evidence) -> Finding:
    r"""Judges log p̂(x) by the share of datapoints with k̂ ≥ 0.5 and ≥ 0.7, ESS, and K against K/2.

    Args:
        evidence: Uses ``log_px`` and ``prior_sampling``.

    Returns:
        *problem* when a fifth of the datapoints has k̂ ≥ min(0.7, 1 − 1/log₁₀ K), or when plain
        sampling of the prior finds more than the encoder does; *warning* when three in ten have
        k̂ ≥ 0.5 or an ESS below 10, or when doubling K still adds 0.25 nats.
    """
    log_px = evidence[LOG_PX]
    khat, ess = log_px.diagnostics.get("khat"), log_px.diagnostics.get("ess")
    if khat is None or ess is None or bool(khat.isnan().all()):
        return Finding(CHECK, "unavailable", "No k̂: fewer than 30 samples per datapoint.")
    missed = prior_excess(log_px, evidence.get(PRIOR_SAMPLING))
    return _verdict(log_px, khat, ess) if missed is None else _support_finding(*missed)


def _support_finding(excess: float, error: float) -> Finding:
    """A posterior of too small a support has harmless weights; only another sampler can tell."""
    summary = (
        f"Sampling the prior finds {excess:.2f} ± {error:.2f} nats more than sampling the encoder: "
        "q(z|x) misses where the posterior lies, and its k̂ cannot know."
    )
    numbers: dict[str, object] = {"prior_excess": excess, "prior_excess_stderr": error}
    return Finding(CHECK, "problem", summary, numbers, _MISSED)


_MISSED = (
    "Give q(z|x) the support of the prior (a Gaussian rather than a bounded family) and no fixed, "
    "small variance; until then report what walks there from the prior: "
    "es.annealed_importance_sampling(model, x)"
)


def _verdict(log_px: Estimate, khat: Tensor, ess: Tensor) -> Finding:
    K = log_px.num_samples or USUAL_K
    bad, bad_error = share(khat >= usable_threshold(K))
    poor, poor_error = share((khat >= UNRELIABLE_K) | (ess < FEW_SAMPLES))
    step, step_error = _step(log_px)
    severity = _severity((bad, bad_error), (poor, poor_error), (step, step_error))
    median, median_ess = khat.nanmedian().item(), ess.median().item()
    summary = (
        f"k̂ is {median:.2f} at the median datapoint; ≥ {usable_threshold(K):.2g} for "
        f"{bad:.0%}, ≥ 0.5 for {share(khat >= UNRELIABLE_K)[0]:.0%} of n={len(khat)}; ESS "
        f"{median_ess:.0f} of K={K}; from K/2 to K the estimate moves by {step:+.3f} ± "
        f"{step_error:.3f} nats{_MEANING[severity]}"
    )
    numbers: dict[str, object] = {
        "share_unusable": bad,
        "share_unreliable": poor,
        "threshold": usable_threshold(K),
        "khat_median": median,
        "khat_max": khat.nan_to_num(nan=-math.inf).max().item(),
        "ess_median": median_ess,
        "half_step": step,
        "half_step_stderr": step_error,
        "num_samples": K,
    }
    return Finding(CHECK, severity, summary, numbers, _action(severity, K))


_MEANING: dict[Severity, str] = {
    "ok": ".",
    "undecided": ": the shares lie too close to the limits (20%, 30%) to decide.",
    "warning": ": log p̂ is still a lower bound in expectation, but its ± is unreliable.",
    "problem": ": log p̂ is still a lower bound in expectation, but its ± means nothing, and it "
    "may miss nats.",
}


def _step(log_px: Estimate) -> tuple[float, float]:
    half = log_px.diagnostics.get("half")
    if half is None:
        return 0.0, 0.0
    step = log_px.values.double() - half.double()
    error = step.std().item() / math.sqrt(len(step)) if len(step) > 1 else 0.0
    return step.mean().item(), error


def _severity(
    bad: tuple[float, float], poor: tuple[float, float], step: tuple[float, float]
) -> Severity:
    unusable = exceeds(*bad, BAD_SHARE)
    if unusable:
        return "problem"
    verdicts = (exceeds(*poor, POOR_SHARE), exceeds(*step, UNCONVERGED))
    if any(verdicts):
        return "warning"
    return "ok" if all(v is False for v in (unusable, *verdicts)) else "undecided"


def _action(severity: Severity, K: int) -> str:
    if severity == "ok":
        return ""
    if severity == "undecided":
        return f"es.importance_sampling(model, x, num_samples={4 * K}) narrows the estimate of k̂."
    return (
        f"See whether more samples help: es.importance_sampling(model, x, num_samples={4 * K}), or "
        "es.diagnose(model, x, budget='thorough'). If k̂ stays, combine them with annealed "
        "importance sampling, and learn how far off that can be: es.log_likelihood(model, x). "
        "Widen the posterior itself by training: "
        "elboscope train CONFIG.yaml --objective IWAE --objective.num_samples 10"
    )
