"""Densities against torch's, against quadrature, and at extreme logits."""

import pytest
import torch
from torch.distributions import Bernoulli, ContinuousBernoulli, Independent

from elboscope.core import family, seeded
from elboscope.distributions import (
    bernoulli,
    bernoulli_log_prob,
    continuous_bernoulli,
    continuous_bernoulli_log_prob,
)


def pixels(*shape, seed=0):
    with seeded(seed):
        a = 3 * torch.randn(*shape, dtype=torch.float64)
        x = (torch.rand(*shape) < 0.4).double()
    return a, x


def test_bernoulli_is_torchs_with_broadcasting_over_samples():
    a, x = pixels(5, 3, 2, 4)
    x = x[0]
    slow = Independent(Bernoulli(logits=a), 2).log_prob(x)
    torch.testing.assert_close(bernoulli(a, 2).log_prob(x), slow, rtol=0, atol=1e-13)


def test_bernoulli_of_single_numbers_is_torchs():
    a, x = pixels(7)
    slow = Bernoulli(logits=a).log_prob(x)
    torch.testing.assert_close(bernoulli(a, 0).log_prob(x), slow, rtol=0, atol=1e-14)


def test_bernoulli_gradients_in_logits_and_in_x_once_and_twice():
    a, x = pixels(2, 3)
    a.requires_grad_()
    grey = (0.8 * x + 0.1).requires_grad_()
    assert torch.autograd.gradcheck(bernoulli_log_prob, (a, grey))
    assert torch.autograd.gradgradcheck(bernoulli_log_prob, (a, grey))


def test_bernoulli_second_derivative_is_minus_the_variance():
    a, x = pixels(1, 4)
    H = torch.autograd.functional.hessian(lambda a: bernoulli_log_prob(a[None], x)[0], a[0])
    s = a[0].sigmoid()
    torch.testing.assert_close(H, torch.diag(-s * (1 - s)))


def test_bernoulli_gradient_leaves_the_arguments_as_they_were():
    a, x = pixels(3, 4)
    before = a.clone(), x.clone()
    a.requires_grad_()
    bernoulli_log_prob(a, x).sum().backward()
    assert torch.equal(a.detach(), before[0])
    assert torch.equal(x, before[1])
    torch.testing.assert_close(a.grad, x - a.detach().sigmoid())


def test_bernoulli_per_sample_gradients_by_vmap():
    a, x = pixels(5, 4)
    grad = torch.func.vmap(torch.func.grad(bernoulli_log_prob), in_dims=(0, None))(a, x[0])
    torch.testing.assert_close(grad, x[0] - a.sigmoid())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_bernoulli_at_extreme_logits(dtype):
    a = torch.tensor([[1e4], [-1e4], [1e4], [-1e4], [45.0], [-45.0]], dtype=dtype)
    x = torch.tensor([[1.0], [0.0], [0.0], [1.0], [1.0], [0.0]], dtype=dtype)
    truth = torch.tensor([0.0, 0.0, -1e4, -1e4, 0.0, 0.0], dtype=dtype)
    a.requires_grad_()
    value = bernoulli_log_prob(a, x)
    torch.testing.assert_close(value.detach(), truth, rtol=1e-7, atol=1e-15)
    (grad,) = torch.autograd.grad(value.sum(), a)
    torch.testing.assert_close(grad, x - a.detach().sigmoid())


def test_bernoulli_keeps_support_mean_family_and_expansion():
    p = bernoulli(torch.zeros(3, 2), 1)
    assert not bool(p.support.check(torch.full((3, 2), 0.5)).any())
    assert bool(p.support.check(torch.ones(3, 2)).all())
    assert family(p) == "Bernoulli"
    wide = p.expand(torch.Size((4, 3)))
    torch.testing.assert_close(wide.log_prob(torch.ones(2)), torch.full((4, 3), 0.25).log())


@pytest.mark.parametrize("a", [0.0, 1e-12, 1e-3, 0.0999, 0.1001, -0.7, 5.0, -80.0, 900.0])
def test_continuous_bernoulli_integrates_to_one(a):
    # substitute u for the distance from the end where the mass is, on its own scale
    width = min(1.0, 45.0 / max(abs(a), 1e-300))
    nodes, weights = (
        torch.from_numpy(v) for v in __import__("numpy").polynomial.legendre.leggauss(80)
    )
    u = width * (nodes + 1) / 2
    x = 1 - u if a > 0 else u
    log_p = continuous_bernoulli_log_prob(torch.full((80, 1), a, dtype=torch.float64), x[:, None])
    assert (log_p.exp() * weights).sum().item() * width / 2 == pytest.approx(1, abs=1e-12)


