"""The marginal KL of several models: its interval, the mixture and the held-out lower bound."""

from __future__ import annotations

__all__ = ["plot_marginal_kls"]

from collections.abc import Mapping

from elboscope.plots.style import BLUE, FAINT, GREEN, GREY, INK, Figure, blank, legend_above

from .aggregate_values import AggregateValues

ERRORS = 2.0
WIDTH, ROW, MARGIN = 620, 30, 100


def plot_marginal_kls(found: Mapping[str, AggregateValues]) -> Figure:
    """Returns the figure, a line a model; bars are two errors.

    Args:
        found: By what is written beside the line, from top to bottom.
    """
    figure, axes = blank(WIDTH, MARGIN + ROW * len(found))
    for row, values in enumerate(found.values()):
        first = row == 0
        low, high = values.interval
        axes.barh(
            row, high - low, left=low, height=0.5, color=FAINT, zorder=1,
            label="[average KL − log N, average KL]" if first else None,
        )  # fmt: skip
        mixture, bound = values.marginal, values.held_out.mean().item()
        axes.errorbar(
            mixture.value, row, xerr=ERRORS * mixture.error, color=BLUE, marker="o", ms=5,
            linestyle="", label="mixture, KL(q_N‖p)" if first else None,
        )  # fmt: skip
        axes.errorbar(
            bound, row, xerr=ERRORS * values.held_out_error.item(), color=GREEN, marker=">", ms=5,
            linestyle="", label="held-out lower bound of KL(q‖p)" if first else None,
        )  # fmt: skip
    axes.axvline(0, color=GREY, linewidth=0.8)
    axes.set_yticks(range(len(found)), list(found))
    axes.invert_yaxis()
    axes.tick_params(axis="y", length=0, labelcolor=INK, labelsize=10)
    axes.grid(axis="y", visible=False)
    axes.set_xlabel("nats")
    legend_above(figure, axes, columns=1)
    return figure
