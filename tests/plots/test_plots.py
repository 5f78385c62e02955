"""Plots are data first: what would be drawn is compared with what is true."""

from __future__ import annotations

import base64
import io
import math
import xml.etree.ElementTree as ElementTree

import matplotlib as mpl
import matplotlib.image
import numpy as np
import pytest
import torch

from elboscope import plots
from elboscope.core import Estimate
from elboscope.estimators import log_likelihood
from elboscope.plots.samples import ImageRange
from elboscope.plots.style import blank


def per_datapoint(values, **rest) -> Estimate:
    values = torch.tensor(values, dtype=torch.float64)
    return Estimate.per_datapoint("log p(x)", "exact", values, values * 0, "lower", **rest)


def per_unit(values) -> Estimate:
    values = torch.tensor(values, dtype=torch.float64)
    return Estimate("KL", "exact", values, values * 0 + 0.1, "unbiased", 0.0, "unit")


def test_training_curves_read_both_names_of_the_held_out_elbo():
    rows = [
        {"epoch": float(e), "train_bound": -9.0 + e, "validation_elbo": -10.0 + e} for e in (1, 2)
    ]
    renamed = [
        {"epoch": float(e), "train_bound": -9.0 + e, "valid_elbo": -10.0 + e} for e in (1, 2)
    ]
    for history in (rows, renamed):
        data = plots.training_curves_data(history)
        assert data.axis == "epoch"
        assert data.at.tolist() == [1, 2]
        assert data.train.tolist() == [-8, -7]
        assert data.held_out.tolist() == [-9, -8]
        assert data.diverged_at is None


def test_training_curves_tell_a_missing_value_from_a_divergence():
    healthy = [{"epoch": 1.0, "train_bound": -2.0, "validation_elbo": math.nan}] * 2
    assert plots.training_curves_data(healthy).diverged_at is None
    sick = [*healthy, {"epoch": 3.0, "train_bound": math.nan}]
    data = plots.training_curves_data(sick)
    assert data.diverged_at == 3
    assert math.isnan(data.train[2])
    plots.plot_training_curves(data)


def test_a_long_history_is_a_line_and_a_short_one_shows_its_points():
    for length, marker in ((5, "o"), (50, "None")):
        rows = [{"epoch": float(e), "train_bound": -9.0 + e} for e in range(length)]
        line = plots.plot_training_curves(plots.training_curves_data(rows)).axes[0].lines[0]
        assert line.get_marker() == marker
        assert line.get_ydata().tolist() == [row["train_bound"] for row in rows]


@pytest.mark.parametrize(
    "history", [[], [{"epoch": 1.0, "train_bound": math.nan}], [{"epoch": 1.0}]]
)
def test_no_training_curve_without_a_number(history):
    assert plots.training_curves_data(history) is None


def test_units_are_sorted_by_kl_and_keep_their_own_zeroing_effect():
    data = plots.unit_kl_data(per_unit([0.1, 3.0, 2.0]), per_unit([1.0, 30.0, 20.0]))
    assert data.unit.tolist() == [1, 2, 0]
    assert data.kl.tolist() == [3.0, 2.0, 0.1]
    assert data.zeroing.tolist() == [30.0, 20.0, 1.0]


def test_zeroing_of_other_units_is_not_drawn_beside_these():
    assert plots.unit_kl_data(per_unit([1.0, 2.0]), per_unit([1.0])).zeroing is None


def test_active_units_are_counted_on_the_side_of_the_threshold_where_they_are():
    values = [0.0, 0.0099, 0.0101, 0.5, 3.0]
    data = plots.active_units_data(per_unit(values))
    assert (data.active, data.total) == (3, 5)
    above = data.edges[:-1] >= -2 - 1e-9
    assert int(data.counts[above].sum()) == 3
    assert int(data.counts.sum()) == 5


def test_surgery_interval_and_parts():
    kl, information, marginal = (per_datapoint([v, v]) for v in (9.0, 4.0, 5.0))
    data = plots.surgery_data(kl, information, marginal, per_datapoint([2.0, 2.0]), math.log(50))
    assert (data.kl, data.mutual_information, data.marginal_kl, data.held_out) == (9, 4, 5, 2)
    assert data.interval == (9 - math.log(50), 9)
    assert plots.surgery_data(kl, information, marginal, None, 20.0).interval == (0.0, 9)


def test_surgery_bars_are_as_long_as_the_parts():
    kl, information, marginal = (per_datapoint([v, v]) for v in (9.0, 4.0, 5.0))
    data = plots.surgery_data(kl, information, marginal, None, 5.0)
    bars = plots.plot_surgery(data).axes[0].patches
    assert [(bar.get_x(), bar.get_width()) for bar in bars] == [(0, 4), (4, 5)]


