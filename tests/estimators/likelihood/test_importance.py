"""Importance sampling against instances whose log p(x) and weight tail are known exactly."""

import math
from collections.abc import Callable

import pytest
import torch
from scipy import stats
from torch.distributions import Distribution, Independent, Normal

from elboscope.core import ContractError, Estimate, InputError
from elboscope.estimators import (
    evidence_lower_bound,
    importance_sampling,
    prior_sampling,
    reconstruction,
    unit_kl,
    zeroing_effect,
)
from elboscope.models import LinearGaussian, mlp_vae

X = torch.tensor([[1.0, -1.0, 0.5]], dtype=torch.float64)
LOG_PX = -3.6964690082


def require_calibrated(z: torch.Tensor) -> None:
    """The z-scores of many seeds are standard normal: mean, mean square, distribution."""
    n = len(z)
    assert abs(z.mean()) * math.sqrt(n) < 3.3
    low, high = stats.chi2.ppf([0.0005, 0.9995], n)
    assert low < z.square().sum() < high
    assert stats.kstest(z.numpy(), "norm").pvalue > 1e-3


@pytest.mark.slow
def test_errors_are_calibrated_over_seeds_on_instance_1() -> None:
    model, seeds = LinearGaussian.instance_1(), range(100)
    estimates = [importance_sampling(model, X, 4000, seed=seed) for seed in seeds]
    z = torch.stack([(e.values[0] - LOG_PX) / e.mc_stderr[0] for e in estimates])
    require_calibrated(z)


@pytest.mark.slow
def test_prior_sampling_is_calibrated_where_it_can_be() -> None:
    model = LinearGaussian.instance_1()
    e = prior_sampling(model, X.expand(100, 3), 20_000, seed=0)
    require_calibrated((e.values - LOG_PX) / e.mc_stderr)


@pytest.mark.slow
def test_infinite_weight_variance_warns_and_finite_does_not() -> None:
    def medians(model: LinearGaussian) -> torch.Tensor:
        x, _ = model.sample(60 * 10, seed=1)  # sixty independent runs of ten datapoints each
        khat = importance_sampling(model, x, 5000, seed=2).diagnostics["khat"]
        return khat.reshape(60, 10).median(1).values

    assert (medians(LinearGaussian.instance_2()) >= 0.5).double().mean() >= 0.95
    assert (medians(LinearGaussian.instance_1()) < 0.5).double().mean() >= 0.95


@pytest.mark.slow
def test_one_datapoint_of_instance_2_warns_in_95_percent_of_seeds() -> None:
    model = LinearGaussian.instance_2()
    khat = importance_sampling(model, X.expand(100, 3), 40_000, seed=0).diagnostics["khat"]
    assert (khat >= 0.5).double().mean() >= 0.95


@pytest.mark.parametrize(
    ("K", "truth"),
    [(2, -3.73402), (10, -3.70622), pytest.param(64, -3.69817, marks=pytest.mark.slow)],
    ids=str,
)
def test_bias_is_that_of_the_bound_with_few_samples(K: int, truth: float) -> None:
    e = importance_sampling(
        LinearGaussian.instance_1(), X.expand(5000, 3), K, seed=2, batch_size=5000
    )
    assert abs(e.mean - truth) < 3.5 * e.stderr + 3e-5
    assert e.side == "lower"


def test_effective_sample_size_half_and_psis() -> None:
    e = importance_sampling(LinearGaussian.instance_1(), X, 100_000, seed=1)
    assert (
        abs(e.diagnostics["ess"].item() / 100_000 - 0.80505) < 0.02
    )  # its own weights w² have k ≈ 0.71
    se = e.mc_stderr.item()
    assert abs(e.diagnostics["psis"].item() - LOG_PX) < 4 * se
    assert 0 < abs(e.diagnostics["half"].item() - LOG_PX) < 4 * math.sqrt(2) * se


def test_equal_weights_of_an_exact_posterior_have_the_least_error_and_not_none() -> None:
    """From q alone no one can tell an exact posterior from one of two modes."""
    model = LinearGaussian.instance_1().with_exact_posterior()
    e = importance_sampling(model, X, 50, seed=0)
    assert abs(e.mean - LOG_PX) < 1e-9
    assert e.mc_stderr.item() == 1 / 50


def test_half_uses_the_first_samples_only() -> None:
    model = LinearGaussian.instance_1()
    whole = importance_sampling(model, X, 8192, seed=3)
    first = importance_sampling(model, X, 4096, seed=3)
    assert whole.diagnostics["half"].item() == pytest.approx(first.mean, abs=1e-12)


