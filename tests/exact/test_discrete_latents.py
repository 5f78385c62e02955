"""Discrete latents and discrete data against sums over all of their states."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import (
    Bernoulli,
    Categorical,
    Distribution,
    Independent,
    Normal,
    OneHotCategorical,
)

import elboscope as es
from elboscope.core import ContractError, closed_form_kl

F64 = torch.float64
BITS = torch.tensor(list(itertools.product((0.0, 1.0), repeat=4)), dtype=F64)
EYE = torch.eye(5, dtype=F64)


class Bits:
    """Four Bernoulli latents, of which the last is always on a priori; x is Gaussian."""

    rates = torch.tensor([0.3, 0.5, 0.8, 1.0], dtype=F64)
    states = BITS

    def prior(self) -> Distribution:
        return Independent(Bernoulli(self.rates), 1)

    def decode(self, z: Tensor) -> Distribution:
        return Independent(Normal(z, torch.full_like(z, 0.7)), 1)

    def encode(self, x: Tensor) -> Distribution:
        rates = torch.sigmoid(2 * x - 1)
        rates = torch.cat([rates[:, :3], torch.ones_like(rates[:, :1])], 1)
        return Independent(Bernoulli(rates), 1)


class OneOfFive:
    """A one-hot latent with q = p for every x: nothing is encoded, and KL(q ‖ p) = 0."""

    states = EYE

    def prior(self) -> Distribution:
        return OneHotCategorical(torch.ones(5, dtype=F64))

    def decode(self, z: Tensor) -> Distribution:
        return Independent(Normal(z[..., :4], torch.ones_like(z[..., :4])), 1)

    def encode(self, x: Tensor) -> Distribution:
        return OneHotCategorical(torch.ones(len(x), 5, dtype=F64))


MODELS = {"bits": Bits(), "one of five": OneOfFive()}


def data(n: int) -> Tensor:
    with es.seeded(1):
        return (torch.rand(n, 4, dtype=F64) > 0.5).double() + 0.7 * torch.randn(n, 4, dtype=F64)


class Exact:
    """Every quantity by sums over all states; 0 log 0 = 0."""

    def __init__(self, model: Bits | OneOfFive, x: Tensor) -> None:
        states = model.states[:, None]
        p = model.prior().log_prob(states)
        q = model.encode(x).log_prob(states.expand(-1, len(x), -1))
        log_px = model.decode(states.expand(-1, len(x), -1)).log_prob(x)
        mixture = q.logsumexp(1, keepdim=True) - math.log(len(x))
        self.log_px = (p + log_px).logsumexp(0)
        self.kl = self._mean(q, q, p)
        self.reconstruction = (q.exp() * log_px).sum(0)
        self.elbo = self.reconstruction - self.kl
        self.information = self._mean(q, q, mixture).mean()
        self.marginal_kl = self._mean(mixture, mixture, p).squeeze()

    def _mean(self, weight: Tensor, a: Tensor, b: Tensor) -> Tensor:
        return torch.where(weight.exp() > 1e-30, weight.exp() * (a - b), 0.0).sum(0)


def lies_near(estimate: es.Estimate, truth: Tensor) -> bool:
    return abs(estimate.mean - truth.mean().item()) < 4 * estimate.mc_error_of_mean + 1e-6


@pytest.mark.parametrize("name", MODELS)
def test_bounds_and_surgery_are_the_sums(name: str) -> None:
    model, x = MODELS[name], data(60)
    exact = Exact(model, x)
    assert es.check_model(model, x).analytic_kl
    assert lies_near(es.importance_sampling(model, x, 2000, seed=0), exact.log_px)
    elbo = es.evidence_lower_bound(model, x, 500, seed=0)
    torch.testing.assert_close(elbo.diagnostics["kl"], exact.kl, rtol=1e-6, atol=1e-6)
    assert lies_near(elbo, exact.elbo)
    parts = es.elbo_surgery(model, x, num_draws=6000, seed=0)
    assert lies_near(parts.reconstruction, exact.reconstruction)
    assert abs(parts.kl.mean - exact.kl.mean().item()) < 1e-6
    assert lies_near(parts.mutual_information, exact.information)
    assert lies_near(parts.marginal_kl, exact.marginal_kl)
    assert lies_near(parts.marginal_kl_plain, exact.marginal_kl)
    assert parts.marginal_kl_held_out is None
    assert "latents are discrete" in parts.unavailable["marginal_kl_held_out"]


@pytest.mark.parametrize("n", [3, 4, 7])
def test_kl_of_bernoullis_is_that_of_each_row(n: int) -> None:
    """torch masks the rate of 1 on the wrong axis: an error, or with n = 4 a wrong number."""
    model, x = Bits(), data(n)
    torch.testing.assert_close(
        closed_form_kl(model.encode(x), model.prior()), Exact(model, x).kl, rtol=1e-6, atol=1e-6
    )


def test_fitted_densities_are_refused() -> None:
    """A mixture of Gaussians has any density at a state: with q = p the bound said 56.8 nats."""
    model, x = OneOfFive(), data(60)
    with pytest.raises(ContractError, match="OneHotCategorical, whose latents are discrete"):
        es.latents.held_out_marginal_kl(model, x, seed=0)
    with pytest.raises(ContractError, match="a density over R"):
        es.fit_prior(model, x, seed=0)
    with pytest.raises(ContractError, match=r"es\.marginal_kl"):
        es.marginal_kl(model, x, "density", density="gmm", seed=0)
    assert abs(es.marginal_kl(model, x, seed=0).mean) < 1e-6


def quick() -> es.diagnostics.Budget:
    from dataclasses import replace

    return replace(es.diagnostics.QUICK, num_samples=100, num_temperatures=3, num_optimised=2)


@pytest.mark.parametrize("name", MODELS)
def test_discrete_latents_are_diagnosed(name: str) -> None:
    diagnosis = es.diagnose(MODELS[name], data(60), budget=quick(), seed=0)
    hole = diagnosis["prior hole"]
    assert hole.severity in ("ok", "unavailable", "undecided")
    assert "which is more than the KL" not in diagnosis["bound tightness"].summary or (
        diagnosis.estimates["bound_gap"].mean > 0
    )


class Words(nn.Module):
    """Three words of a vocabulary of four: p(x|z) draws whole numbers and has no mean."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.decoder = nn.Linear(3, 2), nn.Linear(1, 12)

    def prior(self) -> Distribution:
        return Independent(Normal(torch.zeros(1), torch.ones(1)), 1)

    def encode(self, x: Tensor) -> Distribution:
        mu, log_sigma = self.encoder(x).chunk(2, -1)
        return Independent(Normal(mu / 4, (log_sigma / 4).exp()), 1)

    def decode(self, z: Tensor) -> Distribution:
        logits = 2 * self.decoder(z).reshape(*z.shape[:-1], 3, 4)
        return Independent(Categorical(logits=logits), 1)


