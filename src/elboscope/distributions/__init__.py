"""Distributions: likelihoods of images and approximate posteriors. All densities in nats."""

from .bernoulli import (
    bernoulli,
    bernoulli_log_prob,
    continuous_bernoulli,
    continuous_bernoulli_log_prob,
)
from .likelihoods import (
    BernoulliLikelihood,
    ContinuousBernoulliLikelihood,
    GaussianLikelihood,
    Scale,
)
from .posteriors import LOG_VARIANCE_RANGE, diagonal_gaussian, standard_normal

__all__ = [
    "LOG_VARIANCE_RANGE",
    "BernoulliLikelihood",
    "ContinuousBernoulliLikelihood",
    "GaussianLikelihood",
    "Scale",
    "bernoulli",
    "bernoulli_log_prob",
    "continuous_bernoulli",
    "continuous_bernoulli_log_prob",
    "diagonal_gaussian",
    "standard_normal",
]
