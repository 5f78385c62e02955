"""The estimates of how far q(z) is from the prior, by name, and what each of them is not."""

from __future__ import annotations

__all__ = ["PRIOR_IS_NOT", "PRIOR_TITLES", "prior_estimates", "prior_left_out"]

from collections.abc import Mapping

from elboscope.core import Estimate
from elboscope.diagnostics.evidence import Evidence

# Of the comparison; its mixture is that of the ELBO surgery, which has names of its own.
_LEARNED = {
    "ratio": "classifier (no bound)",
    "donsker_varadhan": "Donsker–Varadhan bound",
    "nwj": "NWJ bound",
    "gmm": "bound by Gaussian mixtures",
    "maf": "bound by a flow",
    "lstm": "bound by an LSTM",
}
_FITTED = ("fitted_prior_gain", "fitted_prior_elbo_before", "fitted_prior_elbo")

PRIOR_TITLES = {
    **{f"marginal_kl_{name}": f"KL(q(z) ‖ p(z)), {words}" for name, words in _LEARNED.items()},
    "fitted_prior_gain": "held-out gain of the fitted prior",
    "fitted_prior_elbo_before": "ELBO, of the datapoints of that gain",
    "fitted_prior_elbo": "ELBO with the fitted prior",
}
_DENSITY = "Not an estimate of KL(q ‖ p): it lacks what the density misses of q(z)."
_CRITIC = "Not an estimate of KL(q ‖ p): no such bound exceeds the logarithm of the prior draws."
PRIOR_IS_NOT = {
    "marginal_kl_ratio": "Not a bound on either side: classifiers are off by orders of magnitude.",
    "marginal_kl_donsker_varadhan": _CRITIC,
    "marginal_kl_nwj": _CRITIC,
    **{f"marginal_kl_{name}": _DENSITY for name in ("gmm", "maf", "lstm")},
    "fitted_prior_gain": "Not a gain of log p(x) itself, nor more than KL(q ‖ p): of the bound, by "
    "the prior alone.",
    "fitted_prior_elbo_before": "Not of all evaluation data where no training data were given: a "
    "part of them was kept aside.",
    "fitted_prior_elbo": "Not a bound on this model's log p(x): on that of the model with the "
    "fitted prior.",
}


def prior_estimates(evidence: Evidence) -> dict[str, Estimate]:
    """Returns the learned estimates of the marginal KL, and the bounds around the fitted prior.

    Args:
        evidence: What was computed.
    """
    comparison, bounds = evidence.marginal_kl_comparison, evidence.fitted_prior_elbo
    found: dict[str, Estimate] = {}
    if comparison is not None:
        learned = comparison.estimates
        found |= {f"marginal_kl_{name}": learned[name] for name in _LEARNED if name in learned}
    if evidence.fitted_prior is not None:
        found["fitted_prior_gain"] = evidence.fitted_prior.gain
    if bounds is not None:
        found |= dict(zip(_FITTED[1:], bounds, strict=True))
    return found


def prior_left_out(evidence: Evidence, reasons: Mapping[str, str]) -> dict[str, str]:
    """Returns reasons in which what was skipped together is told number by number.

    Args:
        evidence: What was computed.
        reasons: By the names of the evidence.
    """
    told = dict(reasons)
    together = {
        "marginal_kl_comparison": tuple(f"marginal_kl_{name}" for name in _LEARNED),
        "fitted_prior": _FITTED[:1],
        "fitted_prior_elbo": _FITTED[1:],
    }
    for field, names in together.items():
        if field in told:
            told |= dict.fromkeys(names, told.pop(field))
    if evidence.marginal_kl_comparison is not None:
        unavailable = evidence.marginal_kl_comparison.unavailable
        told |= {f"marginal_kl_{k}": r for k, r in unavailable.items() if k in _LEARNED}
    return told
