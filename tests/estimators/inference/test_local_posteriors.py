"""Pictures of single posteriors: found by the numbers, and their KLs are what was estimated."""

import math

import pytest
import torch
from torch.distributions import Independent, Normal

import elboscope as es
from elboscope.core import seeded
from elboscope.estimators import inference_gap
from elboscope.estimators.inference.flow_family import local_flow
from elboscope.estimators.inference.local_posteriors import (
    TYPICAL,
    _choose,
    local_posteriors,
    rows_of,
)

ERRORS = 4.0


@pytest.fixture(scope="module")
def gaussian():
    model = es.models.LinearGaussian.instance_1().with_mistuned_posterior(0.5)
    x, _ = model.sample(12, seed=1)
    return model, x, inference_gap(model, x, richer="full", num_samples=2000, seed=0)


def test_datapoints_are_found_by_their_gaps():
    amortisation = torch.tensor([1.0, 9.0, 1.1, 0.9, 1.0, 5.0]).double()
    approximation = torch.tensor([0.1, 0.2, 7.0, 0.1, 0.2, 3.0]).double()
    assert _choose(amortisation, approximation) == {
        1: "largest amortisation gap",
        2: "largest approximation gap",
        4: TYPICAL,
        0: TYPICAL,
    }
    both = _choose(amortisation[:2], approximation[:2])
    assert both == {1: "largest of both gaps", 0: TYPICAL}
    assert _choose(amortisation[:0], approximation[:0]) == {}


@pytest.mark.slow
def test_estimated_gaps_are_the_kls_on_the_grid(gaussian):
    model, x, gap = gaussian
    found = local_posteriors(model, x, gap, points=96, seed=0)
    assert len(found) == 4
    assert found[0].amortisation[0] == gap.amortisation.values.max()
    exact = model.log_likelihood(x)
    for one in found:
        assert one.log_px == pytest.approx(exact[one.row].item(), abs=1e-6)
        encoder, diagonal, full = one.approximations
        gap_of_q = (exact - model.elbo(x))[one.row].item()
        assert encoder.kl == pytest.approx(gap_of_q, abs=1e-6)
        assert diagonal.kl == pytest.approx(model.approximation_gap().item(), abs=2e-3)
        assert full.kl == pytest.approx(0, abs=2e-3)
        for q in one.approximations:
            assert abs(q.gap - q.kl) < ERRORS * q.gap_error + 1e-3, q.name


@pytest.mark.parametrize("std", [0.02, 1.0])
def test_a_sum_over_too_coarse_a_grid_is_no_kl(std):
    """A q narrower than a cell, or a posterior that is when a wide q is on the grid too."""
    best = es.models.LinearGaussian.instance_1()
    sharp = es.models.LinearGaussian(best.W, best.b, 0.5 if std < 1 else 1e-5)

    class Model:
        prior, decode = sharp.prior, sharp.decode

        def encode(self, x):
            mean = sharp.encode(x).mean.detach()
            return Independent(Normal(mean, torch.full_like(mean, std)), 1)

    x, _ = sharp.sample(3, seed=0)
    gap = inference_gap(Model(), x, richer=None, num_samples=1000, seed=0)
    for one in local_posteriors(Model(), x, gap, points=64, seed=0):
        assert math.isnan(one.approximations[0].kl)
        assert one.approximations[0].num_draws == 0


def test_the_picture_holds_the_mass_of_every_density(gaussian):
    model, x, gap = gaussian
    for one in local_posteriors(model, x, gap, points=96, seed=0):
        cell = (one.z1[1] - one.z1[0]) * (one.z2[1] - one.z2[0])
        for density in (one.density, *(q.density for q in one.approximations)):
            assert 0.98 < (density.sum() * cell).item() < 1 + 1e-6


@pytest.mark.slow
def test_a_trained_model_with_a_flow_agrees_with_its_grid():
    with seeded(0):
        x = (torch.rand(60, 1, 4, 4) < torch.linspace(0.1, 0.9, 16).reshape(1, 4, 4)).float()
        posterior = es.models.AuxiliaryRealNVP(hidden=8, context=8)
        model = es.models.mlp_vae((1, 4, 4), 2, (16,), "elu", posterior=posterior)
        optimiser = torch.optim.Adam(model.parameters(), 0.01)
        for _ in range(150):
            optimiser.zero_grad()
            es.core.log_weights(model, x, 4).mean().neg().backward()
            optimiser.step()
    gap = inference_gap(
        model, x[:6], "diagonal", richer=None, num_samples=2000, seed=0, max_steps=200
    )
    found = local_posteriors(model, x[:6], gap, num_draws=20_000, points=128, seed=0)
    for one in found:
        encoder, diagonal = one.approximations
        assert encoder.num_draws == 20_000
        assert math.isnan(encoder.kl)
        assert abs(diagonal.gap - diagonal.kl) < ERRORS * diagonal.gap_error + 1e-3
        cell = (one.z1[1] - one.z1[0]) * (one.z2[1] - one.z2[0])
        assert (encoder.density.sum() * cell).item() == pytest.approx(1, abs=0.03)
        # a q that is nearly right has nearly the posterior's density
        apart = ((encoder.density - one.density).abs().sum() * cell / 2).item()
        assert apart < 0.1 + math.sqrt(max(encoder.gap, 0) / 2), "Pinsker"


def test_rows_of_a_posterior_are_those_of_its_datapoints():
    with seeded(0):
        mean, std = torch.randn(5, 2), torch.rand(5, 2) + 0.1
    q = Independent(Normal(mean, std), 1)
    rows = torch.tensor([3, 1])
    z = torch.randn(7, 2, 2, generator=torch.Generator().manual_seed(0))
    expected = Independent(Normal(mean[rows], std[rows]), 1).log_prob(z)
    assert torch.equal(rows_of(q, rows).log_prob(z), expected)

    class Closed(torch.distributions.Distribution):
        def sample(self, sample_shape=()):
            return q.sample(sample_shape)

    closed = Closed(q.batch_shape, q.event_shape, validate_args=False)
    with seeded(0):
        drawn = rows_of(closed, rows).sample(torch.Size((4000,)))
    error = std[rows] / math.sqrt(4000)
    assert ((drawn.mean(0) - mean[rows]).abs() < ERRORS * error).all()


def test_rows_of_local_flows_are_their_own_flows():
    with seeded(0):
        mean, L = torch.randn(4, 2), torch.eye(2).repeat(4, 1, 1) * 0.1
    family = local_flow((2,), mean)
    q = family.distribution(family.around(mean, L))
    rows = torch.tensor([3, 1])
    z = rows_of(q, rows).sample(torch.Size((1000,)))
    assert ((z.mean(0) - mean[rows]).abs() < ERRORS * 0.1 / math.sqrt(1000)).all()


def test_the_gap_of_other_data_is_refused(gaussian):
    model, x, gap = gaussian
    with pytest.raises(es.core.InputError, match="gap: expected the inference gap of this x"):
        local_posteriors(model, x + 1, gap)
    with pytest.raises(es.core.InputError, match="gap: expected the inference gap of this x"):
        local_posteriors(model, x[:3], gap)
