import math

import torch
from torch.distributions import Normal, kl_divergence

from elboscope.core import seeded
from elboscope.distributions import LOG_VARIANCE_RANGE, diagonal_gaussian, standard_normal


def test_density_and_kl_are_the_closed_forms():
    with seeded(0):
        mu, lv = torch.randn(2, 4, 3, dtype=torch.float64)
        z = torch.randn(6, 4, 3, dtype=torch.float64)
    q = diagonal_gaussian(mu, lv)
    slow = Normal(mu, (lv / 2).exp()).log_prob(z).sum(-1)
    torch.testing.assert_close(q.log_prob(z), slow)
    kl = 0.5 * (mu**2 + lv.exp() - 1 - lv).sum(-1)
    torch.testing.assert_close(kl_divergence(q, standard_normal((3,), mu)), kl)


def test_the_event_is_all_of_z():
    q = diagonal_gaussian(torch.zeros(5, 2, 3, 3), torch.zeros(5, 2, 3, 3))
    assert (q.batch_shape, q.event_shape) == ((5,), (2, 3, 3))


def test_log_variance_is_clamped_with_zero_gradient_outside():
    lv = torch.tensor([[-1e6, 0.0, 1e6]], requires_grad=True)
    q = diagonal_gaussian(torch.zeros(1, 3), lv)
    low, high = LOG_VARIANCE_RANGE
    truth = torch.tensor([[math.exp(low / 2), 1.0, math.exp(high / 2)]])
    torch.testing.assert_close(q.stddev.detach(), truth)
    q.stddev.sum().backward()
    torch.testing.assert_close(lv.grad, torch.tensor([[0.0, 0.5, 0.0]]))


def test_nan_is_not_hidden_by_the_clamp():
    assert bool(diagonal_gaussian(torch.zeros(1, 1), torch.full((1, 1), math.nan)).stddev.isnan())


def test_the_prior_follows_dtype():
    assert standard_normal((2,), torch.zeros(1, dtype=torch.float64)).mean.dtype == torch.float64
