"""Instances 1 and 2 of the method sheet, digit by digit, and the identities between them."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.distributions import Independent, Normal

from elboscope.core import (
    InputError,
    LatentVariableModel,
    effective_sample_size,
    log_mean_exp,
    log_weights,
    seeded,
    split_parameters,
)
from elboscope.models.exact.affine_encoder import AffineDiagonal, AffineFull
from elboscope.models.exact.linear_gaussian import LinearGaussian

x = torch.tensor([[1.0, -1.0, 0.5]], dtype=torch.float64)
ONE, TWO = LinearGaussian.instance_1(), LinearGaussian.instance_2()


def close(value: Tensor | float, truth: float, digits: int = 10) -> None:
    """Equal when rounded to the digits that the sheet prints."""
    value = torch.as_tensor(value).item()
    assert value == pytest.approx(truth, abs=0.51 * 10.0**-digits, rel=0)


def diagonal(mean: Tensor, variance: Tensor) -> Independent:
    return Independent(Normal(mean, variance.sqrt().expand_as(mean)), 1)


@torch.no_grad()
def bound(model: LinearGaussian, K: int, repeats: int = 400_000) -> tuple[float, float]:
    """L_K and its standard error by plain Monte Carlo: no row is used twice."""
    with seeded(0):
        rows = repeats // K
        log_w = log_weights(model, x, rows * K).reshape(K, rows)
    values = log_mean_exp(log_w)
    return values.mean().item(), values.std().item() / math.sqrt(rows)


def test_it_is_a_latent_variable_model():
    assert isinstance(ONE, LatentVariableModel)
    encoder, decoder = split_parameters(ONE, x)
    assert {id(p) for p in encoder} == {id(p) for p in ONE.encoder.parameters()}
    assert {id(p) for p in decoder} == {id(p) for p in (ONE.W, ONE.b, ONE.log_sigma2)}


@pytest.mark.parametrize(
    ("model", "precision"),
    [(ONE, [[3.58, 1.24], [1.24, 3.4]]), (TWO, [[3.58, 2.76], [2.76, 4.6]])],
)
def test_posterior_precision(model, precision):
    torch.testing.assert_close(
        model.posterior_precision, torch.tensor(precision, dtype=torch.float64), atol=1e-14, rtol=0
    )
    (a, rho), (_, b) = model.posterior_precision.tolist()
    close(model.approximation_gap(), -0.5 * math.log(1 - rho**2 / (a * b)), 13)


def test_instance_1_of_one_datapoint():
    close(ONE.posterior(x).mean[0, 0], 0.5085383, 7)
    close(ONE.posterior(x).mean[0, 1], -0.5972316, 7)
    close(ONE.log_likelihood(x), -3.6964690082)
    close(ONE.approximation_gap(), 0.0675221012)
    close(ONE.gap(x), 0.0675221012)
    close(ONE.elbo(x), -3.7639911095)
    close(ONE.reconstruction(x), -2.9200499, 7)
    close(ONE.kl(x), 0.8439412, 7)


def test_instance_1_elbo_of_any_gaussian():
    m, covariance = ONE.posterior(x).mean, ONE.posterior(x).covariance_matrix
    best = ONE.optimal_diagonal(x)
    close(ONE.elbo(x, best), -3.7639911095)
    close(ONE.elbo(x, ONE.with_prior_as_posterior().encode(x)), -5.6970948, 7)
    close(ONE.elbo(x, diagonal(m, covariance[0].diagonal())), -3.7735343, 7)
    shifted = m + torch.tensor([0.1, -0.1], dtype=torch.float64)
    close(ONE.elbo(x, diagonal(shifted, 1.3 * best.variance)), -3.8241268, 7)
    close(ONE.elbo(x, ONE.posterior(x)), -3.6964690082)


def test_instance_1_sick_encoders_are_those_distributions():
    sick = ONE.with_mistuned_posterior(torch.tensor([0.1, -0.1], dtype=torch.float64), 1.3)
    close(sick.elbo(x), -3.8241268, 7)
    close(sick.amortisation_gap(x), sick.gap(x).item() - 0.0675221012)
    close(ONE.with_prior_as_posterior().elbo(x), -5.6970948, 7)
    exact = ONE.with_exact_posterior()
    assert isinstance(exact.encoder, AffineFull)
    close(exact.gap(x), 0.0, 13)
    close(exact.importance_variance(x), 0.0, 12)
    close(exact.pareto_index(), 0.0, 12)


def test_instance_1_importance_weights():
    close(ONE.importance_variance(x), 0.2421557909)
    close(1 / (1 + ONE.importance_variance(x)), 0.80505, 5)
    close(ONE.pareto_index(), 0.355419, 6)
    rho = ONE.pareto_index()
    close(ONE.importance_variance(x), ((1 - rho**2) / (1 - 4 * rho**2).sqrt() - 1).item(), 12)


def test_instance_1_population():
    close(ONE.expected_kl(), 1.2081124988)
    close(ONE.mutual_information(), 1.1997738957)
    close(ONE.marginal_kl(), 0.0083386030)
    close(ONE.dimensionwise_kl().sum(), 0.0008844612)
    close(ONE.total_correlation(), 0.0074541419)
    close(ONE.expected_log_likelihood(), -4.3991418436)


def test_instance_2_of_one_datapoint():
    close(TWO.pareto_index(), 0.680, 3)
    close(TWO.log_likelihood(x), -3.9942076535)
    close(TWO.approximation_gap(), 0.3104782241)
    close(TWO.elbo(x), -4.3046858776)
    assert TWO.importance_variance(x).item() == math.inf


def test_instance_2_population():
    """Confirmed with 30 digits; the method sheet's last three differ by up to 5e-8."""
    close(TWO.expected_kl(), 1.1869440030)
    close(TWO.mutual_information(), 1.0739419403)
    close(TWO.marginal_kl(), 0.1130020627)
    close(TWO.dimensionwise_kl().sum(), 0.0273097207)
    close(TWO.total_correlation(), 0.0856923421)


