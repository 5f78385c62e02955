"""The grid against closed forms and, where there are none, against importance sampling."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Bernoulli, Independent, Normal

from elboscope.core import InputError, log_mean_exp, log_mean_exp_stderr, log_weights, seeded
from elboscope.models.exact.linear_gaussian import LinearGaussian
from elboscope.models.exact.quadrature import gauss_hermite, grid_log_likelihood


class TwoLatents(nn.Module):
    """A nonlinear decoder with two latents; its posterior is a guess that covers."""

    def __init__(self) -> None:
        super().__init__()
        with seeded(0):
            self.net = nn.Sequential(nn.Linear(2, 20), nn.Tanh(), nn.Linear(20, 16)).double()
            for parameter in self.net.parameters():
                nn.init.normal_(parameter, std=0.6)

    def prior(self) -> Independent:
        return Independent(Normal(torch.zeros(2).double(), torch.ones(2).double()), 1)

    def decode(self, z: Tensor) -> Independent:
        return Independent(Bernoulli(logits=self.net(z)), 1)

    def encode(self, x: Tensor) -> Independent:
        zero = torch.zeros(len(x), 2).to(x)
        return Independent(Normal(zero, torch.ones_like(zero)), 1)


@pytest.mark.parametrize("model", [LinearGaussian.instance_1(), LinearGaussian.instance_2()])
def test_linear_gaussian(model):
    x, _ = model.sample(5, seed=0)
    torch.testing.assert_close(
        grid_log_likelihood(model, x), model.log_likelihood(x), atol=1e-7, rtol=0
    )


def test_one_latent():
    model = LinearGaussian.conjugate(sigma2=0.25)
    x, _ = model.sample(5, seed=0)
    torch.testing.assert_close(
        grid_log_likelihood(model, x), model.log_likelihood(x), atol=1e-7, rtol=0
    )


@pytest.mark.slow
def test_any_decoder_against_importance_sampling():
    model = TwoLatents()
    with seeded(1), torch.no_grad():
        x = model.decode(model.prior().sample((10,))).sample()
        log_w = log_weights(model, x, 100_000)
    grid = grid_log_likelihood(model, x)
    z_score = (log_mean_exp(log_w) - grid) / log_mean_exp_stderr(log_w)
    assert z_score.abs().max() < 4.0
    assert (log_mean_exp(log_w[:5000]) - grid).abs().mean() < 0.1
    assert (log_mean_exp(log_w) - grid).abs().mean() < 0.01


def test_gauss_hermite_moments():
    z, log_w = gauss_hermite(200, 2)
    mass = log_w.exp()
    assert mass.sum().item() == pytest.approx(1, abs=1e-12)
    assert (mass * z[:, 0] ** 2 * z[:, 1] ** 4).sum().item() == pytest.approx(3, abs=1e-11)


def test_three_latents_are_refused():
    model = LinearGaussian.perfect(3, 4)
    x, _ = model.sample(2, seed=0)
    with pytest.raises(InputError, match=r"the model's latent space: expected at most 2.*\(3,\)"):
        grid_log_likelihood(model, x)
