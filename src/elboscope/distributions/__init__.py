"""Distributions: likelihoods of images and approximate posteriors. All densities in nats."""

from .bernoulli import (
    bernoulli,
    bernoulli_log_prob,
    continuous_bernoulli,
    continuous_bernoulli_log_prob,
)
from .chained import Chained, detached
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
    "Chained",
    "ContinuousBernoulliLikelihood",
    "GaussianLikelihood",
    "Scale",
    "bernoulli",
    "bernoulli_log_prob",
    "continuous_bernoulli",
    "continuous_bernoulli_log_prob",
    "detached",
    "diagonal_gaussian",
    "standard_normal",
]
