"""Objectives: functions ``(model, x, …) -> Bound``, and the same with their settings bound.

``value`` is reported, ``loss`` minimised.
"""

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
from .elbo import (
    ELBO,
    AnnealedEntropy,
    BetaELBO,
    FreeBits,
    annealed_entropy,
    beta_elbo,
    elbo,
    elbo_analytic_kl,
    free_bits,
)
from .gradient_estimators import (
    DReG,
    ScoreFunction,
    StickingTheLanding,
    WakePhase,
    dreg,
    score_function,
    sticking_the_landing,
    wake_phase,
)
from .importance_weighted import CIWAE, IWAE, MIWAE, PIWAE, ciwae, iwae, miwae, piwae
from .kl_weight import (
    KLWeight,
    Reconstructs,
    Reduction,
    implied_variance,
    kl_weighted,
    reconstruction,
)
from .schedules import cyclical, entropy_annealing, linear_warm_up
from .settings import Objective, known_objectives, objective
from .total_correlation import (
    BetaTCVAE,
    MinibatchEstimator,
    MinibatchSurgery,
    beta_tcvae,
    minibatch_surgery,
    minibatch_weights,
)

__all__ = [
    "CIWAE",
    "ELBO",
    "IWAE",
    "MIWAE",
    "PIWAE",
    "AnnealedEntropy",
    "BetaELBO",
    "BetaTCVAE",
    "DReG",
    "FreeBits",
    "KLWeight",
    "MinibatchEstimator",
    "MinibatchSurgery",
    "Objective",
    "Reconstructs",
    "Reduction",
    "ScoreFunction",
    "StickingTheLanding",
    "WakePhase",
    "annealed_entropy",
    "beta_elbo",
    "beta_tcvae",
    "ciwae",
    "cyclical",
    "discriminator_loss",
    "dreg",
    "elbo",
    "elbo_analytic_kl",
    "entropy_annealing",
    "free_bits",
    "gradient_penalty",
    "implied_variance",
    "iwae",
    "kl_weighted",
    "known_objectives",
    "linear_warm_up",
    "maximum_mean_discrepancy",
    "minibatch_surgery",
    "minibatch_weights",
    "miwae",
    "non_saturating_loss",
    "objective",
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
