"""Plots, data first: ``…_data`` returns what would be drawn, ``plot_…`` draws it.

matplotlib and bokeh are imported here and nowhere else, and only when a plot is asked for.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .gradients import (
        SnrCurve,
        SnrCurves,
        gradient_snr_data,
        gradient_snr_over_training_data,
        plot_gradient_snr,
    )
    from .inference import Waterfall, WaterfallSteps, plot_waterfall, waterfall_data
    from .latent_map import LatentMap, LatentMapHtml, bokeh_code, latent_map_data, latent_map_html
    from .likelihood import (
        BoundBySamples,
        LogLikelihoods,
        ParetoK,
        SandwichBounds,
        bound_by_samples_data,
        log_likelihood_data,
        pareto_k_data,
        plot_bound_by_samples,
        plot_log_likelihood,
        plot_pareto_k,
        plot_sandwich,
        sandwich_data,
    )
    from .low_posterior import (
        LowPosteriorPlot,
        low_posterior_data,
        plot_low_posterior,
        plot_low_posterior_places,
        plot_low_posterior_scores,
    )
    from .manifold import UNCOVERED, ManifoldTiles, manifold_data, plot_manifold
    from .paths import (
        InterpolationRows,
        TraversalRows,
        interpolations_data,
        plot_interpolations,
        plot_traversals,
        traversals_data,
    )
    from .posteriors import (
        LocalPanel,
        LocalPosteriors,
        local_posteriors_data,
        plot_local_posteriors,
    )
    from .samples import ImageRange, as_images, image_layout, png_uri, value_range
    from .style import Figure, to_svg
    from .surgery import (
        KLEstimate,
        MarginalKLPlot,
        SurgeryBars,
        marginal_kl_data,
        plot_marginal_kl,
        plot_surgery,
        surgery_data,
    )
    from .training import (
        GameCurves,
        TrainingCurves,
        game_curves_data,
        plot_game_curves,
        plot_training_curves,
        training_curves_data,
    )
    from .units import (
        ActiveUnits,
        UnitKL,
        active_units_data,
        plot_active_units,
        plot_unit_kl,
        unit_kl_data,
    )

_HOME = {
    "ActiveUnits": "units",
    "BoundBySamples": "likelihood",
    "Figure": "style",
    "ImageRange": "samples",
    "InterpolationRows": "paths",
    "KLEstimate": "surgery",
    "LatentMap": "latent_map",
    "LatentMapHtml": "latent_map",
    "LocalPanel": "posteriors",
    "LocalPosteriors": "posteriors",
    "LogLikelihoods": "likelihood",
    "LowPosteriorPlot": "low_posterior",
    "ManifoldTiles": "manifold",
    "MarginalKLPlot": "surgery",
    "ParetoK": "likelihood",
    "SandwichBounds": "likelihood",
    "SnrCurve": "gradients",
    "SnrCurves": "gradients",
    "SurgeryBars": "surgery",
    "GameCurves": "training",
    "game_curves_data": "training",
    "plot_game_curves": "training",
    "TrainingCurves": "training",
    "TraversalRows": "paths",
    "UNCOVERED": "manifold",
    "UnitKL": "units",
    "Waterfall": "inference",
    "WaterfallSteps": "inference",
    "active_units_data": "units",
    "as_images": "samples",
    "bokeh_code": "latent_map",
    "bound_by_samples_data": "likelihood",
    "gradient_snr_data": "gradients",
    "gradient_snr_over_training_data": "gradients",
    "image_layout": "samples",
    "interpolations_data": "paths",
    "latent_map_data": "latent_map",
    "latent_map_html": "latent_map",
    "local_posteriors_data": "posteriors",
    "log_likelihood_data": "likelihood",
    "low_posterior_data": "low_posterior",
    "manifold_data": "manifold",
    "marginal_kl_data": "surgery",
    "pareto_k_data": "likelihood",
    "plot_active_units": "units",
    "plot_bound_by_samples": "likelihood",
    "plot_gradient_snr": "gradients",
    "plot_interpolations": "paths",
    "plot_local_posteriors": "posteriors",
    "plot_log_likelihood": "likelihood",
    "plot_low_posterior": "low_posterior",
    "plot_low_posterior_places": "low_posterior",
    "plot_low_posterior_scores": "low_posterior",
    "plot_manifold": "manifold",
    "plot_marginal_kl": "surgery",
    "plot_pareto_k": "likelihood",
    "plot_sandwich": "likelihood",
    "plot_surgery": "surgery",
    "plot_training_curves": "training",
    "plot_traversals": "paths",
    "plot_unit_kl": "units",
    "plot_waterfall": "inference",
    "png_uri": "samples",
    "sandwich_data": "likelihood",
    "surgery_data": "surgery",
    "to_svg": "style",
    "training_curves_data": "training",
    "traversals_data": "paths",
    "unit_kl_data": "units",
    "value_range": "samples",
    "waterfall_data": "inference",
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
