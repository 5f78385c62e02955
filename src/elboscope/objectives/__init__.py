"""Objectives: functions ``(model, x, …) -> Bound``; ``value`` is reported, ``loss`` minimised."""

from .adversarial import (
    discriminator_loss,
    gradient_penalty,
    maximum_mean_discrepancy,
    non_saturating_loss,
    ratio_accuracy,
    reverse_kl_loss,
    saturating_loss,
    wasserstein_critic_loss,
)
from .elbo import annealed_entropy, beta_elbo, elbo, elbo_analytic_kl, free_bits
from .gradient_estimators import dreg, score_function, sticking_the_landing, wake_phase
from .importance_weighted import ciwae, iwae, miwae, piwae
from .kl_weight import Reconstructs, Reduction, implied_variance, kl_weighted, reconstruction
from .total_correlation import (
    MinibatchEstimator,
    MinibatchSurgery,
    beta_tcvae,
    minibatch_surgery,
    minibatch_weights,
)

__all__ = [
    "MinibatchEstimator",
    "MinibatchSurgery",
    "Reconstructs",
    "Reduction",
    "annealed_entropy",
    "beta_elbo",
    "beta_tcvae",
    "ciwae",
    "discriminator_loss",
    "dreg",
    "elbo",
    "elbo_analytic_kl",
    "free_bits",
    "gradient_penalty",
    "implied_variance",
    "iwae",
    "kl_weighted",
    "maximum_mean_discrepancy",
    "minibatch_surgery",
    "minibatch_weights",
    "miwae",
    "non_saturating_loss",
    "piwae",
    "ratio_accuracy",
    "reconstruction",
    "reverse_kl_loss",
    "saturating_loss",
    "score_function",
    "sticking_the_landing",
    "wake_phase",
    "wasserstein_critic_loss",
]
