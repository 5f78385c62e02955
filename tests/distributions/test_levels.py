import inspect
import math

import pytest
import torch
from scipy.stats import logistic, norm

from elboscope.core import InputError, seeded
from elboscope.distributions.levels import (
    CategoricalLevels,
    DequantizedNormal,
    DiscretisedLogistic,
    QuantizedNormal,
    require_levels,
)

ROUNDED = (QuantizedNormal, DiscretisedLogistic)
MEANS = (-3.0, -0.001, 0.0, 0.3, 0.5, 1.0, 1.7, 40.0)
SCALES = (1e-6, 1e-3, 0.01, 0.1, 1.0, 10.0, 1e3)


def number(value):
    return torch.tensor(value, dtype=torch.float64)


def levels(L=256, dtype=torch.float64):
    return torch.arange(L, dtype=dtype) / (L - 1)


def masses(kind, L, dtype):
    mu = torch.tensor(MEANS, dtype=dtype)[:, None, None]
    s = torch.tensor(SCALES, dtype=dtype)[:, None]
    return kind(mu, s, L).log_prob(levels(L, dtype))


@pytest.mark.parametrize("kind", ROUNDED)
@pytest.mark.parametrize("L", [2, 17, 256])
@pytest.mark.parametrize(("dtype", "atol"), [(torch.float64, 1e-9), (torch.float32, 2e-5)])
def test_masses_sum_to_one_at_every_mean_and_scale(kind, L, dtype, atol):
    total = masses(kind, L, dtype).exp().sum(-1)
    if dtype == torch.float32:  # k/255 itself is off by 6 % of a scale of 1e-6
        total = total[:, 1:]
    torch.testing.assert_close(total, torch.ones_like(total), rtol=0, atol=atol)


@pytest.mark.parametrize(
    ("kind", "exact"), [(QuantizedNormal, norm), (DiscretisedLogistic, logistic)]
)
def test_masses_are_differences_of_the_cdf(kind, exact):
    x, h = levels().numpy(), 0.5 / 255
    for mu in (-0.2, 0.31, 1.0):
        for s in (0.003, 0.05, 0.7):
            a, b = (x - h - mu) / s, (x + h - mu) / s
            slow = torch.from_numpy(exact.cdf(b) - exact.cdf(a))
            slow[0], slow[-1] = exact.cdf(b[0]), exact.sf(a[-1])
            args = number(mu), number(s)
            fast = kind(*args).log_prob(levels()).exp()
            torch.testing.assert_close(fast, slow, rtol=1e-7, atol=1e-14)


def test_far_in_the_tail_the_normal_mass_is_the_density_times_the_bin():
    """Where the difference of two probabilities is 0 − 0 or 1 − 1."""
    mu, sigma, x = number([-9.0, 10.0]), number(0.1), 0.5019607843137
    value = QuantizedNormal(mu, sigma).log_prob(number(x))
    u = (x - mu) / sigma
    w = 1 / 255 / 0.1
    density = -0.5 * u.square() - 0.5 * math.log(2 * math.pi)
    slow = density + (2 * torch.sinh(u.abs() * w / 2) / u.abs()).log()  # ∫ e^{-u v} over the bin
    torch.testing.assert_close(value, slow, rtol=0, atol=1e-3)
    assert value.max() < -4000


@pytest.mark.parametrize("kind", [*ROUNDED, DequantizedNormal])
def test_gradients_are_right_and_finite_in_float32_too(kind):
    mu = torch.tensor(MEANS[1:6], dtype=torch.float64)[:, None, None]
    s = torch.tensor([0.004, 0.02, 0.3, 4.0], dtype=torch.float64)[:, None]
    mu, s = (v.expand(5, 4, 1).clone().requires_grad_() for v in (mu, s))
    x = levels(17)[[0, 3, 8, 16]]
    assert torch.autograd.gradcheck(lambda m, t: kind(m, t, 17).log_prob(x), (mu, s))
    m, t = (v.detach().float().requires_grad_() for v in (mu, s))
    kind(m, t, 17).log_prob(x.float()).sum().backward()
    assert m.grad.isfinite().all()
    assert t.grad.isfinite().all()


