"""Log-weights: chunked and whole agree, exactly where there is nothing random."""

import math

import pytest
import torch
from torch import nn
from torch.distributions import AffineTransform, Independent, Normal, TransformedDistribution

from elboscope.core import (
    ContractError,
    effective_sample_size,
    given,
    log_joint,
    log_mean_exp,
    log_mean_exp_stderr,
    log_weights,
    sample_posterior,
    seeded,
)
from elboscope.models import LinearGaussian

ONE_X = torch.tensor([[1.0, -1.0, 0.5]], dtype=torch.float64)
LOG_P = -3.6964690082


def test_log_joint_keeps_every_constant():
    model = LinearGaussian.instance_1()
    z = torch.tensor([[[0.3, -0.2]]], dtype=torch.float64)
    residual = ONE_X - z[0] @ model.W.T - model.b
    slow = -0.5 * (z.square().sum() + 2 * math.log(2 * math.pi))
    slow = slow - 0.5 * (residual.square().sum() / 0.5 + 3 * math.log(2 * math.pi * 0.5))
    torch.testing.assert_close(log_joint(model, ONE_X, z).squeeze(), slow)


@pytest.mark.parametrize("chunks", [{}, {"sample_chunk": 3}, {"batch_size": 2, "sample_chunk": 4}])
def test_at_the_exact_posterior_every_weight_is_p_of_x(chunks):
    model = LinearGaussian.instance_1().with_exact_posterior()
    x, _ = model.sample(5, seed=0)
    with seeded(0), torch.no_grad():
        log_w = log_weights(model, x, 10, **chunks)
        truth = model.log_likelihood(x)
    torch.testing.assert_close(log_w, truth.expand(10, 5), rtol=0, atol=1e-12)


def test_chunked_and_whole_are_one_distribution():
    """The weights of one x, streamed and whole: same mean of w, and of log w, in their errors."""
    model, x = LinearGaussian.instance_1(), ONE_X.expand(3, 3)
    with torch.no_grad(), seeded(0):
        whole = log_weights(model, x, 20_000)
    with torch.no_grad(), seeded(1):
        parts = log_weights(model, x, 20_000, sample_chunk=777, batch_size=2)
    for log_w in (whole, parts):
        z = (log_mean_exp(log_w) - LOG_P) / log_mean_exp_stderr(log_w)
        assert z.abs().max() < 3.5
    a, b = whole.flatten(), parts.flatten()
    z = (a.mean() - b.mean()) / (a.var() / len(a) + b.var() / len(b)).sqrt()
    assert z.abs() < 3.5
    spread = (a.sort().values - b.sort().values).abs()  # quantile by quantile
    assert spread[600:-600].max() < 0.06


def test_streaming_with_the_same_seed_and_one_block_is_the_same_numbers():
    model, x = LinearGaussian.instance_1(), ONE_X.expand(4, 3)
    with seeded(0):
        whole = log_weights(model, x, 6).detach()
    with seeded(0), torch.no_grad():
        streamed = log_weights(model, x, 6)
    assert torch.equal(whole, streamed)


def test_without_gradients_nothing_but_the_weights_is_kept_and_with_them_all_can_be_followed():
    model = LinearGaussian.instance_1()
    log_w = log_weights(model, ONE_X, 5)
    (gradient,) = torch.autograd.grad(log_w.sum(), model.W)
    assert gradient.abs().sum() > 0
    with torch.no_grad():
        assert not log_weights(model, ONE_X, 5).requires_grad


class Shifted(nn.Module):
    """A model given a shift per datapoint."""

    def __init__(self, c=None):
        super().__init__()
        self.base, self.c = LinearGaussian.instance_1(), c

    def prior(self):
        return self.base.prior()

    def encode(self, x):
        return self.base.encode(x - self.c)

    def decode(self, z):
        p = self.base.decode(z)
        return Independent(Normal(p.mean + self.c, p.stddev), 1)

    def given(self, c):
        return Shifted(c)


def test_conditions_are_sliced_together_with_x():
    model = LinearGaussian.instance_1()
    x, _ = model.sample(7, seed=0)
    c = torch.arange(7, dtype=torch.float64)[:, None]
    with torch.no_grad(), seeded(0):
        found = log_weights(Shifted(), x + c, 4, batch_size=3, condition=c)
    with torch.no_grad(), seeded(0):
        plain = log_weights(model, x, 4, batch_size=3)
    torch.testing.assert_close(found, plain)


