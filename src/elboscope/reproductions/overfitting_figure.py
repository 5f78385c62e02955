"""Gaps of training and of held-out images while a model is trained: a panel a model."""

from __future__ import annotations

__all__ = ["plot_gaps_over_training"]

from collections.abc import Mapping

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from elboscope.plots.style import BLUE, GREY, INK, ORANGE

from .gaps import Gaps

PARTS = (("approximation", BLUE), ("amortisation", ORANGE))
SPLITS = (("train", "-", "o"), ("validation", "--", "s"))
ERRORS = 2.0
WIDTH, HEIGHT = 2.9, 2.9  # inches, of a panel


def plot_gaps_over_training(found: Mapping[str, Mapping[int, Mapping[str, Gaps]]]) -> Figure:
    """Returns the figure; bars are two standard errors over the images.

    Args:
        found: By model, epoch, and split ("train" or "validation").
    """
    figure = Figure(figsize=(WIDTH * len(found), HEIGHT), layout="constrained")
    panels = figure.subplots(1, len(found), sharey=True, squeeze=False)[0]
    for axes, (name, epochs) in zip(panels, found.items(), strict=True):
        _draw(axes, epochs)
        axes.set_title(name, fontsize=9, color=INK)
        axes.set_xlabel("epoch", fontsize=8)
    panels[0].set_ylabel("nats", fontsize=8)
    panels[0].legend(fontsize=7, frameon=False)
    return figure


def _draw(axes: Axes, epochs: Mapping[int, Mapping[str, Gaps]]) -> None:
    for part, colour in PARTS:
        for split, line, marker in SPLITS:
            values = [getattr(splits[split], part) for splits in epochs.values()]
            means = [v.mean().item() for v in values]
            bars = [ERRORS * (v.std() / len(v) ** 0.5).item() for v in values]
            axes.errorbar(list(epochs), means, bars, label=f"{part}, {split}", color=colour,
                          linestyle=line, marker=marker, markersize=3, linewidth=1.2)  # fmt: skip
    axes.set_xscale("log")
    axes.tick_params(labelsize=7, colors=GREY)
    axes.spines[["top", "right"]].set_visible(False)