def test_the_dequantised_bound_is_below_the_mass_and_tight_for_a_wide_scale():
    bound, mass = (
        masses(kind, 256, torch.float64) for kind in (DequantizedNormal, QuantizedNormal)
    )
    assert (bound <= mass + 1e-9).all()
    p = number(0.5), number(0.2)
    gap = QuantizedNormal(*p).log_prob(levels()) - DequantizedNormal(*p).log_prob(levels())
    # Var_u of log N over the bin, halved: ½ (x − μ)²/σ⁴ · 1/(12·255²), but for higher orders
    slow = 0.5 * (levels() - 0.5).square() / 0.2**4 / (12 * 255**2)
    torch.testing.assert_close(gap[1:-1], slow[1:-1], rtol=0, atol=1e-7)


def test_the_dequantised_bound_is_the_mean_over_the_noise():
    with seeded(0):
        u = (torch.rand(200_000, 1, dtype=torch.float64) - 0.5) / 255
    mu, sigma, x = number(0.3), number(0.01), levels()[70:90]
    noisy = torch.distributions.Normal(mu, sigma).log_prob(x + u) - math.log(255)
    error = noisy.std(0) / math.sqrt(len(u))
    z = (noisy.mean(0) - DequantizedNormal(mu, sigma).log_prob(x)) / error
    assert z.abs().max() < 4


def test_a_pixel_of_256_steps_is_the_same_number():
    """The other convention, y = (k + u)/256, has its own μ and σ, and the same mass."""
    k, mu, sigma = 77, 0.31, 0.02
    m, s = (255 * mu + 0.5) / 256, 255 * sigma / 256
    slow = norm.cdf((k + 1 - 256 * m) / (256 * s)) - norm.cdf((k - 256 * m) / (256 * s))
    p = QuantizedNormal(number(mu), number(sigma))
    assert p.log_prob(levels()[k]).exp().item() == pytest.approx(slow, rel=1e-9)


@pytest.mark.parametrize("kind", ROUNDED)
@pytest.mark.parametrize(("mu", "s"), [(0.4, 0.2), (1.1, 0.3), (-0.5, 0.01)])
def test_draws_have_the_masses_and_the_mean(kind, mu, s):
    p = kind(number(mu), number(s), 5)
    P, x = p.log_prob(levels(5)).exp(), levels(5)
    assert p.mean.item() == pytest.approx((P * x).sum().item(), abs=1e-12)
    with seeded(0):
        draws = p.sample((40_000,))
    assert p.support.check(draws).all()
    share = (draws[:, None] == x).double().mean(0)
    assert ((share - P).abs() < 4 * (P * (1 - P) / 40_000).sqrt() + 1e-9).all()


def test_categorical_masses():
    with seeded(0):
        logits = 5 * torch.randn(3, 2, 17, dtype=torch.float64)
    p = CategoricalLevels(logits)
    P = p.log_prob(levels(17)[:, None, None]).exp()
    torch.testing.assert_close(P.movedim(0, -1), logits.softmax(-1))
    torch.testing.assert_close(p.mean, (logits.softmax(-1) * levels(17)).sum(-1))
    extreme = CategoricalLevels(number([1e4, -1e4, 0.0]))
    assert extreme.log_prob(levels(3)).tolist() == [0.0, -2e4, -1e4]
    with seeded(1):
        draws = p.sample((20_000,))[:, 0, 0]
    share = (draws[:, None] == levels(17)).double().mean(0)
    own = logits[0, 0].softmax(-1)
    assert ((share - own).abs() < 4 * (own * (1 - own) / 20_000).sqrt() + 1e-9).all()


def test_a_uniform_guess_is_eight_bits():
    p = CategoricalLevels(torch.zeros(3072, 256, dtype=torch.float64))
    value = p.log_prob(torch.zeros(3072).double()).sum().item()
    assert value == pytest.approx(-17034.8, abs=0.05)
    assert -value / 3072 / math.log(2) == pytest.approx(8)


def test_the_support_is_the_levels_also_in_float32():
    p = QuantizedNormal(torch.zeros(()), torch.ones(()))
    eight_bit = torch.arange(256, dtype=torch.uint8).float() / 255
    assert p.support.check(eight_bit).all()
    assert not p.support.check(torch.tensor([-1 / 255, 256 / 255, 0.5, 0.3])).any()


def test_one_level_is_refused():
    with pytest.raises(InputError, match=r"levels: expected 2 or more.*got 1"):
        inspect.unwrap(require_levels)(1)
