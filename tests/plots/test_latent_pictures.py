"""Traversals, paths and the manifold: each tile stands where the computation put it."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import elboscope as es
from elboscope.models import LinearGaussian, mlp_vae
from elboscope.plots.manifold import manifold_data, moving_features, plot_manifold
from elboscope.plots.paths import (
    interpolations_data,
    plot_interpolations,
    plot_traversals,
    traversals_data,
)
from elboscope.plots.samples import as_images, value_range


@pytest.fixture(scope="module")
def digits():
    x = es.data.digits().train[:60]
    return mlp_vae((1, 8, 8), 2, hidden=(16,)), x


@pytest.fixture(scope="module")
def features():
    model = LinearGaussian.perfect(2, 12, sigma2=0.1)
    return model, model.sample(60, seed=0)[0]


def test_a_row_of_tiles_is_one_unit_and_says_its_nats(digits):
    found = es.latents.latent_traversals(*digits, levels=(0.1, 0.5, 0.9), seed=0)
    data = traversals_data(found)
    expected = as_images(found.mean[1], value_range(found.mean))
    assert np.array_equal(data.tiles[1], expected)
    axes = plot_traversals(data).axes[0]
    unit, nats, z = found.units[1].item(), found.information[1].item(), found.values[1]
    words = f"unit {unit}: {nats:.2f} nats\nz {z[0]:.2g} … {z[-1]:.2g}".replace("-", "−")
    assert axes.get_yticklabels()[1].get_text() == words
    assert [t.get_text() for t in axes.get_xticklabels()] == ["10%", "50%", "90%"]
    drawn = axes.images[0].get_array()
    assert np.array_equal(drawn[8:16, 16:24], data.tiles[1, 2])  # second unit, third level


def test_other_data_are_lines_of_the_features_that_move_most(features):
    found = es.latents.latent_traversals(*features, seed=0)
    data = traversals_data(found)
    assert data.tiles is None
    figure = plot_traversals(data)
    moved = np.ptp(found.mean[0].numpy(), axis=0)
    names = {f"x[{i}]" for i in np.argsort(-moved)[:5]}
    assert {line.get_label() for line in figure.axes[0].lines} == names
    first = figure.axes[0].lines[0]
    feature = int(first.get_label()[2:-1])
    assert np.allclose(first.get_xdata(), found.values[0])
    assert np.allclose(first.get_ydata(), found.mean[0, :, feature])


def test_a_path_has_its_datapoints_outside_and_its_density_below(digits):
    found = es.latents.latent_interpolations(*digits, [(3, 8), (1, 2)], num_steps=5)
    data = interpolations_data(found)
    figure = plot_interpolations(data)
    way, curve = figure.axes[:2]
    assert len(way.images) == 7
    shown = [image.get_array() for image in way.images]
    limits = value_range(torch.cat([found.mean.flatten(0, 1), found.ends.flatten(0, 1)]))
    assert np.array_equal(shown[0], as_images(digits[1][3:4], limits)[0])
    assert np.array_equal(shown[1], as_images(found.mean[0, :1], limits)[0])
    assert np.array_equal(shown[-1], as_images(digits[1][8:9], limits)[0])
    assert np.allclose(curve.lines[1].get_ydata(), found.log_ratio[0])
    assert curve.lines[2].get_xdata()[0] == found.log_ratio[0].argmin()
    assert way.get_xlim() == curve.get_xlim()
    assert figure.axes[1].get_ylim() == figure.axes[3].get_ylim()
    assert "linear path" in figure.axes[-1].get_xlabel()


def test_without_a_density_only_the_way_is_drawn(digits):
    found = replace(es.latents.latent_interpolations(*digits, 2, seed=0), log_ratio=None)
    assert len(plot_interpolations(interpolations_data(found)).axes) == 2


def test_paths_of_other_data_are_lines(features):
    found = es.latents.latent_interpolations(*features, [(0, 1)], num_steps=4)
    figure = plot_interpolations(interpolations_data(found))
    line = figure.axes[0].lines[0]
    feature = int(line.get_label()[2:-1])
    assert np.allclose(line.get_ydata(), found.mean[0, :, feature])
    assert figure.axes[0].get_title(loc="left") == "x[0] to x[1]"


def test_the_manifold_has_z1_to_the_right_and_z2_upwards(digits):
    found = es.latents.latent_manifold(*digits, num_steps=4)
    data = manifold_data(found)
    axes = plot_manifold(data).axes[0]
    picture = axes.images[0].get_array()
    assert np.array_equal(picture[-8:, :8], data.tiles[0, 0])
    assert np.array_equal(picture[:8, :8], data.tiles[0, 3])
    assert np.array_equal(picture[-8:, -8:], data.tiles[3, 0])
    assert axes.get_xticklabels()[0].get_text() == "0.12"


def test_tiles_that_q_hardly_covers_are_framed(digits):
    found = es.latents.latent_manifold(*digits, num_steps=3)
    holes = torch.zeros(3, 3).double()
    holes[2, 0] = -4.0
    frames = plot_manifold(manifold_data(replace(found, log_ratio=holes))).axes[0].patches
    assert [tuple(round(v) for v in frame.get_xy()) for frame in frames] == [(2, 0)]


def test_the_manifold_of_other_data_is_a_map_per_feature(features):
    found = es.latents.latent_manifold(features[0], num_steps=4)
    figure = plot_manifold(manifold_data(found))
    maps = [axes for axes in figure.axes if axes.get_title(loc="left").startswith("x[")]
    flat = found.mean.flatten(0, 1).numpy()
    chosen = moving_features(flat)
    assert [axes.get_title(loc="left") for axes in maps] == [f"x[{i}]" for i in chosen]
    assert np.allclose(maps[0].images[0].get_array(), found.mean[..., chosen[0]].T)


def test_one_latent_is_a_strip_or_lines():
    x = es.data.digits().train[:10]
    strip = manifold_data(
        es.latents.latent_manifold(mlp_vae((1, 8, 8), 1, hidden=(8,)), x, num_steps=5)
    )
    assert plot_manifold(strip).axes[0].images[0].get_array().shape == (8, 40, 3)
    found = es.latents.latent_manifold(LinearGaussian.conjugate(0.3), num_steps=5)
    line = plot_manifold(manifold_data(found)).axes[0].lines[0]
    assert np.allclose(line.get_xdata(), found.z[:, 0, 0])
    assert np.allclose(line.get_ydata(), found.mean[:, 0, 0])
