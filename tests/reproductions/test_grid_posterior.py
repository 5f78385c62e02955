"""The grid against the generic quadrature, and entropies against a Gaussian posterior's."""

import math

import pytest
import torch

from elboscope.core import seeded
from elboscope.models.quadrature import grid_log_likelihood
from elboscope.reproductions.grid_posterior import GridPosterior, grid_posterior
from elboscope.reproductions.networks import burda_vae


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
    assert (fast.mass().sum(1) - 1).abs().max() < 1e-9


def test_entropies_of_a_gaussian_are_its_own_and_no_more_than_its_moments():
    axis = torch.linspace(-6, 6, 300, dtype=torch.float64)
    nodes = torch.cartesian_prod(axis, axis)
    log_cell = 2 * math.log(12 / 299)
    covariance = torch.tensor([[0.3, 0.1], [0.1, 0.2]], dtype=torch.float64)
    gaussian = torch.distributions.MultivariateNormal(torch.zeros(2).double(), covariance)
    two = torch.distributions.Normal(torch.tensor([-2.0, 2.0]).double(), 0.3)
    modes = torch.logsumexp(two.log_prob(nodes[:, :1]), 1) - math.log(2)
    other = modes + torch.distributions.Normal(0.0, 0.3).log_prob(nodes[:, 1])
    log_density = torch.stack([gaussian.log_prob(nodes), other])
    found = GridPosterior(log_density, nodes, log_cell, torch.zeros(2).double())
    exact, of_moments = found.entropy(), found.gaussian_entropy()
    assert exact[0] == pytest.approx(gaussian.entropy().item(), abs=1e-9)
    assert of_moments[0] == pytest.approx(gaussian.entropy().item(), abs=1e-9)
    # two modes: the entropy of one more bit of choice, and a Gaussian of variance 4.09
    one = math.log(2 * math.pi * math.e * 0.09)
    assert exact[1] == pytest.approx(one + math.log(2), abs=1e-6)
    assert of_moments[1] == pytest.approx(one + 0.5 * math.log(4.09 / 0.09), abs=1e-6)
    assert found.edge().max() < 1e-20


def test_mass_at_the_edge_is_seen():
    with seeded(0):
        x = torch.ones(1, 1, 2, 2)
        model = burda_vae(x, 2, (4,))
    wide, narrow = (grid_posterior(model, x, limit=limit, points=100) for limit in (6.0, 1.0))
    assert wide.edge().item() < 1e-6
    assert narrow.edge().item() > 0.01
