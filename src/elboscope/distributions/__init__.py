"""Distributions: likelihoods of images and approximate posteriors. All densities in nats."""

from .auxiliary import AuxiliaryFlow, AuxiliaryPosterior, ImplicitPosterior
from .bernoulli import (
    bernoulli,
    bernoulli_log_prob,
    continuous_bernoulli,
    continuous_bernoulli_log_prob,
)
from .composed import Chained, GaussianMixture, detached
from .flows import (
    ConditionalFlow,
    FlowPosterior,
    coupling_flow,
    inverse_autoregressive_flow,
    masked_autoregressive_flow,
)
from .levels import CategoricalLevels, DequantizedNormal, DiscretisedLogistic, QuantizedNormal
from .likelihoods import (
    BernoulliLikelihood,
    CategoricalLikelihood,
    ContinuousBernoulliLikelihood,
    DequantizedNormalLikelihood,
    DiscretisedLogisticLikelihood,
    GaussianLikelihood,
    LaplaceLikelihood,
    QuantizedNormalLikelihood,
    Scale,
)
from .planar import PlanarPosterior
from .posteriors import (
    LOG_VARIANCE_RANGE,
    diagonal_gaussian,
    full_covariance_gaussian,
    standard_normal,
)

__all__ = [
    "LOG_VARIANCE_RANGE",
    "AuxiliaryFlow",
    "AuxiliaryPosterior",
    "BernoulliLikelihood",
    "CategoricalLevels",
    "CategoricalLikelihood",
    "Chained",
    "ConditionalFlow",
    "ContinuousBernoulliLikelihood",
    "DequantizedNormal",
    "DequantizedNormalLikelihood",
    "DiscretisedLogistic",
    "DiscretisedLogisticLikelihood",
    "FlowPosterior",
    "GaussianLikelihood",
    "GaussianMixture",
    "ImplicitPosterior",
    "LaplaceLikelihood",
    "PlanarPosterior",
    "QuantizedNormal",
    "QuantizedNormalLikelihood",
    "Scale",
    "bernoulli",
    "bernoulli_log_prob",
    "continuous_bernoulli",
    "continuous_bernoulli_log_prob",
    "coupling_flow",
    "detached",
    "diagonal_gaussian",
    "full_covariance_gaussian",
    "inverse_autoregressive_flow",
    "masked_autoregressive_flow",
    "standard_normal",
]
