"""Scores of samples by name, and what each of them is not; and the discriminator's own KL."""

from __future__ import annotations

__all__ = [
    "DISCRIMINATOR",
    "SAMPLE_IS_NOT",
    "SAMPLE_TITLES",
    "SCORES",
    "sample_estimates",
    "sample_left_out",
]

from collections.abc import Mapping

from elboscope.core import Estimate
from elboscope.diagnostics.evidence import Evidence
from elboscope.estimators import SampleQuality

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
        found |= dict(zip(DISCRIMINATOR, own, strict=True))
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