def test_freeze_stops_the_density_and_not_the_sample():
    model = LinearGaussian.instance_1()
    phi = list(model.encoder.parameters())
    x, _ = model.sample(6, seed=0)

    def gradients(freeze, of):
        with seeded(0):
            z, log_q = sample_posterior(model, x, 4, freeze=freeze)
        return torch.autograd.grad((z if of == "z" else log_q).sum(), phi, allow_unused=True)

    for a, b in zip(gradients(False, "z"), gradients(True, "z"), strict=True):
        assert (a is None) == (b is None)
        assert a is None or torch.equal(a, b)
    # the frozen density: only the path through z is left, ∂z/∂φ · ∂ log q/∂z
    with seeded(0):
        z, _ = sample_posterior(model, x, 4)
    q = model.encode(x)
    path = z.detach().requires_grad_()
    fixed = Normal(q.mean.detach(), q.stddev.detach())
    (dz,) = torch.autograd.grad(fixed.log_prob(path).sum(), path)
    expected = torch.autograd.grad((z * dz).sum(), phi, allow_unused=True)
    for a, b in zip(gradients(True, "log_q"), expected, strict=True):
        if b is not None:
            torch.testing.assert_close(a, b)
    free, frozen = gradients(False, "log_q"), gradients(True, "log_q")
    assert any(
        not torch.allclose(a, b)
        for a, b in zip(free, frozen, strict=True)
        if a is not None and b is not None
    )


def test_sticking_the_landing_has_no_gradient_at_the_posterior():
    model = LinearGaussian.instance_1().with_exact_posterior()
    phi = [p for p in model.encoder.parameters() if p.requires_grad]
    log_w = log_weights(model, ONE_X, 8, freeze=True)
    for g in torch.autograd.grad(log_w.sum(), phi, allow_unused=True):
        assert g is None or g.abs().max() < 1e-10
    log_w = log_weights(model, ONE_X, 8)
    assert any(
        g is not None and g.abs().max() > 1e-3
        for g in torch.autograd.grad(log_w.sum(), phi, allow_unused=True)
    )


class WithDensity:
    """A posterior that scores its own draws, as flows do; it records whether it was frozen."""

    def __init__(self, q):
        self.q, self.frozen = q, None

    def rsample_and_log_prob(self, shape, freeze=False):
        self.frozen = freeze
        z = self.q.rsample(shape)
        return z, self.q.log_prob(z)

    def log_prob(self, z):
        raise AssertionError("the slow direction must not be taken")


@pytest.mark.parametrize("freeze", [False, True])
def test_a_posterior_that_scores_its_own_draws_is_asked(freeze):
    base = LinearGaussian.instance_1()
    q = WithDensity(base.encode(ONE_X))

    class Flow:
        prior, decode = base.prior, base.decode

        def encode(self, x):
            return q

    z, log_q = sample_posterior(Flow(), ONE_X, 4, freeze=freeze)
    torch.testing.assert_close(log_q, base.encode(ONE_X).log_prob(z))
    assert q.frozen is freeze


def test_an_implicit_posterior_is_refused_by_name():
    base = LinearGaussian.instance_1()

    class Implicit(Normal):
        def log_prob(self, value):
            raise NotImplementedError

    class Model:
        prior, decode = base.prior, base.decode

        def encode(self, x):
            return Implicit(torch.zeros(len(x), 2), torch.ones(len(x), 2))

    with pytest.raises(ContractError, match=r"encode\(x\)\.log_prob: expected a density.*Implicit"):
        sample_posterior(Model(), ONE_X, 2)


def test_given_without_a_condition_is_the_model_itself():
    model = LinearGaussian.instance_1()
    assert given(model, None) is model
    with pytest.raises(ContractError, match=r"condition: expected a model with a method given"):
        given(model, torch.zeros(1))


def test_log_mean_exp_is_the_naive_formula_and_does_not_overflow():
    with seeded(0):
        log_w = torch.randn(50, 4, dtype=torch.float64)
    torch.testing.assert_close(log_mean_exp(log_w), log_w.exp().mean(0).log())
    torch.testing.assert_close(log_mean_exp(log_w - 5000), log_w.exp().mean(0).log() - 5000)
    assert log_mean_exp(torch.full((3, 1), -math.inf)).item() == -math.inf


