"""The KL weight that an encoder's widths imply, against encoders that are optimal for a known β."""

import math

import pytest
import torch
from torch import nn
from torch.distributions import Independent, Laplace

import elboscope as es
from elboscope.core import ContractError, seeded
from elboscope.estimators import implied_kl_weight
from elboscope.models import LinearGaussian


def optimal_for(beta, d=3, D=12, sigma2=0.1):
    """The encoder that maximises E log p(x|z) − β KL: variance 1/(1 + ‖W_j‖²/(β σ²))."""
    model = LinearGaussian.perfect(d, D, sigma2=sigma2)
    snr = model.W.detach().square().sum(0) / sigma2
    return model, model.with_mistuned_posterior(0.0, (1 + snr) / (1 + snr / beta))


@pytest.mark.parametrize("beta", [0.05, 1.0, 4.0, 64.0])
def test_the_weight_of_a_beta_vae_is_found(beta):
    model, encoder = optimal_for(beta)
    z_scores = []
    for seed in range(40):
        x, _ = model.sample(150, seed=seed)
        found = implied_kl_weight(encoder, x, seed=seed)
        z_scores.append((found.mean - beta) / found.stderr)
    z = torch.tensor(z_scores)
    assert abs(z.mean()) < 3.5 / math.sqrt(40)
    assert 0.5 < z.square().mean() < 1.8


def test_a_trained_network_remembers_its_weight_by_its_last_bias():
    """Amortised and of another likelihood: what holds is the sum over the data trained on."""
    with seeded(0):
        x = torch.bernoulli(torch.rand(60, 8).round() * 0.8 + 0.1)
        model = es.models.mlp_vae((8,), 2, hidden=(16,))
        optimiser = torch.optim.Adam(model.parameters(), 1e-2)
        for _ in range(600):
            optimiser.zero_grad()
            es.objectives.beta_elbo(model, x, 0.3, 4).loss.backward()
            optimiser.step()
    found = implied_kl_weight(model, x, 64, seed=1)
    assert found.mean == pytest.approx(0.3, abs=0.05)


def test_a_collapsed_posterior_remembers_nothing():
    model = LinearGaussian.perfect(2, 6, sigma2=0.1).with_prior_as_posterior()
    with pytest.raises(ContractError, match=r"the prior itself, to which any KL weight leads"):
        implied_kl_weight(model, torch.zeros(20, 6), seed=0)


class LaplaceEncoder(nn.Module):
    """A factorised posterior that is no Gaussian."""

    def __init__(self, model):
        super().__init__()
        self.prior, self.decode, self.b = model.prior, model.decode, model.b

    def encode(self, x):
        return Independent(Laplace(x[:, :2], torch.ones_like(x[:, :2])), 1)


def test_other_families_are_refused():
    model = LinearGaussian.perfect(2, 6, sigma2=0.1)
    with pytest.raises(ContractError, match=r"factorised Gaussians, whose widths balance"):
        implied_kl_weight(LaplaceEncoder(model), torch.zeros(4, 6), seed=0)
