"""What is called a bound over training, a panel a model, and the KLs that are in it."""

from __future__ import annotations

__all__ = ["plot_bounds"]

from collections.abc import Mapping, Sequence

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from elboscope.plots.style import BLUE, GREEN, GREY, INK, ORANGE, RED, blank, dressed

from .bounds_claims import Course
from .bounds_values import Values

ERRORS = 2.0
WIDTH, HEIGHT = 760, 560
TITLES = {
    "VAE": "VAE: the ELBO",
    "AAE": "AAE: what the paper calls a bound",
    "VEEGAN": "VEEGAN: what the paper calls a bound",
}


def plot_bounds(found: Mapping[str, Sequence[Course]], steps: Sequence[int]) -> Figure:
    """Returns the figure; a line is a run, its band two standard errors over images.

    Args:
        found: Runs by kind.
        steps: When the looks were.
    """
    figure, first = blank(WIDTH, HEIGHT)
    first.remove()
    for place, (kind, runs) in enumerate(found.items()):
        axes = _panel(figure, place, TITLES[kind])
        if kind == "AAE":
            _lines(axes, runs, steps, "elbo", BLUE, "its ELBO")
        name = "the same with the discriminator's KL" if kind == "AAE" else None
        colour = BLUE if kind == "VAE" else RED
        _lines(axes, runs, steps, "value", colour, name)
        if kind == "AAE":
            axes.legend(frameon=False, fontsize=9.5, labelcolor=INK)
    axes = _panel(figure, len(found), "KL(q(z)‖p(z))")
    for kind, colour in (("VAE", BLUE), ("AAE", ORANGE)):
        _lines(axes, found[kind], steps, "mixture", colour, f"{kind}, mixture")
    _lines(axes, found["AAE"], steps, "lowest", GREY, "AAE, average KL − log N", dashed=True)
    _lines(axes, found["AAE"], steps, "ratio", GREEN, "AAE, its discriminator")
    axes.legend(frameon=False, fontsize=9.5, labelcolor=INK)
    return figure


def _panel(figure: Figure, place: int, title: str) -> Axes:
    axes = dressed(figure.add_subplot(2, 2, place + 1))
    axes.set_title(title, fontsize=11.5, color=INK, loc="left")
    axes.set_ylabel("nats")
    if place >= 2:
        axes.set_xlabel("step")
    return axes


def _lines(
    axes: Axes, runs: Sequence[Course], steps: Sequence[int], name: str, colour: str,
    label: str | None, *, dashed: bool = False,
) -> None:  # fmt: skip
    for index, run in enumerate(runs):
        looks = [_values(look, name) for look in run]
        mean = torch.stack([v.mean() for v in looks])
        error = torch.stack([v.std() / len(v) ** 0.5 for v in looks])
        line = "--" if dashed else "-"
        axes.plot(steps, mean, color=colour, lw=1.3, ls=line, label=None if index else label)
        low, high = mean - ERRORS * error, mean + ERRORS * error
        axes.fill_between(steps, low, high, color=colour, alpha=0.15, lw=0)


def _values(look: Values, name: str) -> Tensor:
    if name == "mixture":
        return look["kl"] - look["information"]
    if name == "lowest":
        kl = look["kl"]
        return kl - torch.tensor(float(len(kl))).log()
    return look[name]
