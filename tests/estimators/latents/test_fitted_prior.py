import inspect
import math

import pytest
import torch
from torch import nn
from torch.distributions import MultivariateNormal, kl_divergence

import elboscope as es
from elboscope.core import InputError, check_model, data_id, seeded
from elboscope.estimators import fit_prior
from elboscope.estimators.latents.fitted_prior import FittedPriorModel
from elboscope.models import LinearGaussian, mlp_vae


def sampled(model, n, seed=0):
    return model.sample(n, seed=seed)[0]


def vae(d, n=60, seed=0):
    """Narrow posteriors, far from the prior."""
    with seeded(seed):
        model = mlp_vae((5,), d, (6,)).double()
        nn.init.normal_(model.encoder[-1].weight, std=3.0)
        model.encoder[-1].bias.data[d:] = -3.0
        x = (torch.rand(n, 5) < 0.5).double()
    return model, x


def grid(d, half=12.0, n=4001):
    axis = torch.linspace(-half, half, n if d == 1 else 601, dtype=torch.float64)
    return torch.cartesian_prod(*d * [axis]).reshape(-1, d), d * math.log(axis[1] - axis[0])


@pytest.mark.parametrize("instance", ["instance_1", "instance_2"])
def test_the_gain_is_the_marginal_kl_where_the_aggregate_posterior_is_gaussian(instance):
    model = getattr(LinearGaussian, instance)()
    fitted = fit_prior(model, sampled(model, 8000, 1), x_train=sampled(model, 8000), seed=0)
    exact = model.marginal_kl().item()
    assert abs(fitted.gain.mean - exact) < 3 * fitted.gain.stderr
    r = fitted.prior()
    assert r.logits.shape == (1,)
    as_normal = MultivariateNormal(r.mean, covariance_matrix=covariance(r))
    lost = kl_divergence(model.aggregate_posterior(), as_normal).item()
    assert 0 <= lost < 4e-4  # 5 moments of 5000 datapoints
    # the population's gain, in closed form: KL(q‖p) − KL(q‖r), and equality for r = q
    z = torch.zeros(2, dtype=torch.float64)
    q, p = (
        model.aggregate_posterior(),
        MultivariateNormal(z, torch.eye(2, dtype=torch.float64)),
    )
    assert kl_divergence(q, p).item() == pytest.approx(exact, abs=1e-12)


def covariance(r):
    scale = r.scale[0]
    return scale @ scale.T if scale.ndim == 2 else torch.diag(scale.square())


def test_with_the_aggregate_posterior_itself_the_gain_of_the_bound_is_the_marginal_kl():
    """Equality at the optimum, by the bounds of the two models: exact but for Σ over data."""
    model = LinearGaussian.instance_2()
    x = sampled(model, 3000)
    before = es.evidence_lower_bound(model, x, 200, seed=0)
    best = FittedPriorModel(model, model.aggregate_posterior(), before)
    z_mean, z_cov = model.encode(x).mean, torch.diag_embed(model.encode(x).variance)
    q = MultivariateNormal(z_mean, z_cov)
    kl = kl_divergence(q, best.prior()) - kl_divergence(
        q, MultivariateNormal(torch.zeros(2).double(), torch.eye(2).double())
    )
    gain = -kl.detach()
    error = gain.std() / math.sqrt(len(gain))
    assert abs(gain.mean() - model.marginal_kl()) < 3 * error
    after = es.evidence_lower_bound(best, x, 200, seed=0)
    paired = es.core.paired_difference(after, before, "gain")
    off = abs(paired.mean - gain.mean().item())
    assert off < 4 * math.hypot(before.mc_error_of_mean, after.mc_error_of_mean)


@pytest.mark.parametrize(
    ("d", "family"),
    [(1, "gmm"), (2, "gmm"), pytest.param(2, "flow", marks=pytest.mark.slow)],
)
def test_on_its_own_data_the_gain_never_exceeds_the_marginal_kl(d, family):
    """By quadrature, so that "never" is no matter of luck."""
    model, x = vae(d)
    fitted = fit_prior(model, x, family, seed=0, max_steps=300)
    z, cell = grid(d)
    with torch.no_grad():
        log_q = torch.cat([model.encode(x).log_prob(part[:, None]) for part in z.split(4000)])
        log_q = log_q.logsumexp(1) - math.log(len(x))
        log_p, log_r = (m.prior().log_prob(z) for m in (model, fitted))
    weight = (log_q + cell).exp()
    assert weight.sum().item() == pytest.approx(1, abs=1e-6)
    gain = (weight * (log_r - log_p)).sum().item()
    marginal = (weight * (log_q - log_p)).sum().item()
    assert 0.5 < gain < marginal
    assert (log_r + cell).exp().sum().item() == pytest.approx(1, abs=2e-3)


