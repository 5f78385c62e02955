"""The Kalman filter's log p(x), and what particle filters must find with it."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.distributions import Normal

from elboscope.core import InputError, log_weights, seeded
from elboscope.models.exact.linear_toys import LinearGaussianStateSpace

x = torch.tensor([[0.5, -0.2, 1.0, 1.5, 0.3]], dtype=torch.float64)


@pytest.mark.parametrize(("noise", "truth"), [(0.5, -6.823135356), (1e-4, -6.358404350)])
def test_log_likelihood(noise, truth):
    model = LinearGaussianStateSpace(5, noise)
    assert model.log_likelihood(x).item() == pytest.approx(truth, abs=5.1e-10)


def test_filter_agrees_with_the_joint_gaussian():
    model = LinearGaussianStateSpace(5, 0.5)
    covariance = model.prior().covariance_matrix + 0.5 * torch.eye(5)
    joint = torch.distributions.MultivariateNormal(torch.zeros(5).double(), covariance)
    data = joint.sample((7,))
    torch.testing.assert_close(model.log_likelihood(data), joint.log_prob(data), atol=1e-12, rtol=0)


def test_smoothing_makes_every_weight_equal():
    model = LinearGaussianStateSpace(5, 0.5)
    with seeded(0), torch.no_grad():
        log_w = log_weights(model, x, 20)
    torch.testing.assert_close(log_w, model.log_likelihood(x).expand(20, 1), atol=1e-11, rtol=0)


@torch.no_grad()
def filtered(model: LinearGaussianStateSpace, K: int, runs: int, optimal: bool) -> Tensor:
    """log p̂ of particle filters that resample (multinomially) at every step, ``(runs,)``."""
    r, c = model.noise, model.transition
    predicted = torch.zeros(runs, K, dtype=torch.float64)
    total = torch.zeros(runs, dtype=torch.float64)
    for t, x_t in enumerate(x[0]):
        if optimal:
            z = Normal(predicted + (x_t - predicted) / (1 + r), (r / (1 + r)).sqrt()).sample()
            log_alpha = Normal(predicted, (1 + r).sqrt()).log_prob(x_t)
        else:
            z = predicted + torch.randn_like(predicted)
            log_alpha = Normal(z, r.sqrt()).log_prob(x_t)
        total += log_alpha.logsumexp(1) - math.log(K)
        if t < len(x[0]) - 1:
            ancestors = torch.multinomial(log_alpha.softmax(1), K, replacement=True)
            predicted = c * z.gather(1, ancestors)
    return total


@pytest.mark.parametrize(
    ("optimal", "K", "truth", "error"),
    [
        (False, 1, -18.17, 0.02),
        (False, 4, -7.578, 0.005),
        (False, 16, -6.949, 0.002),
        (False, 64, -6.855, 0.002),
        (True, 1, -6.990, 0.001),
        (True, 4, -6.889, 0.001),
        (True, 16, -6.841, 0.001),
        (True, 64, -6.827, 0.001),
    ],
)
def test_particle_filters(optimal, K, truth, error):
    model, runs = LinearGaussianStateSpace(5, 0.5), 400_000 // (K + 3)
    with seeded(K):
        values = filtered(model, K, runs, optimal)
    stderr = values.std().item() / math.sqrt(runs)
    assert abs(values.mean().item() - truth) < 3.5 * math.hypot(stderr, error)
    assert values.mean().item() - 3.5 * stderr < model.log_likelihood(x).item()


def test_mistake_is_named():
    with pytest.raises(InputError, match="noise: expected a positive variance; got 0"):
        LinearGaussianStateSpace(5, 0.0)
