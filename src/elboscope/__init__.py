"""Find out what is wrong with your VAE, in nats.

elboscope trains latent-variable models and diagnoses any of them: its own, your ``nn.Module``s,
and those of other libraries. ``import elboscope as es`` is lazy: names are imported on first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOME = {
    "Bound": "core",
    "Capabilities": "core",
    "ContractError": "core",
    "Estimate": "core",
    "Finding": "core",
    "GenerativeModel": "core",
    "InputError": "core",
    "LatentVariableModel": "core",
    "check_model": "core",
    "log_weights": "core",
    "paired_difference": "core",
    "sample_posterior": "core",
    "seeded": "core",
    "split_parameters": "core",
    "VAE": "models",
    "from_modules": "models",
    "ElboSurgery": "estimators",
    "Certificate": "estimators",
    "Convergence": "estimators",
    "CriticTraining": "estimators",
    "InferenceGap": "estimators",
    "LogLikelihood": "estimators",
    "LowPosteriorSamples": "estimators",
    "LowSampleAnalysis": "estimators",
    "MarginalKLComparison": "estimators",
    "OptimalPosterior": "estimators",
    "RatioClassifier": "estimators",
    "RefinedModel": "estimators",
    "SampleQuality": "estimators",
    "SampleQualityGap": "estimators",
    "Sandwich": "estimators",
    "WassersteinCritic": "estimators",
    "active_units": "estimators",
    "annealed_importance_sampling": "estimators",
    "bidirectional_monte_carlo": "estimators",
    "compare_marginal_kl": "estimators",
    "discriminator_kl": "estimators",
    "elbo_surgery": "estimators",
    "evidence_lower_bound": "estimators",
    "examine_low_samples": "estimators",
    "feature_frechet_distance": "estimators",
    "fit_prior": "estimators",
    "gradient_snr": "estimators",
    "grid_posterior": "estimators",
    "implied_kl_weight": "estimators",
    "importance_sampling": "estimators",
    "importance_weighted_bounds": "estimators",
    "inception_score": "estimators",
    "inference_gap": "estimators",
    "latent_interpolations": "estimators",
    "latent_manifold": "estimators",
    "latent_traversals": "estimators",
    "local_posteriors": "estimators",
    "log_likelihood": "estimators",
    "low_posterior_samples": "estimators",
    "marginal_kl": "estimators",
    "marginal_kl_by_density": "estimators",
    "marginal_kl_by_ratio": "estimators",
    "mode_kl": "estimators",
    "modes_covered": "estimators",
    "ms_ssim_diversity": "estimators",
    "mutual_information": "estimators",
    "neighbour_metrics": "estimators",
    "optimal_posterior": "estimators",
    "prior_sampling": "estimators",
    "reconstruction": "estimators",
    "reconstructions_of": "estimators",
    "refine": "estimators",
    "reverse_annealed_importance_sampling": "estimators",
    "sample_quality": "estimators",
    "sample_quality_gap": "estimators",
    "sampler_of": "estimators",
    "unit_kl": "estimators",
    "wasserstein_critic": "estimators",
    "widened_importance_sampling": "estimators",
    "zeroing_effect": "estimators",
    "Monitor": "estimators.latents.monitor",
    "TrainingSettings": "training",
    "load_run": "training",
    "train": "training",
    "plot_interpolations": "plots",
    "plot_manifold": "plots",
    "plot_traversals": "plots",
    "Diagnosis": "report",
    "diagnose": "report",
}
_PACKAGES = (
    "classifiers",
    "core",
    "data",
    "diagnostics",
    "distributions",
    "estimators",
    "models",
    "nn",
    "objectives",
    "plots",
    "report",
    "training",
)

__all__ = [*_HOME, *_PACKAGES, "__version__"]

if TYPE_CHECKING:
    from elboscope import (
        classifiers,
        core,
        data,
        diagnostics,
        distributions,
        estimators,
        models,
        nn,
        objectives,
        plots,
        report,
        training,
    )
    from elboscope.core import *
    from elboscope.estimators import *
    from elboscope.estimators.latents.monitor import Monitor
    from elboscope.models import VAE, from_modules
    from elboscope.plots import plot_interpolations, plot_manifold, plot_traversals
    from elboscope.report import Diagnosis, diagnose
    from elboscope.training import TrainingSettings, load_run, train


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(f".{_HOME[name]}", __name__), name)
    if name in _PACKAGES:
        return importlib.import_module(f".{name}", __name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
