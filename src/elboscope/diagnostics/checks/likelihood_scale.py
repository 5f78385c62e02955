r"""Is the likelihood a likelihood, and at the right scale? Everything in nats depends on it.

A Gaussian decoder of variance σ² weighs the squared error by 1/(2σ²) against the KL, so that σ is
the KL's weight by another name: loss ``‖x − x̂‖² + w·KL`` means σ² = w/2 where the error is summed
over pixels, wD/2 where it is averaged. The σ² that maximises the ELBO is the mean squared error
under the posterior; with r = MSE/σ², setting it right gains ½D(r − 1 − ln r) nats at once. The b
of a Laplace decoder is best at the mean |x − x̂|; with r their ratio, D(r − 1 − ln r) nats. A
Bernoulli on grey values is no density at all: its number is a cross-entropy.

Nats of a density and nats of a probability are different units: a density of pixels in [0, 1]
changes by ln 255 nats per pixel when they are written as 0 … 255, and grows without bound where
pixels take few values; a probability is at most 1 and does neither.

References:
    | Simple and Effective VAE Training with Calibrated Decoders (Rybkin et al., 2020),
      https://arxiv.org/abs/2006.13202
    | The continuous Bernoulli (Loaiza-Ganem and Cunningham, 2019),
      https://arxiv.org/abs/1907.06845
"""

from __future__ import annotations

__all__ = ["likelihood_scale"]

import math
from typing import NamedTuple

from elboscope.core import Finding, Severity

from ..decision import check
from ..evidence import Evidence, ImpliedScale
from ..quantities.likelihood import ELBO, SCALE

CHECK = "likelihood scale"
# σ² off by a factor of two either way costs 0.10–0.15 nats per value (½(r − 1 − ln r) at r = ½
# and 2); that is 60–120 nats on MNIST. Learned scales sit within a few percent of 1.
WARNING_FACTOR = 2.0
# A factor of five: the KL is weighed five times too much or too little; σ = 1 on pixels in [0, 1]
# is beyond a factor of ten.
PROBLEM_FACTOR = 5.0
DENSITY = "nats of a density: not comparable with probabilities of pixels, or in other units"
MASS = "nats of a probability: comparable between all likelihoods of the same levels"
BOUND = "a lower bound on nats of a probability: at or below those of QuantizedNormal"
ROUNDED = "its scale is not judged here (rounding, and levels cut off at the ends, hide the errors)"
UNITS = {
    "Bernoulli": MASS,
    "ContinuousBernoulli": DENSITY,
    "Laplace": f"its scale is not judged here; {DENSITY}",
    "CategoricalLevels": MASS,
    "QuantizedNormal": f"{ROUNDED}; {MASS}",
    "DiscretisedLogistic": f"{ROUNDED}; {MASS}",
    "AutoregressiveImage": "each value given those before, in nats of its likelihood",
    "DequantizedNormal": f"{ROUNDED}; {BOUND}",
}


class _Words(NamedTuple):
    """How the scale of a family is called, and the power with which it stands in the density."""

    scale: str
    error: str
    ratio: str
    power: float


WORDS = {
    "Normal": _Words("σ²", "MSE", "(x − μ)²/σ²", 0.5),
    "Laplace": _Words("b", "mean |x − μ|", "|x − μ|/b", 1.0),
}


@check(CHECK, asked_in="scale")
def likelihood_scale(evidence: Evidence) -> Finding:
    """Judges the declared variance against the implied one, and the support against the data.

    Args:
        evidence: Uses ``capabilities``, ``scale``, and ``settings``: ``kl_weight`` and
            ``reduction`` of the training's loss, where they are known.

    Returns:
        *problem* for a Bernoulli on values other than 0 and 1, and for a σ² off by a factor of
        five; *warning* from a factor of two.
    """
    capabilities = evidence.capabilities
    if not capabilities.in_support:
        return _cross_entropy(evidence)
    laplace = capabilities.likelihood == "Laplace" and SCALE in evidence
    if capabilities.likelihood != "Normal" and not laplace:
        return _scale_free(evidence)
    return _verdict(evidence[SCALE], _convention(evidence), "kl_weight" in evidence.settings)


def _cross_entropy(evidence: Evidence) -> Finding:
    family, low, high = _range(evidence)
    summary = (
        f"x holds values between {low:.3g} and {high:.3g}, outside the support of {family}: what "
        "it returns is a cross-entropy, not a likelihood, and no number in nats follows from it."
    )
    action = (
        "Binarise the data (elboscope train CONFIG.yaml --binarisation dynamic), or take a "
        "density of grey values: --model.likelihood continuous_bernoulli, or "
        "--model.likelihood gaussian --model.scale learned"
        " (8-bit pixels: --model.likelihood categorical)"
    )
    return Finding(CHECK, "problem", summary, {"low": low, "high": high}, action)


