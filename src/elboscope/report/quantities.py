"""The estimates of a diagnosis by name, and what each of them is not.

A number is read together with what it cannot say; those sentences stand here, beside the names
under which the estimates appear in the report, in ``findings.json`` and in the data tree.
"""

from __future__ import annotations

__all__ = [
    "DISCRIMINATOR",
    "IS_NOT",
    "PRIOR_IS_NOT",
    "PRIOR_TITLES",
    "SAMPLE_IS_NOT",
    "SAMPLE_TITLES",
    "SCORES",
    "TITLES",
    "estimates_of",
    "in_words",
    "left_out",
    "prior_estimates",
    "prior_left_out",
    "rows_of",
    "sample_estimates",
    "sample_left_out",
    "searched_rows",
]

from collections.abc import Mapping, Sequence

from torch import Tensor

from elboscope.core import Estimate
from elboscope.diagnostics.evidence import Evidence
from elboscope.estimators import InferenceGap, LogLikelihood, SampleQuality
from elboscope.estimators.likelihood.bounds import LADDER

# The estimates of how far q(z) is from the prior, by name, and what each of them is not.

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


# Scores of samples by name, and what each of them is not; and the discriminator's own KL.

SCORES = {
    "inception_score": "Inception Score",
    "modes_covered": "modes covered",
    "mode_kl": "KL(modes ‖ uniform)",
    "ms_ssim_diversity": "MS-SSIM diversity",
    "precision": "precision",
    "recall": "recall",
    "density": "density",
    "coverage": "coverage",
    "frechet_distance": "Fréchet distance of features",
    "critic_validation": "critic, validation",
    "critic_test": "critic, test",
    "critic_train": "critic, training data",
    "overfitting": "critic, test − training data",
}
_OF = {
    "sample": "of samples",
    "reconstruction": "of reconstructions",
    "sample_gap": "samples − reconstructions",
    "data": "of data",
}
DISCRIMINATOR = ("marginal_kl_discriminator", "discriminator_accuracy")
_BLIND = {
    "inception_score": "Not about quality within a class: copies and memorised data score as well.",
    "modes_covered": "Not about anything within a class.",
    "mode_kl": "Not zero for perfect samples: about (C − 1)/(2n) nats.",
    "ms_ssim_diversity": "Not quality: noise is most diverse. Compare it with the data's.",
    "precision": "Not variety: one good image, repeated, suffices.",
    "recall": "Not quality: samples far from data do not lower it.",
    "density": "Not variety: it may exceed 1 where samples crowd.",
    "coverage": "Not quality of every sample: bad ones beside good ones do not lower it.",
    "frechet_distance": "Not the FID: features of this classifier, not of Inception.",
    "critic_validation": "Not a distance of its own: compare it under equal settings only.",
    "critic_test": "Not a distance of its own: compare it under equal settings only.",
    "critic_train": "Not a distance of its own: compare it under equal settings only.",
    "overfitting": "Not zero by itself a proof: what a small critic cannot see is not in it.",
}
SAMPLE_TITLES = {
    **{f"{of}_{name}": f"{words}, {_OF[of]}" for of in _OF for name, words in SCORES.items()},
    "marginal_kl_discriminator": "KL(q(z) ‖ p(z)), by its own discriminator (no bound)",
    "discriminator_accuracy": "accuracy of its own discriminator of codes",
}
SAMPLE_IS_NOT = {
    **{f"{of}_{name}": words for of in _OF for name, words in _BLIND.items()},
    "marginal_kl_discriminator": "Not a bound on either side, and no measurement: what the game "
    "was told, usually too small.",
    "discriminator_accuracy": "Not a sign that q(z) is the prior where it is ½: a weak "
    "discriminator sees nothing either.",
}


def sample_estimates(evidence: Evidence) -> dict[str, Estimate]:
    """Returns the scores of samples, reconstructions and data, and the discriminator's.

    Args:
        evidence: What was computed.
    """
    samples, both, own = (
        evidence.sample_quality,
        evidence.sample_quality_gap,
        evidence.discriminator_kl,
    )
    found: dict[str, Estimate] = {}
    if own is not None:
        found |= dict(zip(DISCRIMINATOR, own.parts(), strict=True))
    if samples is not None:
        found |= _named("sample", samples.estimates)
    if both is not None:
        found |= _named("reconstruction", both.reconstructions.estimates)
        found |= _named("sample_gap", both.gap)
    return found | ({} if samples is None else _named("data", _of_data(samples)))


