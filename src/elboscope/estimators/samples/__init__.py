"""How good are the samples? Scores against data and beside reconstructions."""

from .classifier import inception_score, mode_kl, modes_covered, ms_ssim, ms_ssim_diversity
from .critic import CriticTraining, WassersteinCritic, wasserstein_critic
from .distances import (
    NeighbourMetrics,
    expected_coverage,
    feature_frechet_distance,
    frechet_distance,
    neighbour_metrics,
)
from .quality import sample_quality, sample_quality_gap
from .result import SampleQuality, SampleQualityGap
from .samplers import ModelSampler, reconstructions_of, sampler_of

__all__ = [
    "CriticTraining",
    "ModelSampler",
    "NeighbourMetrics",
    "SampleQuality",
    "SampleQualityGap",
    "WassersteinCritic",
    "expected_coverage",
    "feature_frechet_distance",
    "frechet_distance",
    "inception_score",
    "mode_kl",
    "modes_covered",
    "ms_ssim",
    "ms_ssim_diversity",
    "neighbour_metrics",
    "reconstructions_of",
    "sample_quality",
    "sample_quality_gap",
    "sampler_of",
    "wasserstein_critic",
]
