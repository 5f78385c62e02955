"""What a diagnosis knows: every number computed once, shared by all checks and by the report.

Checks are pure functions of this record. They never see the model, so that a check can be tested
on numbers written by hand, and a diagnosis can be read again from them. Whatever could not be
computed is ``None``, with its reason under the same name in ``skipped``.
"""

from __future__ import annotations

__all__ = ["Evidence", "ImpliedScale"]

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from jaxtyping import Float, Int64
from torch import Tensor

from elboscope.core import Capabilities, Estimate
from elboscope.estimators import (
    DiscriminatorKL,
    ElboSurgery,
    FittedPriorModel,
    InferenceGap,
    LatentInterpolations,
    LatentManifold,
    LatentTraversals,
    LocalPosterior,
    LogLikelihood,
    LowSampleAnalysis,
    MarginalKLComparison,
    SampleQuality,
    SampleQualityGap,
)


@dataclass(frozen=True)
class ImpliedScale:
    r"""The variance a Gaussian decoder declares, beside the one its errors imply.

    At the optimum of the ELBO over a shared σ², :math:`\sigma^2 = \mathbb{E}_q (x - \mu(z))^2`
    per value. Where σ varies over pixels or with z, compare ``ratio`` with 1 instead. Of a
    Laplace decoder it is b beside the mean of :math:`|x - \mu|`.

    Attributes:
        implied: Mean squared (Laplace: absolute) error per value, under z ~ q(z|x).
        implied_stderr: Its standard error over datapoints.
        declared: Mean of the decoder's σ² (b).
        ratio: Mean of :math:`(x - \mu)^2 / \sigma^2` (:math:`|x - \mu|/b`); 1 where it is right.
        ratio_stderr: Its standard error over datapoints.
        dimensions: D, the values of one datapoint.
        constant: Whether σ is one number.
        family: "Normal" or "Laplace".
    """

    implied: float
    implied_stderr: float
    declared: float
    ratio: float
    ratio_stderr: float
    dimensions: int
    constant: bool = True
    family: str = "Normal"


@dataclass(frozen=True, eq=False)
class Evidence:
    """The numbers behind a diagnosis; see :func:`elboscope.diagnostics.gather_evidence`.

    Attributes:
        capabilities: What the model can be asked.
        settings: What was done, printed with every number: likelihood, posterior, binarisation,
            budget, seed, num_samples, n, what was subsampled.
        x: Evaluation data, on the model's device and in its dtype.
        x_train: Training data used, or ``None``.
        log_px: Importance-sampling estimate of log p(x), with ess, khat, psis, half.
        elbo: Evidence lower bound.
        reconstruction: E_q log p(x|z).
        kl: KL(q(z|x) ‖ p(z)) per datapoint.
        prior_sampling: log p(x) by sampling the prior, same K: how badly that does.
        bound_gap: Paired difference log p̂ − ELBO.
        surgery: The ELBO taken apart over the aggregate posterior.
        unit_kl: KL per latent unit.
        active_units: Variance over x of the posterior mean, per latent unit.
        zeroing: Loss of reconstruction when a unit is replaced by the prior's mean.
        implied_kl_weight: β at which the encoder's widths are stationary.
        posterior_means: E_q[z|x], flattened to ``(n, d)``.
        train_elbo: ELBO of training data.
        train_log_px: Importance-sampling estimate on training data, same K as ``log_px``.
        scale: Declared and implied σ², Gaussian decoders only.
        reconstructions: Decoder means for the first 16 x.
        prior_samples: Decoder means for 16 draws of the prior.
        bounds_by_samples: The importance-weighted bound L_K by K, of the weights of ``log_px``.
        log_likelihood: Importance sampling and AIS combined, with the sandwich on simulated data
            and the certificate; of the rows ``annealed`` of x.
        annealed: The rows of x that were annealed.
        inference_gap: What the posterior's family loses and what the encoder loses; of the rows
            ``optimised`` of x, its own ``index`` counting these.
        optimised: The rows of x whose best posteriors were searched.
        local_posteriors: True posteriors of some of these on a grid, of two latents only.
        traversals: What the decoder shows while one unit moves, the most telling units.
        interpolations: Paths between the codes of some datapoints, with the densities beside.
        manifold: The decoder over cells of equal prior mass, of one or two latents.
        marginal_kl_comparison: KL(q(z) ‖ p(z)) by mixture, classifier and density models.
        fitted_prior: The model with a prior fitted to q(z), and its held-out gain.
        fitted_prior_elbo: The ELBO of the datapoints of that gain, before and after.
        fitted_prior_samples: Decoder means for 16 draws of the fitted prior.
        low_posterior: Prior draws where q(z) hardly goes, and how the model scores them.
        sample_quality: Scores of samples against data, where a packaged classifier knows these.
        sample_quality_gap: The same beside those of reconstructions.
        discriminator_kl: What a hybrid's own discriminator of codes makes of KL(q(z) ‖ p(z)).
        history: Rows of the training's metrics.
        skipped: Why a field is ``None``.
        nonfinite: How many values of a quantity were NaN or infinite (it is then ``None``).
    """

    capabilities: Capabilities
    settings: Mapping[str, object]
    x: Float[Tensor, "n *X"]
    x_train: Float[Tensor, "m *X"] | None = None
    log_px: Estimate | None = None
    elbo: Estimate | None = None
    reconstruction: Estimate | None = None
    kl: Estimate | None = None
    prior_sampling: Estimate | None = None
    bound_gap: Estimate | None = None
    surgery: ElboSurgery | None = None
    unit_kl: Estimate | None = None
    active_units: Estimate | None = None
    zeroing: Estimate | None = None
    implied_kl_weight: Estimate | None = None
    posterior_means: Float[Tensor, "n d"] | None = None
    train_elbo: Estimate | None = None
    train_log_px: Estimate | None = None
    scale: ImpliedScale | None = None
    reconstructions: Tensor | None = None
    prior_samples: Tensor | None = None
    bounds_by_samples: Mapping[int, Estimate] | None = None
    log_likelihood: LogLikelihood | None = None
    annealed: Int64[Tensor, " a"] | None = None
    inference_gap: InferenceGap | None = None
    optimised: Int64[Tensor, " o"] | None = None
    local_posteriors: Sequence[LocalPosterior] | None = None
    traversals: LatentTraversals | None = None
    interpolations: LatentInterpolations | None = None
    manifold: LatentManifold | None = None
    marginal_kl_comparison: MarginalKLComparison | None = None
    fitted_prior: FittedPriorModel | None = None
    fitted_prior_elbo: tuple[Estimate, Estimate] | None = None
    fitted_prior_samples: Tensor | None = None
    low_posterior: LowSampleAnalysis | None = None
    sample_quality: SampleQuality | None = None
    sample_quality_gap: SampleQualityGap | None = None
    discriminator_kl: DiscriminatorKL | None = None
    history: Sequence[Mapping[str, float]] = ()
    skipped: Mapping[str, str] = field(default_factory=dict)
    nonfinite: Mapping[str, int] = field(default_factory=dict)
