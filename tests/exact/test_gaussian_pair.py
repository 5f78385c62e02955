"""Ratios, divergences and importance weights of two Gaussians against numbers and simulation."""

from __future__ import annotations

import math

import pytest
import torch
from torch.distributions import MultivariateNormal

from elboscope.core import InputError, seeded
from elboscope.models.exact.gaussian_pair import (
    chi_square,
    gaussian_kl,
    jensen_shannon,
    log_ratio_variance,
    optimal_logit,
    pareto_index,
    random_gaussian,
)
from elboscope.models.exact.quadrature import gauss_hermite, line


def normal(mean: float, std: float = 1.0) -> MultivariateNormal:
    return MultivariateNormal(
        torch.tensor([mean], dtype=torch.float64),
        scale_tril=torch.tensor([[std]], dtype=torch.float64),
    )


P, Q = normal(0.0), normal(1.0)


def test_unit_shift():
    x = torch.linspace(-3, 3, 7, dtype=torch.float64)[:, None]
    torch.testing.assert_close(optimal_logit(x, P, Q), 0.5 - x[:, 0], atol=1e-14, rtol=0)
    assert gaussian_kl(P, Q).item() == 0.5
    assert jensen_shannon(P, Q).item() == pytest.approx(0.11142148, abs=5.1e-9)


def test_least_cross_entropy_is_ln_2_minus_jensen_shannon():
    z, log_cell = line(14.0, 20_001)
    logit = optimal_logit(z[:, None], P, Q)
    loss = 0.5 * P.log_prob(z[:, None]).exp() * torch.nn.functional.softplus(-logit)
    loss = loss + 0.5 * Q.log_prob(z[:, None]).exp() * torch.nn.functional.softplus(logit)
    bce = loss.sum().item() * math.exp(log_cell)
    assert bce == pytest.approx(0.5817257, abs=5.1e-8)
    assert bce == pytest.approx(math.log(2) - jensen_shannon(P, Q).item(), abs=1e-12)


def test_divergences_of_equal_gaussians_vanish():
    for value in (gaussian_kl(P, P), jensen_shannon(P, P), chi_square(P, P), pareto_index(P, P)):
        assert abs(value.item()) < 1e-13


def test_logit_mean_and_variance_by_simulation():
    p, q = random_gaussian(5, seed=0), random_gaussian(5, seed=1)
    with seeded(2):
        t = optimal_logit(p.sample((200_000,)), p, q)
    stderr = (log_ratio_variance(p, q) / len(t)).sqrt()
    assert abs(t.mean() - gaussian_kl(p, q)) < 3.5 * stderr
    fourth = (t - t.mean()).pow(4).mean()
    assert abs(t.var() - log_ratio_variance(p, q)) < 3.5 * (fourth / len(t)).sqrt()


@pytest.mark.parametrize("s", [0.8, 0.9, 1.3])
@pytest.mark.parametrize("shift", [0.0, 0.4])
def test_chi_square_by_quadrature(s, shift):
    p, q = normal(0.0), normal(shift, s)
    z, log_cell = line(40.0, 80_001)
    second = (2 * p.log_prob(z[:, None]) - q.log_prob(z[:, None]) + log_cell).exp().sum()
    assert chi_square(p, q).item() == pytest.approx(second.item() - 1, rel=1e-10)


@pytest.mark.parametrize("dim", [1, 3])
@pytest.mark.parametrize("s", [0.5, 0.632, 0.8, 0.95])
def test_pareto_index_of_a_narrow_proposal_is_one_minus_its_variance(s, dim):
    zero = torch.zeros(dim, dtype=torch.float64)
    p = MultivariateNormal(zero, scale_tril=torch.eye(dim, dtype=torch.float64))
    q = MultivariateNormal(zero, scale_tril=s * torch.eye(dim, dtype=torch.float64))
    assert pareto_index(p, q).item() == pytest.approx(1 - s**2, abs=1e-13)
    assert (chi_square(p, q).item() == math.inf) == (1 - s**2 >= 0.5)
    assert pareto_index(q, p).item() == 0.0


