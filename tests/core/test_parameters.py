"""φ is what encode's graph reaches; θ is the rest."""

import pytest
import torch
from torch import nn
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal

from elboscope.core import ContractError, seeded, split_parameters
from elboscope.distributions import GaussianLikelihood
from elboscope.models import VAE, LinearGaussian, from_modules


def names(model, parameters):
    known = {id(p): n for n, p in model.named_parameters()}
    return {known[id(p)] for p in parameters}


X = torch.zeros(4, 3)


def pair(**settings):
    with seeded(0):
        return from_modules(
            nn.Linear(3, 4), nn.Linear(2, 3), likelihood="gaussian", scale=1.0, **settings
        )


def test_encoder_and_decoder():
    model = pair()
    phi, theta = split_parameters(model, X)
    assert names(model, phi) == {"encoder.weight", "encoder.bias"}
    assert names(model, theta) == {"decoder.weight", "decoder.bias"}


def test_a_learned_scale_is_the_decoders():
    model = from_modules(nn.Linear(3, 4), nn.Linear(2, 3), likelihood="gaussian", scale="learned")
    assert "likelihood.log_scale" in names(model, split_parameters(model, X)[1])


def test_tied_weights_are_counted_once_as_the_encoders():
    class Tied(nn.Module):
        def __init__(self, weight):
            super().__init__()
            self.weight = weight

        def forward(self, z):
            return z @ self.weight[:2]

    encoder = nn.Linear(3, 4)
    model = from_modules(encoder, Tied(encoder.weight), likelihood="gaussian", scale=1.0)
    phi, theta = split_parameters(model, X)
    assert {id(p) for p in phi} == {id(encoder.weight), id(encoder.bias)}
    assert theta == []


def test_a_vampprior_shares_the_encoder_and_owns_its_pseudo_inputs():
    class Vamp(nn.Module):
        def __init__(self, encoder):
            super().__init__()
            self.pseudo = nn.Parameter(torch.randn(5, 3))
            self.shared = [encoder]

        def forward(self):
            mu, lv = self.shared[0](self.pseudo).chunk(2, 1)
            parts = Independent(Normal(mu, (lv / 2).exp()), 1)
            return MixtureSameFamily(Categorical(torch.ones(5)), parts)

    encoder = nn.Linear(3, 4)
    model = VAE(
        encoder,
        nn.Linear(2, 3),
        GaussianLikelihood((3,), 1.0),
        latent_shape=(2,),
        data_shape=(3,),
        prior=Vamp(encoder),
    )
    phi, theta = split_parameters(model, X)
    assert names(model, phi) == {"encoder.weight", "encoder.bias"}
    assert names(model, theta) == {"given_prior.pseudo", "decoder.weight", "decoder.bias"}


def test_a_plain_object_has_the_parameters_its_graph_reaches():
    base = LinearGaussian.instance_1()
    free = nn.Parameter(torch.zeros((), dtype=torch.float64))

    class Plain:
        prior, encode = base.prior, base.encode

        def decode(self, z):
            p = base.decode(z)
            return Independent(Normal(p.mean + free, 1.0), 1)

    phi, theta = split_parameters(Plain(), X.double())
    assert {id(p) for p in phi} == {id(p) for p in base.encoder.parameters()}
    assert {id(p) for p in theta} == {id(base.W), id(base.b), id(free)}


def test_what_is_frozen_is_in_neither():
    model = pair()
    model.encoder.requires_grad_(False)
    phi, theta = split_parameters(model, X)
    assert phi == []
    assert names(model, theta) == {"decoder.weight", "decoder.bias"}
    with pytest.raises(ContractError, match="parameters: expected at least one that requires"):
        split_parameters(model.requires_grad_(False), X)


def test_it_works_without_gradients_and_leaves_the_random_state():
    state = torch.get_rng_state()
    model = pair()
    with torch.no_grad():
        phi, theta = split_parameters(model, X)
    assert (len(phi), len(theta)) == (2, 2)
    assert torch.equal(state, torch.get_rng_state())
    assert all(p.grad is None for p in model.parameters())
