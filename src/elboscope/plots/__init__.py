"""Plots, data first: ``…_data`` returns what would be drawn, ``plot_…`` draws it.

matplotlib and bokeh are imported here and nowhere else, and only when a plot is asked for.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .active_units import ActiveUnits, active_units_data, plot_active_units
    from .bound_by_samples import BoundBySamples, bound_by_samples_data, plot_bound_by_samples
    from .game_curves import GameCurves, game_curves_data, plot_game_curves
    from .gradient_snr import (
        SnrCurve,
        SnrCurves,
        gradient_snr_data,
        gradient_snr_over_training_data,
        plot_gradient_snr,
    )
    from .images import ImageRange, as_images, image_layout, png_uri, value_range
    from .interpolations import InterpolationRows, interpolations_data, plot_interpolations
    from .latent_map import (
        LatentMap,
        LatentMapHtml,
        bokeh_code,
        latent_map_data,
        latent_map_html,
    )
    from .local_posteriors import (
        LocalPanel,
        LocalPosteriors,
        local_posteriors_data,
        plot_local_posteriors,
    )
    from .log_likelihood import LogLikelihoods, log_likelihood_data, plot_log_likelihood
    from .low_posterior import (
        LowPosteriorPlot,
        low_posterior_data,
        plot_low_posterior,
        plot_low_posterior_places,
        plot_low_posterior_scores,
    )
    from .manifold import UNCOVERED, ManifoldTiles, manifold_data, plot_manifold
    from .marginal_kl import KLEstimate, MarginalKLPlot, marginal_kl_data, plot_marginal_kl
    from .pareto_k import ParetoK, pareto_k_data, plot_pareto_k
    from .sandwich import SandwichBounds, plot_sandwich, sandwich_data
    from .style import Figure, to_svg
    from .surgery import SurgeryBars, plot_surgery, surgery_data
    from .training_curves import TrainingCurves, plot_training_curves, training_curves_data
    from .traversals import TraversalRows, plot_traversals, traversals_data
    from .unit_kl import UnitKL, plot_unit_kl, unit_kl_data
    from .waterfall import Waterfall, WaterfallSteps, plot_waterfall, waterfall_data

_HOME = {
    "ActiveUnits": "active_units",
    "BoundBySamples": "bound_by_samples",
    "Figure": "style",
    "ImageRange": "images",
    "InterpolationRows": "interpolations",
    "KLEstimate": "marginal_kl",
    "LatentMap": "latent_map",
    "LatentMapHtml": "latent_map",
    "LocalPanel": "local_posteriors",
    "LocalPosteriors": "local_posteriors",
    "LogLikelihoods": "log_likelihood",
    "LowPosteriorPlot": "low_posterior",
    "ManifoldTiles": "manifold",
    "MarginalKLPlot": "marginal_kl",
    "ParetoK": "pareto_k",
    "SandwichBounds": "sandwich",
    "SnrCurve": "gradient_snr",
    "SnrCurves": "gradient_snr",
    "SurgeryBars": "surgery",
    "GameCurves": "game_curves",
    "game_curves_data": "game_curves",
    "plot_game_curves": "game_curves",
    "TrainingCurves": "training_curves",
    "TraversalRows": "traversals",
    "UNCOVERED": "manifold",
    "UnitKL": "unit_kl",
    "Waterfall": "waterfall",
    "WaterfallSteps": "waterfall",
    "active_units_data": "active_units",
    "as_images": "images",
    "bokeh_code": "latent_map",
    "bound_by_samples_data": "bound_by_samples",
    "gradient_snr_data": "gradient_snr",
    "gradient_snr_over_training_data": "gradient_snr",
    "image_layout": "images",
    "interpolations_data": "interpolations",
    "latent_map_data": "latent_map",
    "latent_map_html": "latent_map",
    "local_posteriors_data": "local_posteriors",
    "log_likelihood_data": "log_likelihood",
    "low_posterior_data": "low_posterior",
    "manifold_data": "manifold",
    "marginal_kl_data": "marginal_kl",
    "pareto_k_data": "pareto_k",
    "plot_active_units": "active_units",
    "plot_bound_by_samples": "bound_by_samples",
    "plot_gradient_snr": "gradient_snr",
    "plot_interpolations": "interpolations",
    "plot_local_posteriors": "local_posteriors",
    "plot_log_likelihood": "log_likelihood",
    "plot_low_posterior": "low_posterior",
    "plot_low_posterior_places": "low_posterior",
    "plot_low_posterior_scores": "low_posterior",
    "plot_manifold": "manifold",
    "plot_marginal_kl": "marginal_kl",
    "plot_pareto_k": "pareto_k",
    "plot_sandwich": "sandwich",
    "plot_surgery": "surgery",
    "plot_training_curves": "training_curves",
    "plot_traversals": "traversals",
    "plot_unit_kl": "unit_kl",
    "plot_waterfall": "waterfall",
    "png_uri": "images",
    "sandwich_data": "sandwich",
    "surgery_data": "surgery",
    "to_svg": "style",
    "training_curves_data": "training_curves",
    "traversals_data": "traversals",
    "unit_kl_data": "unit_kl",
    "value_range": "images",
    "waterfall_data": "waterfall",
}

__all__ = [
    "UNCOVERED",
    "ActiveUnits",
    "BoundBySamples",
    "Figure",
    "GameCurves",
    "ImageRange",
    "InterpolationRows",
    "KLEstimate",
    "LatentMap",
    "LatentMapHtml",
    "LocalPanel",
    "LocalPosteriors",
    "LogLikelihoods",
    "LowPosteriorPlot",
    "ManifoldTiles",
    "MarginalKLPlot",
    "ParetoK",
    "SandwichBounds",
    "SnrCurve",
    "SnrCurves",
    "SurgeryBars",
    "TrainingCurves",
    "TraversalRows",
    "UnitKL",
    "Waterfall",
    "WaterfallSteps",
    "active_units_data",
    "as_images",
    "bokeh_code",
    "bound_by_samples_data",
    "game_curves_data",
    "gradient_snr_data",
    "gradient_snr_over_training_data",
    "image_layout",
    "interpolations_data",
    "latent_map_data",
    "latent_map_html",
    "local_posteriors_data",
    "log_likelihood_data",
    "low_posterior_data",
    "manifold_data",
    "marginal_kl_data",
    "pareto_k_data",
    "plot_active_units",
    "plot_bound_by_samples",
    "plot_game_curves",
    "plot_gradient_snr",
    "plot_interpolations",
    "plot_local_posteriors",
    "plot_log_likelihood",
    "plot_low_posterior",
    "plot_low_posterior_places",
    "plot_low_posterior_scores",
    "plot_manifold",
    "plot_marginal_kl",
    "plot_pareto_k",
    "plot_sandwich",
    "plot_surgery",
    "plot_training_curves",
    "plot_traversals",
    "plot_unit_kl",
    "plot_waterfall",
    "png_uri",
    "sandwich_data",
    "surgery_data",
    "to_svg",
    "training_curves_data",
    "traversals_data",
    "unit_kl_data",
    "value_range",
    "waterfall_data",
]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(f".{_HOME[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
