"""The committed rate: paid whatever comes, and it moves the threshold of collapse as derived."""

import math

import pytest
import torch
from torch.distributions import kl_divergence

import elboscope as es
from elboscope.core import InputError, seeded
from elboscope.models import CommittedGaussian, mlp_vae


@pytest.mark.parametrize("nats", [1e-3, 0.1, 1.0, 6.0])
def test_the_rate_is_never_below_delta_and_reaches_it(nats):
    head = CommittedGaussian(nats).head(1)
    a = torch.linspace(-60, 60, 25, dtype=torch.float64)[:, None]
    prior = es.distributions.standard_normal((1,), a)
    kl = kl_divergence(head(torch.cat([0 * a, a], 1)), prior)
    assert kl.min().item() == pytest.approx(nats, rel=1e-9)
    assert (kl_divergence(head(torch.cat([a, a], 1)), prior) >= nats * (1 - 1e-9)).all()


def linear_vae(variance, posterior, epochs=800):
    """One unit for one value of this variance, decoder noise 1; |w·a|, what survives of x."""
    with seeded(0):
        x = math.sqrt(variance) * torch.randn(400, 1)
        x = (x - x.mean()) / x.std() * math.sqrt(variance)
        model = es.from_modules(
            torch.nn.Linear(1, 2), torch.nn.Linear(1, 1), likelihood="gaussian", scale=1.0,
            posterior=posterior, encoder_output="mu_logvar",
        )  # fmt: skip
        optimiser = torch.optim.Adam(model.parameters(), 0.02)
        for _ in range(epochs):
            optimiser.zero_grad()
            es.objectives.elbo_analytic_kl(model, x).loss.backward()
            optimiser.step()
    return es.active_units(model, x).values.item()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("variance", "used", "used_when_committed"),
    [(0.1, False, False), (0.6, False, True), (2.0, True, True)],
)
def test_a_committed_unit_is_used_from_a_smaller_variance_on(variance, used, used_when_committed):
    """λ > 1 without, λ > σ_u² = 0.3 with δ = ½(0.3 − 1 − ln 0.3)."""
    delta = CommittedGaussian(0.5 * (0.3 - 1 - math.log(0.3)))
    assert delta.largest_variance == pytest.approx(0.3)
    assert (linear_vae(variance, None) > 0.01) is used
    assert (linear_vae(variance, delta) > 0.01) is used_when_committed


def test_mistakes_are_named():
    for nats in (0.0, -1.0, 7.0, math.nan):
        with pytest.raises(InputError, match=r"nats: expected a number in \(0, 6\]; got"):
            CommittedGaussian(nats)


def test_a_configuration_can_name_it():
    from elboscope.cli.resolve import family

    model = mlp_vae((4,), 3, hidden=(5,), posterior=family("CommittedGaussian", "x")())
    assert model.encode(torch.zeros(2, 4)).stddev.max() < 1
