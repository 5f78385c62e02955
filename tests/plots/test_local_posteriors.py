"""The picture of local posteriors: its numbers, its lines, and what it says of draws."""

import math

import numpy as np
import pytest
import torch

from elboscope import plots
from elboscope.estimators import LocalPosterior, PicturedDensity
from elboscope.plots.posteriors import levels

AXIS = torch.linspace(-4, 4, 161, dtype=torch.float64)


def gaussian(sigma=1.0):
    square = AXIS[:, None] ** 2 + AXIS**2
    return (-square / (2 * sigma**2)).exp() / (2 * math.pi * sigma**2)


def one(**changes):
    q = PicturedDensity("q(z|x)", gaussian(0.5), 0, 1.234, 1.2, 0.1)
    flow = PicturedDensity("q*_flow", gaussian(), 500, math.nan, -0.004, 0.01)
    values = {
        "row": 17,
        "reason": "largest amortisation gap",
        "amortisation": (3.21, 0.05),
        "approximation": (-0.02, 0.01),
        "log_px": -90.0,
        "edge": 0.0,
        "z1": AXIS,
        "z2": AXIS,
        "density": gaussian(),
        "approximations": (q, flow),
    }
    return LocalPosterior(**{**values, **changes})


def test_a_panel_says_which_datapoint_why_and_its_gaps():
    data = plots.local_posteriors_data([one()])
    title = data.panels[0].title
    assert title == (
        "#17: largest amortisation gap\namortisation 3.21 ± 0.05 nats\n"
        "approximation −0.02 ± 0.01 nats"
    )
    assert data.panels[0].labels == {
        "q(z|x)": "q(z|x): KL 1.23 (1.20 ± 0.10)",
        "q*_flow": "q* flow: KL ≤ (0.00 ± 0.01)",
    }
    assert plots.local_posteriors_data(None) is None
    assert plots.local_posteriors_data(()) is None


def test_lines_are_at_one_and_two_standard_deviations():
    for sigma in (0.5, 1.0):
        found = levels(gaussian(sigma).numpy())
        heights = [math.exp(-0.5 * k**2) / (2 * math.pi * sigma**2) for k in (2, 1)]
        assert found == pytest.approx(heights, rel=0.05)


def test_the_figure_draws_every_density_and_tells_of_draws():
    figure = plots.plot_local_posteriors(plots.local_posteriors_data([one(), one(row=3)]))
    assert len(figure.axes) == 2
    assert [text.get_text() for text in figure.axes[0].get_legend().get_texts()] == [
        "q(z|x): KL 1.23 (1.20 ± 0.10)",
        "q* flow: KL ≤ (0.00 ± 0.01)",
    ]
    assert "q* flow: lines from 500 smoothed draws" in figure.get_suptitle()
    # the true posterior filled and lined, and two lines of each approximation
    radii = [
        np.hypot(*path.vertices.T).max()
        for artist in figure.axes[0].collections[1:]
        for path in artist.get_paths()
        if len(path.vertices)
    ]
    assert radii == pytest.approx([2, 1, 1, 0.5, 2, 1], abs=0.06)


def test_without_draws_nothing_is_said_of_them():
    exact = one(approximations=one().approximations[:1])
    data = plots.local_posteriors_data([exact])
    assert (data.from_draws, data.num_draws) == ((), 0)
    assert "draws" not in plots.plot_local_posteriors(data).get_suptitle()
