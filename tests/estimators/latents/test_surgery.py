"""ELBO surgery against populations, mixtures and limits that are known exactly."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, Normal

from elboscope.core import seeded
from elboscope.estimators import elbo_surgery, marginal_kl, mutual_information
from elboscope.models import LinearGaussian

from ..likelihood.test_lower_bound import Flowing


class Given(nn.Module):
    """Posteriors that are simply given: x carries the means, σ is fixed, the prior N(0, I)."""

    def __init__(self, d: int, sigma: Tensor) -> None:
        super().__init__()
        self.d, self.sigma = d, sigma.double()

    def prior(self) -> Distribution:
        zero = torch.zeros(self.d, dtype=torch.float64)
        return Independent(Normal(zero, zero + 1), 1)

    def encode(self, x: Tensor) -> Distribution:
        return Independent(Normal(x, self.sigma.expand_as(x)), 1)

    def decode(self, z: Tensor) -> Distribution:
        return Independent(Normal(z, torch.ones_like(z)), 1)


@pytest.mark.slow
def test_population_of_instance_1() -> None:
    model = LinearGaussian.instance_1()
    x, _ = model.sample(10_000, seed=0)
    parts = elbo_surgery(model, x, seed=0, num_draws=10_000)
    truths = {
        "kl": 1.2081124988,
        "mutual_information": 1.1997738957,
        "marginal_kl": 0.0083386030,
        "marginal_kl_plain": 0.0083386030,
        "total_correlation": 0.0074541419,
    }
    for name, truth in truths.items():
        estimate = getattr(parts, name)
        assert abs(estimate.mean - truth) < 3.3 * estimate.stderr, name
    by_unit = parts.dimensionwise_kl
    assert by_unit is not None
    assert abs(by_unit.total - 0.0008844612) < 3.3 * by_unit.stderr
    z = (by_unit.values - model.dimensionwise_kl().detach()) / by_unit.diagnostics["stderr"]
    assert z.abs().max() < 3.3
    assert parts.marginal_kl_held_out is not None
    held_out = parts.marginal_kl_held_out
    assert held_out.mean < 0.0083386030 + 3.3 * held_out.stderr
    assert held_out.mean > 0.0083386030 - 3.3 * held_out.stderr  # a Gaussian is the truth here
    low, high = parts.interval
    assert low < parts.marginal_kl.mean < high
    assert parts.log_n == math.log(10_000)
    assert not parts.unavailable


@pytest.mark.slow
def test_checked_example_of_two_thousand_narrow_posteriors() -> None:
    # N = S = 2000, d = 20, μ ~ N(0, .81), σ = .3: plain 15.534 ± .092, low variance ± 5e-7.
    with seeded(0):
        x = 0.9 * torch.randn(2000, 20, dtype=torch.float64)
    parts = elbo_surgery(Given(20, torch.tensor(0.3)), x, num_draws=2000, seed=0)
    low, plain = parts.marginal_kl, parts.marginal_kl_plain
    assert low.mc_error_of_mean < 1e-5
    assert 0.05 < plain.mc_error_of_mean < 0.15
    assert abs(plain.mean - low.mean) < 3.3 * plain.mc_error_of_mean
    assert abs(low.mean - 15.55) < 3.3 * low.stderr
    assert abs(low.mean - (parts.kl.mean - math.log(2000))) < 1e-4


def test_separated_posteriors_carry_log_n_nats() -> None:
    x = 20 * torch.arange(12, dtype=torch.float64)[:, None]
    information = mutual_information(Given(1, torch.tensor(1.0)), x, 1200, seed=0)
    assert abs(information.mean - math.log(12)) < 1e-12


def test_equal_posteriors_carry_nothing() -> None:
    x = torch.ones(50, 3, dtype=torch.float64)
    parts = elbo_surgery(Given(3, torch.tensor(0.4)), x, seed=0, num_draws=100)
    assert parts.mutual_information.values.abs().max() < 1e-12
    assert abs(parts.marginal_kl.mean - parts.kl.mean) < 1e-12
    assert parts.total_correlation is not None
    assert abs(parts.total_correlation.mean) < 1e-12


@pytest.mark.parametrize("num_draws", [100, 400, 1200])
def test_marginal_kl_is_invariant_to_collapsed_dimensions(num_draws: int) -> None:
    with seeded(0):
        x = torch.randn(400, 2, dtype=torch.float64)
    wide = torch.cat([x, torch.zeros(400, 5, dtype=torch.float64)], 1)
    sigma = torch.tensor([0.5, 0.2, 1, 1, 1, 1, 1])
    a = marginal_kl(Given(2, sigma[:2]), x, num_draws=num_draws, seed=1)
    b = marginal_kl(Given(7, sigma), wide, num_draws=num_draws, seed=1)
    assert a.mean == pytest.approx(b.mean, abs=1e-10)
    assert a.stderr == pytest.approx(b.stderr, abs=1e-10)


@pytest.mark.slow
def test_perfect_model_has_a_full_mixture_and_no_hole() -> None:
    model = LinearGaussian.perfect(20, 30)
    x, _ = model.sample(1000, seed=0)
    parts = elbo_surgery(model, x, seed=0)
    assert abs(parts.mutual_information.mean - math.log(1000)) < 1e-6
    assert abs(parts.marginal_kl.mean - 32.3) < 0.5  # although the population's KL is 0
    assert parts.marginal_kl_held_out is not None
    assert abs(parts.marginal_kl_held_out.mean) <= 3 * parts.marginal_kl_held_out.stderr + 1e-12


def test_real_hole_is_found_by_the_held_out_bound() -> None:
    with seeded(0):
        x = 2.0 * torch.randn(1000, 20, dtype=torch.float64)
    parts = elbo_surgery(Given(20, torch.tensor(0.1)), x, seed=0)
    truth = 20 * 0.5 * (4.01 - 1 - math.log(4.01))
    assert parts.marginal_kl_held_out is not None
    held_out = parts.marginal_kl_held_out
    assert truth - 1.0 < held_out.mean < truth + 3.3 * held_out.stderr
    assert held_out.mean > 10 * held_out.stderr


@pytest.mark.slow
def test_population_error_covers() -> None:
    model, truth = LinearGaussian.instance_2(), 0.1130020622
    z = []
    for seed in range(60):
        x, _ = model.sample(1500, seed=seed)
        estimate = marginal_kl(model, x, num_draws=6000, seed=seed)
        z.append((estimate.mean - truth) / estimate.stderr)
    covered = sum(abs(value) < 1.96 for value in z) / len(z)
    assert covered >= 0.85  # binomial(60, .95): below .85 once in two hundred


@pytest.mark.slow
@pytest.mark.parametrize("num_draws", [3000, 500], ids=["all datapoints", "a third of them"])
@pytest.mark.parametrize("instance", [LinearGaussian.instance_1, LinearGaussian.instance_2])
def test_the_interval_covers_the_population_in_95_percent_of_200_seeds(
    instance: Callable[[], LinearGaussian], num_draws: int
) -> None:
    """sd(kl_n − i_n)/√N, where N resolves q(z): I < log N − 1."""
    model = instance()
    truth = model.marginal_kl().item()
    assert model.mutual_information().item() < math.log(1500) - 1
    covered = 0
    for seed in range(200):
        x, _ = model.sample(1500, seed=seed)
        estimate = marginal_kl(model, x, num_draws=num_draws, seed=seed)
        covered += abs(estimate.mean - truth) < 1.96 * estimate.stderr
    assert 0.92 <= covered / 200 <= 0.98


def test_fewer_draws_than_datapoints_still_mix_over_all() -> None:
    model = LinearGaussian.instance_1()
    x, _ = model.sample(3000, seed=0)
    few = elbo_surgery(model, x, num_draws=600, seed=1)
    assert few.mutual_information.axis == "draw"
    assert few.mutual_information.settings["mixture_size"] == 3000
    assert few.marginal_kl_held_out is not None
    mixtures = (few.mutual_information, few.marginal_kl, few.marginal_kl_plain,
                few.total_correlation, few.dimensionwise_kl)  # fmt: skip
    assert [e and e.mixture_size for e in mixtures] == [3000] * 5
    assert (few.kl.mixture_size, few.marginal_kl_held_out.mixture_size) == (None, None)
    assert [e and e.held_out for e in few.parts()] == [
        e is few.marginal_kl_held_out for e in few.parts()
    ]
    for estimate, truth in ((few.mutual_information, 1.19977), (few.marginal_kl, 0.00834)):
        assert abs(estimate.mean - truth) < 3.3 * estimate.stderr
    assert abs(few.marginal_kl.mean + few.mutual_information.mean - few.kl.mean) < 0.2


def test_flow_posterior_says_what_it_cannot_say() -> None:
    exact = LinearGaussian.instance_1()
    x, _ = exact.sample(400, seed=0)
    flow = elbo_surgery(Flowing(exact), x, num_draws=1200, seed=0)
    gaussian = elbo_surgery(exact, x, num_draws=1200, seed=0)
    assert flow.kl.method == "sampled"
    assert "sampled average KL" in flow.marginal_kl.method
    assert abs(flow.kl.mean - gaussian.kl.mean) < 4 * flow.kl.mc_error_of_mean
    assert flow.total_correlation is None
    assert flow.dimensionwise_kl is None
    assert set(flow.unavailable) == {"total_correlation", "dimensionwise_kl"}
    assert (
        "expected a Gaussian, whose one-dimensional marginals are known"
        in (flow.unavailable["total_correlation"])
    )


@pytest.mark.slow
def test_full_covariance_posterior_is_exact() -> None:
    model = LinearGaussian.instance_1().with_exact_posterior()
    x, _ = model.sample(4000, seed=0)
    parts = elbo_surgery(model, x, num_draws=4000, seed=0)
    assert abs(parts.mutual_information.mean - model.mutual_information().item()) < (
        3.3 * parts.mutual_information.stderr
    )
    assert abs(parts.kl.mean - model.kl(x).mean().item()) < 1e-9
    assert abs(parts.marginal_kl_plain.mean) < 3.3 * parts.marginal_kl_plain.stderr + 1e-3


def test_prior_of_another_family_has_no_dimensionwise_kl() -> None:
    class Mixed(Given):
        def prior(self) -> Distribution:
            from torch.distributions import Categorical, MixtureSameFamily

            mu = torch.tensor([[-1.0, 0.0], [1.0, 0.0]], dtype=torch.float64)
            parts = Independent(Normal(mu, torch.ones_like(mu)), 1)
            return MixtureSameFamily(Categorical(torch.ones(2).double()), parts)

    with seeded(0):
        x = torch.cat([torch.randn(500, 2) - 4, torch.randn(500, 2) + 4]).double() / 4
    model = Mixed(2, torch.tensor(1.0))
    parts = elbo_surgery(model, x, seed=0)
    assert "factorised Gaussian" in parts.unavailable["dimensionwise_kl"]
    assert parts.total_correlation is not None
    assert parts.kl.method == "sampled"


def test_few_datapoints_have_no_held_out_bound_and_say_so() -> None:
    model = LinearGaussian.instance_1()
    x, _ = model.sample(10, seed=0)
    parts = elbo_surgery(model, x, seed=0)
    assert parts.marginal_kl_held_out is None
    assert "at least 20 datapoints; got 10" in parts.unavailable["marginal_kl_held_out"]


@pytest.mark.slow
def test_the_error_of_each_unit_is_its_spread_over_data_sets():
    """Forty data sets: the spread of KL(q_N(z_j) ‖ p(z_j)) is the error that each one states."""
    model = LinearGaussian.instance_1()
    runs = [
        elbo_surgery(model, model.sample(300, seed=seed)[0], seed=seed).dimensionwise_kl
        for seed in range(40)
    ]
    spread = torch.stack([run.values for run in runs]).std(0)
    stated = torch.stack([run.diagnostics["stderr"] for run in runs]).mean(0)
    # The standard deviation of 40 draws scatters by 11 %.
    assert bool(((spread / stated - 1).abs() < 0.35).all())
