"""What one z costs in numbers, and that the default chunk knows it."""

import pytest
import torch

import elboscope as es
from elboscope.core import values_per_sample
from elboscope.models import mlp_vae, pixelcnn_vae


@pytest.mark.parametrize(
    ("likelihood", "settings", "values"),
    [("bernoulli", {}, 784), ("gaussian", {"scale": 0.1}, 784), ("categorical", {}, 784 * 256)],
)
def test_the_numbers_of_a_distribution(likelihood, settings, values):
    model = mlp_vae((784,), 2, hidden=(8,), likelihood=likelihood, **settings)
    assert values_per_sample(model, torch.zeros(3, 784)) == values


def test_an_autoregressive_decoder_counts_its_feature_maps():
    model = pixelcnn_vae((1, 6, 6), 2)
    x = torch.zeros(2, 1, 6, 6)
    assert values_per_sample(model, x) >= 32 * 36
    assert values_per_sample(model, x) % 36 == 0


def test_a_chunk_of_a_categorical_decoder_stays_within_the_block():
    model = mlp_vae((64,), 2, hidden=(8,), likelihood="categorical")
    x = torch.zeros(16, 64)
    for estimator in (es.importance_sampling, es.evidence_lower_bound):
        found = estimator(model, x, 100, seed=0)
        assert found.settings["sample_chunk"] == 2**20 // (16 * 64 * 256)
    plain = mlp_vae((64,), 2, hidden=(8,))
    assert es.importance_sampling(plain, x, 100, seed=0).settings["sample_chunk"] == 100


def test_measuring_leaves_the_random_state_and_no_hook():
    model = mlp_vae((6,), 2, hidden=(8,))
    torch.manual_seed(3)
    before = torch.get_rng_state()
    values_per_sample(model, torch.zeros(1, 6))
    assert torch.equal(before, torch.get_rng_state())
    assert not any(m._forward_hooks for m in model.modules())


def test_the_contract_draws_no_image_from_an_autoregressive_decoder(monkeypatch):
    model = pixelcnn_vae((1, 6, 6), 2)
    kind = type(model.decode(torch.zeros(1, 2)))

    def refuse(*_):
        raise AssertionError("drawn")

    monkeypatch.setattr(kind, "sample", refuse)
    x = torch.zeros(3, 1, 6, 6)
    assert es.check_model(model, x).has_likelihood
