"""How likely are the data? log p(x) by sampling and annealing, its bounds, its certificate."""

from .annealed import annealed_importance_sampling, reverse_annealed_importance_sampling
from .bidirectional import Sandwich, bidirectional_monte_carlo
from .bounds import evidence_lower_bound, importance_weighted_bounds, reconstruction, sample_ladder
from .certificate import Certificate
from .importance import importance_sampling, prior_sampling
from .log_likelihood import LogLikelihood, log_likelihood
from .widened import widened_importance_sampling

__all__ = [
    "Certificate",
    "LogLikelihood",
    "Sandwich",
    "annealed_importance_sampling",
    "bidirectional_monte_carlo",
    "evidence_lower_bound",
    "importance_sampling",
    "importance_weighted_bounds",
    "log_likelihood",
    "prior_sampling",
    "reconstruction",
    "reverse_annealed_importance_sampling",
    "sample_ladder",
    "widened_importance_sampling",
]