def test_worst_datapoints_come_first_and_infinite_ones_before_all():
    log_px = per_datapoint([-1.0, -50.0, -math.inf, -2.0], diagnostics={"khat": torch.arange(4.0)})
    data = plots.log_likelihood_data(log_px, num_worst=3)
    assert data.worst.tolist() == [2, 1, 3]
    assert data.worst_khat.tolist() == [2, 1, 3]
    assert data.not_finite == 1
    assert int(data.counts.sum()) == 3
    assert data.mean == pytest.approx(-53 / 3)


def test_pareto_shares_and_unknown():
    khat = torch.tensor([0.2, 0.49, 0.5, 0.69, 0.71, 5.0, math.nan, -math.inf])
    log_px = per_datapoint([0.0] * 8, diagnostics={"khat": khat})
    data = plots.pareto_k_data(log_px)
    assert data.shares == pytest.approx((3 / 7, 2 / 7, 2 / 7))
    assert data.unknown == 1
    assert int(data.counts.sum()) == 7


@pytest.mark.parametrize(
    ("shape", "layout"),
    [
        ((784,), (1, 28, 28)),
        ((64,), (1, 8, 8)),
        ((4,), None),
        ((49,), None),
        ((65,), None),
        ((8, 8), (1, 8, 8)),
        ((2, 50), None),
        ((1, 28, 28), (1, 28, 28)),
        ((3, 32, 32), (3, 32, 32)),
        ((5, 32, 32), None),
        ((2, 3, 4, 5), None),
    ],
)
def test_what_looks_like_an_image(shape, layout):
    assert plots.image_layout(shape) == layout


def test_a_picture_survives_its_data_uri():
    x = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    image = plots.as_images(x, ImageRange(0.0, 1.0))[0]
    encoded = plots.png_uri(image).removeprefix("data:image/png;base64,")
    read = matplotlib.image.imread(io.BytesIO(base64.b64decode(encoded)), format="png")
    expected = (x[0].permute(1, 2, 0) * 255).round().numpy()
    assert (np.round(read[..., :3] * 255) == expected).all()


def test_large_pictures_are_averaged_and_values_outside_the_range_are_cut():
    x = torch.zeros(1, 128, 128)
    x[:, ::2] = 1.0
    image = plots.as_images(x, ImageRange(0.0, 1.0), largest=64)
    assert image.shape == (1, 64, 64, 3)
    assert set(image.flatten().tolist()) == {128}
    cut = plots.as_images(x[:, :, :64] * 9 - 4, ImageRange(0.0, 1.0), largest=128)
    assert set(cut.flatten().tolist()) == {0, 255}


def test_the_map_of_two_units_is_the_latent_space():
    z = torch.tensor([[0.0, 1.0], [2.0, 3.0], [math.nan, 0.0]])
    data = plots.latent_map_data(z, torch.zeros(3, 5), per_datapoint([-1.0, -2.0, -3.0]))
    assert data.points.tolist() == [[0, 1], [2, 3]]
    assert data.index.tolist() == [0, 1]
    assert data.log_px.tolist() == [-1, -2]
    assert data.axes == ("latent unit 0", "latent unit 1")


def test_the_map_of_more_units_is_their_principal_components():
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(300, 2, generator=generator, dtype=torch.float64)
    scores = (scores - scores.mean(0)) @ torch.diag(torch.tensor([3.0, 1.0]).double())
    rotation = torch.linalg.qr(torch.randn(7, 7, generator=generator).double()).Q[:2]
    data = plots.latent_map_data(scores @ rotation + 5, torch.zeros(300, 5))
    # a rotation of the two columns: distances are those of the scores
    far = np.linalg.norm(data.points[0] - data.points[1:], axis=1)
    assert far == pytest.approx(torch.dist(scores[0], scores[1]).item(), abs=1e30)
    expected = torch.cdist(scores[:1], scores[1:])[0].numpy()
    assert far == pytest.approx(expected, rel=1e-9)
    shares = scores.square().sum(0) / scores.square().sum()
    assert f"({100 * shares.max():.0f} %" in data.axes[0]
    assert data.axes[0].startswith("principal component 1")


def test_the_map_shows_the_datapoint_it_names():
    x = torch.zeros(900, 8, 8)
    x[torch.arange(900), 0, torch.arange(900) % 8] = 1.0
    data = plots.latent_map_data(torch.randn(900, 2), x, max_points=100)
    assert len(data.points) == len(data.images) == 100
    assert data.shown_of == 900
    for place in (0, 37, 99):
        image = plots.as_images(x[data.index[place]][None], ImageRange(0.0, 1.0))[0]
        assert data.images[place] == plots.png_uri(image)


def test_heavy_pictures_leave_fewer_points():
    x = torch.rand(500, 3, 32, 32)
    data = plots.latent_map_data(torch.randn(500, 2), x)
    assert 100 < len(data.images) < 500
    assert sum(map(len, data.images)) <= 1_200_000


