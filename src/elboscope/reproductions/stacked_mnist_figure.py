"""Modes over a training, as a share of those that as many perfect samples would cover."""

from __future__ import annotations

__all__ = ["plot_modes"]

from functools import partial

from matplotlib.figure import Figure

from elboscope.plots.style import BLUE, GREEN, GREY, ORANGE, RED, blank, legend_above

from .density_ratio_figure import curve
from .density_ratio_runs import Look
from .stacked_mnist_claims import SHARE, Found
from .stacked_mnist_plan import MODELS, StackedPlan
from .stacked_mnist_scores import perfect_modes

COLOURS = dict(zip(MODELS, (RED, GREEN, BLUE, ORANGE, GREY), strict=True))


def plot_modes(found: Found, plan: StackedPlan, classes: int) -> Figure:
    """Draws modes of samples against the share of the training that is done; means over seeds.

    Args:
        found: Looks at all runs.
        plan: Says how long each training is.
        classes: Modes there are.
    """
    figure, axes = blank(520, 300)
    for model, runs in found.items():
        steps = plan.paces[model].steps
        for key, style in (("modes", ":"), ("sure_modes", "-")):
            of = curve(runs, partial(_share, f"samples: {key}", classes))
            label = model if key == "sure_modes" else None
            axes.plot(of.step / steps, of.mean, style, color=COLOURS[model], lw=1.6, label=label)
    axes.plot([], [], ":", color=GREY, label="of all samples, sure or not")
    axes.set_xlabel("share of the training")
    axes.axhline(SHARE, color=GREY, lw=1)
    axes.set_ylabel("modes, share of perfect samples' ")
    axes.set_ylim(0, 1)
    legend_above(figure, axes, columns=3)
    return figure


def _share(key: str, classes: int, row: Look) -> float:
    return row[key] / perfect_modes(int(row["num"]), classes)
