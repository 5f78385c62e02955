"""The vocabulary that everything speaks: a model, its log-weights, an estimate, a finding."""

from .capabilities import (
    Capabilities,
    closed_form_kl,
    draw_x,
    family,
    is_in_support,
    mean_of,
)
from .contract import check_model
from .errors import ContractError, InputError
from .estimate import Axis, Estimate, Side, data_id, paired_difference, standard_error
from .finding import SEVERITIES, Finding, Severity
from .implicit import ImplicitGenerator, PointMass, Sampled, as_generative, generated, is_implicit
from .model import GenerativeModel, LatentVariableModel, evaluating, given, modules_of, placed_like
from .parameters import Bound, reached_parameters, split_parameters
from .random import seeded
from .weights import (
    ParetoSmoothed,
    effective_sample_size,
    log_joint,
    log_mean_exp,
    log_mean_exp_stderr,
    log_weights,
    pareto_smoothed,
    sample_posterior,
    values_per_sample,
)

__all__ = [
    "SEVERITIES",
    "Axis",
    "Bound",
    "Capabilities",
    "ContractError",
    "Estimate",
    "Finding",
    "GenerativeModel",
    "ImplicitGenerator",
    "InputError",
    "LatentVariableModel",
    "ParetoSmoothed",
    "PointMass",
    "Sampled",
    "Severity",
    "Side",
    "as_generative",
    "check_model",
    "closed_form_kl",
    "data_id",
    "draw_x",
    "effective_sample_size",
    "evaluating",
    "family",
    "generated",
    "given",
    "is_implicit",
    "is_in_support",
    "log_joint",
    "log_mean_exp",
    "log_mean_exp_stderr",
    "log_weights",
    "mean_of",
    "modules_of",
    "paired_difference",
    "pareto_smoothed",
    "placed_like",
    "reached_parameters",
    "sample_posterior",
    "seeded",
    "split_parameters",
    "standard_error",
    "values_per_sample",
]
