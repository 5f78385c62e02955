"""Posteriors on a grid: against exact Gaussians, two modes, narrow ones, and other quadratures."""

import math
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.distributions import Independent, MultivariateNormal, Normal

import elboscope as es
from elboscope.core import seeded
from elboscope.estimators.inference.grid import (
    GridPosterior,
    density_of_draws,
    grid_posterior,
    log_density_at,
)
from elboscope.models.exact.quadrature import grid_log_likelihood


class TwoModes(nn.Module):
    """x = (z₁², z₂) + noise: for x₁ > 0 the posterior sits at ±√x₁."""

    def __init__(self, scale=0.1, dtype=torch.float64):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(scale, dtype=dtype))

    def prior(self):
        zero = self.scale.new_zeros(2)
        return Independent(Normal(zero, torch.ones_like(zero)), 1)

    def decode(self, z):
        mean = torch.stack([z[..., 0] ** 2, z[..., 1]], -1)
        return Independent(Normal(mean, self.scale.expand_as(mean)), 1)


def test_a_gaussian_posterior_is_found_whole_and_so_are_kls_to_it():
    model = es.models.LinearGaussian.instance_1().with_mistuned_posterior(0.5)
    x, _ = model.sample(20, seed=0)
    q = model.encode(x)
    found = grid_posterior(model, x, beside=[q])
    assert (found.log_px - model.log_likelihood(x)).abs().max() < 1e-9
    assert found.edge().max() < 1e-9
    assert found.quadrature_error().max() < 1e-9
    log_q = log_density_at(q, found)
    assert (found.share(log_q) - 1).abs().max() < 1e-9
    gap = model.log_likelihood(x) - model.elbo(x)
    assert (found.kl(log_q) - gap).abs().max() < 1e-9
    posterior = model.posterior(x)
    mean, covariance = found.moments()
    assert (mean - posterior.mean).abs().max() < 1e-9
    assert (covariance - posterior.covariance_matrix).abs().max() < 1e-9
    assert (found.kl(log_density_at(posterior, found))).abs().max() < 1e-9
    assert (found.entropy() - posterior.entropy()).abs().max() < 1e-9


@pytest.mark.parametrize("scale", [0.3, 0.02, pytest.param(0.004, marks=pytest.mark.slow)])
def test_both_modes_are_there_however_narrow(scale):
    model, x = TwoModes(scale), torch.tensor([[1.0, 0.5], [2.0, -1.0]], dtype=torch.float64)
    found = grid_posterior(model, x, points=1600 if scale < 0.02 else 400)
    mean, covariance = found.moments()
    assert mean[:, 0].abs().max() < 1e-3  # both of them, alike
    assert covariance[:, 0, 0].tolist() == pytest.approx([1.0, 2.0], rel=0.2)
    assert found.quadrature_error().max() < 0.05  # of every other node
    if scale == 0.3:
        slow = grid_log_likelihood(model, x, limit=6.0, points=800)
        assert (found.log_px - slow).abs().max() < 1e-9


def test_a_posterior_beyond_the_priors_reach_is_followed():
    model, x = TwoModes(0.05), torch.tensor([[1.0, 30.0]], dtype=torch.float64)
    found = grid_posterior(model, x)
    assert found.moments()[0][0, 1].item() == pytest.approx(30 / (1 + 0.05**2), abs=1e-6)
    assert found.edge().item() < 1e-9


def test_a_prior_that_cannot_be_expanded_will_do():
    class Plain(torch.distributions.Distribution):
        arg_constraints = {}  # noqa: RUF012
        base = Independent(Normal(torch.zeros(2).double(), torch.ones(2).double()), 1)

        def __init__(self):
            super().__init__(torch.Size(), torch.Size((2,)), validate_args=False)

        def sample(self, sample_shape=()):
            return self.base.sample(sample_shape)

        def log_prob(self, value):
            return self.base.log_prob(value)

    class Model:
        prior = Plain
        decode = staticmethod(es.models.LinearGaussian.instance_1().decode)

    model = es.models.LinearGaussian.instance_1()
    x, _ = model.sample(3, seed=0)
    assert (grid_posterior(Model(), x).log_px - model.log_likelihood(x)).abs().max() < 1e-9


