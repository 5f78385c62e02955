"""The figure of gradient quality: its data are the estimator's, its floor is drawn."""

import numpy as np
import pytest
from matplotlib.colors import same_color

import elboscope as es
from elboscope import objectives
from elboscope.core import InputError
from elboscope.models import GaussianToy
from elboscope.plots import gradient_snr_data, gradient_snr_over_training_data, plot_gradient_snr
from elboscope.plots.style import FAINT


@pytest.fixture(scope="module")
def found() -> es.estimators.GradientSNR:
    x = GaussianToy.data(8, seed=0)
    near = GaussianToy.fitted(x, perturbation=0.05, seed=1)
    both = {"IWAE": objectives.iwae, "DReG": objectives.dreg}
    return es.gradient_snr(near, x, both, (16, 1, 4), 200, seed=0)


def test_curves_are_the_estimates_in_order_of_k(found: es.estimators.GradientSNR) -> None:
    data = gradient_snr_data(found, "encoder", guide=-0.5)
    assert [curve.label for curve in data.curves] == ["IWAE", "DReG"]
    iwae = data.curves[0]
    assert iwae.x.tolist() == [1, 4, 16]
    assert iwae.snr.tolist() == [found.find("IWAE", K, "encoder").snr for K in (1, 4, 16)]
    assert data.floor == found.floor
    assert (data.curves[1].snr > iwae.snr).all()  # of one gradient, DReG is the better estimator


def test_floor_and_guide_are_drawn(found: es.estimators.GradientSNR) -> None:
    axes = plot_gradient_snr(gradient_snr_data(found, "encoder", guide=-0.5)).axes[0]
    lines = {line.get_label(): line for line in axes.get_lines()}
    floor = lines[f"no signal: {found.floor:.2g}"]
    assert np.allclose(floor.get_ydata(), found.floor)
    y = np.asarray(lines["slope -0.5"].get_ydata())
    assert np.isclose(np.diff(np.log(y))[0], -0.5 * np.log(4))
    assert y[0] == found.find("IWAE", 1, "encoder").snr
    assert any(same_color(patch.get_facecolor(), FAINT) for patch in axes.patches)
    assert axes.get_xscale() == axes.get_yscale() == "log"


def test_training_runs_over_epochs(found: es.estimators.GradientSNR) -> None:
    a, b = found.find("IWAE", 4, "encoder"), found.find("DReG", 4, "encoder")
    data = gradient_snr_over_training_data({"IWAE-4": {1: a.to_row(), 10: b.to_row()}, "none": {}})
    assert [curve.label for curve in data.curves] == ["IWAE-4"]
    assert data.curves[0].x.tolist() == [1, 10]
    assert data.curves[0].snr.tolist() == [a.snr, b.snr]
    assert plot_gradient_snr(data).axes[0].get_xlabel() == "epochs"


def test_nothing_measured_is_refused() -> None:
    with pytest.raises(InputError, match="part: expected one that was measured"):
        gradient_snr_over_training_data({})


def test_more_curves_than_colours_are_told_apart(found: es.estimators.GradientSNR) -> None:
    row = found.find("IWAE", 4, "encoder").to_row()
    data = gradient_snr_over_training_data({str(i): {1: row, 3: row} for i in range(7)})
    curves = plot_gradient_snr(data).axes[0].get_lines()[:7]
    assert len({(line.get_color(), line.get_linestyle()) for line in curves}) == 7