L_K_1 = {2: -3.73402, 5: -3.71412, 8: -3.70834, 10: -3.70622, 50: -3.69869, 64: -3.69817}
L_K_2 = {2: -4.2051, 5: -4.1299, 10: -4.0914, 50: -4.0374, 64: -4.0323}


@pytest.mark.parametrize(
    ("K", "truth"), [*L_K_1.items(), pytest.param(1000, -3.69658, marks=pytest.mark.slow)]
)
def test_instance_1_importance_weighted_bounds(K, truth):
    value, stderr = bound(ONE, K, repeats=400_000 if K < 1000 else 2_000_000)
    assert abs(value - truth) < 3.5 * math.hypot(stderr, 3e-5)
    assert stderr < 1.5e-3


@pytest.mark.parametrize(
    ("K", "truth"), [*L_K_2.items(), pytest.param(1000, -4.0032, marks=pytest.mark.slow)]
)
def test_instance_2_importance_weighted_bounds(K, truth):
    value, stderr = bound(TWO, K, repeats=400_000 if K < 1000 else 2_000_000)
    assert abs(value - truth) < 3.5 * math.hypot(stderr, 2e-4)
    assert stderr < 4e-3


@pytest.mark.slow
def test_effective_sample_size_tends_to_its_closed_form():
    sick = ONE.with_mistuned_posterior(0.2, 1.2)
    data, _ = ONE.sample(8, seed=3)
    with seeded(1), torch.no_grad():
        log_w = log_weights(sick, data, 200_000)
    truth = 1 / (1 + sick.importance_variance(data))
    # ESS/K has a relative error of a few √(χ²/K).
    torch.testing.assert_close(
        effective_sample_size(log_w) / 200_000, truth.detach(), atol=0.02, rtol=0
    )


@pytest.mark.parametrize("model", [ONE, TWO, ONE.with_mistuned_posterior(0.3, 2.0)])
def test_population_values_are_the_means_over_the_models_own_data(model):
    data, _ = model.sample(200_000, seed=1)
    for values, truth in (
        (model.log_likelihood(data), model.expected_log_likelihood()),
        (model.kl(data), model.expected_kl()),
    ):
        stderr = values.std() / math.sqrt(len(values))
        assert abs(values.mean() - truth) < 3.5 * stderr
    assert model.marginal_kl() >= 0
    close(
        model.dimensionwise_kl().sum() + model.total_correlation(), model.marginal_kl().item(), 12
    )


def test_gap_and_elbo_make_up_log_likelihood():
    data, _ = ONE.sample(20, seed=2)
    for model in (ONE, TWO, ONE.with_exact_posterior(), ONE.with_prior_as_posterior()):
        torch.testing.assert_close(
            model.elbo(data) + model.gap(data), model.log_likelihood(data), atol=1e-12, rtol=0
        )


def test_the_best_factorised_gaussian_is_a_stationary_maximum():
    encoder = ONE.encoder
    loss = -ONE.elbo(ONE.sample(50, seed=0)[0]).mean()
    gradients = torch.autograd.grad(loss, list(encoder.parameters()))
    assert max(g.abs().max().item() for g in gradients) < 1e-12
    for shift, factor in ((0.05, 1.0), (0.0, 1.1), (0.0, 0.9)):
        assert ONE.with_mistuned_posterior(shift, factor).gap(x) > ONE.gap(x)


def test_aggregate_posterior_with_the_best_factorised_gaussian():
    inverse = torch.linalg.inv(ONE.posterior_precision)
    expected = torch.eye(2) - inverse + torch.diag(1 / ONE.posterior_precision.diagonal())
    torch.testing.assert_close(
        ONE.aggregate_posterior().covariance_matrix, expected, atol=1e-14, rtol=0
    )


