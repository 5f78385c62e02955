"""Are the latents used, and does q(z) match the prior? KL, units, ELBO surgery, marginal KL."""

from .aggregate import log_aggregate_posterior, log_marginal_posteriors
from .comparison import (
    Disagreement,
    MarginalKLComparison,
    compare_marginal_kl,
    marginal_kl_disagreements,
)
from .decoder_use import implied_kl_weight, implied_variance, zeroing_effect
from .discriminator import DiscriminatorKL, discriminator_kl
from .fitted_prior import FittedPriorModel, fit_prior
from .held_out import held_out_marginal_kl
from .low_posterior import LatentSamples, LowPosteriorSamples, low_posterior_samples
from .low_posterior_analysis import LowSampleAnalysis, Separation, auroc, examine_low_samples
from .marginal_kl import marginal_kl
from .monitor import Monitor
from .paths import LatentInterpolations, LatentTraversals, latent_interpolations, latent_traversals
from .pictures import LatentManifold, latent_manifold
from .ratio import RatioClassifier
from .surgery import ElboSurgery, elbo_surgery, mutual_information
from .units import active_units, posterior_variance, unit_kl

__all__ = [
    "Disagreement",
    "DiscriminatorKL",
    "ElboSurgery",
    "FittedPriorModel",
    "LatentInterpolations",
    "LatentManifold",
    "LatentSamples",
    "LatentTraversals",
    "LowPosteriorSamples",
    "LowSampleAnalysis",
    "MarginalKLComparison",
    "Monitor",
    "RatioClassifier",
    "Separation",
    "active_units",
    "auroc",
    "compare_marginal_kl",
    "discriminator_kl",
    "elbo_surgery",
    "examine_low_samples",
    "fit_prior",
    "held_out_marginal_kl",
    "implied_kl_weight",
    "implied_variance",
    "latent_interpolations",
    "latent_manifold",
    "latent_traversals",
    "log_aggregate_posterior",
    "log_marginal_posteriors",
    "low_posterior_samples",
    "marginal_kl",
    "marginal_kl_disagreements",
    "mutual_information",
    "posterior_variance",
    "unit_kl",
    "zeroing_effect",
]