class Shifted:
    """x = z + c + noise: the condition must arrive with its datapoint."""

    def __init__(self, c: torch.Tensor | None = None) -> None:
        self.c = c

    def given(self, c: torch.Tensor) -> "Shifted":
        return Shifted(c)

    def prior(self) -> Independent:
        return Independent(Normal(torch.zeros(1).double(), torch.ones(1).double()), 1)

    def decode(self, z: torch.Tensor) -> Independent:
        return Independent(Normal(z + self.c, torch.ones(1).double()), 1)

    def encode(self, x: torch.Tensor) -> Independent:
        return Independent(Normal((x - self.c) / 2, torch.full_like(x, math.sqrt(0.5))), 1)


def test_conditions_are_sliced_with_their_datapoints() -> None:
    c = torch.arange(7.0).double()[:, None] * 10
    x = c + 0.3
    e = importance_sampling(Shifted(), x, 10, condition=c, batch_size=2, seed=0)
    truth = Normal(0.0, math.sqrt(2)).log_prob(torch.tensor(0.3)).item()
    assert (e.values - truth).abs().max() < 1e-6
    with pytest.raises(InputError, match="one row for each of the 7 datapoints of x; got 3 rows"):
        importance_sampling(Shifted(), x, 10, condition=c[:3])


def test_record_says_what_was_done_and_the_caller_is_left_alone() -> None:
    model, calls = LinearGaussian.instance_1(), []
    model.train()
    x, _ = model.sample(5, seed=0)
    before = torch.get_rng_state()
    e = importance_sampling(
        model, x, 10, seed=4, sample_chunk=4, batch_size=3, progress=lambda *a: calls.append(a)
    )
    assert torch.equal(before, torch.get_rng_state())
    assert model.training
    assert calls[-1] == (50, 50)
    expected = {"num_samples": 10, "seed": 4, "likelihood": "Normal", "posterior": "Normal"}
    assert expected.items() <= e.settings.items()
    again = importance_sampling(model, x, 10, seed=4, sample_chunk=4, batch_size=3)
    assert torch.equal(e.values, again.values)
    fresh = importance_sampling(model, x, 10)
    assert fresh.settings["seed"] != importance_sampling(model, x, 10).settings["seed"]


def test_no_samples_are_refused() -> None:
    with pytest.raises(InputError, match="num_samples: expected at least 1; got 0"):
        importance_sampling(LinearGaussian.instance_1(), X, 0)


@pytest.mark.parametrize(
    "estimator",
    [importance_sampling, prior_sampling, evidence_lower_bound, reconstruction, zeroing_effect],
)
def test_a_cross_entropy_is_never_called_log_px(estimator: Callable[..., Estimate]) -> None:
    model = mlp_vae((3,), 2, hidden=())
    x = torch.zeros(20, 3)
    assert math.isfinite(estimator(model, x, 5, seed=0).mean)
    x[19, 0] = 0.5
    with pytest.raises(InputError, match="x: expected values in the support of the likelihood, B"):
        estimator(model, x, 5, seed=0)


@pytest.mark.parametrize("wrong", [{"sample_chunk": -3}, {"batch_size": 0}])
def test_sizes_that_give_no_number_are_refused(wrong: dict[str, int]) -> None:
    model = LinearGaussian.instance_1()
    for estimator in (importance_sampling, evidence_lower_bound):
        with pytest.raises(InputError, match=f"{next(iter(wrong))}: expected at least 1"):
            estimator(model, X, **wrong)


def test_a_prior_that_depends_on_the_condition_is_refused() -> None:
    class Conditional:
        def __init__(self, mean: torch.Tensor = torch.zeros(2)) -> None:  # noqa: B008
            self.mean = mean

        def given(self, condition: torch.Tensor) -> "Conditional":
            return Conditional(condition)

        def prior(self) -> Distribution:
            return Independent(Normal(self.mean, 1.0), 1)

        def decode(self, z: torch.Tensor) -> Distribution:
            return Independent(Normal(z, 1.0), 1)

        def encode(self, x: torch.Tensor) -> Distribution:
            return Independent(Normal(x, 1.0), 1)

    model, x = Conditional(), torch.zeros(5, 2)
    assert unit_kl(model, x).total == 0.0
    with pytest.raises(ContractError, match=r"prior\(\): .*got batch shape \(5,\)"):
        unit_kl(model, x, condition=torch.ones(5, 2))


@pytest.mark.parametrize("shape", [(3, 8, 8), (3, 17), (3, 64)])
def test_datapoints_of_another_shape_are_refused(shape) -> None:
    """(3, 8, 8) broadcasts against (1, 8, 8): every image would be scored under all three."""
    model = mlp_vae((1, 8, 8), 2, hidden=())
    with pytest.raises(InputError, match=r"x: expected datapoints of shape \(1, 8, 8\), the event"):
        importance_sampling(model, torch.ones(shape), 5, seed=0)
    with pytest.raises(InputError, match="num_samples: expected a whole number; got True"):
        importance_sampling(model, torch.ones(3, 1, 8, 8), True, seed=0)