def test_continuous_bernoulli_is_torchs_away_from_its_approximations():
    a, _ = pixels(200, 1)
    a = a[(a.abs() > 0.05) & (a.abs() < 12)][:, None]
    with seeded(1):
        x = torch.rand_like(a)
    slow = ContinuousBernoulli(logits=a).log_prob(x)[:, 0]
    torch.testing.assert_close(continuous_bernoulli_log_prob(a, x), slow, rtol=0, atol=1e-12)


def test_continuous_bernoulli_gradients_also_where_lambda_is_one_half():
    a = torch.tensor([[0.0, 1e-9, -0.05, 0.0999, 0.1001, 2.0, -30.0]], dtype=torch.float64)
    x = torch.linspace(0.05, 0.95, 7, dtype=torch.float64)[None].requires_grad_()
    a.requires_grad_()
    assert torch.autograd.gradcheck(continuous_bernoulli_log_prob, (a, x))
    assert torch.autograd.gradgradcheck(continuous_bernoulli_log_prob, (a, x))


def test_continuous_bernoulli_gradient_is_x_minus_the_mean():
    a = torch.tensor([[0.0, 4.0, -4.0]], dtype=torch.float64, requires_grad=True)
    x = torch.tensor([[0.3, 0.3, 0.3]], dtype=torch.float64)
    p = continuous_bernoulli(a, 1)
    (grad,) = torch.autograd.grad(p.log_prob(x).sum(), a)
    torch.testing.assert_close(grad, (x - p.mean).detach())


def test_continuous_bernoulli_in_float32_at_extreme_logits():
    a = torch.tensor([[1e4], [-1e4], [88.0], [0.0]])
    x = torch.tensor([[1.0], [0.0], [1.0], [0.2]])
    a.requires_grad_()
    value = continuous_bernoulli_log_prob(a, x)
    truth = torch.tensor([1e4, 1e4, 88.0, 1.0]).log()  # a e^{ax}/(e^a − 1) at its peak is |a|
    torch.testing.assert_close(value.detach(), truth, rtol=1e-6, atol=1e-4)
    (grad,) = torch.autograd.grad(value.sum(), a)
    torch.testing.assert_close(grad[3].item(), -0.3)
    assert bool(grad.isfinite().all())


def test_continuous_bernoulli_supports_grey_values():
    p = continuous_bernoulli(torch.zeros(3, 2), 1)
    assert bool(p.support.check(torch.full((3, 2), 0.5)).all())
    assert not bool(p.support.check(torch.full((3, 2), 1.5)).any())
    assert family(p) == "ContinuousBernoulli"


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_continuous_bernoulli_mean_and_variance_of_any_logit(dtype):
    """The mean of a surely white pixel: 1 − 1/a = 0.99 at a = 100, where clipping gives 0.937."""
    t = [1e-8, 1e-3, 0.099, 0.101, 1.0, 15.0, 30.0, 100.0, 1e4]
    a = torch.tensor(t + [-v for v in t] + [0.0], dtype=dtype)
    p = continuous_bernoulli(a[:, None], 1)
    wide = a.double()
    near = wide.abs() < 0.05
    b = torch.where(near, torch.ones_like(wide), wide)
    far_mean = 1 / (-torch.expm1(-b)) - 1 / b
    far_variance = 1 / b.square() - 0.25 / torch.sinh(b / 2).square()
    mean = torch.where(near, 0.5 + wide / 12, far_mean).to(dtype)
    variance = torch.where(near, 1 / 12 - wide.square() / 240, far_variance).to(dtype)
    exact = {"rtol": 2e-5, "atol": 1e-7 if dtype == torch.float32 else 1e-11}
    torch.testing.assert_close(p.mean[:, 0], mean, **exact)
    torch.testing.assert_close(p.variance[:, 0], variance, rtol=3e-4, atol=0)


@pytest.mark.parametrize("a", [-1e3, -40.0, -2.0, -0.05, 0.0, 1e-3, 0.09, 5.0, 40.0])
def test_continuous_bernoulli_draws_have_its_mean_and_variance(a):
    p = continuous_bernoulli(torch.full((1,), a), 1)
    with seeded(0):
        x = p.sample((40_000,)).double()
    assert x.min() >= 0
    assert x.max() <= 1
    error = x.std().item() / 200
    assert abs(x.mean().item() - p.mean.item()) < 4 * error
    assert abs(x.var().item() / p.variance.item() - 1) < 0.06


def test_continuous_bernoulli_draws_are_torchs_where_torch_does_not_clip():
    a = torch.tensor([-5.0, -0.09, -1e-3, 0.02, 0.3, 7.0], dtype=torch.float64)
    with seeded(1):
        ours = continuous_bernoulli(a, 1).sample((100,))
    with seeded(1):
        torchs = ContinuousBernoulli(logits=a, lims=(0.4999999, 0.5000001)).sample((100,))
    torch.testing.assert_close(ours, torchs, rtol=0, atol=1e-6)
