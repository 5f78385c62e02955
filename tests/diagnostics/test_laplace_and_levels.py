"""Laplace scales against their own data, and the baseline of likelihoods with levels."""

import math
from dataclasses import replace

import pytest
import torch
from handmade import CAPABILITIES, estimate, evidence
from torch.distributions import Independent, Normal

import elboscope as es
from elboscope.core import seeded
from elboscope.diagnostics import divergence, likelihood_scale
from elboscope.diagnostics.checks.divergence import uninformed
from elboscope.diagnostics.quantities.likelihood import implied_scale


@pytest.mark.parametrize(
    ("factor", "severity"), [(1.0, "ok"), (3.0, "warning"), (0.3, "warning"), (8.0, "problem")]
)
def test_the_scale_of_a_laplace_decoder_is_its_mean_absolute_error(factor, severity):
    """Data of the model itself, of which b is declared wrong by a factor."""
    b, D = 0.3, 20
    noise = torch.distributions.Laplace(0.0, b)
    with seeded(0):
        x = noise.sample((400, D)).double()

    class Laplacian:
        def prior(self):
            return Independent(Normal(torch.zeros(1).double(), torch.ones(1).double()), 1)

        def encode(self, x):
            return Independent(Normal(torch.zeros(len(x), 1).double(), 1.0), 1)

        def decode(self, z):
            mu = (0 * z).expand(*z.shape[:-1], D)
            return Independent(torch.distributions.Laplace(mu, b * factor), 1)

    found = implied_scale(Laplacian(), x)
    truth = x.abs().mean().item()
    assert found.implied == pytest.approx(truth, rel=1e-9)
    assert abs(found.implied - b) < 4 * b / math.sqrt(400 * D)
    assert found.ratio == pytest.approx(truth / (b * factor), rel=1e-9)
    capabilities = replace(CAPABILITIES, likelihood="Laplace")
    finding = likelihood_scale(evidence(capabilities=capabilities, scale=found, x=x))
    assert finding.severity == severity
    r = found.ratio
    assert finding.evidence["gain"] == pytest.approx(D * (r - 1 - math.log(r)))
    p, q = (torch.distributions.Laplace(0.0, s) for s in (truth, b * factor))
    gained = (p.log_prob(x) - q.log_prob(x)).sum(1).mean().item()
    assert finding.evidence["gain"] == pytest.approx(gained, rel=1e-4, abs=1e-6)
    assert "Declared b = " in finding.summary
    assert ("--model.likelihood laplace" in finding.action) == (severity != "ok")


@pytest.mark.parametrize(
    ("levels", "nothing"), [(256, -3072 * math.log(256)), (17, -3072 * math.log(17))]
)
def test_knowing_nothing_of_levels_is_a_die_of_as_many_sides(levels, nothing):
    """CIFAR's 8 bits a value are 17 034.8 nats."""
    discrete = replace(CAPABILITIES, likelihood="CategoricalLevels", levels=levels)
    fields = {"capabilities": discrete, "x": torch.rand(10, 3072), "train_elbo": None}
    assert uninformed(evidence(**fields)) == pytest.approx(nothing)
    worse = evidence(**fields, elbo=estimate(nothing - 500, 5.0, kl=3.0))
    assert divergence(worse).severity == "warning"
    thrown = evidence(**fields, elbo=estimate(1.6 * nothing, 5.0, kl=3.0))
    assert divergence(thrown).severity == "problem"
    assert (
        divergence(evidence(**fields, elbo=estimate(nothing + 500, 5.0, kl=3.0))).severity == "ok"
    )


@pytest.mark.parametrize(
    ("likelihood", "settings", "levels"),
    [
        ("categorical", {"levels": 17}, 17),
        ("quantized_normal", {"scale": 0.1}, 256),
        ("bernoulli", {}, 0),
    ],
)
def test_a_models_levels_are_told(likelihood, settings, levels):
    model = es.models.mlp_vae((4,), 2, hidden=(8,), likelihood=likelihood, **settings)
    assert es.check_model(model, torch.zeros(3, 4)).levels == levels
