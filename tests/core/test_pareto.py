"""The tail index of weights whose tail is known, and the value after smoothing."""

import math

import pytest
import torch

from elboscope.core import log_mean_exp, log_weights, pareto_smoothed, seeded
from elboscope.models import LinearGaussian


def exponential_tail(k, K, B=1, seed=0):
    """log w = k·Exp(1): w is Pareto with index k, and mean 1/(1 − k)."""
    with seeded(seed):
        return k * torch.empty(K, B, dtype=torch.float64).exponential_()


@pytest.mark.parametrize("k", [0.2, 0.5, 0.7, 1.0, 1.5])
def test_the_index_is_that_of_the_tail(k):
    khat = pareto_smoothed(exponential_tail(k, 20_000, 8)).khat
    assert khat.mean().item() == pytest.approx(k, abs=0.06)
    assert (khat - k).abs().max() < 0.2


def test_the_sign_trap_a_disaster_is_never_excellent():
    """Smoothing the other tail of these weights gives k̂ ≈ −1, 'excellent'."""
    log_w = exponential_tail(1.2, 20_000, 4)
    assert (pareto_smoothed(log_w).khat > 0.9).all()
    assert (pareto_smoothed(-log_w).khat < 0).all()  # weights bounded above: no heavy tail


@pytest.mark.parametrize(
    ("model", "k"),
    [(LinearGaussian.instance_1(), 0.355419), (LinearGaussian.instance_2(), 0.680)],
)
def test_the_linear_gaussian_models_have_their_known_index(model, k):
    x = torch.tensor([[1.0, -1.0, 0.5]], dtype=torch.float64).expand(6, 3)
    with seeded(0), torch.no_grad():
        khat = pareto_smoothed(log_weights(model, x, 50_000)).khat
    assert khat.mean().item() == pytest.approx(k, abs=0.1)


def test_the_smoothed_value_is_nearer_to_the_truth_than_the_plain_one_for_heavy_tails():
    k = 0.7
    log_w = exponential_tail(k, 1000, 300, seed=1)
    truth = -math.log(1 - k)
    smooth, plain = pareto_smoothed(log_w).log_mean, log_mean_exp(log_w)
    assert (smooth - truth).square().mean() < 0.8 * (plain - truth).square().mean()


def test_the_smoothed_value_of_light_tails_is_the_truth_in_its_error():
    model = LinearGaussian.instance_1()
    x = torch.tensor([[1.0, -1.0, 0.5]], dtype=torch.float64).expand(50, 3)
    with seeded(0), torch.no_grad():
        value = pareto_smoothed(log_weights(model, x, 4000)).log_mean
    z = (value.mean() + 3.6964690082) / (value.std() / 50**0.5)
    assert z.abs() < 4


def test_shifting_the_weights_shifts_the_value_and_nothing_else():
    log_w = exponential_tail(0.4, 2000, 3)
    a, b = pareto_smoothed(log_w), pareto_smoothed(log_w - 5000)
    torch.testing.assert_close(a.khat, b.khat, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(a.log_mean - 5000, b.log_mean, rtol=0, atol=1e-6)


def test_equal_weights_are_the_best_case_and_keep_their_value():
    found = pareto_smoothed(torch.full((100, 2), -7.5))
    assert found.khat.tolist() == [-math.inf, -math.inf]
    assert found.log_mean.tolist() == [-7.5, -7.5]


def test_the_largest_weights_may_all_be_equal():
    """Few discrete latents: the same weights come again and again."""
    log_w = torch.tensor([0.3, -1.0], dtype=torch.float64).repeat(500)[:, None]
    found = pareto_smoothed(log_w)
    assert found.khat.item() == -math.inf
    torch.testing.assert_close(found.log_mean, log_mean_exp(log_w))


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_has_no_index_and_does_not_spoil_its_neighbour(bad):
    log_w = exponential_tail(0.3, 1000, 2)
    whole = pareto_smoothed(log_w)
    log_w[17, 0] = bad
    found = pareto_smoothed(log_w)
    assert found.khat[0].isnan()
    assert found.log_mean[0].isnan()
    assert found.khat[1] == whole.khat[1]


def test_too_few_samples_have_no_index():
    assert pareto_smoothed(exponential_tail(0.3, 29)).khat.isnan().all()
    assert pareto_smoothed(exponential_tail(0.3, 30)).khat.isfinite().all()


def test_float32_and_gradients_are_taken_without_complaint():
    log_w = exponential_tail(0.3, 1000).float().requires_grad_()
    found = pareto_smoothed(log_w)
    assert found.khat.dtype == torch.float64
    assert not found.log_mean.requires_grad
