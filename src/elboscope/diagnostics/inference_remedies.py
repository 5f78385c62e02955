"""What repairs each part of the inference gap, as commands or code that run today."""

from __future__ import annotations

__all__ = ["FAMILIES", "remedy"]

from elboscope.core import Severity
from elboscope.estimators import InferenceGap

from .decision import exceeds

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
    "The family would do better than its encoder. Train a larger one: elboscope train CONFIG.yaml "
    "--model.hidden '[400, 400]'; let it catch up with a decoder that stands still: "
    "model.decoder.requires_grad_(False), and train on"
)
_OVERFITS = (
    "Most of what the encoder loses it loses only on new data. Give it more of them, or a fresh "
    "binarisation of each minibatch: elboscope train CONFIG.yaml --binarisation dynamic; stop "
    "earlier: --training.patience 20; or take a smaller network: --model.hidden '[100]'"
)
_REFINE = "; or improve its answers when they are used: es.refine(model, steps=20)"
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
