r"""How far below log p(x) can the estimates lie? Two samplers and simulated data say.

The k̂ of importance weights cannot know what q never visits. Annealed importance sampling (AIS)
walks there: where it finds clearly more than importance sampling from q on the same datapoints,
the reported log p̂ misses at least that much, as both are lower bounds. Where the two agree, the
combined estimate is set against an upper bound, which exists only for data that the model
simulates: the certificate is about such data, and carries over to the real ones by assumption.

References:
    | On the quantitative analysis of decoder-based generative models (Wu et al., 2017),
      https://arxiv.org/abs/1611.04273
    | Sandwiching the marginal likelihood using bidirectional Monte Carlo (Grosse et al., 2015),
      https://arxiv.org/abs/1511.02543
"""

from __future__ import annotations

__all__ = ["likelihood_certificate"]

import math

from elboscope.core import Estimate, Finding, Severity, paired_difference
from elboscope.estimators import LogLikelihood

from ..decision import check, graded
from ..evidence import Evidence
from ..quantities.likelihood import LOG_LIKELIHOOD

CHECK = "likelihood certificate"
# Published values are given to 0.1 nats; a quarter is visible in any table, as for K against K/2
# in the check of likelihood trust. Models that differ by two nats are ranked wrongly.
WARNING_NATS, PROBLEM_NATS = 0.25, 2.0


@check(CHECK, asked_in="certificate")
def likelihood_certificate(evidence: Evidence) -> Finding:
    """Judges what AIS finds beyond importance sampling, and the certificate on simulated data.

    Args:
        evidence: Uses ``log_likelihood``.

    Returns:
        *warning* when AIS finds 0.25 nats more than importance sampling from q, *problem* from 2;
        otherwise *ok* when the combined estimate is certified, *undecided* when it is not.
    """
    found = evidence[LOG_LIKELIHOOD]
    excess = _excess(found)
    if excess is not None and found.importance is not None:
        error = excess.stderr if len(excess.values) > 1 else math.inf
        severity = graded(excess.mean, error, warning=WARNING_NATS, problem=PROBLEM_NATS)
        if severity in ("warning", "problem"):
            return _excess_finding(found, found.importance, excess, severity)
    return _certificate_finding(found, excess)


def _excess(found: LogLikelihood) -> Estimate | None:
    """AIS − importance sampling from q, on the same datapoints."""
    if found.importance is None:
        return None
    return paired_difference(found.annealed, found.importance, "AIS − importance sampling")


def _excess_finding(
    found: LogLikelihood, importance: Estimate, excess: Estimate, severity: Severity
) -> Finding:
    n, K = len(excess.values), importance.num_samples
    summary = (
        f"AIS finds {excess.mean:.2f} ± {excess.stderr:.2f} nats more than importance sampling "
        f"from q (K={K}) on the same {n} datapoints: both are lower bounds, so log p̂ misses at "
        "least that."
    )
    T = 2 * (found.annealed.num_temperatures or 0)
    action = (
        f"Report AIS: es.annealed_importance_sampling(model, x, num_temperatures={T}), or both "
        f"combined and certified: es.log_likelihood(model, x, num_temperatures={T}). That q "
        "misses so much is repaired by training: elboscope train CONFIG.yaml --objective IWAE "
        "--objective.num_samples 10"
    )
    return Finding(CHECK, severity, summary, _numbers(found, excess), action)


def _certificate_finding(found: LogLikelihood, excess: Estimate | None) -> Finding:
    certificate = found.certificate
    text = str(certificate).partition("; spend")[0]
    what = "log p̂(x) by AIS alone" if excess is None else "The combined log p̂(x)"
    agreement = (
        "."
        if excess is None
        else f"; AIS − importance sampling is {_plus_minus(excess)} nats on the data."
    )
    summary = f"{what} is {text}{agreement}"
    severity: Severity = "ok" if certificate.certified else "undecided"
    return Finding(CHECK, severity, summary, _numbers(found, excess), certificate.more)


def _plus_minus(difference: Estimate) -> str:
    return f"{round(difference.mean, 3) + 0.0:.3f} ± {difference.stderr:.3f}".replace("-", "−")


def _numbers(found: LogLikelihood, excess: Estimate | None) -> dict[str, object]:
    certificate, annealed = found.certificate, found.annealed
    return {
        "certified": certificate.certified,
        "tolerance": certificate.tolerance,
        "within": certificate.within,
        "width": certificate.width,
        "width_stderr": certificate.width_stderr,
        "far_share": certificate.share,
        "reasons": certificate.reasons,
        "annealed_excess": None if excess is None else excess.mean,
        "annealed_excess_stderr": None if excess is None else excess.stderr,
        "n_simulated": len(certificate.others.values),
        "n_pairs": certificate.num_pairs,
        "num_temperatures": annealed.num_temperatures,
        "num_chains": annealed.num_chains,
        "path": annealed.settings["path"],
    }
