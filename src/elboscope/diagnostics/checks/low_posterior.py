r"""Does the model know that samples from where q(z) never goes are bad?

First whether there are such places: the share of the prior below all but one percent of fresh
draws of q(z) is 1 % where q(z) = p(z). Where there are, the ELBO of what the decoder makes of them
is set against that of data. A model that scores them as high as data cannot be asked to reject
them, and its likelihood says nothing about its samples.

References:
    | Distribution Matching in Variational Inference (Rosca et al., 2018),
      https://arxiv.org/abs/1802.06847: on CIFAR-10 and CelebA they score above data.
"""

from __future__ import annotations

__all__ = ["low_posterior", "low_posterior_verdict"]

import math

from elboscope.core import Finding, Severity
from elboscope.estimators import LowPosteriorSamples, LowSampleAnalysis
from elboscope.estimators.latents.low_posterior import REFERENCE_QUANTILE

from ..decision import ERRORS, check, graded
from ..evidence import Evidence
from ..quantities.prior import LOW_POSTERIOR

CHECK = "low-posterior samples"
# One of ten samples from where q(z) hardly goes, one of a hundred being expected. Settled on the
# small models of docs/calibration.md: healthy Bernoulli and linear ones have at most 0.06, those
# with a hole 0.25 and more; two healthy models of grey values have 0.11 and 0.6, and know of it.
UNCOVERED = 0.1
# Where fresh draws of q(z) itself lie this many nats below the prior, by the other half's mixture,
# that mixture is too sparse to say where q(z) does not go.
SPARSE = -3.0
# 1 − AUROC: in one pair of four the sample scores above the datapoint; in one of two.
OFTEN_ABOVE, BLIND = 0.25, 0.5


@check(CHECK, asked_in="prior")
def low_posterior(evidence: Evidence) -> Finding:
    """Judges the samples from where q(z) hardly goes: are there any, does the model know of them?

    Args:
        evidence: Uses ``low_posterior``.

    Returns:
        As :func:`low_posterior_verdict`; *unavailable* where nothing was sampled.
    """
    return low_posterior_verdict(evidence[LOW_POSTERIOR])


def low_posterior_verdict(analysis: LowSampleAnalysis) -> Finding:
    """Judges whether the prior has uncovered places and whether the likelihood knows of them.

    Args:
        analysis: As :func:`elboscope.estimators.examine_low_samples` returns it.

    Returns:
        *ok* where q(z) covers the prior, or where data score higher in three pairs of four;
        *warning* below that; *problem* where the samples score at least as high as data;
        *undecided* within the errors, and where posteriors are too narrow for their number.
    """
    samples, separation = analysis.samples, analysis.separation
    share, error = samples.uncovered, _error(samples)
    covered = share + ERRORS * error < UNCOVERED
    typical = samples.reference.median().item()
    sparse = covered and typical < SPARSE
    severity: Severity = "undecided" if sparse else "ok"
    if not covered:
        severity = graded(
            1 - separation.auroc, separation.stderr, warning=OFTEN_ABOVE, problem=BLIND
        )
        if severity in ("warning", "problem") and share - ERRORS * error < UNCOVERED:
            severity = "undecided"
    numbers: dict[str, object] = {
        "uncovered": share,
        "uncovered_stderr": error,
        "reference_median": typical,
        "auroc": separation.auroc,
        "auroc_low": separation.low,
        "auroc_high": separation.high,
        "elbo": {name: values.mean().item() for name, values in analysis.elbo.items()},
        "kl": {name: values.mean().item() for name, values in analysis.kl.items()},
    }
    return Finding(
        CHECK, severity, _summary(analysis, covered, typical), numbers, _action(severity)
    )


def _error(samples: LowPosteriorSamples) -> float:
    """The error of the share: of its draws, and of the quantile, which few posteriors may set."""
    share, n = samples.uncovered, len(samples.prior_reference)
    N = min(len(samples.reference), samples.mixture_size // 2)
    spread = math.sqrt(REFERENCE_QUANTILE * (1 - REFERENCE_QUANTILE) / N)
    ends = (max(0.0, REFERENCE_QUANTILE - spread), min(1.0, REFERENCE_QUANTILE + spread))
    low, high = (
        (samples.prior_reference < samples.reference.quantile(q)).double().mean().item()
        for q in ends
    )
    return math.hypot(math.sqrt(max(share * (1 - share), 0.01) / n), (high - low) / 2)


def _summary(analysis: LowSampleAnalysis, covered: bool, typical: float) -> str:
    share = analysis.samples.uncovered
    if covered and typical < SPARSE:
        return (
            f"Posteriors are too narrow for {analysis.samples.mixture_size} datapoints: "
            "fresh draws of q(z) itself have a density ratio to the prior of "
            f"{typical:.3g} nats (median), so that where q(z) does not go is not known."
        )
    if covered:
        return (
            f"q(z) covers the prior: {share:.1%} of it lies where only 1% of q(z) does (a warning "
            f"starts at {UNCOVERED:.0%})."
        )
    elbo, separation = analysis.elbo, analysis.separation
    knows = "knows" if separation.low > 0.5 else "does not know"
    if separation.high < 0.5:
        knows = "is fooled: it prefers them"
    return (
        f"{share:.1%} of the prior lies where q(z) hardly goes (1% if it went everywhere; a "
        f"warning starts at {UNCOVERED:.0%}). The "
        f"model {knows}: ELBO {elbo['data'].mean().item():.4g} nats for data, "
        f"{elbo['low'].mean().item():.4g} for samples from there, {separation}."
    )


def _action(severity: Severity) -> str:
    if severity in ("ok", "undecided"):
        return ""
    return (
        "Do not use log p(x) to reject its samples. Look at them "
        "(es.latents.low_posterior_samples(model, x_train), then plots.plot_low_posterior), and "
        "close the holes: es.fit_prior(model, x_train), or a larger weight of the KL."
    )
