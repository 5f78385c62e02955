"""Estimates of one marginal KL side by side, and what classifiers make of it."""

from __future__ import annotations

__all__ = ["plot_classifiers", "plot_estimates"]

from collections.abc import Mapping

from matplotlib.axes import Axes

from elboscope.plots.style import BLUE, FAINT, GREEN, INK, ORANGE, RED, Figure, blank

from .marginal_kl_estimators_claims import Found
from .marginal_kl_parts import Estimated, Target

ERRORS = 2.0
WIDTH, ROW, MARGIN = 520, 26, 90
NAMES = {
    "mixture": "mixture of all posteriors",
    "maf": "masked autoregressive flow",
    "lstm": "autoregressive LSTM",
}


def plot_estimates(target: Target, found: Found, stopped: str) -> Figure:
    """Returns the figure of one model; bars are two errors, lower bounds point to the right.

    Args:
        target: The model.
        found: Estimates by name.
        stopped: The classifier whose ratio and bounds are shown.
    """
    shown = {"mixture": found["mixture"]}
    shown |= {
        label: found[f"{key}, {stopped}"]
        for key, label in (
            ("ratio", "classifier"),
            ("donsker_varadhan", "Donsker–Varadhan"),
            ("nwj", "NWJ"),
        )
    }
    shown |= {n: e for n, e in found.items() if n.startswith("gmm") or n in ("maf", "lstm")}
    figure, axes = blank(WIDTH, MARGIN + ROW * len(shown))
    if target.truth is not None:
        axes.axvline(target.truth, color=INK, linewidth=1.2, linestyle="--")
    _draw(axes, {NAMES.get(name, name): e for name, e in shown.items()})
    truth = "" if target.truth is None else "; dashed: closed form"
    axes.set_title(f"{target.label}{truth}", loc="left", fontsize=11, color=INK)
    axes.set_xlabel("KL(q(z)‖p(z)), nats")
    return figure


def plot_classifiers(found: Found) -> Figure:
    """Returns the figure of the classifiers' estimates, on a logarithmic axis.

    Args:
        found: Estimates of one VAE, by name.
    """
    shown = {"mixture of all posteriors": found["mixture"]}
    shown |= {n.removeprefix("ratio, "): e for n, e in found.items() if n.startswith("ratio")}
    figure, axes = blank(WIDTH, MARGIN + ROW * len(shown))
    axes.axvspan(found["average KL"].mean, 1e9, color=FAINT, zorder=0)
    _draw(axes, shown)
    axes.set_xscale("symlog", linthresh=1.0)
    largest = max(e.mean for e in shown.values())
    axes.set_xlim(min(0.0, *(e.mean for e in shown.values())), 3 * largest)
    axes.set_title("grey: beyond the average KL", loc="left", fontsize=11, color=INK)
    axes.set_xlabel("classifier's KL(q(z)‖p(z)), nats")
    return figure


def _draw(axes: Axes, shown: Mapping[str, Estimated]) -> None:
    for row, (name, estimate) in enumerate(shown.items()):
        colour, marker = _style(name, estimate)
        axes.errorbar(
            estimate.mean, row, xerr=ERRORS * estimate.error, color=colour, marker=marker, ms=5,
            linestyle="",
        )  # fmt: skip
    axes.set_yticks(range(len(shown)), list(shown))
    axes.set_ylim(len(shown) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0, labelcolor=INK, labelsize=10)
    axes.grid(axis="y", visible=False)


def _style(name: str, estimate: Estimated) -> tuple[str, str]:
    if estimate.side == "lower":
        return GREEN, ">"
    if name.startswith("mixture"):
        return BLUE, "o"
    return (RED if "noise" in name else ORANGE), "s"