def words() -> tuple[Words, Tensor]:
    with es.seeded(0), torch.no_grad():
        model = Words()
        return model, model.decode(model.prior().sample((60,))).sample().float()


@pytest.mark.slow
def test_words_are_diagnosed_to_the_end() -> None:
    model, x = words()
    diagnosis = es.diagnose(model, x, budget=quick(), seed=0)
    z = torch.linspace(-8, 8, 4001)[:, None, None]
    with torch.no_grad():
        joint = model.prior().log_prob(z) + model.decode(z.expand(-1, len(x), 1)).log_prob(x)
    truth = joint.double().logsumexp(0) + math.log(16 / 4000)
    log_px = es.importance_sampling(model, x, 2000, seed=0)
    assert abs(log_px.mean - truth.mean().item()) < 4 * log_px.mc_error_of_mean
    assert diagnosis["divergence"].severity != "problem"  # a mean that is NaN by definition
    assert "diverged" not in str(diagnosis["divergence"].summary).lower()
    sandwich = es.bidirectional_monte_carlo(model, num_data=5, num_temperatures=20, seed=0)
    assert sandwich.x.dtype == torch.float32


def test_gradients_of_words_are_vectorised() -> None:
    model, x = words()
    found = es.gradient_snr(model, x[:4], {"IWAE": es.objectives.iwae}, 2, 20, seed=0)
    assert found.settings["draws"] == {"IWAE, K=2": "vmap"}
