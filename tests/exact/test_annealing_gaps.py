"""Gaps of AIS with exact transitions: closed forms of the conjugate model, and simulation."""

from __future__ import annotations

import math

import pytest
import torch

from elboscope.core import log_mean_exp, seeded
from elboscope.models.exact.linear_gaussian import LinearGaussian

MODEL = LinearGaussian.conjugate(sigma2=0.25)
x = torch.ones(1, 1, dtype=torch.float64)


def linear(T: int) -> torch.Tensor:
    return torch.linspace(0, 1, T + 1, dtype=torch.float64)


def sigmoid(T: int, delta: float = 4.0) -> torch.Tensor:
    raw = (delta * (2 * torch.arange(T + 1, dtype=torch.float64) / T - 1)).sigmoid()
    return (raw - raw[0]) / (raw[-1] - raw[0])


def test_log_likelihood():
    assert MODEL.log_likelihood(x).item() == pytest.approx(-1.4305103089, abs=5.1e-11)


@pytest.mark.parametrize(
    ("T", "forward", "reverse"),
    [
        (1, 2.79528, 0.724719),
        (5, 0.424141, 0.279859),
        (10, 0.195141, 0.156859),
        (100, 0.0177962, 0.0174038),
        pytest.param(1000, 0.00176196, 0.00175804, marks=pytest.mark.slow),
    ],
)
def test_linear_schedule(T, forward, reverse):
    betas = linear(T)
    assert MODEL.forward_gap(x, betas).item() == pytest.approx(forward, rel=3e-6)
    assert MODEL.reverse_gap(x, betas).item() == pytest.approx(reverse, rel=3e-6)
    width = MODEL.forward_gap(x, betas) + MODEL.reverse_gap(x, betas)
    assert width.item() == pytest.approx(3.52 / T, rel=1e-9)


@pytest.mark.parametrize(
    ("T", "forward", "reverse"), [(10, 0.201106, 0.162653), (100, 0.0183810, 0.0179913)]
)
def test_sigmoid_schedule(T, forward, reverse):
    assert MODEL.forward_gap(x, sigmoid(T)).item() == pytest.approx(forward, rel=3e-6)
    assert MODEL.reverse_gap(x, sigmoid(T)).item() == pytest.approx(reverse, rel=3e-6)


def test_width_of_a_linear_schedule_for_two_dimensions():
    """(E_post log p(x|z) − E_prior log p(x|z))/T, for any model."""
    model = LinearGaussian.instance_2()
    data, _ = model.sample(4, seed=0)
    width = model.forward_gap(data, linear(7)) + model.reverse_gap(data, linear(7))
    at_prior = model.reconstruction(data, model.with_prior_as_posterior().encode(data))
    expected = (model.reconstruction(data, model.posterior(data)) - at_prior) / 7
    torch.testing.assert_close(width, expected, atol=1e-11, rtol=0)


def test_gaps_are_those_of_simulated_chains():
    model, betas, R = LinearGaussian.instance_1(), linear(5), 100_000
    data, _ = model.sample(3, seed=0)
    with seeded(1), torch.no_grad():
        z = [model.tempered_posterior(data, beta).sample((R,)) for beta in betas.tolist()]
        log_lik = torch.stack([model.decode(draw).log_prob(data) for draw in z])
    steps = (betas[1:] - betas[:-1])[:, None, None]
    forward = (steps * log_lik[:-1]).sum(0)
    reverse = (steps * log_lik[1:]).sum(0)
    truth = model.log_likelihood(data)
    for simulated, exact in (
        (truth - forward, model.forward_gap(data, betas)),
        (reverse - truth, model.reverse_gap(data, betas)),
    ):
        z_score = (simulated.mean(0) - exact) / (simulated.std(0) / math.sqrt(R))
        assert z_score.abs().max() < 3.5
    assert (log_mean_exp(forward) - truth).abs().max() < 0.05
