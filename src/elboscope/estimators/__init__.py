"""Estimators: functions from a model and data to numbers that carry their doubt."""

from .aggregate_posterior import log_aggregate_posterior, log_marginal_posteriors
from .annealed import annealed_importance_sampling, reverse_annealed_importance_sampling
from .bidirectional import Sandwich, bidirectional_monte_carlo
from .bounds_by_samples import importance_weighted_bounds, sample_ladder
from .certificate import Certificate
from .classifier_scores import inception_score, mode_kl, modes_covered
from .convergence import Convergence
from .decoder_use import implied_variance, zeroing_effect
from .density_kl import marginal_kl_by_density
from .diversity import ms_ssim, ms_ssim_diversity
from .fitted_prior import FittedPriorModel, fit_prior
from .frechet import feature_frechet_distance, frechet_distance
from .gradient_result import BlockSNR, GradientSNR
from .gradient_snr import at_budget, gradient_snr, snr_over_checkpoints
from .grid_density import GridPosterior
from .grid_posterior import grid_posterior
from .held_out_kl import held_out_marginal_kl
from .implied_kl_weight import implied_kl_weight
from .importance import importance_sampling, prior_sampling
from .independent_critic import CriticTraining, WassersteinCritic, wasserstein_critic
from .inference_gap import inference_gap
from .inference_gap_result import Generalisation, InferenceGap, UnpairedDifference
from .latent_interpolations import LatentInterpolations, latent_interpolations
from .latent_manifold import LatentManifold, latent_manifold
from .latent_traversals import LatentTraversals, latent_traversals
from .local_posteriors import LocalPosterior, PicturedDensity, local_posteriors
from .log_likelihood import LogLikelihood, log_likelihood
from .low_posterior import LatentSamples, LowPosteriorSamples, low_posterior_samples
from .low_posterior_analysis import LowSampleAnalysis, Separation, auroc, examine_low_samples
from .lower_bound import evidence_lower_bound, reconstruction
from .marginal_kl import marginal_kl
from .marginal_kl_comparison import MarginalKLComparison, compare_marginal_kl
from .marginal_kl_disagreements import Disagreement, marginal_kl_disagreements
from .mutual_information import mutual_information
from .neighbours import NeighbourMetrics, expected_coverage, neighbour_metrics
from .optimal_posterior import OptimalPosterior, optimal_posterior
from .own_discriminator import DiscriminatorKL, discriminator_kl
from .posteriors import (
    DiagonalPosteriors,
    FullPosteriors,
    OtherPosteriors,
    Posteriors,
    encode_posteriors,
)
from .ratio_classifier import RatioClassifier
from .ratio_kl import DensityRatioKL, marginal_kl_by_ratio
from .refine import RefinedModel, refine
from .sample_gap import sample_quality_gap
from .sample_quality_result import SampleQuality, SampleQualityGap
from .sample_scores import sample_quality
from .samplers import ModelSampler, reconstructions_of, sampler_of
from .surgery import ElboSurgery, elbo_surgery
from .units import active_units, posterior_variance, unit_kl
from .widened import widened_importance_sampling

__all__ = [
    "BlockSNR",
    "Certificate",
    "Convergence",
    "CriticTraining",
    "DensityRatioKL",
    "DiagonalPosteriors",
    "Disagreement",
    "DiscriminatorKL",
    "ElboSurgery",
    "FittedPriorModel",
    "FullPosteriors",
    "Generalisation",
    "GradientSNR",
    "GridPosterior",
    "InferenceGap",
    "LatentInterpolations",
    "LatentManifold",
    "LatentSamples",
    "LatentTraversals",
    "LocalPosterior",
    "LogLikelihood",
    "LowPosteriorSamples",
    "LowSampleAnalysis",
    "MarginalKLComparison",
    "ModelSampler",
    "NeighbourMetrics",
    "OptimalPosterior",
    "OtherPosteriors",
    "PicturedDensity",
    "Posteriors",
    "RatioClassifier",
    "RefinedModel",
    "SampleQuality",
    "SampleQualityGap",
    "Sandwich",
    "Separation",
    "UnpairedDifference",
    "WassersteinCritic",
    "active_units",
    "annealed_importance_sampling",
    "at_budget",
    "auroc",
    "bidirectional_monte_carlo",
    "compare_marginal_kl",
    "discriminator_kl",
    "elbo_surgery",
    "encode_posteriors",
    "evidence_lower_bound",
    "examine_low_samples",
    "expected_coverage",
    "feature_frechet_distance",
    "fit_prior",
    "frechet_distance",
    "gradient_snr",
    "grid_posterior",
    "held_out_marginal_kl",
    "implied_kl_weight",
    "implied_variance",
    "importance_sampling",
    "importance_weighted_bounds",
    "inception_score",
    "inference_gap",
    "latent_interpolations",
    "latent_manifold",
    "latent_traversals",
    "local_posteriors",
    "log_aggregate_posterior",
    "log_likelihood",
    "log_marginal_posteriors",
    "low_posterior_samples",
    "marginal_kl",
    "marginal_kl_by_density",
    "marginal_kl_by_ratio",
    "marginal_kl_disagreements",
    "mode_kl",
    "modes_covered",
    "ms_ssim",
    "ms_ssim_diversity",
    "mutual_information",
    "neighbour_metrics",
    "optimal_posterior",
    "posterior_variance",
    "prior_sampling",
    "reconstruction",
    "reconstructions_of",
    "refine",
    "reverse_annealed_importance_sampling",
    "sample_ladder",
    "sample_quality",
    "sample_quality_gap",
    "sampler_of",
    "snr_over_checkpoints",
    "unit_kl",
    "wasserstein_critic",
    "widened_importance_sampling",
    "zeroing_effect",
]