def _range(evidence: Evidence) -> tuple[str, float, float]:
    return (
        evidence.capabilities.likelihood,
        evidence.x.min().item(),
        evidence.x.max().item(),
    )


def _scale_free(evidence: Evidence) -> Finding:
    family, low, high = _range(evidence)
    if not evidence.capabilities.has_likelihood:
        reason = "; ".join(evidence.capabilities.problems) or "the decoder has no density"
        return Finding(CHECK, "unavailable", f"No likelihood to judge: {reason}.")
    units = UNITS.get(family, "a likelihood without a scale")
    numbers: dict[str, object] = {"low": low, "high": high}
    summary = f"{family} on values from {low:.3g} to {high:.3g}: {units}."
    elbo = evidence.get(ELBO)
    if elbo is not None and "probability" in units:
        bits = -elbo.mean / (evidence.x[0].numel() * math.log(2))
        summary += f" The ELBO is {bits:.3g} bits per value."
        numbers["bits_per_value"] = bits
    return Finding(CHECK, "ok", summary, numbers)


def _verdict(scale: ImpliedScale, convention: str, weighted: bool) -> Finding:
    r, error = scale.ratio, scale.ratio_stderr
    if not math.isfinite(r) or r <= 0:
        return Finding(CHECK, "unavailable", f"The mean of (x − μ)²/σ² is {r}.")
    severity = _severity(r, error)
    D = scale.dimensions
    words = WORDS[scale.family]
    gain = words.power * D * (r - 1 - math.log(r))
    what = "" if scale.constant else " on average"
    verb = "as large as" if severity == "ok" else "too small for" if r > 1 else "too large for"
    summary = (
        f"Declared {words.scale} = {scale.declared:.3g}{what}; the errors imply "
        f"{scale.implied:.3g} ± {scale.implied_stderr:.1g} ({words.error} per value): the mean of "
        f"{words.ratio} is {r:.3g} ± {error:.1g}. {words.scale} is {verb} the errors; "
        "setting it right gains "
        f"{gain:.3g} nats per datapoint.{convention}"
    )
    numbers: dict[str, object] = {
        "declared": scale.declared,
        "implied": scale.implied,
        "implied_stderr": scale.implied_stderr,
        "ratio": r,
        "ratio_stderr": error,
        "gain": gain,
        "dimensions": D,
    }
    return Finding(CHECK, severity, summary, numbers, _action(severity, scale, weighted))


def _severity(r: float, error: float) -> Severity:
    """Thresholds on |ln r|, with the error of ln r: off by a factor either way is the same."""
    off, doubt = abs(math.log(r)), 2 * error / r  # NaN (one datapoint) decides nothing
    if off - doubt >= math.log(PROBLEM_FACTOR):
        return "problem"
    if off - doubt >= math.log(WARNING_FACTOR):
        return "warning"
    return "ok" if off + doubt < math.log(WARNING_FACTOR) else "undecided"


def _convention(evidence: Evidence) -> str:
    """What a KL weight of the training's loss means as σ², if one is known."""
    weight, reduction = evidence.settings.get("kl_weight"), evidence.settings.get("reduction")
    if not isinstance(weight, int | float) or reduction not in ("sum", "mean"):
        return ""
    D = evidence.x[0].numel()
    sigma2 = weight / 2 * (D if reduction == "mean" else 1)
    return (
        f" The training's loss, {weight:g}·KL + squared error ({reduction} over {D} values), "
        f"means σ² = {sigma2:.3g}."
    )


def _action(severity: Severity, scale: ImpliedScale, weighted: bool) -> str:
    if severity in ("ok", "undecided"):
        return ""
    if scale.family == "Laplace":
        return (
            "Learn b: elboscope train CONFIG.yaml --model.likelihood laplace --model.scale learned"
            f", or fix it at --model.scale {scale.implied:.3g}."
        )
    learn = "Learn σ: elboscope train CONFIG.yaml --model.likelihood gaussian --model.scale learned"
    weight = f"; with a hand-set KL weight and summed squared error, take {2 * scale.implied:.3g}"
    fixed = f", or fix it at --model.scale {math.sqrt(scale.implied):.3g}"
    return learn + fixed + (weight if weighted else "") + "."
