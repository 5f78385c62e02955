r"""The parts of the ELBO of one model, at one time of its training.

.. math:: \frac1N \sum_n \mathrm{ELBO}(x_n) = \mathbb{E}\log p(x|z) - I_q(n; z)
          - \underbrace{\mathrm{TC} - \sum_j \mathrm{KL}(q(z_j) \| p(z_j))}
          _{-\mathrm{KL}(q_N(z) \| p(z))}

While a model is trained only the first line is taken, on some draws; at the end all of it, with
the held-out lower bound on the population's marginal KL, and with densities fitted to q(z)
instead of the prior. Each part is a pair: the value and its standard error for other data.

A file of its own because the parts are taken during training and after it.
"""

from __future__ import annotations

__all__ = ["FAMILIES", "Parts", "final_parts", "fitted_parts", "parts_now", "plot_surgeries"]

from collections.abc import Mapping
from typing import Literal

import torch
from jaxtyping import Float
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.container import Container
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from torch import Tensor

from elboscope.core import Estimate, LatentVariableModel, evaluating, seeded
from elboscope.estimators import elbo_surgery, evidence_lower_bound, fit_prior, marginal_kl
from elboscope.estimators.inputs import prepared
from elboscope.estimators.latents.aggregate import draw_aggregate
from elboscope.estimators.latents.fitted_prior import PriorDensity
from elboscope.estimators.latents.surgery import average_kl_of, information_of, marginal_kl_of
from elboscope.estimators.likelihood.bounds import reconstruction
from elboscope.plots.style import BLUE, GREEN, GREY, INK, ORANGE, RED

FAMILIES: Mapping[PriorDensity, str] = {"gmm": "Gaussian mixture", "flow": "flow"}
RECONSTRUCTED = 5000
RECONSTRUCTIONS = 5
BOUND_SAMPLES = 10

Parts = Mapping[str, Tensor]
"""Pairs (value, standard error) by name; ``test`` holds the bound of every test image."""


def parts_now(
    model: LatentVariableModel, x: Float[Tensor, "N *X"], *, seed: int, num_draws: int | None = None
) -> Parts:
    """Returns reconstruction, average KL, information and marginal KL of a model.

    Args:
        model: The model.
        x: The data behind q_N, binary once; the reconstruction is of the first 5000.
        seed: Random seed of the draws.
        num_draws: S; by default as many as take seconds.

    Example:
        >>> import elboscope as es
        >>> model = es.models.LinearGaussian.instance_1()
        >>> parts = parts_now(model, model.sample(500, seed=0)[0], seed=0)
        >>> gap = parts["kl"][0] - parts["information"][0] - parts["marginal_kl"][0]
        >>> abs(gap.item()) < 1e-9
        True
    """
    inputs = prepared(model, x, None)
    with evaluating(model), seeded(seed) as used:
        draws = draw_aggregate(model, inputs, num_draws, used)
    found = {
        "reconstruction": reconstruction(model, x[:RECONSTRUCTED], RECONSTRUCTIONS, seed=seed),
        "kl": average_kl_of(draws),
        "information": information_of(draws),
        "marginal_kl": marginal_kl_of(draws),
    }
    return {name: _pair(estimate) for name, estimate in found.items()}


def final_parts(
    model: LatentVariableModel,
    x: Float[Tensor, "N *X"],
    x_test: Float[Tensor, "n *X"],
    *,
    seed: int,
) -> Parts:
    """Returns all parts, and the bound of the test images.

    Args:
        model: The model.
        x: The data behind q_N.
        x_test: Images of the held-out lower bound and the test bound.
        seed: Random seed of the draws.
    """
    parts = elbo_surgery(model, x_test, x_train=x, seed=seed)
    named = {
        "reconstruction": parts.reconstruction,
        "kl": parts.kl,
        "information": parts.mutual_information,
        "marginal_kl": parts.marginal_kl,
        "marginal_kl_plain": parts.marginal_kl_plain,
        "held_out": parts.marginal_kl_held_out,
        "total_correlation": parts.total_correlation,
    }
    found = {name: _pair(e) for name, e in named.items() if e is not None}
    by_unit = parts.dimensionwise_kl
    if by_unit is not None:
        found["dimensionwise_kl"] = torch.tensor(
            [by_unit.values.sum().item(), by_unit.stderr], dtype=torch.float64
        )
    bound = evidence_lower_bound(model, x_test, BOUND_SAMPLES, seed=seed)
    return found | {"test": bound.values.double().cpu()}


def fitted_parts(
    model: LatentVariableModel,
    x: Float[Tensor, "N *X"],
    x_test: Float[Tensor, "n *X"],
    *,
    max_steps: int,
    seed: int,
) -> Parts:
    """Returns the held-out gain of each family of fitted priors, and the marginal KL it leaves.

    Args:
        model: The model; it is not changed.
        x: Images to fit and to choose on.
        x_test: Images to evaluate the gain on.
        max_steps: Most steps of the flow's fit.
        seed: Random seed of split, draws and fits.
    """
    found: dict[str, Tensor] = {}
    for family in FAMILIES:
        fitted = fit_prior(model, x_test, family, x_train=x, max_steps=max_steps, seed=seed)
        found[f"gain.{family}"] = _pair(fitted.gain)
        found[f"left.{family}"] = _pair(marginal_kl(fitted, x, seed=seed))
    return found


def _pair(estimate: Estimate) -> Tensor:
    return torch.tensor([estimate.mean, estimate.stderr], dtype=torch.float64)


# Where the average KL of each model goes, and how its parts come about over training.

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
        found: Parts by model and epoch; the last epoch makes the bars.
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
