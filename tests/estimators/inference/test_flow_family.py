"""Local flows: they begin as a Gaussian, keep the bound, and reach what no Gaussian does."""

import math

import pytest
import torch
from torch.distributions import Distribution, Independent, Normal

import elboscope as es
from elboscope.core import evaluating, seeded
from elboscope.estimators import optimal_posterior
from elboscope.estimators.inference.flow_family import local_flow
from elboscope.estimators.inference.gaussian_families import matched_noise
from elboscope.estimators.inference.target import Target, score
from elboscope.estimators.inputs import prepared
from elboscope.models import LinearGaussian
from elboscope.models.exact.bimodal import Bimodal
from elboscope.models.posteriors import AuxiliaryRealNVP


def a_gaussian(B: int, d: int) -> tuple[torch.Tensor, torch.Tensor]:
    with seeded(3):
        return torch.randn(B, d).double(), torch.randn(B, d, d).double().tril() / 3 + torch.eye(d)


def test_begins_as_the_gaussian() -> None:
    mean, L = a_gaussian(2, 3)
    family = local_flow((3,), mean)
    parameters = family.around(mean, L)
    with seeded(0):
        noise = torch.randn(5, 2, family.noise_dim).double()
    z, log_q = family.draw(parameters, noise)
    torch.testing.assert_close(z, mean + (L @ noise[..., :3, None])[..., 0])
    q = torch.distributions.MultivariateNormal(mean, scale_tril=L)
    torch.testing.assert_close(log_q, q.log_prob(z))


def test_the_density_is_normalised_over_z_and_v_whatever_the_weights() -> None:
    """E_q[N(z; m, LLᵀ) r(v|z) / q(z, v)] = 1 for any weights: the weights have mean one."""
    mean, L = a_gaussian(3, 2)
    family = local_flow((2,), mean)
    start = family.around(mean, L)
    with seeded(1):
        moved = (*start[:2], *(p + 0.02 * torch.randn_like(p) for p in start[2:]))
        noise = torch.randn(20000, 3, family.noise_dim).double()
    z, log_q = family.draw(moved, noise)
    log_w = torch.distributions.MultivariateNormal(mean, scale_tril=L).log_prob(z) - log_q
    w = log_w.exp()
    assert (log_w.std(0) > 0.1).all()
    assert ((w.mean(0) - 1).abs() < 4 * w.std(0) / math.sqrt(len(w))).all()


def test_every_datapoint_has_weights_of_its_own() -> None:
    mean, L = a_gaussian(2, 2)
    family = local_flow((2,), mean)
    parameters = family.around(mean, L)
    changed = (*parameters[:-1], parameters[-1].clone())
    changed[-1][1] += 0.5
    noise = matched_noise(8, family.noise_dim, mean)
    before, after = (family.draw(p, noise)[1] for p in (parameters, changed))
    torch.testing.assert_close(before[:, 0], after[:, 0])
    assert (before[:, 1] - after[:, 1]).abs().min() > 0.01


def test_frozen_gradient_is_that_of_the_bound_on_average_and_quiet_at_the_posterior() -> None:
    """At the posterior the frozen gradient of the base vanishes sample by sample."""
    model = LinearGaussian.instance_2()
    x, _ = model.sample(2, seed=0)
    posterior = model.posterior(x)
    mean, L = posterior.mean, posterior.scale_tril
    target = Target(model, prepared(model, x, None))
    family = local_flow((2,), mean)
    parameters = [p.requires_grad_() for p in family.around(mean, L)]
    with seeded(0):
        noise = torch.randn(16, 2, family.noise_dim).double()
    z, log_q = family.draw_frozen(tuple(parameters), noise)
    slope, _ = target.slope(z.detach(), torch.arange(2))
    value = (slope * z).sum() - log_q.sum()
    of_base = torch.autograd.grad(value, parameters[2:4])
    assert max(g.abs().max().item() for g in of_base) < 1e-9


def test_an_encoder_of_this_kind_is_a_start() -> None:
    with seeded(0):
        model = es.models.mlp_vae(
            (6,), 3, hidden=(8,), posterior=AuxiliaryRealNVP(2, 7, 4)
        ).double()
        x = torch.bernoulli(torch.full((4, 6), 0.5)).double()
    with evaluating(model), seeded(5):
        q = model.encode(x)
        family = local_flow((3,), x, q)
        target = Target(model, prepared(model, x, None))
        log_w = score(target, family, family.of_encoder(q), torch.arange(4), 4000)
        theirs = es.core.log_weights(model, x, 4000)
    error = (log_w.var(0) + theirs.var(0)).div(4000).sqrt()
    assert ((log_w.mean(0) - theirs.mean(0)).abs() < 4 * error).all()


@pytest.mark.slow
def test_reaches_the_posterior_where_the_gaussians_are_exact() -> None:
    model = LinearGaussian.instance_2()
    x, _ = model.sample(4, seed=0)
    best = optimal_posterior(model, x, "flow", num_samples=2000, max_steps=100, seed=0)
    truth = model.log_likelihood(x)
    assert (best.elbo.values - truth).abs().max() < 0.01
    assert best.certificate.certified
    assert (best.log_px.values - truth).abs().max() < 0.01


class Banana:
    """x ~ N(z₁² / 2 + z₂, 0.3²): the posterior is bent, and no Gaussian fits it."""

    def prior(self) -> Distribution:
        return Independent(Normal(torch.zeros(2).double(), 1.0), 1)

    def decode(self, z: torch.Tensor) -> Distribution:
        return Independent(Normal(z[..., :1] ** 2 / 2 + z[..., 1:], 0.3), 1)

    def log_likelihood(self, x: torch.Tensor) -> torch.Tensor:
        axis = torch.linspace(-7, 7, 1401).double()
        z = torch.stack(torch.meshgrid(axis, axis, indexing="ij"), -1).reshape(-1, 1, 2)
        log_p = self.prior().log_prob(z) + self.decode(z).log_prob(x)
        return log_p.logsumexp(0) + 2 * math.log(0.01)


@pytest.mark.slow
def test_bends_where_no_gaussian_can() -> None:
    model, x = Banana(), torch.tensor([[0.0], [0.5]], dtype=torch.float64)
    full = optimal_posterior(model, x, "full", num_samples=4000, seed=0)
    best = optimal_posterior(model, x, "flow", num_samples=4000, max_steps=200, seed=0)
    truth, error = model.log_likelihood(x), best.elbo.mc_stderr
    assert (best.elbo.values < truth + 4 * error).all()
    lost, still = (truth - full.elbo.values).mean(), (truth - best.elbo.values).mean()
    assert still < lost / 2, (lost, still)
    assert ((best.log_px.values - truth).abs() < 4 * best.log_px.mc_stderr + 0.005).all()


@pytest.mark.slow
def test_covers_both_modes_where_a_gaussian_takes_one() -> None:
    """log p(x) = −1.3652; the best Gaussian, at one mode, loses ln 2 and reports −2.0752."""
    model, x = Bimodal(0.25), torch.ones(1, 1, dtype=torch.float64)
    best = optimal_posterior(model, x, "flow", num_samples=4000, max_steps=400, seed=0)
    truth = model.log_likelihood(x).item()
    assert model.elbo(x).item() + 0.1 < best.elbo.mean < truth
    assert abs(best.log_px.mean - truth) < 4 * best.log_px.mc_error_of_mean
    with seeded(0):
        share = best.posterior.rsample((4000,)).gt(0).double().mean().item()
    assert 0.4 < share < 0.6
