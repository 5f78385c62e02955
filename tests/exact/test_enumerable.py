"""Binary models by enumeration: probabilities, expectations, and bounds beneath them."""

from __future__ import annotations

import math

import pytest
import torch
from scipy.integrate import quad
from scipy.special import expit
from torch.distributions import Bernoulli

from elboscope.core import InputError, log_weights, seeded
from elboscope.models.exact.enumerable import EnumerableBernoulli
from elboscope.models.exact.quadrature import grid_log_likelihood


@pytest.mark.parametrize(("D", "d"), [(1, 1), (8, 1), (12, 1), (6, 2)])
def test_probabilities_sum_to_one(D, d):
    model = EnumerableBernoulli.random(D, d, seed=0)
    assert model.outcomes().unique(dim=0).shape == (2**D, D)
    total = model.log_likelihood(model.outcomes()).exp().sum().item()
    assert total == pytest.approx(1, abs=1e-12)


@pytest.mark.slow
def test_probabilities_of_twelve_bits_and_two_latents_sum_to_one():
    model = EnumerableBernoulli.random(12, 2, seed=0)
    log_p = model.log_likelihood(model.outcomes(), nodes=80)
    assert log_p.exp().sum().item() == pytest.approx(1, abs=1e-12)
    finer = model.log_likelihood(model.outcomes()[:64], nodes=200)
    torch.testing.assert_close(log_p[:64], finer, atol=1e-4, rtol=0)


def test_one_bit_against_adaptive_quadrature():
    model = EnumerableBernoulli(
        torch.tensor([[2.0]], dtype=torch.float64), torch.tensor([0.7], dtype=torch.float64)
    )
    density = lambda z: expit(2 * z + 0.7) * math.exp(-0.5 * z * z) / math.sqrt(2 * math.pi)  # noqa: E731
    truth, _ = quad(density, -12, 12, epsabs=1e-14, epsrel=1e-13)
    one = torch.ones(1, 1).double()
    error = [abs(model.log_likelihood(one, nodes).exp().item() - truth) for nodes in (25, 50, 200)]
    assert error[2] < 1e-13
    assert error[1] < error[0] / 20
    assert abs(grid_log_likelihood(model, one, limit=9.0).exp().item() - truth) < 1e-12


@pytest.mark.parametrize("d", [1, 2])
def test_gauss_hermite_agrees_with_the_grid(d):
    model = EnumerableBernoulli.random(5, d, seed=1)
    x = model.outcomes()[::5]
    grid = grid_log_likelihood(model, x, limit=9.0, points=600)
    torch.testing.assert_close(model.log_likelihood(x), grid, atol=1e-9, rtol=0)


def test_expected_log_likelihood_without_a_latent_is_minus_the_entropy():
    model = EnumerableBernoulli.random(6, 1, scale=0.0, seed=2)
    bits = Bernoulli(logits=model.b)
    assert model.expected_log_likelihood().item() == pytest.approx(
        -bits.entropy().sum().item(), abs=1e-12
    )
    uniform = torch.full((64,), 1 / 64, dtype=torch.float64)
    logits = model.b.detach()
    expected = (0.5 * logits - torch.nn.functional.softplus(logits)).sum().item()
    assert model.expected_log_likelihood(uniform).item() == pytest.approx(expected, abs=1e-12)


def test_expected_log_likelihood_is_the_mean_over_samples():
    model = EnumerableBernoulli.random(6, 2, seed=3)
    x, _ = model.sample(100_000, seed=0)
    index = (x * 2.0 ** torch.arange(6)).sum(1).long()
    log_p = model.log_likelihood(model.outcomes())[index]
    stderr = log_p.std() / math.sqrt(len(x))
    assert abs(log_p.mean() - model.expected_log_likelihood()) < 3.5 * stderr


def test_importance_weights_are_unbiased_and_their_logs_are_below():
    model = EnumerableBernoulli.random(6, 1, seed=3)
    x = model.outcomes()[::7]
    with seeded(0), torch.no_grad():
        log_w = log_weights(model, x, 100_000)
        truth = model.log_likelihood(x)
    ratio = (log_w - truth).exp()
    assert ((ratio.mean(0) - 1) / (ratio.std(0) / math.sqrt(len(ratio)))).abs().max() < 4.0
    assert (log_w.mean(0) < truth).all()


def test_mistake_is_named():
    with pytest.raises(InputError, match=r"W of EnumerableBernoulli: expected at most 12 rows.*13"):
        EnumerableBernoulli(torch.zeros(13, 1), torch.zeros(13))