def test_float32_weights_are_accumulated_in_float64():
    log_w = torch.zeros(100_000, 1)
    log_w[1:] = -20.0
    truth = math.log((1 + 99_999 * math.exp(-20)) / 100_000)
    assert log_mean_exp(log_w).item() == pytest.approx(truth, abs=1e-14)


def test_the_stderr_is_the_delta_method_and_covers_the_truth():
    with seeded(0):
        log_w = 0.5 * torch.randn(400, 2000, dtype=torch.float64) - 0.125  # E w = 1
    w = log_w.exp()
    slow = w.std(0) / w.mean(0) / 20
    torch.testing.assert_close(log_mean_exp_stderr(log_w), slow)
    z = log_mean_exp(log_w) / log_mean_exp_stderr(log_w)
    assert z.std().item() == pytest.approx(1, abs=0.08)
    assert log_mean_exp_stderr(log_w[:1]).isnan().all()
    assert log_mean_exp_stderr(torch.zeros(5, 1)).item() == pytest.approx(0, abs=1e-7)


def test_ess_runs_from_one_to_k():
    log_w = torch.tensor([[0.0, 0.0], [0.0, -800.0], [0.0, -900.0]], dtype=torch.float64)
    torch.testing.assert_close(
        effective_sample_size(log_w), torch.tensor([3.0, 1.0], dtype=torch.float64)
    )
    with seeded(0):
        log_w = torch.randn(30, 3, dtype=torch.float64)
    w = log_w.exp()
    torch.testing.assert_close(effective_sample_size(log_w), w.sum(0) ** 2 / (w**2).sum(0))


def test_ess_of_instance_1_is_one_over_one_plus_chi_square():
    model = LinearGaussian.instance_1()
    with seeded(0), torch.no_grad():
        log_w = log_weights(model, ONE_X.expand(20, 3), 20_000)
    share = effective_sample_size(log_w) / 20_000
    z = (share.mean() - 0.80505) / (share.std() / 20**0.5)
    assert z.abs() < 4


class Dropping(nn.Module):
    """An encoder whose every call is another distribution, and counts itself."""

    def __init__(self, wrap=lambda q: q):
        super().__init__()
        self.mean = nn.Parameter(torch.zeros(2))
        self.calls, self.wrap = 0, wrap

    def prior(self):
        return Independent(Normal(torch.zeros(2), 1.0), 1)

    def encode(self, x):
        self.calls += 1
        mean = nn.functional.dropout(self.mean + 3.0, 0.5).expand(len(x), 2)
        return self.wrap(Independent(Normal(mean, 1.0), 1))

    def decode(self, z):
        return Independent(Normal(z, 1.0), 1)


def test_a_frozen_density_is_the_one_that_was_drawn_from():
    """Encoding twice would score the draws of one dropout mask by another."""
    for freeze in (False, True):
        model = Dropping()
        with seeded(0):
            z, log_q = sample_posterior(model, torch.zeros(1000, 2), 1, freeze=freeze)
        # a draw's own density: −log q has mean ½ log 2πe per unit, whatever the mean
        assert abs(-log_q.mean().item() - 2.8379) < 4 / 1000**0.5
        assert model.calls == 1
        (gradient,) = torch.autograd.grad(log_q.sum() - z.sum(), model.mean)
        assert torch.isfinite(gradient).all()


def test_a_density_with_parameters_of_its_own_is_frozen_too():
    shift = nn.Parameter(torch.tensor(0.5))

    def moved(q):
        return TransformedDistribution(q, [AffineTransform(shift, 2.0, event_dim=1)])

    model = Dropping(moved)
    with seeded(0):
        _, log_q = sample_posterior(model.eval(), torch.zeros(5, 2), 1, freeze=True)
    assert model.calls == 1
    # z moves with the shift by one; the density's own shift is fixed: what is left is ∂ log q/∂z
    (gradient,) = torch.autograd.grad(log_q.sum(), shift)
    with seeded(0):
        z, _ = sample_posterior(model, torch.zeros(5, 2), 1)
        z = z.detach().requires_grad_()
    with seeded(0):
        q = model.encode(torch.zeros(5, 2))
    (slope,) = torch.autograd.grad(q.log_prob(z).sum(), z)
    torch.testing.assert_close(gradient, slope.sum())
    assert gradient.abs() > 1
    torch.testing.assert_close(log_q, q.log_prob(z))