def test_nothing_is_drawn_from_nothing():
    assert plots.unit_kl_data(None) is None
    assert plots.active_units_data(None) is None
    assert plots.log_likelihood_data(None) is None
    assert plots.pareto_k_data(None) is None
    assert plots.surgery_data(None, None, None, None, 0.0) is None
    assert plots.latent_map_data(None, torch.zeros(2, 3)) is None


def test_svg_is_xml_with_variables_and_unique_ids_and_leaves_the_settings_alone():
    before = dict(mpl.rcParams)
    figure, axes = blank()
    axes.plot([0, 1])
    svg = plots.to_svg(figure, name="one", description='a "quoted" <thing>')
    root = ElementTree.fromstring(svg)
    assert root.attrib["aria-label"] == 'a "quoted" <thing>'
    ids = [e.attrib["id"] for e in root.iter() if "id" in e.attrib]
    assert ids
    assert all(i.startswith("one-") for i in ids)
    assert "var(--muted, #6a7380)" in svg
    assert dict(mpl.rcParams) == before
    assert svg == plots.to_svg(figure, name="one", description='a "quoted" <thing>')


def bounds_of(values_by_K, error=0.0):
    bounds = {}
    for K, values in values_by_K.items():
        v = torch.tensor(values, dtype=torch.float64)
        bounds[K] = Estimate.per_datapoint("log p(x)", "IS", v, v * 0 + error, "lower")
    return bounds


def annealed_of(values, error=0.1):
    v = torch.tensor(values, dtype=torch.float64)
    counts = {"num_temperatures": 50, "num_chains": 10}
    return Estimate.per_datapoint("log p(x)", "AIS", v, v * 0 + error, "lower", **counts)


def test_the_bound_curve_is_of_the_datapoints_that_were_annealed():
    bounds = bounds_of({5: [-2.0, -9.0, -4.0], 1: [-3.0, -9.0, -5.0]}, error=0.2)
    data = plots.bound_by_samples_data(bounds, annealed_of([-1.0, -3.0]), torch.tensor([0, 2]))
    assert data.num_samples.tolist() == [1, 5]
    assert data.bound.tolist() == [-4.0, -3.0]
    assert data.error.tolist() == pytest.approx([0.2 / 2**0.5] * 2)
    assert (data.num_data, data.annealed) == (2, -2.0)
    alone = plots.bound_by_samples_data(bounds)
    assert (alone.num_data, alone.annealed, alone.bound.tolist()) == (3, None, [-17 / 3, -5.0])
    assert plots.bound_by_samples_data(None) is None


def test_the_line_of_ais_and_its_band_are_where_its_value_and_two_errors_are():
    bounds = bounds_of({1: [-3.0, -5.0], 10: [-2.0, -4.0]})
    rows = torch.tensor([0, 1])
    data = plots.bound_by_samples_data(bounds, annealed_of([-1.0, -3.0]), rows)
    axes = plots.plot_bound_by_samples(data).axes[0]
    level, curve = axes.lines[0], axes.lines[1]
    assert set(level.get_ydata()) == {-2.0}
    assert curve.get_ydata().tolist() == [-4.0, -3.0]
    band = axes.patches[0].get_bbox()
    assert (band.y0, band.y1) == pytest.approx((-2 - 0.2 / 2**0.5, -2 + 0.2 / 2**0.5))
    assert axes.texts[0].get_text() == "n=2: L_K blue; AIS (T=50, C=10) orange"
    alone = plots.plot_bound_by_samples(plots.bound_by_samples_data(bounds)).axes[0]
    assert not alone.patches


def test_the_sandwich_is_of_simulated_data_and_says_so():
    from elboscope.models import LinearGaussian

    model = LinearGaussian.instance_1()
    x, _ = model.sample(3, seed=0)
    found = log_likelihood(
        model, x, 20, num_temperatures=3, num_leapfrog=2, num_simulated=4, seed=0
    )
    data = plots.sandwich_data(found)
    assert data.num_data == 4
    assert data.kinds == ("upper", "upper", "estimate", "estimate", "lower", "lower")
    s = found.sandwich
    expected = (s.upper, s.upper_doubled, found.simulated, found.simulated_importance,
                s.lower_doubled, s.lower)  # fmt: skip
    assert data.means.tolist() == [e.mean for e in expected]
    assert data.labels[:2] == ("reverse AIS, T=3", "reverse AIS, T=6")
    axes = plots.plot_sandwich(data).axes[0]
    assert axes.texts[0].get_text() == "simulated data, n=4; bars of two errors"
    assert axes.get_xlabel() == "log p(x) of simulated data, nats"
    assert plots.sandwich_data(None) is None
