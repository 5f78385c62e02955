import pytest
import torch

from elboscope.core import effective_sample_size, log_weights, seeded
from elboscope.models import LinearGaussian
from elboscope.objectives import elbo, iwae

ONE_X = torch.tensor([[1.0, -1.0, 0.5]], dtype=torch.float64)
KNOWN = {2: -3.73402, 5: -3.71412, 8: -3.70834, 10: -3.70622, 50: -3.69869, 64: -3.69817}


@pytest.mark.parametrize(("K", "truth"), KNOWN.items())
def test_the_mean_of_the_bound_is_the_known_one(K, truth):
    model = LinearGaussian.instance_1()
    with seeded(K), torch.no_grad():
        value = iwae(model, ONE_X.expand(20_000, 3), K).value
    error = value.std().item() / 20_000**0.5
    assert abs(value.mean().item() - truth) < 3.5 * (error**2 + 3e-5**2) ** 0.5


def test_one_sample_is_the_elbo_exactly():
    model, x = LinearGaussian.instance_1(), ONE_X.expand(100, 3)
    with seeded(0):
        one = iwae(model, x, 1)
    with seeded(0):
        plain = elbo(model, x)
    torch.testing.assert_close(one.value, plain.value, rtol=0, atol=1e-14)
    for a, b in zip(*(torch.autograd.grad(o.loss, model.W) for o in (one, plain)), strict=True):
        torch.testing.assert_close(a, b)


def test_at_the_posterior_every_bound_is_log_p():
    model = LinearGaussian.instance_1().with_exact_posterior()
    for K in (1, 7):
        torch.testing.assert_close(
            iwae(model, ONE_X, K).value, model.log_likelihood(ONE_X).detach()
        )


def test_the_gradient_is_the_weighted_one():
    """∇ log (1/K) Σ w_k = Σ w̃_k ∇ log w_k, with the weights held fixed."""
    model, x = LinearGaussian.instance_1(), ONE_X.expand(6, 3)
    with seeded(0):
        (fast,) = torch.autograd.grad(iwae(model, x, 5).loss, model.W)
    with seeded(0):
        log_w = log_weights(model, x, 5)
    weights = log_w.softmax(0).detach()
    (slow,) = torch.autograd.grad(-(weights * log_w).sum(0).mean(), model.W)
    torch.testing.assert_close(fast, slow)
    assert effective_sample_size(log_w.detach()).min() < 4.9


def test_the_gap_falls_like_chi_square_over_two_k():
    model = LinearGaussian.instance_1()
    truth, chi_square = model.log_likelihood(ONE_X).item(), model.importance_variance(ONE_X).item()
    gap = truth - KNOWN[64]
    assert gap == pytest.approx(chi_square / 128, rel=0.15)


def test_float32_models_report_in_their_dtype():
    model = LinearGaussian(torch.ones(3, 2), torch.zeros(3), 0.5)
    assert iwae(model, torch.zeros(4, 3), 3).value.dtype == torch.float32
