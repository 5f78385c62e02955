"""Density ratios of two Gaussians: what estimates, losses and gradients must be, exactly."""

from __future__ import annotations

import math

import pytest
import torch

from elboscope.core import InputError, seeded
from elboscope.models.exact.gaussian_pair import (
    FactorGaussian,
    draws,
    gaussian_kl,
    log_ratio_variance,
    optimal_logit,
    random_gaussian,
    rescaled,
)
from elboscope.objectives import discriminator_loss, reverse_kl_loss


def pair(dim, seed=0):
    return random_gaussian(dim, seed=2 * seed), random_gaussian(dim, seed=2 * seed + 1)


@pytest.mark.parametrize("dim", [1, 2, 10, 100])
@pytest.mark.parametrize("kl", [1.0, 10.0])
def test_a_rescaled_pair_has_the_divergence_asked_for(dim, kl):
    p, q = pair(dim)
    near = rescaled(p, q, kl)
    assert gaussian_kl(p, near).item() == pytest.approx(kl, abs=1e-10)
    same_mean = torch.distributions.MultivariateNormal(p.loc, scale_tril=near.scale_tril)
    assert gaussian_kl(p, same_mean) <= kl / 2 + 1e-10
    if gaussian_kl(p, torch.distributions.MultivariateNormal(p.loc, q.covariance_matrix)) < kl / 2:
        torch.testing.assert_close(near.covariance_matrix, q.covariance_matrix)
    shift, along = near.loc - p.loc, q.loc - p.loc
    torch.testing.assert_close(shift / shift.norm(), along / along.norm())


def test_a_divergence_that_no_pair_can_have_is_refused():
    p, q = pair(2)
    with pytest.raises(InputError, match=r"kl: expected a finite number of nats > 0; got -1"):
        rescaled(p, q, -1.0)
    with pytest.raises(InputError, match=r"q: expected another mean than that of p; got the same"):
        rescaled(p, p, 1.0)


@pytest.mark.parametrize("dim", [1, 2, 10])
def test_estimate_of_the_optimal_logit_covers_the_truth_with_the_error_of_theory(dim):
    """Over repetitions the mean of t* has the KL's mean, and sd_p(t*)/√S is its spread."""
    p, q = pair(dim, seed=3)
    S, repetitions = 500, 400
    with seeded(0):
        t = optimal_logit(p.sample((repetitions, S)), p, q)
    stderr = (log_ratio_variance(p, q) / S).sqrt()
    scores = (t.mean(1) - gaussian_kl(p, q)) / stderr
    assert abs(scores.mean()) < 3.5 / math.sqrt(repetitions)
    assert (scores.abs() < 1.96).double().mean() == pytest.approx(0.95, abs=0.04)
    assert scores.std().item() == pytest.approx(1.0, abs=0.15)


def test_float32_draws_have_the_law():
    law = random_gaussian(3, seed=5)
    with seeded(0):
        x = draws(law, 100_000).double()
    spread = (law.variance / len(x)).sqrt()
    assert ((x.mean(0) - law.mean).abs() < 4 * spread).all()
    torch.testing.assert_close(x.T.cov(), law.covariance_matrix, atol=0.03, rtol=0)


@pytest.mark.parametrize("dim", [1, 2, 10])
def test_gradient_of_the_generator_at_the_frozen_optimal_logit_is_that_of_the_divergence(dim):
    """t* is quadratic, so w = ±√m eᵢ, with the moments of N(0, I), make the expectation exact."""
    p = random_gaussian(dim, seed=0)
    q = FactorGaussian.random(dim, seed=1).double()
    m = 10 * dim
    w = math.sqrt(m) * torch.cat([torch.eye(m), -torch.eye(m)]).double()
    frozen = q.law()
    frozen = torch.distributions.MultivariateNormal(
        frozen.loc.detach(), scale_tril=frozen.scale_tril.detach()
    )
    loss = reverse_kl_loss(optimal_logit(q(w), p, frozen))
    assert loss.item() == pytest.approx(gaussian_kl(frozen, p).item(), rel=1e-10)
    ours = torch.autograd.grad(loss, (q.A, q.b))
    exact = torch.autograd.grad(gaussian_kl(q.law(), p), (q.A, q.b))
    for gradient, truth in zip(ours, exact, strict=True):
        torch.testing.assert_close(gradient, truth, atol=1e-10, rtol=1e-9)


def features(x):
    """1, x, and all products of two."""
    i, j = torch.triu_indices(x.shape[1], x.shape[1])
    return torch.cat([torch.ones_like(x[:, :1]), x, x[:, i] * x[:, j]], 1)


@pytest.mark.parametrize("dim", [1, 2])
def test_logistic_regression_on_quadratic_features_recovers_the_optimal_logit(dim):
    """Within its own asymptotic error: 4 standard errors of each of the coefficients."""
    p, q = pair(dim, seed=1)
    S = 20_000
    with seeded(0):
        x, y = features(p.sample((S,))), features(q.sample((S,)))
    a = torch.zeros(x.shape[1], dtype=torch.float64)

    def loss(a):
        return discriminator_loss(x @ a, y @ a)

    for _ in range(15):
        hessian = torch.autograd.functional.hessian(loss, a)
        a = a - torch.linalg.solve(hessian, torch.autograd.functional.jacobian(loss, a))
    points = torch.randn(50, dim, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    truth = torch.linalg.lstsq(features(points), optimal_logit(points, p, q)[:, None]).solution[
        :, 0
    ]
    inverse = torch.linalg.inv(torch.autograd.functional.hessian(loss, a))
    scores = [-(-(x @ a)).sigmoid()[:, None] * x, (y @ a).sigmoid()[:, None] * y]
    noise = torch.stack([score.T.cov() / S for score in scores]).sum(0)
    stderr = (inverse @ noise @ inverse).diagonal().sqrt()
    assert ((a - truth).abs() < 4 * stderr).all()
    assert (stderr < 0.2).all()
    assert abs((x @ a).mean() - gaussian_kl(p, q)) < 5 * (log_ratio_variance(p, q) / S).sqrt()


def test_the_generator_has_the_law_of_its_seed():
    q, law = FactorGaussian.random(4, seed=7), random_gaussian(4, seed=7)
    torch.testing.assert_close(q.law().covariance_matrix, law.covariance_matrix, atol=1e-6, rtol=0)
    torch.testing.assert_close(q.law().loc, law.loc, atol=1e-6, rtol=0)
    assert q.log_det() == pytest.approx(2 * law.scale_tril.diagonal().log().sum().item(), abs=1e-5)
    with seeded(0):
        x = q(torch.randn(50_000, 40)).double()
    torch.testing.assert_close(x.T.cov(), law.covariance_matrix, atol=0.04, rtol=0)


def test_a_singular_covariance_is_no_law_and_no_number_is_added_to_it():
    A = torch.tensor([[1.0, 2.0], [2.0, 4.0]])
    q = FactorGaussian(A, torch.zeros(2))
    assert q.log_det() == -math.inf or q.log_det() < -30
    with pytest.raises(InputError, match="AAᵀ: expected a covariance that is positive definite"):
        q.law()
    with pytest.raises(InputError, match=r"A: expected as many factors as dimensions"):
        FactorGaussian(torch.ones(3, 2), torch.zeros(3))
