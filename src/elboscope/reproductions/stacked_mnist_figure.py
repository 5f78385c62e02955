"""Modes over a training: all samples, and those of which the classifier is sure."""

from __future__ import annotations

__all__ = ["plot_modes"]

from operator import itemgetter

from matplotlib.figure import Figure

from elboscope.plots.style import BLUE, GREEN, GREY, ORANGE, RED, blank, legend_above

from .density_ratio_figure import curve
from .stacked_mnist_claims import Found
from .stacked_mnist_plan import MODELS, StackedPlan

COLOURS = dict(zip(MODELS, (RED, GREEN, BLUE, ORANGE, GREY), strict=True))


def plot_modes(found: Found, plan: StackedPlan) -> Figure:
    """Draws modes of samples against the share of the training that is done; means over seeds.

    Args:
        found: Looks at all runs.
        plan: Says how long each training is.
    """
    figure, axes = blank(520, 300)
    for model, runs in found.items():
        steps = plan.paces[model].steps
        for key, style in (("modes", ":"), ("sure_modes", "-")):
            of = curve(runs, itemgetter(f"samples: {key}"))
            label = model if key == "sure_modes" else None
            axes.plot(of.step / steps, of.mean, style, color=COLOURS[model], lw=1.6, label=label)
    axes.plot([], [], ":", color=GREY, label="sure or not")
    axes.set_xlabel("share of the training")
    axes.set_ylabel("modes met by sure samples")
    axes.set_ylim(bottom=0)
    legend_above(figure, axes, columns=3)
    return figure
