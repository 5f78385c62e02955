"""The vocabulary that everything speaks: a model, its log-weights, an estimate, a finding."""

from .blocks import (
    Grid,
    Pieces,
    Streams,
    blocks,
    decode_in_pieces,
    memory_budget,
    rows_in_memory,
    values_per_sample,
)
from .capabilities import Capabilities, family, is_in_support
from .contract import check_model
from .errors import ContractError, InputError
from .estimate import (
    SEVERITIES,
    Axis,
    Estimate,
    Finding,
    Severity,
    Side,
    data_id,
    paired_difference,
    standard_error,
)
from .implicit import ImplicitGenerator, PointMass, Sampled, as_generative, generated, is_implicit
from .model import GenerativeModel, LatentVariableModel, evaluating, given, modules_of, placed_like
from .parameters import Bound, reached_parameters, split_parameters
from .random import next_stream, seeded
from .weights import (
    ParetoSmoothed,
    effective_sample_size,
    half_means,
    log_joint,
    log_mean_exp,
    log_mean_exp_stderr,
    log_weights,
    pareto_smoothed,
    sample_posterior,
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
    "Grid",
    "ImplicitGenerator",
    "InputError",
    "LatentVariableModel",
    "ParetoSmoothed",
    "Pieces",
    "PointMass",
    "Sampled",
    "Severity",
    "Side",
    "Streams",
    "as_generative",
    "blocks",
    "check_model",
    "data_id",
    "decode_in_pieces",
    "effective_sample_size",
    "evaluating",
    "family",
    "generated",
    "given",
    "half_means",
    "is_implicit",
    "is_in_support",
    "log_joint",
    "log_mean_exp",
    "log_mean_exp_stderr",
    "log_weights",
    "memory_budget",
    "modules_of",
    "next_stream",
    "paired_difference",
    "pareto_smoothed",
    "placed_like",
    "reached_parameters",
    "rows_in_memory",
    "sample_posterior",
    "seeded",
    "split_parameters",
    "standard_error",
    "values_per_sample",
]
