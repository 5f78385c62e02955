"""The autoregressive prior: its covariance, and the least that a factorised posterior pays."""

import math

import pytest
import torch
from torch.distributions import MultivariateNormal
from torch.distributions.kl import kl_divergence

from elboscope.core import InputError, seeded
from elboscope.models import AutoregressivePrior, mlp_vae


@pytest.mark.parametrize(("n", "channels"), [(2, 1), (7, 1), (5, 3)])
def test_the_covariance_is_alpha_to_the_lag_in_each_channel(n, channels):
    L = AutoregressivePrior(0.8, channels).scale_tril(n * channels)
    lag = (torch.arange(n)[:, None] - torch.arange(n)).abs().double()
    truth = torch.block_diag(*[0.8**lag] * channels)
    assert torch.allclose(L @ L.T, truth, atol=1e-12)


@pytest.mark.parametrize("alpha", [0.1, 0.6, 0.95])
@pytest.mark.parametrize(("n", "channels"), [(2, 1), (3, 1), (10, 1), (6, 2)])
def test_the_committed_rate_is_the_least_kl_of_a_factorised_gaussian(alpha, n, channels):
    prior = AutoregressivePrior(alpha, channels)
    d = n * channels
    p = MultivariateNormal(torch.zeros(d).double(), scale_tril=prior.scale_tril(d))
    variance = 1 / p.precision_matrix.diagonal()

    def paid(mean, variance):
        return kl_divergence(MultivariateNormal(mean, torch.diag(variance)), p).item()

    best = paid(torch.zeros(d).double(), variance)
    assert best == pytest.approx(prior.committed_rate(d), abs=1e-10)
    with seeded(0):
        for _ in range(20):
            other = variance * (0.1 * torch.randn(d).double()).exp()
            assert paid(0.1 * torch.randn(d).double(), other) > best


def test_a_vae_pays_it_whatever_its_encoder_says():
    prior = AutoregressivePrior(0.9)
    model = mlp_vae((6,), 8, hidden=(8,), prior=prior)
    with seeded(0):
        x = torch.randn(200, 6)
    q, p = model.encode(x), model.prior()
    full = MultivariateNormal(q.mean, torch.diag_embed(q.variance))
    assert bool((kl_divergence(full, p) >= prior.committed_rate(8)).all())


def test_its_draws_follow_the_recursion():
    model = mlp_vae((6,), 4, hidden=(8,), prior=AutoregressivePrior(0.7))
    with seeded(0):
        z = model.prior().sample((40_000,)).double()
    noise = z[:, 1:] - 0.7 * z[:, :-1]
    error = (1 - 0.49) * math.sqrt(2 / 40_000)
    assert bool((noise.var(0) - (1 - 0.49)).abs().max() < 4 * error)
    assert bool((noise * z[:, :-1]).mean(0).abs().max() < 4 * math.sqrt(0.51 / 40_000))


def test_errors_name_what_came():
    with pytest.raises(InputError, match=r"alpha: expected a number in \(0, 1\); got 1.0"):
        AutoregressivePrior(1.0)
    with pytest.raises(InputError, match="channels: expected at least 1; got 0"):
        AutoregressivePrior(0.5, 0)
    with pytest.raises(InputError, match="latent_dim: expected a multiple of the 3 channels, two"):
        mlp_vae((6,), 8, hidden=(8,), prior=AutoregressivePrior(0.5, 3))
