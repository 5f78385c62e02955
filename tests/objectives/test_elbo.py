"""Objectives on the linear-Gaussian model, where the truth is known."""

import pytest
import torch
from torch import nn
from torch.distributions import Bernoulli, Independent, StudentT, kl_divergence

from elboscope.core import InputError, family, seeded
from elboscope.models import LinearGaussian, from_modules, mlp_vae
from elboscope.objectives import (
    annealed_entropy,
    beta_elbo,
    elbo,
    elbo_analytic_kl,
    free_bits,
    iwae,
    kl_weighted,
)

ONE_X = torch.tensor([[1.0, -1.0, 0.5]], dtype=torch.float64)


def copies(n):
    return ONE_X.expand(n, 3)


def z_score(values, truth):
    return ((values.mean() - truth) / (values.std() / len(values) ** 0.5)).item()


def grads(loss, model):
    parts = torch.autograd.grad(loss, list(model.parameters()), allow_unused=True)
    return torch.cat([g.flatten() for g in parts if g is not None])


@pytest.mark.parametrize("objective", [elbo, elbo_analytic_kl])
def test_both_forms_have_the_closed_form_as_mean(objective):
    model = LinearGaussian.instance_1()
    with seeded(0):
        value = objective(model, copies(40_000)).value
    assert abs(z_score(value, -3.7639911095)) < 3.5
    assert not value.requires_grad


def test_at_the_posterior_form_a_has_no_variance_and_form_b_has():
    model = LinearGaussian.perfect(2, 3, sigma2=0.5)  # its posterior is diagonal
    truth = model.log_likelihood(ONE_X).detach()
    with seeded(0):
        a, b = elbo(model, copies(1000)).value, elbo_analytic_kl(model, copies(1000)).value
    torch.testing.assert_close(a, truth.expand(1000))
    assert b.std() > 0.1
    assert abs(z_score(b, truth.item())) < 3.5


def test_more_samples_mean_less_variance():
    model = LinearGaussian.instance_1()
    with seeded(0):
        one, many = (elbo(model, copies(5000), K).value.var() for K in (1, 16))
    assert (one / many).item() == pytest.approx(16, rel=0.15)


@pytest.mark.parametrize("objective", [elbo, elbo_analytic_kl])
def test_the_gradient_is_that_of_the_closed_form(objective):
    model = mistuned()
    q = model.encode(ONE_X)
    reconstruction = model.decode(q.mean).log_prob(ONE_X) - 0.5 * (
        (model.W.square().sum(0) / model.sigma2) * q.variance
    ).sum(-1)
    truth = grads(-(reconstruction - kl_divergence(q, model.prior())).mean(), model)
    with seeded(0):
        draws = torch.stack([grads(objective(model, copies(50)).loss, model) for _ in range(200)])
    error = draws.std(0) / 200**0.5
    z = (draws.mean(0) - truth) / error.clamp(min=1e-12)
    assert z.abs().max() < 4
    assert truth.abs().max() > 0.1


def mistuned():
    model = LinearGaussian.instance_1()
    with torch.no_grad():
        for p in model.encoder.parameters():
            p.add_(0.2)
    return model


def test_the_decoder_gradient_vanishes_at_the_truth_on_average():
    """E_p(x) ∇ log p(x) = 0: with the exact posterior the ELBO's θ-gradient is the score."""
    model = LinearGaussian.instance_1().with_exact_posterior()
    theta = [model.W, model.b, model.log_sigma2]
    x, _ = model.sample(400 * 50, seed=0)
    with seeded(1):
        draws = torch.stack(
            [
                torch.cat([g.flatten() for g in torch.autograd.grad(elbo(model, rows).loss, theta)])
                for rows in x.split(50)
            ]
        )
    z = draws.mean(0) / (draws.std(0) / len(draws) ** 0.5)
    assert z.abs().max() < 3.5


@pytest.mark.parametrize("kl", ["analytic", "sampled"])
@pytest.mark.parametrize("beta", [0.0, 0.3, 4.0])
def test_beta_weights_the_loss_and_not_the_value(kl, beta):
    model = LinearGaussian.instance_1()
    truth = model.reconstruction(ONE_X).item(), model.kl(ONE_X).item()
    with seeded(0):
        bound = beta_elbo(model, copies(40_000), beta, kl=kl)
    assert abs(z_score(bound.value, truth[0] - truth[1])) < 3.5
    assert -bound.loss.item() == pytest.approx(truth[0] - beta * truth[1], abs=0.05 * (1 + beta))


def test_a_negative_beta_is_refused():
    with pytest.raises(InputError, match="beta: expected a number ≥ 0; got -1"):
        beta_elbo(LinearGaussian.instance_1(), ONE_X, -1.0)


