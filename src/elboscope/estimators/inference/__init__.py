"""Why does inference lose nats? The best posterior of each datapoint, and the gap to it."""

from .convergence import Convergence
from .gap import inference_gap
from .gap_result import Generalisation, InferenceGap, UnpairedDifference
from .grid import GridPosterior, grid_posterior
from .local_posteriors import LocalPosterior, PicturedDensity, local_posteriors
from .optimal_posterior import OptimalPosterior, optimal_posterior
from .refine import RefinedModel, refine

__all__ = [
    "Convergence",
    "Generalisation",
    "GridPosterior",
    "InferenceGap",
    "LocalPosterior",
    "OptimalPosterior",
    "PicturedDensity",
    "RefinedModel",
    "UnpairedDifference",
    "grid_posterior",
    "inference_gap",
    "local_posteriors",
    "optimal_posterior",
    "refine",
]
