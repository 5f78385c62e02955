"""The discriminator that a hybrid carries: the best one gives the exact KL, a blind one nothing."""

import math

import pytest
import torch
from torch import nn
from torch.distributions import Independent, Normal, kl_divergence

import elboscope as es
from elboscope.core import InputError, seeded
from elboscope.estimators import discriminator_kl

DIM, SHIFT, WIDTH, NOISE = 3, 0.7, 0.5, 0.3
# x ~ N(SHIFT, WIDTH²) and q(z|x) = N(x, NOISE²), so that q(z) is known.
AGGREGATE = Independent(Normal(torch.full((DIM,), SHIFT), math.hypot(WIDTH, NOISE)), 1)
PRIOR = Independent(Normal(torch.zeros(DIM), 1.0), 1)


class Best(nn.Module):
    def forward(self, z):
        return PRIOR.log_prob(z) - AGGREGATE.log_prob(z)


class Blind(nn.Module):
    def forward(self, z):
        return torch.zeros(len(z))


class Known:
    def __init__(self, **adversaries):
        self.adversaries = nn.ModuleDict(adversaries)

    def prior(self):
        return PRIOR

    def encode(self, x):
        return Independent(Normal(x, NOISE), 1)

    def decode(self, z):
        return Independent(Normal(z, 1.0), 1)


def data(n=4000):
    with seeded(0):
        return SHIFT + WIDTH * torch.randn(n, DIM)


def test_the_best_discriminator_gives_the_exact_kl():
    found = discriminator_kl(Known(code=Best()), data(), seed=1)
    exact = kl_divergence(AGGREGATE, PRIOR).item()
    assert abs(found.kl.mean - exact) < 3 * found.kl.stderr < 0.05
    assert found.kl.side == "none"
    with seeded(2):
        z, code = PRIOR.sample((200_000,)), AGGREGATE.sample((200_000,))
    best = ((Best()(z) > 0).double().mean() + (Best()(code) < 0).double().mean()).item() / 2
    assert abs(found.accuracy.mean - best) < 4 * found.accuracy.stderr


def test_a_blind_one_reads_zero_where_the_mixture_sees_the_kl():
    model, x = Known(code=Blind()), data(1000)
    found = discriminator_kl(model, x, seed=1)
    assert (found.kl.mean, found.kl.stderr, found.accuracy.mean) == (0, 0, 0.5)
    mixture = es.marginal_kl(model, x, seed=1)
    exact = kl_divergence(AGGREGATE, PRIOR).item()
    assert mixture.mean == pytest.approx(exact, abs=0.1)
    assert exact > 1.3


def test_the_same_seed_the_same_value_and_the_models_mode_is_kept():
    model = es.models.mlp_hybrid((6,), 2, (8,), code_hidden=(8,)).train()
    x = torch.rand(300, 6)
    pair = [discriminator_kl(model, x, 3, seed=5).kl.values for _ in range(2)]
    assert torch.equal(*pair)
    assert model.training


def test_models_without_a_discriminator_of_codes_are_refused():
    with pytest.raises(InputError, match=r"model\.adversaries\['code'\]; got adversaries 'joint'"):
        discriminator_kl(Known(joint=Blind()), data(10))
    with pytest.raises(InputError, match="got no adversaries"):
        discriminator_kl(es.models.mlp_vae((3,), 2, hidden=(4,)), data(10))
