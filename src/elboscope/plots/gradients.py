r"""The signal-to-noise ratio of gradients against K, or against training, with the noise's floor.

On logarithmic axes the laws of Rainforth et al. are lines: K^(−½) for the encoder of IWAE, K^(+½)
for the decoder. What R draws read where there is no signal, ≈ 0.8/√R, is drawn and shaded: a
point there says nothing. The bands are bootstrap intervals with the floor's bias taken off, which
is why they lie below the points near it.
"""

from __future__ import annotations

__all__ = [
    "SnrCurve",
    "SnrCurves",
    "gradient_snr_data",
    "gradient_snr_over_training_data",
    "plot_gradient_snr",
]

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator
from numpy.typing import NDArray

from elboscope.core import InputError
from elboscope.estimators import GradientSNR

from .style import BLUE, FAINT, GREEN, GREY, INK, ORANGE, RED, blank, legend_above

COLOURS = (BLUE, ORANGE, GREEN, RED, INK)
LINES = ("-", "--", "-.")  # a sixth curve has the first one's colour
# Published curves are of all parameters of a part.
ALL = "all"


@dataclass(frozen=True, eq=False)
class SnrCurve:
    """One objective: the mean SNR over parameters and its interval at every x."""

    label: str
    x: NDArray[np.float64]
    snr: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class SnrCurves:
    """What is drawn.

    Attributes:
        curves: One an objective.
        floor: What no signal reads.
        part: "encoder" or "decoder".
        x_label: What the horizontal axis is.
        guide: The exponent of a dashed line through the first point of the first curve, or None.
    """

    curves: tuple[SnrCurve, ...]
    floor: float
    part: str
    x_label: str
    guide: float | None = None


def gradient_snr_data(
    found: GradientSNR, part: Literal["encoder", "decoder"], *, guide: float | None = None
) -> SnrCurves:
    """Returns SNR against K, one curve an objective.

    Args:
        found: The result of :func:`elboscope.estimators.gradients.snr`.
        part: The part of the model whose gradient is shown.
        guide: The exponent of a line to compare with.

    Raises:
        InputError: That part was not measured.

    Example:
        >>> import elboscope as es
        >>> model = es.models.LinearGaussian.instance_1()
        >>> x, _ = model.sample(4, seed=0)
        >>> found = es.gradient_snr(model, x, {"IWAE": es.objectives.iwae}, (1, 4), 50, seed=0)
        >>> gradient_snr_data(found, "encoder").curves[0].x.tolist()
        [1.0, 4.0]
    """
    entries = [e for e in found.blocks if (e.part, e.block) == (part, ALL)]
    names = dict.fromkeys(e.objective for e in entries)
    curves = []
    for name in names:
        mine = sorted((e for e in entries if e.objective == name), key=lambda e: e.num_samples)
        rows = [e.to_row() for e in mine]
        curves.append(_curve(name, [e.num_samples for e in mine], rows))
    return _required(SnrCurves(tuple(curves), found.floor, part, "samples K", guide))


def gradient_snr_over_training_data(
    found: Mapping[str, Mapping[int, Mapping[str, Any]]],
) -> SnrCurves:
    """Returns SNR against epochs, one curve an objective.

    Args:
        found: For every objective's name the row of each epoch (``entry.to_row()``), all of one
            part.

    Raises:
        InputError: Nothing was measured.

    Example:
        >>> import elboscope as es
        >>> model = es.models.LinearGaussian.instance_1()
        >>> x, _ = model.sample(4, seed=0)
        >>> snr = es.gradient_snr(model, x, {"IWAE": es.objectives.iwae}, 8, 50, seed=0)
        >>> row = snr.find("IWAE", 8, "encoder").to_row()
        >>> gradient_snr_over_training_data({"IWAE": {1: row, 3: row}}).x_label
        'epochs'
    """
    curves = [_curve(name, list(at), list(at.values())) for name, at in found.items() if at]
    rows = [row for at in found.values() for row in at.values()]
    floor = max((row["floor"] for row in rows), default=0.0)
    part = rows[0]["part"] if rows else ""
    return _required(SnrCurves(tuple(curves), floor, part, "epochs"))


def _curve(name: str, x: Sequence[int], rows: Sequence[Mapping[str, Any]]) -> SnrCurve:
    columns = [[row[key] for row in rows] for key in ("snr", "snr_low", "snr_high")]
    snr, low, high = np.array(columns, dtype=np.float64)
    return SnrCurve(name, np.array(x, dtype=np.float64), snr, low, high)


def _required(data: SnrCurves) -> SnrCurves:
    if not data.curves:
        raise InputError("part", expected="one that was measured", got=repr(data.part))
    return data


def plot_gradient_snr(data: SnrCurves) -> Figure:
    """Draws the curves on logarithmic axes, their intervals, and the floor.

    Example:
        >>> one = np.ones(2)
        >>> curve = SnrCurve("IWAE", np.array([1.0, 4.0]), one, 0.9 * one, 1.1 * one)
        >>> plot_gradient_snr(SnrCurves((curve,), 0.1, "encoder", "samples K")).axes[0].get_ylabel()
        'gradient SNR, encoder'
    """
    figure, axes = blank()
    for i, curve in enumerate(data.curves):
        colour, line = COLOURS[i % len(COLOURS)], LINES[i // len(COLOURS) % len(LINES)]
        axes.fill_between(
            curve.x,
            np.maximum(curve.low, data.floor / 10),
            curve.high,
            color=colour,
            alpha=0.18,
            lw=0,
        )
        axes.plot(curve.x, curve.snr, f"o{line}", color=colour, ms=3.5, lw=1.4, label=curve.label)
    if data.guide is not None:
        first = data.curves[0]
        law = first.snr[0] * (first.x / first.x[0]) ** data.guide
        axes.plot(first.x, law, ls="--", lw=1, color=GREY, label=f"slope {data.guide:+g}")
    axes.set_xscale("log")
    axes.set_yscale("log")
    ticks = sorted({float(x) for curve in data.curves for x in curve.x})
    axes.xaxis.set_major_locator(FixedLocator(ticks))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticks(ticks, [f"{x:g}" for x in ticks])
    bottom = 0.6 * min(data.floor, *(float(curve.snr.min()) for curve in data.curves))
    axes.set_ylim(bottom=bottom)
    axes.axhspan(bottom, data.floor, color=FAINT, zorder=0)
    axes.axhline(data.floor, color=GREY, lw=1, ls=":", label=f"no signal: {data.floor:.2g}")
    axes.set_xlabel(data.x_label)
    axes.set_ylabel(f"gradient SNR, {data.part}")
    legend_above(figure, axes, columns=3)
    return figure
