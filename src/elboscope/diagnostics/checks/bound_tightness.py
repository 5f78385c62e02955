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

from elboscope.core import Finding, Severity

from ..decision import graded, needs
from ..evidence import Evidence
from .likelihood_trust import likelihood_trust

CHECK = "bound tightness"
# A gap is large beside the nats that the code carries. Published VAEs on MNIST lose 2–3 nats of a
# rate of about 25 (Cremer et al., Table 1): a tenth. Half as much again is worth a look; a half
# means that the encoder's error costs as much as half of what it conveys.
WARNING_SHARE, PROBLEM_SHARE = 0.15, 0.5
# Where the code carries next to nothing, shares say nothing: below a fifth of a nat a gap is no
# subject. From two nats on it is worth a look whatever the rate: published models differ by less.
LEAST_NATS, MOST_NATS, PROBLEM_NATS = 0.2, 2.0, 2.0


def bound_tightness(evidence: Evidence) -> Finding:
    """Judges the gap log p̂ − ELBO against the rate KL(q(z|x)‖p(z)).

    Args:
        evidence: Uses ``bound_gap``, ``elbo`` (its KL) and the trust in ``log_px``.

    Returns:
        *warning* from 15 % of the rate, but from no less than 0.2 and no more than 2 nats;
        *problem* from max(2 nats, 50 %);
        *undecided* where the gap looks small but the weights cannot be trusted.
    """
    missing = needs(CHECK, evidence, "bound_gap")
    if missing is not None:
        return missing
    gap = evidence.bound_gap
    assert gap is not None
    rate = rate_of(evidence)
    warning, problem = gap_thresholds(rate)
    severity = graded(gap.mean, gap.stderr, warning=warning, problem=problem)
    trusted = likelihood_trust(evidence).severity != "problem"
    if severity == "ok" and not trusted:
        severity = "undecided"
    of_rate = (
        f" ({gap.mean / rate:.0%} of the rate of {rate:.2f} nats)"
        if rate >= gap.mean
        else f", which is more than the rate of {rate:.2f} nats: less is told than lost"
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


def gap_thresholds(rate: float) -> tuple[float, float]:
    """Returns from how many nats a gap is a warning and a problem, beside the rate.

    Args:
        rate: Nats that the code carries.

    Example:
        >>> gap_thresholds(10.0), gap_thresholds(0.0), gap_thresholds(25.0)
        ((1.5, 5.0), (0.2, 2.0), (2.0, 12.5))
    """
    return (
        max(LEAST_NATS, min(WARNING_SHARE * rate, MOST_NATS)),
        max(PROBLEM_NATS, PROBLEM_SHARE * rate),
    )


def rate_of(evidence: Evidence) -> float:
    """The mean KL, in closed form or as the ELBO sampled it; 0 where neither is known."""
    if evidence.kl is not None:
        return evidence.kl.mean
    kl = None if evidence.elbo is None else evidence.elbo.diagnostics.get("kl")
    return 0.0 if kl is None else kl.double().mean().item()


def _action(severity: Severity, evidence: Evidence) -> str:
    if severity == "ok":
        return ""
    if severity == "undecided":
        return "es.diagnose(model, x, budget='thorough') uses more samples and datapoints."
    if evidence.inference_gap is not None:
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