@pytest.mark.parametrize(("n", "sheet", "tolerance"), [(10, 0.61, 0.10), (100, 5.58, 0.11)])
def test_divergence_of_random_gaussians(n, sheet, tolerance):
    expected = 0.5 * n * (n + 1) / (9 * n - 1)
    pairs = [
        (
            random_gaussian(n, mean_scale=0.0, seed=2 * i),
            random_gaussian(n, mean_scale=0.0, seed=2 * i + 1),
        )
        for i in range(20)
    ]
    kl = torch.stack([gaussian_kl(p, q) for p, q in pairs])
    assert abs(kl.mean() - expected) < 3.5 * kl.std() / math.sqrt(len(kl))
    assert abs(kl.mean().item() - sheet) < tolerance


@pytest.mark.slow
def test_divergence_of_random_gaussians_in_one_dimension():
    kl = torch.stack(
        [
            gaussian_kl(*(random_gaussian(1, mean_scale=0.0, seed=2 * i + j) for j in (0, 1)))
            for i in range(2000)
        ]
    )
    assert abs(kl.mean() - 0.125) < 3.5 * kl.std() / math.sqrt(len(kl))


@pytest.mark.slow
def test_divergence_of_random_gaussians_in_a_thousand_dimensions():
    p, q = (random_gaussian(1000, mean_scale=0.0, seed=seed) for seed in (0, 1))
    assert gaussian_kl(p, q).item() == pytest.approx(55.62, abs=0.4)
    assert log_ratio_variance(p, q).sqrt().item() == pytest.approx(11.7, abs=0.5)


def test_gradient_of_the_frozen_logit_is_that_of_the_divergence():
    """∇ of −E_q[t*] with t* = log p/q frozen equals ∇KL(q‖p): ∫ q ∇log q = 0."""
    mean = torch.tensor([0.7], dtype=torch.float64, requires_grad=True)
    std = torch.tensor([[0.6]], dtype=torch.float64, requires_grad=True)
    p, q = normal(0.0, 1.3), MultivariateNormal(mean, scale_tril=std)
    node, log_weight = gauss_hermite(50)
    frozen = MultivariateNormal(mean.detach(), scale_tril=std.detach())
    loss = -(log_weight.exp() * optimal_logit(mean + std[0] * node, p, frozen)).sum()
    through_logit = torch.autograd.grad(loss, (mean, std))
    exact = torch.autograd.grad(gaussian_kl(q, p), (mean, std))
    for ours, truth in zip(through_logit, exact, strict=True):
        torch.testing.assert_close(ours, truth, atol=1e-10, rtol=0)


def test_quadratic_features_are_enough():
    """Logistic regression on (1, x, x²) recovers the optimal logit: fitted by Newton on a grid."""
    p, q = normal(0.0), normal(1.0, 1.5)
    z, _ = line(12.0, 4001)
    features = torch.stack([torch.ones_like(z), z, z**2], 1)
    log_p, log_q = p.log_prob(z[:, None]), q.log_prob(z[:, None])
    a = torch.zeros(3, dtype=torch.float64)
    for _ in range(20):
        d = (features @ a).sigmoid()
        mass = log_p.exp() + log_q.exp()
        gradient = features.T @ (log_p.exp() - mass * d)
        a = a + torch.linalg.solve((features.T * (mass * d * (1 - d))) @ features, gradient)
    torch.testing.assert_close(features @ a, log_p - log_q, atol=1e-7, rtol=0)


def test_jensen_shannon_is_for_one_dimension():
    with pytest.raises(InputError, match=r"p of jensen_shannon: expected one dimension; got.*5"):
        jensen_shannon(random_gaussian(5, seed=0), random_gaussian(5, seed=1))
