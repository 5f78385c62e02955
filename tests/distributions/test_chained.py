"""Two layers as one distribution: its density, its draws, and what freezing stops."""

import math

import pytest
import torch
from torch import nn
from torch.distributions import Independent, MultivariateNormal, Normal

from elboscope.core import ContractError, seeded
from elboscope.distributions import Chained, detached
from elboscope.models import GaussianLayer, LinearChain

DOUBLE = torch.float64


def chain(freezing=False):
    """q(a|mu) q(b|a) with a network between them, and all its parameters."""
    with seeded(0):
        mu = nn.Parameter(torch.randn(3, 2, dtype=DOUBLE))
        layer = GaussianLayer(nn.Sequential(nn.Linear(2, 5), nn.Tanh(), nn.Linear(5, 6))).double()
    first = Independent(Normal(mu, 0.7 * torch.ones_like(mu)), 1)
    return Chained(first, layer, 3), mu, layer


def affine(first_last=False):
    """A chain that is one Gaussian: a ~ N(0, I), b|a ~ N(2a, 0.25)."""
    first = Independent(Normal(torch.zeros(1, dtype=DOUBLE), 1.0), 1)
    second = lambda a: Independent(Normal(2 * a, 0.5 * torch.ones_like(a)), 1)  # noqa: E731
    return Chained(first, second, 1, first_last=first_last)


@pytest.mark.parametrize("first_last", [False, True])
def test_an_affine_chain_is_the_gaussian_it_is(first_last):
    S = torch.tensor([[1.0, 2.0], [2.0, 4.25]], dtype=DOUBLE)
    truth = MultivariateNormal(torch.zeros(2, dtype=DOUBLE), S.flip(0, 1) if first_last else S)
    q = affine(first_last)
    with seeded(1):
        z = q.sample((20_000,))
    torch.testing.assert_close(q.log_prob(z), truth.log_prob(z))
    error = math.sqrt(2 * 4.25**2 / 20_000)
    assert (z.T.cov() - truth.covariance_matrix).abs().max() < 4 * error


def test_a_draw_scores_itself_as_log_prob_does():
    q, _, _ = chain()
    with seeded(2):
        z, log_q = q.rsample_and_log_prob(torch.Size((7,)))
    with seeded(2):
        again, frozen = q.rsample_and_log_prob(torch.Size((7,)), freeze=True)
    assert torch.equal(z, again)
    torch.testing.assert_close(log_q, q.log_prob(z))
    torch.testing.assert_close(frozen, q.log_prob(z))


def gradients(log_q, *wrt):
    return torch.autograd.grad(log_q.sum(), wrt, allow_unused=True)


def test_frozen_density_reaches_parameters_through_z_alone():
    q, mu, layer = chain()
    parameters = [mu, *layer.parameters()]
    with seeded(3):
        z, log_q = q.rsample_and_log_prob(torch.Size((4,)), freeze=True)
    (by_z,) = torch.autograd.grad(log_q.sum(), z, retain_graph=True)
    through_z = torch.autograd.grad(z, parameters, by_z, retain_graph=True)
    for mine, expected in zip(gradients(log_q, *parameters), through_z, strict=True):
        torch.testing.assert_close(mine, expected)


def test_frozen_at_fixed_z_has_no_gradient_for_either_layer_and_that_of_the_density_for_z():
    q, mu, layer = chain()
    parameters = [mu, *layer.parameters()]
    z = q.sample((4,)).requires_grad_()
    live = gradients(q.log_prob(z), z, *parameters)
    assert all(g is not None and g.abs().max() > 0 for g in live)
    with torch.no_grad():  # built without gradients, as core.sample_posterior's second encoding
        unborn = Chained(detached(q.first), layer, 3)
    for frozen in (q.frozen(), unborn):
        dead = gradients(frozen.log_prob(z), z, *parameters)
        assert dead[1:] == (None,) * len(parameters)
        torch.testing.assert_close(dead[0], live[0])


def test_three_layers_freeze_all_the_way_down():
    q, mu, layer = chain()
    top = GaussianLayer(nn.Linear(5, 2)).double()
    deep = Chained(q, top, 1)
    with seeded(4):
        z, log_q = deep.rsample_and_log_prob(torch.Size((4,)), freeze=True)
    assert z.shape == (4, 3, 6)
    torch.testing.assert_close(log_q, q.log_prob(z[..., :5]) + top(z[..., :5]).log_prob(z[..., 5:]))
    parameters = [mu, *layer.parameters(), *top.parameters()]
    dead = gradients(deep.frozen().log_prob(z.detach().requires_grad_()), *parameters)
    assert dead == (None,) * len(parameters)


def test_gradient_of_log_w_at_the_exact_posterior_vanishes_when_frozen_and_not_otherwise():
    model = LinearChain.instance()
    x, _ = model.sample(5, seed=0)
    phi = [*model.encoder_1.parameters(), *model.encoder_2.parameters()]
    largest = {}
    for freeze in (True, False):
        with seeded(5):
            z, log_q = model.encode(x).rsample_and_log_prob(torch.Size((3,)), freeze=freeze)
        log_w = model.prior().log_prob(z) + model.decode(z).log_prob(x) - log_q
        grads = torch.autograd.grad(log_w.sum(), phi)
        largest[freeze] = max(g.abs().max().item() for g in grads)
    assert largest[True] < 1e-12
    assert largest[False] > 0.1


def test_a_function_cannot_be_frozen_and_moments_are_unavailable():
    q = affine()
    with pytest.raises(ContractError, match=r"Chained\.second.*an nn\.Module.*function"):
        q.rsample_and_log_prob(torch.Size((2,)), freeze=True)
    for moment in ("mean", "variance"):
        with pytest.raises(NotImplementedError):
            getattr(q, moment)