def sample_left_out(reasons: Mapping[str, str]) -> dict[str, str]:
    """Returns reasons in which what was left out together is told once.

    Args:
        reasons: By the names of the evidence.
    """
    told = dict(reasons)
    if "discriminator_kl" in told:
        told[DISCRIMINATOR[0]] = told.pop("discriminator_kl")
    if told.get("sample_quality") == told.get("sample_quality_gap"):
        told.pop("sample_quality_gap", None)
    return told


def _of_data(samples: SampleQuality) -> Mapping[str, Estimate]:
    return {name: e for name, e in samples.of_data.items() if name in SCORES}


def _named(of: str, estimates: Mapping[str, Estimate]) -> dict[str, Estimate]:
    return {f"{of}_{name}": estimate for name, estimate in estimates.items()}


_DIRECT = (
    "log_px",
    "elbo",
    "bound_gap",
    "reconstruction",
    "kl",
    "prior_sampling",
    "unit_kl",
    "active_units",
    "zeroing",
    "train_log_px",
    "train_elbo",
)
_ANNEALED = ("log_px_combined", "log_px_widened", "log_px_annealed")
_SURGERY = (
    "mutual_information",
    "marginal_kl",
    "marginal_kl_plain",
    "marginal_kl_held_out",
    "total_correlation",
    "dimensionwise_kl",
)

_CERTIFIED = (
    "log_px_combined",
    "log_px_widened",
    "log_px_annealed",
    "simulated_upper",
    "simulated_combined",
    "simulated_importance",
    "simulated_lower",
    "certificate_width",
)

_INFERENCE = (
    "inference_log_px",
    "inference_elbo",
    "approximation_gap",
    "amortisation_gap",
    "inference_gap",
)

# What a row is called where the estimate's own name is shared by several.
TITLES = {
    "elbo": "ELBO",
    "prior_sampling": "log p(x), sampling the prior",
    "train_log_px": "log p(x), training data",
    "train_elbo": "ELBO, training data",
    "mixture_kl": "average KL(q(z|x) ‖ p(z)) of the mixture",
    "marginal_kl_plain": "KL(q_N(z) ‖ p(z)), plain Monte Carlo",
    "marginal_kl_held_out": "KL(q(z) ‖ p(z)), held-out bound",
    "mutual_information": "mutual information I(n; z)",
    "active_units": "active units, Var_x E_q[z_j|x]",
    "log_px_combined": "log p(x), combined",
    "log_px_widened": "log p(x), widened posterior",
    "log_px_annealed": "log p(x), AIS",
    "simulated_upper": "log p(x) of simulated data, reverse AIS",
    "simulated_combined": "log p(x) of simulated data, combined",
    "simulated_importance": "log p(x) of simulated data, importance sampling",
    "simulated_lower": "log p(x) of simulated data, AIS",
    "certificate_width": "upper bound − estimate, simulated data",
    "inference_log_px": "log p(x), the best estimate",
    "inference_elbo": "L[q], of the encoder",
    "optimal_diagonal": "L[q*], diagonal Gaussians",
    "optimal_full": "L[q*], full covariance",
    "optimal_flow": "L[q*], flows",
    "richer_gain": "L[q*], richer family − diagonal",
    "train_approximation_gap": "approximation gap, training data",
    "train_amortisation_gap": "amortisation gap, training data",
    **PRIOR_TITLES,
    **SAMPLE_TITLES,
    **{f"bound_{K}": f"log p(x), importance-weighted bound L_{K}" for K in LADDER},
}

