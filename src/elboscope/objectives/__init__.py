"""Objectives: functions ``(model, x, …) -> Bound``; ``value`` is reported, ``loss`` minimised."""

from .elbo import annealed_entropy, beta_elbo, elbo, elbo_analytic_kl, free_bits
from .gradient_estimators import dreg, score_function, sticking_the_landing, wake_phase
from .importance_weighted import ciwae, iwae, miwae, piwae
from .kl_weight import Reduction, implied_variance, kl_weighted
from .minibatch_aggregate import (
    MinibatchEstimator,
    MinibatchSurgery,
    minibatch_surgery,
    minibatch_weights,
)
from .reconstruction import Reconstructs, reconstruction
from .total_correlation import beta_tcvae

__all__ = [
    "MinibatchEstimator",
    "MinibatchSurgery",
    "Reconstructs",
    "Reduction",
    "annealed_entropy",
    "beta_elbo",
    "beta_tcvae",
    "ciwae",
    "dreg",
    "elbo",
    "elbo_analytic_kl",
    "free_bits",
    "implied_variance",
    "iwae",
    "kl_weighted",
    "minibatch_surgery",
    "minibatch_weights",
    "miwae",
    "piwae",
    "reconstruction",
    "score_function",
    "sticking_the_landing",
    "wake_phase",
]