def test_perfect_model_matches_its_prior_though_a_finite_mixture_does_not():
    model = LinearGaussian.perfect(20, 30)
    close(model.marginal_kl(), 0.0, 11)
    close(model.total_correlation(), 0.0, 11)
    close(model.approximation_gap(), 0.0, 11)
    close(model.mutual_information(), 10 * math.log(51), 10)
    data, _ = model.sample(1000, seed=0)
    # I(n; z) = log N, so that KL(q_N‖p) of a thousand datapoints is about 32 nats.
    assert (model.kl(data).mean() - math.log(1000)).item() == pytest.approx(32.3, abs=0.5)


def test_collapsed_units_add_nothing_to_any_term():
    padded = LinearGaussian(torch.cat([ONE.W, torch.zeros(3, 5).double()], 1), ONE.b, 0.5)
    for name in ("marginal_kl", "mutual_information", "expected_kl", "total_correlation"):
        close(getattr(padded, name)(), (getattr(ONE, name)()).item(), 13)
    close(padded.elbo(x), (ONE.elbo(x)).item(), 13)
    assert padded.dimensionwise_kl()[2:].abs().max() < 1e-14


def test_sampling_is_seeded_and_leaves_the_caller_alone():
    before = torch.get_rng_state()
    first, second = ONE.sample(5, seed=1)[0], ONE.sample(5, seed=1)[0]
    assert torch.equal(first, second)
    assert not torch.equal(first, ONE.sample(5, seed=2)[0])
    assert torch.equal(before, torch.get_rng_state())


def test_fit_reaches_the_maximum():
    truth = LinearGaussian.perfect(3, 8, sigma2=0.1, seed=1)
    data, _ = truth.sample(20_000, seed=0)
    fitted = LinearGaussian.fit(data, 3)
    best = fitted.log_likelihood(data).mean()
    gradients = torch.autograd.grad(best, [fitted.W, fitted.b, fitted.log_sigma2])
    assert max(g.abs().max().item() for g in gradients) < 1e-10
    # Twice the gain over the true parameters is χ² with 1 + 8 + 3·8 − 3 = 30 degrees of freedom.
    gain = 2 * len(data) * (best - truth.log_likelihood(data).mean())
    assert 11.0 < gain < 60.0
    close(fitted.marginal_kl(), 0.0, 10)


def test_fixed_noise_collapses_the_units_below_it():
    data, _ = LinearGaussian.perfect(4, 8, sigma2=0.1, seed=1).sample(5000, seed=0)
    eigenvalues = torch.linalg.eigvalsh(torch.cov(data.T, correction=0)).flip(0)
    sigma2 = eigenvalues[1:3].mean().item()
    fitted = LinearGaussian.fit(data, 4, sigma2=sigma2)
    active = fitted.W.norm(dim=0) > 0
    assert active.tolist() == [True, True, False, False]
    close(fitted.mutual_information(), 0.5 * ((eigenvalues[:2] / sigma2).log().sum()).item(), 10)
    close(fitted.encoder.log_variance.exp()[0], sigma2 / eigenvalues[0].item(), 10)


def test_float32_follows_its_loadings():
    model = LinearGaussian(ONE.W.float(), ONE.b.float(), 0.5)
    assert model.log_likelihood(x.float()).item() == pytest.approx(-3.6964690082, abs=1e-5)
    assert model.encode(x.float()).rsample().dtype == torch.float32


def test_affine_encoder_with_gradients_of_its_own():
    encoder = AffineDiagonal(torch.zeros(2, 3), torch.zeros(2), torch.full((2,), 4.0))
    torch.testing.assert_close(encoder.covariance, 4 * torch.eye(2))
    full = AffineFull(torch.zeros(2, 3), torch.zeros(2), torch.tensor([[2.0, 1.0], [1.0, 3.0]]))
    torch.testing.assert_close(full.covariance, torch.tensor([[2.0, 1.0], [1.0, 3.0]]))


def test_mistakes_are_named():
    W, b = ONE.W, ONE.b
    with pytest.raises(InputError, match=r"W and b .* expected \(D, d\) and \(D,\); got .*\(2,\)"):
        LinearGaussian(W, b[:2], 0.5)
    with pytest.raises(InputError, match=r"sigma2: expected a positive variance; got -1.0"):
        LinearGaussian(W, b, -1.0)
    data, _ = ONE.sample(10, seed=0)
    with pytest.raises(InputError, match=r"latent_dim: expected 1 to 2.*got 3"):
        LinearGaussian.fit(data, 3)
    flat = torch.cat([data[:, :1], data[:, :1], data[:, :1]], 1)
    with pytest.raises(InputError, match=r"x: expected variance outside its first 1.*rank 1"):
        LinearGaussian.fit(flat, 1)