def test_parameters_are_shared_and_nothing_of_the_model_changes():
    model, x = vae(2)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    prior, mode = model.prior().log_prob(torch.ones(2).double()), model.training
    fitted = fit_prior(model, x, seed=0)
    assert fitted.model is model
    assert all((v == before[k]).all() for k, v in model.state_dict().items())
    assert model.prior().log_prob(torch.ones(2).double()) == prior
    assert model.training == mode
    z = torch.zeros(3, 2).double()
    assert torch.equal(fitted.decode(z).log_prob(x[:3]), model.decode(z).log_prob(x[:3]))
    assert torch.equal(fitted.encode(x).log_prob(z[0]), model.encode(x).log_prob(z[0]))
    assert not any(p.grad is not None for p in model.parameters())


@pytest.mark.parametrize("family", ["gmm", pytest.param("flow", marks=pytest.mark.slow)])
def test_the_reported_gain_is_the_difference_of_the_bounds_on_held_out_data(family):
    model, _ = vae(2)
    with seeded(1):
        x, other = (torch.rand(2, 400, 5) < 0.4).double()
    fitted = fit_prior(model, other, family, x_train=x, seed=0, max_steps=300)
    assert fitted.gain.data_id == data_id(other)
    bounds = [es.evidence_lower_bound(m, other, 400, seed=2) for m in (model, fitted)]
    paired = es.core.paired_difference(bounds[1], bounds[0], "gain")
    noise = math.hypot(*(b.mc_error_of_mean for b in bounds), fitted.gain.mc_error_of_mean)
    assert abs(paired.mean - fitted.gain.mean) < 4 * noise
    assert fitted.gain.mean > 1
    assert fitted.gain.settings["fitted_on"] == 266
    assert "gain of the fitted prior" in str(fitted.gain)


@pytest.mark.slow
def test_the_fitted_model_keeps_the_contract_and_is_estimated_like_any_other():
    for family, name in (("gmm", "GaussianMixture"), ("flow", "TransformedDistribution")):
        with seeded(0):
            model = mlp_vae((5,), 2, (6,))
            x = (torch.rand(100, 5) < 0.5).float()
            nn.init.normal_(model.encoder[-1].weight, std=3.0)
        fitted = fit_prior(model, x, family, seed=0, max_steps=100)
        assert type(fitted.prior()).__name__ == name
        assert check_model(fitted, x).finite
        assert fitted.prior().sample((4, 3)).dtype == torch.float32
        log_px = es.importance_sampling(fitted, x, 500, seed=0)
        elbo = es.evidence_lower_bound(fitted, x, 50, seed=0)
        assert log_px.mean > elbo.mean
        left = es.marginal_kl(fitted, x, seed=0)
        assert left.mean < es.marginal_kl(model, x, seed=0).mean


def test_a_matched_prior_gains_nothing():
    model = LinearGaussian.perfect(2, 8, sigma2=0.02)
    fitted = fit_prior(model, sampled(model, 4000), seed=0)
    assert abs(fitted.gain.mean) < max(3 * fitted.gain.stderr, 1e-12)
    assert abs(fitted.gain.mean) < 0.01


def test_a_prior_that_nothing_beats_is_kept():
    """With 20 datapoints the mixtures overfit: on some of these seeds the own prior is best."""
    model = LinearGaussian.perfect(8, 20)
    kept = [
        fitted
        for seed in range(6)
        if "prior itself"
        in (fitted := fit_prior(model, sampled(model, 20, seed), seed=seed)).gain.method
    ]
    assert kept
    assert all(fitted.gain.values.abs().max() == 0 for fitted in kept)
    z = torch.ones(8, dtype=torch.float64)
    assert kept[0].prior().log_prob(z) == model.prior().log_prob(z)


class Conditioned(nn.Linear):
    def forward(self, v, c):
        return super().forward(torch.cat([v, c], dim=1))


def test_conditions_pass_through():
    with seeded(0):
        model = es.from_modules(
            Conditioned(6, 4),
            Conditioned(3, 5),
            data_shape=(5,),
            latent_shape=(2,),
            conditional=True,
        )
        x, c = (torch.rand(80, 5) < 0.5).float(), torch.randn(80, 1)
    fitted = fit_prior(model, x, seed=0, condition=c)
    elbo = es.evidence_lower_bound(fitted, x, 20, seed=0, condition=c)
    assert math.isfinite(elbo.mean)
    assert type(fitted.given(c).prior()) is type(fitted.prior())


def test_what_does_not_fit_is_refused():
    model = LinearGaussian.instance_1()
    x = sampled(model, 100)
    with pytest.raises(InputError, match=r"family: expected 'gmm' or 'flow'; got 'vae'"):
        inspect.unwrap(fit_prior)(model, x, "vae")
    one = LinearGaussian.perfect(1, 4)
    with pytest.raises(InputError, match=r"latent_dim: expected at least 2"):
        fit_prior(one, sampled(one, 100), "flow")
    with pytest.raises(InputError, match="at least 20 datapoints"):
        fit_prior(model, x[:10])