def test_a_grid_too_coarse_says_so():
    model, x = TwoModes(0.002), torch.tensor([[1.0, 0.5]], dtype=torch.float64)
    assert grid_posterior(model, x, points=64).quadrature_error().item() > 0.05


def test_entropies_of_a_gaussian_are_its_own_and_no_more_than_its_moments():
    axis = torch.linspace(-6, 6, 300, dtype=torch.float64).expand(2, -1)
    covariance = torch.tensor([[0.3, 0.1], [0.1, 0.2]], dtype=torch.float64)
    gaussian = MultivariateNormal(torch.zeros(2).double(), covariance)
    two = Normal(torch.tensor([-2.0, 2.0]).double(), 0.3)
    grid = GridPosterior(torch.zeros(2, 300, 300).double(), axis, axis, torch.zeros(2).double())
    z = grid.nodes()[:, 0]
    modes = torch.logsumexp(two.log_prob(z[:, :1]), 1) - math.log(2)
    other = modes + Normal(0.0, 0.3).log_prob(z[:, 1])
    found = replace(
        grid, log_density=torch.stack([gaussian.log_prob(z), other]).reshape(2, 300, 300)
    )
    exact, of_moments = found.entropy(), found.gaussian_entropy()
    assert exact[0] == pytest.approx(gaussian.entropy().item(), abs=1e-9)
    assert of_moments[0] == pytest.approx(gaussian.entropy().item(), abs=1e-9)
    # two modes: the entropy of one more bit of choice, and a Gaussian of variance 4.09
    one = math.log(2 * math.pi * math.e * 0.09)
    assert exact[1] == pytest.approx(one + math.log(2), abs=1e-6)
    assert of_moments[1] == pytest.approx(one + 0.5 * math.log(4.09 / 0.09), abs=1e-6)
    assert found.edge().max() < 1e-20


def test_draws_make_the_density_they_come_from_a_little_wider():
    axis = torch.linspace(-5, 5, 201, dtype=torch.float64)
    with seeded(0):
        z = torch.randn(40_000, 2) * torch.tensor([1.0, 0.5])
    density = density_of_draws(z, axis, axis, 0.1)
    grid = GridPosterior(density.log()[None], axis[None], axis[None], torch.zeros(1).double())
    assert grid.mass().sum().item() == pytest.approx(1, abs=1e-3)
    variances = grid.moments()[1][0].diagonal()
    assert variances.tolist() == pytest.approx([1 + 0.01, 0.25 + 0.01], rel=0.03)
    exact = math.exp(0) / (2 * math.pi * math.sqrt(1.01 * 0.26))
    assert density[100, 100].item() == pytest.approx(exact, rel=0.06)


def test_other_numbers_of_latents_are_refused():
    model = es.models.Bimodal(0.3)
    with pytest.raises(
        es.core.InputError, match=r"latent space: expected two latents.*got event shape"
    ):
        grid_posterior(model, torch.ones(1, 1, dtype=torch.float64))
    plane = es.models.LinearGaussian.instance_1()
    with pytest.raises(es.core.InputError, match="points: expected at least 8"):
        grid_posterior(plane, torch.zeros(1, 3, dtype=torch.float64), points=4)


def test_data_of_another_shape_or_support_are_refused():
    plane = es.models.LinearGaussian.instance_1()
    with pytest.raises(es.core.InputError, match=r"x: expected datapoints of shape \(3,\).*\(9,\)"):
        grid_posterior(plane, torch.zeros(2, 9, dtype=torch.float64))
    bernoulli = es.models.mlp_vae((4,), 2, hidden=(3,))
    with pytest.raises(es.core.InputError, match="x: "):
        grid_posterior(bernoulli, torch.full((2, 4), -1.0))


def test_a_condition_goes_with_its_datapoint():
    class Shifted(TwoModes):
        def given(self, c):
            shifted = Shifted()
            shifted.scale, shifted.c = self.scale, c
            return shifted

        def decode(self, z):
            mean = z + getattr(self, "c", 0.0)
            return Independent(Normal(mean, self.scale.expand_as(mean)), 1)

    model, c = Shifted(0.5), torch.tensor([[0.0, 0.0], [1.0, -2.0]], dtype=torch.float64)
    found = grid_posterior(model, torch.zeros(2, 2, dtype=torch.float64), condition=c)
    assert (found.moments()[0] + c / 1.25).abs().max() < 1e-9
