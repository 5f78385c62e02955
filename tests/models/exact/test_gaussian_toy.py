"""The toy of Rainforth et al.: its exact density, posterior, optimum and weight variance."""

import math

import torch

from elboscope.core import log_mean_exp, log_weights, seeded
from elboscope.models import GaussianToy
from elboscope.models.exact.gaussian_pair import chi_square, full_covariance


def test_log_likelihood_is_joint_minus_posterior() -> None:
    x = GaussianToy.data(5, 3, seed=0)
    model = GaussianToy.fitted(x, perturbation=0.5, seed=1)
    z = torch.randn(5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    joint = model.prior().log_prob(z) + model.decode(z).log_prob(x)
    difference = joint - model.posterior(x).log_prob(z) - model.log_likelihood(x)
    assert difference.abs().max() < 1e-12


def test_optimum_has_the_posterior_mean_and_the_largest_likelihood() -> None:
    x = GaussianToy.data(50, 4, seed=0)
    best = GaussianToy.fitted(x)
    assert torch.allclose(best.encode(x).mean, best.posterior(x).mean)
    (slope,) = torch.autograd.grad(best.log_likelihood(x).sum(), best.mu)
    assert slope.abs().max() < 1e-12


def test_weights_have_the_variance_that_is_told() -> None:
    x = GaussianToy.data(1, seed=0)
    model = GaussianToy.fitted(x)
    chi2 = chi_square(model.posterior(x), full_covariance(model.encode(x))).item()
    assert abs(chi2 - 0.90672) < 5e-6
    with seeded(0), torch.no_grad():
        log_w = log_weights(model, x, 200_000)
    error = math.sqrt(chi2 / 200_000)
    assert abs(log_mean_exp(log_w) - model.log_likelihood(x)).item() < 3.5 * error


def test_near_and_far_are_perturbed_by_that_much() -> None:
    x = GaussianToy.data(10, seed=0)
    best, far = GaussianToy.fitted(x), GaussianToy.fitted(x, perturbation=0.5, seed=3)
    step = torch.cat(
        [(p - q).flatten() for p, q in zip(far.parameters(), best.parameters(), strict=True)]
    )
    assert abs(step.std().item() / 0.5 - 1) < 3.5 / math.sqrt(2 * len(step))