IS_NOT = {
    "log_px": "Not log p(x) itself: the estimate lies below it on average. Not comparable across "
    "likelihoods, binarisations or dequantisations.",
    "log_px_half": "Not a second opinion: the same samples, half as many. If it lies clearly "
    "below the full estimate, K is too small.",
    "log_px_psis": "Not a bound: smoothing the largest weights lowers the variance at the price "
    "of a bias of unknown side.",
    "prior_sampling": "Not an estimate to use: it shows how badly sampling from the prior does "
    "with the same number of samples.",
    "elbo": "Not a likelihood: it differs from log p(x) by KL(q(z|x) ‖ p(z|x)).",
    "bound_gap": "Not the whole gap: log p̂(x) itself lies below log p(x). It does not tell "
    "amortisation from the posterior's family.",
    "reconstruction": "Not a likelihood: the latent code is given for free.",
    "kl": "Not a sign of quality by itself: it is information about x plus mismatch with "
    "the prior.",
    "mixture_kl": "Not of the evaluation data where training data were given: of the N datapoints "
    "that form the mixture q_N.",
    "unit_kl": "Not use: a unit can cost nats and the decoder can ignore it.",
    "active_units": "Not use by the decoder: only that the encoder moves the unit with the data.",
    "zeroing": "Not additive: units that carry the same information replace each other.",
    "mutual_information": "Not the information in the population: it cannot exceed log N of the "
    "data that form the mixture.",
    "marginal_kl": "Not KL(q ‖ p) of the population: for narrow posteriors the mixture of N "
    "points overstates it.",
    "marginal_kl_plain": "Not a second measurement: the same quantity in a noisier form; the two "
    "must agree.",
    "marginal_kl_held_out": "Not an estimate of KL(q ‖ p): a lower bound, from a density fitted "
    "to other draws.",
    "total_correlation": "Not a defect by itself: dependence between units under the mixture.",
    "dimensionwise_kl": "Not KL(q ‖ p): each unit on its own, without their dependence.",
    "log_px_combined": "Not the larger of the two, which would be no bound: the logarithm of the "
    "mean of both averages, at most ln 2 below the better one.",
    "log_px_widened": "Not of q alone: half of the samples come from a stretched q, and all are "
    "weighted by the density of both.",
    "log_px_annealed": "Not independent of the number of temperatures: too few, and it lies far "
    "below log p(x), with a small error.",
    **PRIOR_IS_NOT,
    **SAMPLE_IS_NOT,
    **{
        f"bound_{K}": f"Not a second opinion: the samples of log_px in blocks of {K}, whose bound "
        "lies below it by construction."
        for K in LADDER
    },
    "simulated_upper": "Not of the real data, for which no upper bound is known: of data that the "
    "model simulated.",
    "simulated_combined": "Not of the real data: the same estimate with the same settings on data "
    "that the model simulated.",
    "simulated_importance": "Not of the real data: what importance sampling from q alone reads on "
    "data that the model simulated.",
    "simulated_lower": "Not of the real data: of data that the model simulated, with twice the "
    "temperatures.",
    "certificate_width": "Not the error on the real data: the most that the mean is off on "
    "simulated ones, but for its own error.",
    "inference_log_px": "Not of all datapoints: of those whose best posteriors were searched. The "
    "estimate, among several, whose mean is the largest.",
    "inference_elbo": "Not of all datapoints: of those whose best posteriors were searched.",
    **dict.fromkeys(
        ("optimal_diagonal", "optimal_full", "optimal_flow"),
        "Not what an encoder reaches: the best q of this family that a search for each datapoint "
        "found. How much better ones may exist is in its certificate.",
    ),
    "approximation_gap": "Not the encoder's fault: no encoder of this family can win it back. Too "
    "small where log p̂ is.",
    "amortisation_gap": "Not a lack of the family: its best q for each datapoint is that much "
    "better than the encoder's.",
    "inference_gap": "Not the decoder's fault: a model without any gap may be a poor one.",
    "richer_gain": "Not what training with that family would win: the decoder would change too.",
    "train_approximation_gap": "Not paired with that of the evaluation data: other datapoints.",
    "train_amortisation_gap": "Not evidence of quality: the encoder was fitted to these data.",
    "train_log_px": "Not evidence of quality: on data the model was fitted to.",
    "train_elbo": "Not evidence of quality: on data the model was fitted to.",
}


def estimates_of(evidence: Evidence) -> dict[str, Estimate]:
    """Returns every estimate that was made, by name; what is missing is in ``skipped``.

    Besides the fields of the evidence there are ``log_px_half`` and ``log_px_psis``: the
    importance-sampling value of the first half of the samples, and the Pareto-smoothed one;
    ``bound_1``, ``bound_5`` …: the importance-weighted bound of so many samples; the parts of
    the certificate; and those of the inference gap.

    Args:
        evidence: What was computed.
    """
    found: dict[str, object] = {}
    for name in _DIRECT:
        found[name] = getattr(evidence, name)
        if name == "log_px":
            found |= _variants(evidence.log_px)
            found |= _by_samples(evidence) | _certified(evidence.log_likelihood)
        if name == "bound_gap":
            found |= _inference(evidence.inference_gap)
    if evidence.surgery is not None:
        found["mixture_kl"] = evidence.surgery.kl
        found |= {name: getattr(evidence.surgery, name) for name in _SURGERY}
    found |= prior_estimates(evidence) | sample_estimates(evidence)
    return {name: value for name, value in found.items() if isinstance(value, Estimate)}