def test_annealed_entropy_weights_log_q_and_reports_the_bound():
    model = LinearGaussian.instance_1()
    q = model.encode(ONE_X)
    elbo_truth, entropy = model.elbo(ONE_X).item(), q.entropy().item()
    with seeded(0):
        half = annealed_entropy(model, copies(40_000), 0.5)
    with seeded(0):
        whole = annealed_entropy(model, copies(40_000), 1.0)
    with seeded(0):
        plain = elbo(model, copies(40_000))
    assert torch.equal(half.value, whole.value)
    torch.testing.assert_close(whole.value, plain.value)
    torch.testing.assert_close(whole.loss, plain.loss)
    assert -half.loss.item() == pytest.approx(elbo_truth - 0.5 * entropy, abs=0.03)


def small_vae():
    with seeded(0):
        return mlp_vae((6,), 3, hidden=(5,)).double()


def test_free_bits_silences_the_kl_gradient_below_the_threshold_only():
    model, x = small_vae(), torch.ones(7, 6, dtype=torch.float64)
    unit = kl_divergence(model.encode(x).base_dist, model.prior().base_dist).mean(0)
    phi = list(model.encoder.parameters())

    def kl_gradient(threshold):
        """∇ of the penalty: the loss minus the reconstruction drawn with the same noise."""
        with seeded(1):
            free = free_bits(model, x, threshold).loss
        with seeded(1):
            without = beta_elbo(model, x, 0.0).loss
        return torch.autograd.grad(free - without, phi)

    for g in kl_gradient(unit.max().item() + 0.1):
        torch.testing.assert_close(g, torch.zeros_like(g), rtol=0, atol=1e-15)
    middle = unit.sort().values[:2].mean().item()
    expected = torch.autograd.grad(unit[unit > middle].sum(), phi)
    for g, h in zip(kl_gradient(middle), expected, strict=True):
        torch.testing.assert_close(g, h)


def test_free_bits_penalty_is_the_maximum_after_the_mean_and_the_value_unclamped():
    model, x = small_vae(), torch.eye(6, dtype=torch.float64)
    with seeded(1):
        bound = free_bits(model, x, 0.2)
    with seeded(1):
        plain = elbo_analytic_kl(model, x)
    torch.testing.assert_close(bound.value, plain.value)
    unit = kl_divergence(model.encode(x).base_dist, model.prior().base_dist)
    excess = unit.mean(0).clamp(min=0.2).sum() - unit.sum(-1).mean()
    torch.testing.assert_close(bound.loss, plain.loss + excess)


def test_free_bits_needs_units():
    model = LinearGaussian.instance_1().with_exact_posterior()
    with pytest.raises(InputError, match="free_bits: expected a posterior and a prior that fact"):
        free_bits(model, ONE_X, 0.1)


def test_a_missing_closed_form_is_told_and_the_sampled_form_works():
    pair = nn.Linear(3, 4), nn.Linear(2, 3)

    def q(h):
        return Independent(StudentT(5.0, h[:, :2], h[:, 2:].exp()), 1)

    model = from_modules(*pair, likelihood="gaussian", scale=1.0, encoder_output=q)
    x = torch.zeros(4, 3)
    assert family(model.encode(x)) == "StudentT"
    with pytest.raises(InputError, match=r"KL\(q\(z\|x\) ‖ p\(z\)\): .*StudentT and Normal"):
        elbo_analytic_kl(model, x)
    with seeded(0):
        sampled = beta_elbo(model, x, 1.0, kl="sampled")
    with seeded(0):
        plain = elbo(model, x)
    torch.testing.assert_close(sampled.value, plain.value)


def test_a_posterior_that_is_not_reparameterised_is_refused():
    def q(h):
        return Independent(Bernoulli(logits=h), 1)

    model = from_modules(nn.Linear(3, 2), nn.Linear(2, 3), "gaussian", q, scale=1.0)
    with pytest.raises(InputError, match=r"encode\(x\): expected a posterior that is reparam"):
        elbo_analytic_kl(model, torch.zeros(4, 3))


def test_conditions_reach_every_objective():
    class Both(nn.Linear):
        def forward(self, v, c):
            return super().forward(torch.cat([v, c], dim=1))

    with seeded(0):
        pair = Both(4, 4), Both(3, 3)
        x, c = torch.randn(5, 3), torch.randn(5, 1)
    model = from_modules(
        *pair, "gaussian", scale=1.0, data_shape=(3,), latent_shape=(2,), conditional=True
    )
    for objective, settings in (
        (elbo, ()),
        (elbo_analytic_kl, ()),
        (beta_elbo, (2.0,)),
        (annealed_entropy, (0.5,)),
        (free_bits, (0.1,)),
        (iwae, (4,)),
        (kl_weighted, (1.0, "sum")),
    ):
        with seeded(1):
            found = objective(model, x, *settings, condition=c).value
        with seeded(1):
            direct = objective(model.given(c), x, *settings).value
        torch.testing.assert_close(found, direct)
