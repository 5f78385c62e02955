"""The figure of low-posterior samples: what is shown is what was measured."""

import numpy as np
import pytest

import elboscope as es
from elboscope.plots.low_posterior import low_posterior_data, plot_low_posterior


@pytest.fixture(scope="module")
def found():
    images = es.data.digits()
    x = es.data.Binarisation("fixed", seed=0).fixed_draw(images.train[:200])
    model = es.models.mlp_vae((1, 8, 8), 4, hidden=(16,))
    low = es.latents.low_posterior_samples(model, x, 15, num_prior=300, seed=0)
    return es.latents.examine_low_samples(
        model, x, low, num_data=40, num_samples=2, num_embedded=30, seed=0
    )


def test_the_gallery_shows_means_above_their_neighbours(found):
    data = low_posterior_data(found)
    assert list(data.gallery) == ["low q(z)", "nearest data", "ordinary"]
    assert data.gallery["nearest data"].shape == (12, 8, 8, 3)
    shown = data.gallery["nearest data"][3, ..., 0] / 255
    assert np.array_equal(shown, found.neighbours[3, 0].numpy())


def test_histograms_are_shares_and_keep_their_counts(found):
    data = low_posterior_data(found)
    assert all(abs(share.sum() - 1) < 1e-12 for share in data.pixels.values())
    assert len(data.elbo["data"]) == 40
    assert len(data.elbo["low"]) == 15


def test_the_figure_names_its_four_panels(found):
    axes = plot_low_posterior(low_posterior_data(found)).axes
    labels = [a.get_xlabel() for a in axes]
    assert labels == [
        "", "pixel value", "KL(q(z|x) ‖ p(z)), nats",
        f"ELBO, nats ({found.separation})", "t-SNE",
    ]  # fmt: skip
    assert [t.get_text() for t in axes[0].get_yticklabels()] == list(
        low_posterior_data(found).gallery
    )


def test_data_that_are_no_images_have_no_gallery():
    model = es.models.LinearGaussian.perfect(2, 8, sigma2=0.1)
    x, _ = model.sample(60, seed=0)
    low = es.latents.low_posterior_samples(model, x, 10, num_prior=100, seed=0)
    data = low_posterior_data(es.latents.examine_low_samples(model, x, low, num_samples=2, seed=0))
    assert data.gallery is None
    assert data.embedded_by == "latents"
    assert "low means" in data.elbo
    assert len(plot_low_posterior(data).axes) == 4