def rows_of(evidence: Evidence) -> dict[str, Tensor]:
    """Returns which rows of x the estimates of a part of the datapoints are of, by name.

    Args:
        evidence: What was computed.
    """
    rows: dict[str, Tensor] = {}
    gap, searched = evidence.inference_gap, evidence.optimised
    if evidence.annealed is not None:
        rows |= dict.fromkeys(_ANNEALED, evidence.annealed)
    if gap is not None and searched is not None:
        kept = searched.cpu()[gap.index.cpu()]
        rows |= {key: kept for key in _inference(gap) if not key.startswith("train_")}
    return rows


def searched_rows(evidence: Evidence, places: Sequence[int]) -> tuple[int, ...]:
    """Returns the rows of x of searched datapoints that are told by their place among these.

    Args:
        evidence: What was computed.
        places: Such as ``evidence.inference_gap.diverged``.
    """
    searched = evidence.optimised
    return tuple(places) if searched is None else tuple(int(searched[i]) for i in places)


def in_words(key: str) -> str:
    """Returns what a number is called where there is no estimate to say it.

    Example:
        >>> in_words("log_px"), in_words("total_correlation")
        ('log p(x)', 'total correlation')
    """
    names = {"log_px": "log p(x)", "kl": "KL(q(z|x) ‖ p(z))", "unit_kl": "KL per unit"}
    return {**TITLES, **names}.get(key, key.replace("_", " "))


def left_out(evidence: Evidence) -> dict[str, str]:
    """Returns what was not computed and why, the parts of the ELBO surgery included.

    Args:
        evidence: What was computed.
    """
    reasons = sample_left_out(prior_left_out(evidence, evidence.skipped))
    if "log_likelihood" in reasons:
        reasons = {**dict.fromkeys(_CERTIFIED, reasons.pop("log_likelihood")), **reasons}
    if "inference_gap" in reasons:
        reasons = {**dict.fromkeys(_INFERENCE, reasons.pop("inference_gap")), **reasons}
    if evidence.surgery is not None:
        return {**reasons, **evidence.surgery.unavailable}
    reason = reasons.get("surgery")
    return reasons if reason is None else {**dict.fromkeys(_SURGERY, reason), **reasons}


def _by_samples(evidence: Evidence) -> dict[str, object]:
    """The bounds below the largest K, which is log_px itself."""
    bounds = evidence.bounds_by_samples or {}
    return {f"bound_{K}": e for K, e in bounds.items() if max(bounds) > K}


def _certified(found: LogLikelihood | None) -> dict[str, object]:
    """The parts of the certificate, in the order of _CERTIFIED."""
    if found is None:
        return {}
    both = found.widened is not None  # else the combined estimate is one of its parts
    parts = (
        found.log_px if both else None,
        found.widened,
        found.annealed,
        found.sandwich.upper_doubled,
        found.simulated if both else None,
        found.simulated_importance,
        found.sandwich.lower_doubled,
        found.certificate.width,
    )
    return dict(zip(_CERTIFIED, parts, strict=True))


def _inference(gap: InferenceGap | None) -> dict[str, object]:
    """The parts of the inference gap, and L[q*] of each family."""
    if gap is None:
        return {}
    parts = (gap.log_px, gap.elbo, gap.approximation, gap.amortisation, gap.inference)
    found: dict[str, object] = dict(zip(_INFERENCE, parts, strict=True))
    found |= {f"optimal_{family}": bound for family, bound in gap.optimal_elbo.items()}
    found["richer_gain"] = gap.richer
    if gap.train is not None:
        found["train_approximation_gap"] = gap.train.approximation
        found["train_amortisation_gap"] = gap.train.amortisation
    return found


def _variants(log_px: Estimate | None) -> dict[str, object]:
    """The same weights read in two other ways."""
    if log_px is None:
        return {}
    K = log_px.settings.get("num_samples")
    halved: dict[str, object] = {"num_samples": K // 2} if isinstance(K, int) else {}
    return {
        "log_px_half": _variant(log_px, "half", "log p(x), first half of the samples", halved),
        "log_px_psis": _variant(log_px, "psis", "log p(x), Pareto-smoothed", {}),
    }


def _variant(
    log_px: Estimate, diagnostic: str, name: str, changes: dict[str, object]
) -> Estimate | None:
    values = log_px.diagnostics.get(diagnostic)
    if values is None or not bool(values.isfinite().all()):
        return None
    return Estimate.per_datapoint(
        name,
        log_px.method if diagnostic == "half" else f"{log_px.method}, Pareto-smoothed",
        values,
        log_px.mc_stderr * (2**0.5 if diagnostic == "half" else 1.0),
        "lower" if diagnostic == "half" else "none",
        settings={**log_px.settings, **changes},
        data_id=log_px.data_id,
    )
