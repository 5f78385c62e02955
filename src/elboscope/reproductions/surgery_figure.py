"""Where the average KL of each model goes, and how its parts come about over training."""

from __future__ import annotations

__all__ = ["plot_surgeries"]

from collections.abc import Mapping
from typing import Literal

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.container import Container
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from elboscope.plots.style import BLUE, GREEN, GREY, INK, ORANGE, RED

from .surgery_values import Parts

ERRORS = 2.0
WIDTH, HEIGHT = 8.6, 4.2  # inches
MARKERS = "osDv^<>"
STACK = (
    ("information", "information I(n; z)", BLUE),
    ("dimensionwise_kl", "marginal KL, of each dimension", ORANGE),
    ("total_correlation", "marginal KL, total correlation", GREEN),
)
WHOLE = (
    ("information", "information I(n; z)", BLUE),
    ("marginal_kl", "marginal KL, does not split", GREY),
)
CURVES: tuple[tuple[str, str, str, Literal["-", "--"]], ...] = (
    ("information", "I(n; z)", BLUE, "-"),
    ("marginal_kl", "marginal KL", ORANGE, "--"),
)


def plot_surgeries(found: Mapping[str, Mapping[int, Parts]], log_n: float) -> Figure:
    """Returns the figure; error bars are two standard errors.

    Args:
        found: By model and epoch; the last epoch makes the bars.
        log_n: The ceiling of the information.
    """
    figure = Figure(figsize=(WIDTH, HEIGHT), layout="constrained")
    bars, curves = figure.subplots(1, 2)
    _draw_bars(bars, {name: epochs[max(epochs)] for name, epochs in found.items()}, log_n)
    _draw_curves(curves, found, log_n)
    for axes in (bars, curves):
        axes.tick_params(labelsize=7, colors=GREY)
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def _draw_bars(axes: Axes, found: Mapping[str, Parts], log_n: float) -> None:
    for place, parts in enumerate(found.values()):
        bottom, split = 0.0, "total_correlation" in parts and "dimensionwise_kl" in parts
        for part, label, colour in STACK if split else WHOLE:
            value, error = parts[part].tolist()
            axes.bar(place, value, 0.6, bottom, color=colour, label=label)
            bottom += value
            axes.errorbar(place, bottom, ERRORS * error, color=INK, capsize=2, linewidth=0.8)
        if "held_out" in parts:
            value, error = parts["held_out"].tolist()
            axes.errorbar(place + 0.38, value, ERRORS * error, color=RED, marker="_",
                          capsize=2, linewidth=0.8, label="marginal KL, held-out bound",
                          linestyle="none")  # fmt: skip
    axes.axhline(log_n, color=GREY, linewidth=0.8, linestyle=":")
    axes.annotate("log N", (0.0, log_n), xycoords=("axes fraction", "data"), fontsize=7,
                  va="bottom", color=GREY)  # fmt: skip
    axes.set_xticks(range(len(found)), [name.replace(", ", "\n") for name in found])
    axes.set_ylabel("average KL, nats per image", fontsize=8)
    handles, labels = axes.get_legend_handles_labels()
    unique = dict(zip(labels, handles, strict=True))
    _legend(axes, unique)


def _draw_curves(axes: Axes, found: Mapping[str, Mapping[int, Parts]], log_n: float) -> None:
    handles: dict[str, Artist | Container] = {
        label: Line2D([], [], color=colour, linestyle=line) for _, label, colour, line in CURVES
    }
    for (name, epochs), marker in zip(found.items(), MARKERS, strict=False):
        handles[name] = Line2D([], [], color=INK, marker=marker, markersize=3, linestyle="none")
        for part, _, colour, line in CURVES:
            pairs = [parts[part].tolist() for parts in epochs.values()]
            means, bars = [v for v, _ in pairs], [ERRORS * e for _, e in pairs]
            axes.errorbar(list(epochs), means, bars, color=colour, linestyle=line, marker=marker,
                          markersize=3, linewidth=1.0)  # fmt: skip
    axes.axhline(log_n, color=GREY, linewidth=0.8, linestyle=":")
    axes.set_xscale("log", base=2)
    ticks = sorted({epoch for epochs in found.values() for epoch in epochs})
    axes.set_xticks(ticks, [str(epoch) for epoch in ticks], minor=False)
    axes.set_xlabel("epoch", fontsize=8)
    axes.set_ylabel("nats", fontsize=8)
    _legend(axes, handles)


def _legend(axes: Axes, handles: Mapping[str, Artist | Container]) -> None:
    """Above the axes, where it hides nothing."""
    axes.legend(handles.values(), handles.keys(), fontsize=7, frameon=False, ncols=2,
                loc="lower left", bbox_to_anchor=(0.0, 1.0))  # fmt: skip
