"""The grid that all images share against the generic quadrature, and against a grid each."""

import pytest
import torch

from elboscope import estimators
from elboscope.core import seeded
from elboscope.models.exact.quadrature import grid_log_likelihood
from elboscope.reproductions.burda2016.posteriors import grid_posterior
from elboscope.reproductions.frame.training import burda_vae


@pytest.fixture
def model_and_x():
    with seeded(0):
        x = (torch.rand(4, 1, 3, 3) < 0.5).float()
        model = burda_vae(x, 2, (8,))
        for p in model.decoder.parameters():
            p.data.mul_(3.0)
    return model, x


def test_log_px_is_that_of_the_generic_sum(model_and_x):
    model, x = model_and_x
    fast = grid_posterior(model, x, limit=6.0, points=120)
    slow = grid_log_likelihood(model.double(), x.double(), limit=6.0, points=120)
    assert (fast.log_px - slow).abs().max() < 1e-5  # float32 logits
    assert (fast.mass().sum((1, 2)) - 1).abs().max() < 1e-9


def test_entropies_are_those_of_a_grid_for_each_image(model_and_x):
    model, x = model_and_x
    shared, each = grid_posterior(model, x, points=200), estimators.grid_posterior(model, x)
    assert (shared.log_px - each.log_px).abs().max() < 1e-5  # float32 logits
    assert (shared.entropy() - each.entropy()).abs().max() < 1e-4


def test_mass_at_the_edge_is_seen():
    with seeded(0):
        x = torch.ones(1, 1, 2, 2)
        model = burda_vae(x, 2, (4,))
    wide, narrow = (grid_posterior(model, x, limit=limit, points=100) for limit in (6.0, 1.0))
    assert wide.edge().item() < 1e-6
    assert narrow.edge().item() > 0.01
