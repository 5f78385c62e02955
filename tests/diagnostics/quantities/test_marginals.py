"""q(z) against the prior within a diagnosis: closed forms, holes, and what has no answer."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.distributions import Distribution

import elboscope as es
from elboscope.core import evaluating, seeded
from elboscope.diagnostics import (
    QUICK,
    STANDARD,
    Budget,
    gather_evidence,
    low_posterior,
    prior_hole,
)
from elboscope.models import LinearGaussian

MATCHED = Budget("quick", 50, 10, 200, 100, 1500, 60.0, num_prior=500, ratio_steps=60,
                 densities=("gmm", "maf"))  # fmt: skip
CHEAP = replace(MATCHED, ratio_steps=0)


@pytest.fixture(scope="module")
def exact():
    model = LinearGaussian.instance_2()
    x, x_train = model.sample(200, seed=0)[0], model.sample(1500, seed=1)[0]
    return model, x, gather_evidence(model, x, x_train=x_train, budget=MATCHED, seed=3)


@pytest.mark.slow
def test_the_mixture_and_every_bound_agree_with_the_closed_form(exact):
    model, _, e = exact
    truth, found = model.marginal_kl().item(), e["marginal_kl_comparison"]
    assert abs(found.estimates["mixture"].mean - truth) < 3.5 * found.estimates["mixture"].stderr
    for name in ("donsker_varadhan", "nwj", "gmm", "maf"):
        assert found.estimates[name].mean < truth + 3.5 * found.estimates[name].stderr, name
    assert "lstm" not in found.estimates
    assert found.estimates["mixture"] is e["surgery"].marginal_kl, "drawn once"


@pytest.mark.slow
def test_the_fitted_prior_gains_the_marginal_kl_and_the_bound_by_as_much(exact):
    model, x, e = exact
    gain = e["fitted_prior"].gain
    assert abs(gain.mean - model.marginal_kl().item()) < 3.5 * gain.stderr
    before, after = e["fitted_prior_elbo"]
    assert before is e["elbo"]
    assert torch.allclose(after.values - before.values, gain.values)
    again = es.evidence_lower_bound(e["fitted_prior"], x, 400, seed=0)
    error = (after.mc_error_of_mean**2 + again.mc_error_of_mean**2) ** 0.5
    assert abs(after.mean - again.mean) < 4 * error, "the bound of the model with that prior"
    assert e["fitted_prior_samples"].shape == (16, 3)


@pytest.mark.slow
def test_a_perfect_model_with_narrow_posteriors_is_never_told_it_has_a_hole():
    model = LinearGaussian.perfect(20, 64)
    x, x_train = model.sample(60, seed=0)[0], model.sample(400, seed=1)[0]
    e = gather_evidence(model, x, x_train=x_train, budget=MATCHED, seed=0)
    assert prior_hole(e).severity == "undecided"
    assert low_posterior(e).severity == "undecided"
    assert e["marginal_kl_comparison"].estimates["mixture"].mean > 20


def test_a_hole_is_found_and_what_fills_it():
    """Codes shifted by six units of a quiet decoder, whose samples are easier than data."""
    base = LinearGaussian.perfect(2, 8, sigma2=0.1)
    quiet = LinearGaussian(base.W.detach() * 0.4, base.b.detach(), 0.1)
    model = quiet.with_mistuned_posterior(6.0)
    x = base.sample(400, seed=0)[0]
    e = gather_evidence(model, x, budget=CHEAP, seed=0)
    hole, low = prior_hole(e), low_posterior(e)
    assert (hole.severity, low.severity) == ("problem", "problem"), f"{hole}\n{low}"
    gain = e["fitted_prior"].gain
    assert f"es.fit_prior(model, x) gains {gain.mean:.1f} ± {gain.stderr:.1f} nats" in hole.action
    assert e.skipped["marginal_kl_comparison"].startswith("budget 'quick' trains no classifier")


def test_without_training_data_a_quarter_is_kept_aside():
    model = LinearGaussian.instance_2()
    x = model.sample(120, seed=0)[0]
    e = gather_evidence(model, x, budget=CHEAP, seed=0)
    before, after = e["fitted_prior_elbo"]
    assert len(before.values) == len(after.values) == len(e["fitted_prior"].gain.values) == 30
    assert e["fitted_prior"].gain.settings["fitted_on"] == 60


class Joined(nn.Linear):
    """A layer of (x, c) or of (z, c)."""

    def forward(self, h, c):
        return super().forward(torch.cat([h, c.expand(*h.shape[:-1], c.shape[-1])], -1))


def test_a_conditional_model_keeps_its_conditions():
    with seeded(0):
        model = es.from_modules(Joined(7, 4), Joined(3, 6), data_shape=(6,), latent_shape=(2,),
                                conditional=True)  # fmt: skip
        x, c = (torch.rand(100, 6) < 0.5).float(), torch.randn(100, 1)
    e = gather_evidence(model, x, condition=c, budget=CHEAP, seed=0)
    assert set(e.skipped) & {"fitted_prior", "fitted_prior_elbo", "low_posterior"} == set()
    low = e["low_posterior"].low
    with evaluating(model):
        means = model.given(low.condition).decode(low.z).mean
    assert torch.allclose(means, low.mean)
    assert low_posterior(e).severity in ("ok", "undecided", "warning", "problem")


@pytest.mark.slow
def test_a_flow_posterior_has_a_smaller_mixture():
    with seeded(0):
        model = es.models.mlp_vae((16,), 3, hidden=(8,), posterior=es.models.RealNVP())
        x = (torch.rand(60, 16) < 0.5).float()
    e = gather_evidence(model, x, budget=replace(CHEAP, num_prior=100), seed=0)
    assert e["low_posterior"].samples.mixture_size == 60
    assert "fitted_prior" in e


class Implicit(Distribution):
    """Can be drawn, and has no density."""

    def __init__(self, mu):
        super().__init__(mu.shape[:1], mu.shape[1:], validate_args=False)
        self.mu = mu

    def sample(self, sample_shape=()):
        return self.mu + torch.randn(*sample_shape, *self.mu.shape).to(self.mu).abs()


def test_a_posterior_without_a_density_has_ratio_bounds_and_a_fitted_prior():
    """Codes on a half-line: draws suffice for all but the mixture and the low-q samples."""
    base = LinearGaussian.perfect(2, 8)
    model = SimpleNamespace(
        prior=base.prior, decode=base.decode, encode=lambda x: Implicit(base.encode(x).mean)
    )
    x = base.sample(200, seed=0)[0]
    e = gather_evidence(model, x, budget=MATCHED, seed=0)
    assert "can be sampled but has no density" in e.skipped["low_posterior"]
    assert "mixture" in e["marginal_kl_comparison"].unavailable
    assert e["fitted_prior"].gain.mean > 3 * e["fitted_prior"].gain.stderr
    assert "can be sampled but has no density" in e.skipped["fitted_prior_elbo"]
    assert low_posterior(e).severity == "unavailable"


def test_one_latent_has_no_flow_and_few_datapoints_have_no_fit():
    model = LinearGaussian.perfect(1, 8, sigma2=0.5)
    x = model.sample(60, seed=0)[0]
    one = gather_evidence(model, x, budget=MATCHED, seed=0)
    assert "latent_dim: expected at least 2" in one["marginal_kl_comparison"].unavailable["maf"]
    assert one["low_posterior"].samples.log_q.shape == (500,)
    few = gather_evidence(model, x[:3], budget=MATCHED, seed=0)
    for name in ("fitted_prior", "marginal_kl_comparison"):
        assert "at least 20 datapoints" in few.skipped[name]
    assert "expected at least 4; got 3" in few.skipped["low_posterior"]


def test_too_many_latents_and_slow_decoders_are_left_out_with_the_seconds():
    assert QUICK.matching_seconds(50) < 3 < STANDARD.matching_seconds(50) < 20
    model = LinearGaussian.instance_1()
    x = model.sample(30, seed=0)[0]
    short = replace(CHEAP, max_seconds=1.0)
    e = gather_evidence(model, x, budget=short, seed=0)
    assert "would take about 1 s; budget 'quick' allows 1 s in all" in e.skipped["fitted_prior"]


def test_the_budget_says_what_it_fits():
    assert "the least covered of 3000 prior draws, of q(z): a fitted prior," in QUICK.describe()
    assert "a fitted prior, a classifier, Gaussian mixtures, a flow," in STANDARD.describe()
