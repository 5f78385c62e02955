"""Annealed importance sampling against exact gaps, exact likelihoods and a slow literal version."""

from __future__ import annotations

import math

import pytest
import torch
from scipy import stats
from torch.distributions import Distribution, Independent, Normal

from elboscope.core import ContractError, InputError, log_mean_exp, next_stream, seeded
from elboscope.estimators import (
    annealed_importance_sampling,
    importance_sampling,
    reverse_annealed_importance_sampling,
)
from elboscope.estimators.inputs import prepared
from elboscope.estimators.likelihood.annealed import CHAIN_STREAM
from elboscope.estimators.likelihood.annealed_run import (
    Run,
    forward_run,
    plan_annealing,
    reverse_run,
    tune,
)
from elboscope.estimators.likelihood.annealing import (
    annealing_path,
    betas_of,
    double_schedule,
    pilot,
    resample,
)
from elboscope.estimators.likelihood.hmc import Info, State, evaluate
from elboscope.models import Bimodal, EnumerableBernoulli, LinearGaussian, mlp_vae

X = torch.tensor([[1.0, -1.0, 0.5]], dtype=torch.float64)
ONE = torch.ones(1, 1, dtype=torch.float64)
CONJUGATE = LinearGaussian.conjugate(sigma2=0.25)


def require_calibrated(z: torch.Tensor) -> None:
    """The z-scores of many repetitions are standard normal: mean, mean square, distribution."""
    n = len(z)
    assert abs(z.mean()) * math.sqrt(n) < 3.3
    low, high = stats.chi2.ppf([0.0005, 0.9995], n)
    assert low < z.square().sum() < high
    assert stats.kstest(z.numpy(), "norm").pvalue > 1e-3


def exact_run(
    model: LinearGaussian, x: torch.Tensor, betas: torch.Tensor, chains: int, reverse: bool = False
) -> Run:
    """Anneals with perfect transitions: direct draws from the Gaussian f_β."""
    densities = annealing_path(model, x, "prior").log_densities
    f = [model.tempered_posterior(x, beta) for beta in betas.tolist()]

    def transition(state: State, t: int) -> tuple[State, Info]:
        ones = torch.ones_like(state.log_ratio)
        fresh = evaluate(densities, f[t].sample((chains,)))
        return fresh, Info(ones, ones.bool(), ~ones.bool())

    start = evaluate(densities, f[-1 if reverse else 0].sample((chains,)))
    return (reverse_run if reverse else forward_run)(start, betas, transition)


@pytest.mark.parametrize(
    ("schedule", "T", "forward", "reverse", "chains"),
    [
        ("linear", 1, 2.79528, 0.724719, 100_000),
        ("linear", 5, 0.424141, 0.279859, 100_000),
        ("linear", 10, 0.195141, 0.156859, 50_000),
        ("linear", 100, 0.0177962, 0.0174038, 20_000),
        ("sigmoid", 10, 0.201106, 0.162653, 50_000),
        ("sigmoid", 100, 0.0183810, 0.0179913, 20_000),
    ],
)
def test_gaps_with_perfect_transitions(schedule, T, forward, reverse, chains):
    betas, truth = betas_of(schedule, T), CONJUGATE.log_likelihood(ONE).item()
    with seeded(0), torch.no_grad():
        below = exact_run(CONJUGATE, ONE, betas, chains).log_w
        above = -exact_run(CONJUGATE, ONE, betas, chains, reverse=True).log_w
    for gap, exact in ((truth - below, forward), (above - truth, reverse)):
        z_score = (gap.mean() - exact) / (gap.std() / math.sqrt(chains))
        assert abs(z_score) < 3.5
    mean_w = log_mean_exp(below).item()
    assert abs(mean_w - truth) < 5 * below.exp().std().item() / math.exp(truth) / chains**0.5


@pytest.mark.slow
def test_the_width_of_a_linear_schedule_falls_like_one_over_t():
    model, chains, times_T = LinearGaussian.instance_2(), 30_000, []
    x, _ = model.sample(2, seed=0)
    with seeded(1), torch.no_grad():
        for T in (2, 8, 32):
            below = exact_run(model, x, betas_of("linear", T), chains).log_w
            above = -exact_run(model, x, betas_of("linear", T), chains, reverse=True).log_w
            error = T * ((above.var(0) + below.var(0)) / chains).sqrt()
            times_T.append((T * (above - below).mean(0), error))
    betas = betas_of("linear", 1)
    constant = model.forward_gap(x, betas) + model.reverse_gap(x, betas)
    for width, error in times_T:
        assert ((width - constant) / error).abs().max() < 3.5


def literal(
    model: LinearGaussian, x: torch.Tensor, betas: list[float], steps: list[float], C: int, L: int
) -> torch.Tensor:
    """AIS as the textbook says it: one chain after the other, everything computed anew."""

    def log_f(z: torch.Tensor, b: int, beta: float) -> torch.Tensor:
        log_lik = model.decode(z[None, None]).log_prob(x[b])[0, 0]
        return model.prior().log_prob(z) + beta * log_lik

    def gradient(z: torch.Tensor, b: int, beta: float) -> torch.Tensor:
        z = z.detach().requires_grad_()
        return torch.autograd.grad(log_f(z, b, beta), z)[0]

    B, d, T = len(x), model.W.shape[1], len(betas) - 1
    first = next_stream()
    with seeded(first + 1):
        start = model.prior().sample((C, B))
    with seeded(first):
        noise = [
            (torch.rand(2, C, B, dtype=x.dtype), torch.randn(C, B, d, dtype=x.dtype))
            for _ in range(T - 1)
        ]
    log_w = torch.zeros(C, B, dtype=torch.float64)
    for c in range(C):
        for b in range(B):
            z = start[c, b]
            for t in range(1, T + 1):
                log_w[c, b] += log_f(z, b, betas[t]) - log_f(z, b, betas[t - 1])
                if t == T:
                    continue
                uniform, momentum = noise[t - 1]
                p, beta = momentum[c, b], betas[t]
                step = steps[t - 1] * 0.1 ** uniform[0, c, b]
                energy = 0.5 * p @ p - log_f(z, b, beta)
                end = z
                for _ in range(L):
                    p = p + step / 2 * gradient(end, b, beta)
                    end = end + step * p
                    p = p + step / 2 * gradient(end, b, beta)
                new_energy = 0.5 * p @ p - log_f(end, b, beta)
                if uniform[1, c, b] < (energy - new_energy).exp():
                    z = end
    return log_w.detach()


def test_the_fast_version_is_the_literal_one_on_the_same_noise():
    model, C, L = LinearGaussian.instance_2(), 4, 3
    x, _ = model.sample(3, seed=0)
    betas, steps = betas_of("sigmoid", 6), torch.tensor([1.4, 1.3, 1.2, 1.1, 1.0]).double()
    with seeded(11 ^ CHAIN_STREAM):
        log_w = literal(model, x, betas.tolist(), steps.tolist(), C, L)
    e = annealed_importance_sampling(
        model, x, num_temperatures=6, num_chains=C, num_leapfrog=L, step_sizes=steps, seed=11
    )
    assert 0.3 < e.diagnostics["acceptance"].mean() < 0.95
    torch.testing.assert_close(e.values, log_mean_exp(log_w), rtol=0, atol=1e-10)


@pytest.mark.parametrize(
    ("model", "x", "path"),
    [
        (LinearGaussian.instance_1(), X, "prior"),
        (LinearGaussian.instance_2(), X, "prior"),
        (LinearGaussian.instance_2(), X, "posterior"),
        (Bimodal(0.25), ONE, "prior"),
    ],
    ids=["instance 1", "instance 2", "instance 2 from q", "bimodal"],
)
def test_weights_are_unbiased_with_hmc(model, x, path):
    """80 repetitions of 1000 chains; HMC that is far from perfect does not matter."""
    e = annealed_importance_sampling(
        model, x.expand(80, -1), num_temperatures=8, num_chains=1000, num_leapfrog=3, path=path,
        schedule="linear", seed=1,
    )  # fmt: skip
    require_calibrated((e.values - model.log_likelihood(x).item()) / e.mc_stderr)


@pytest.mark.slow
def test_a_posterior_that_knows_one_of_two_modes_hides_the_other():
    """From such a q every chain stays in its mode: log 2 is lost, and the error says nothing."""
    model = Bimodal(0.1)
    truth = model.log_likelihood(ONE).item()
    sick, well = (
        annealed_importance_sampling(
            model, ONE, num_temperatures=50, num_chains=400, num_leapfrog=5, path=path, seed=0
        )
        for path in ("posterior", "prior")
    )
    assert abs(truth - sick.mean - math.log(2)) < 0.02
    assert sick.mc_stderr.item() < 0.01
    assert abs(truth - well.mean) < 4 * well.mc_stderr.item()


def test_bernoulli_against_quadrature():
    model = EnumerableBernoulli.random(8, 2, seed=0)
    x, _ = model.sample(60, seed=1)
    e = annealed_importance_sampling(model, x, num_temperatures=20, num_chains=100, seed=2)
    require_calibrated((e.values - model.log_likelihood(x).detach()) / e.mc_stderr)


def test_reverse_weights_are_unbiased_for_the_inverse():
    """E[u] = 1/p(x) when every chain has its own exact draw of the posterior."""
    model, n = LinearGaussian.instance_1(), 40_000
    with seeded(0):
        z = model.posterior(X).sample((n,))[:, 0]
    e = reverse_annealed_importance_sampling(
        model, X.expand(n, -1), z, num_temperatures=8, num_chains=1, num_leapfrog=4,
        schedule="linear", seed=1, batch_size=n,
    )  # fmt: skip
    u = (-e.values + model.log_likelihood(X).item()).exp()
    assert abs(u.mean() - 1) < 3.5 * u.std() / math.sqrt(n)
    assert e.side == "upper"
    assert e.mean > model.log_likelihood(X).item() + 5 * e.stderr


def test_it_needs_no_good_posterior():
    """The encoder is the prior: importance weights have a huge variance, annealed ones do not."""
    model = LinearGaussian(3 * torch.eye(6).double(), torch.zeros(6).double(), 0.1)
    model = model.with_prior_as_posterior()
    x, _ = model.sample(10, seed=0)
    truth = model.log_likelihood(x)
    sick = importance_sampling(model, x, 3000, seed=0)
    well = annealed_importance_sampling(
        model, x, num_temperatures=80, num_chains=10, num_leapfrog=6, seed=0
    )
    assert (truth - sick.values).mean() > 5
    assert (truth - well.values).mean() < 2


def test_one_increment_is_prior_sampling():
    e = annealed_importance_sampling(CONJUGATE, ONE, num_temperatures=1, num_chains=50, seed=3)
    with seeded(3 ^ CHAIN_STREAM), seeded(next_stream() + 1):
        z = CONJUGATE.prior().sample((50, 1))
    by_hand = log_mean_exp(CONJUGATE.decode(z).log_prob(ONE))
    torch.testing.assert_close(e.values, by_hand.detach(), rtol=0, atol=1e-12)
    assert e.diagnostics["acceptance"].isnan().all()


def test_data_simulated_from_the_same_seed_do_not_start_the_chains():
    model = LinearGaussian.instance_1()
    x, _ = model.sample(2000, seed=7)  # with one increment and one chain z* itself would be scored
    same, other = (
        annealed_importance_sampling(model, x, num_temperatures=1, num_chains=1, seed=seed)
        for seed in (7, 8)
    )
    assert abs(same.mean - other.mean) < 4 * math.hypot(same.stderr, other.stderr)
    assert same.mean < model.log_likelihood(x).mean().item() - 1


def test_posterior_path_from_the_exact_posterior_has_no_error():
    model = LinearGaussian.instance_1().with_exact_posterior()
    e = annealed_importance_sampling(
        model, X, num_temperatures=5, num_chains=4, path="posterior", seed=0
    )
    assert abs(e.mean + 3.6964690082) < 1e-9
    assert e.mc_stderr.item() < 1e-7


def test_step_sizes_are_frozen_before_the_run():
    """Given the pilot's step sizes, the run is the same: it adapts nothing."""
    model = LinearGaussian.instance_1()
    x, _ = model.sample(5, seed=0)
    settings = {"num_temperatures": 15, "num_chains": 6, "num_leapfrog": 3, "seed": 9}
    e = annealed_importance_sampling(model, x, **settings)
    plan = plan_annealing(15, 6, 3, "sigmoid", "prior", None)
    steps = tune(model, prepared(model, x, None), plan, 9).at(plan.betas)
    again = annealed_importance_sampling(model, x, **settings, step_sizes=steps)
    assert torch.equal(e.values, again.values)
    assert e.settings["smallest_step"] == steps.min().item()
    half = annealed_importance_sampling(model, x, **settings, step_sizes=steps / 2)
    assert not torch.equal(e.values, half.values)


@pytest.mark.parametrize("scale", [0.01, 1.0, 30.0])
def test_the_pilot_reaches_its_acceptance_at_any_scale(scale):
    """A posterior 10⁻³ to 1 as wide as the prior: ε follows."""
    W = scale * torch.eye(8).double()
    model = LinearGaussian(W, torch.zeros(8).double(), 0.5)
    x, _ = model.sample(20, seed=0)
    e = annealed_importance_sampling(
        model, x, num_temperatures=60, num_chains=10, num_leapfrog=5, seed=0
    )
    assert 0.5 < e.diagnostics["acceptance"].mean() < 0.97
    assert e.settings["smallest_step"] < 4 / math.sqrt(1 + scale**2 / 0.5)


class Shifted:
    """x = z + c + noise: the condition must arrive with its datapoint."""

    def __init__(self, c: torch.Tensor | None = None) -> None:
        self.c = c

    def given(self, c: torch.Tensor) -> Shifted:
        return Shifted(c)

    def prior(self) -> Distribution:
        return Independent(Normal(torch.zeros(1).double(), torch.ones(1).double()), 1)

    def decode(self, z: torch.Tensor) -> Distribution:
        return Independent(Normal(z + self.c, torch.ones(1).double()), 1)

    def encode(self, x: torch.Tensor) -> Distribution:
        return Independent(Normal((x - self.c) / 2, torch.full_like(x, math.sqrt(0.5))), 1)


@pytest.mark.parametrize("path", ["prior", "posterior"])
def test_conditions_are_sliced_with_their_datapoints(path):
    c = torch.arange(7.0).double()[:, None] * 10
    e = annealed_importance_sampling(
        Shifted(), c + 0.3, condition=c, batch_size=2, num_temperatures=30, path=path, seed=0
    )
    truth = stats.norm(0, math.sqrt(2)).logpdf(0.3)
    assert ((e.values - truth) / (e.mc_stderr + 1e-7)).abs().max() < 4


class Broken:
    """z ~ N(0, 1), x | z ~ N(z, 0.5²), but the decoder answers NaN for z < −0.5."""

    def prior(self) -> Distribution:
        zero = torch.zeros(1).double()
        return Independent(Normal(zero, torch.ones_like(zero), validate_args=False), 1)

    def decode(self, z: torch.Tensor) -> Distribution:
        mean = torch.where(z < -0.5, torch.nan, z)
        return Independent(Normal(mean, 0.5, validate_args=False), 1, validate_args=False)


class Validated(Broken):
    """The same with torch's own validation, which refuses NaN parameters by raising."""

    def decode(self, z: torch.Tensor) -> Distribution:
        return Independent(Normal(torch.where(z < -0.5, torch.nan, z), 0.5), 1)


@pytest.mark.slow
def test_nan_that_a_distribution_refuses_is_rejected_for_its_chain_alone():
    settings = {"num_temperatures": 4, "num_chains": 5, "num_leapfrog": 3, "seed": 0}
    x = torch.tensor([[0.3], [0.1], [-0.3]]).double()
    quiet, loud = (
        annealed_importance_sampling(model, x, **settings) for model in (Broken(), Validated())
    )
    assert quiet.diagnostics["divergent"].sum() > 0
    assert torch.equal(quiet.diagnostics["divergent"], loud.diagnostics["divergent"])
    torch.testing.assert_close(quiet.values, loud.values, rtol=0, atol=1e-12)


def test_nan_energies_are_rejected_counted_and_cost_their_part_of_the_integral():
    e = annealed_importance_sampling(
        Broken(), -0.3 * ONE.expand(60, 1), num_temperatures=20, num_chains=100, num_leapfrog=5,
        seed=0,
    )  # fmt: skip
    assert e.diagnostics["divergent"].min() > 0
    joint = stats.norm(-0.3 / 1.25, math.sqrt(0.2))  # the posterior, were nothing NaN
    truth = stats.norm(0, math.sqrt(1.25)).logpdf(-0.3) + joint.logsf(-0.5)
    require_calibrated((e.values - truth) / e.mc_stderr)
    sound = annealed_importance_sampling(CONJUGATE, ONE, num_temperatures=20, seed=0)
    assert sound.diagnostics["divergent"].sum() == 0


def test_record_says_what_was_done_and_the_caller_is_left_alone():
    model, calls = LinearGaussian.instance_1(), []
    model.train()
    x, _ = model.sample(5, seed=0)
    before = torch.get_rng_state()
    e = annealed_importance_sampling(
        model, x, num_temperatures=6, num_chains=3, batch_size=2, seed=4,
        progress=lambda *a: calls.append(a),
    )  # fmt: skip
    assert torch.equal(before, torch.get_rng_state())
    assert model.training
    assert all(p.grad is None for p in model.parameters())
    assert calls[-1] == (75, 75)
    assert [done for done, _ in calls] == sorted(done for done, _ in calls)
    expected = {
        "num_temperatures": 6, "num_chains": 3, "num_leapfrog": 10, "schedule": "sigmoid",
        "path": "prior", "seed": 4, "likelihood": "Normal", "posterior": "Normal",
    }  # fmt: skip
    assert expected.items() <= e.settings.items()
    assert 0 < e.settings["smallest_step"] <= e.settings["largest_step"]
    assert e.side == "lower"
    assert str(e).startswith("log p(x) ≥ ")
    assert 1 <= e.diagnostics["ess"].min() <= e.diagnostics["ess"].max() <= 3
    fresh = annealed_importance_sampling(model, x, num_temperatures=2, num_leapfrog=1)
    assert fresh.settings["seed"] != 4


def test_an_interrupted_run_leaves_no_trace():
    model = LinearGaussian.instance_1()
    model.train()
    before = torch.get_rng_state()

    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        annealed_importance_sampling(model, X, num_temperatures=5, seed=0, progress=interrupt)
    assert model.training
    assert torch.equal(before, torch.get_rng_state())
    assert not torch.is_inference_mode_enabled()
    assert torch.is_grad_enabled()


def test_given_schedule():
    given = torch.tensor([0.0, 0.1, 0.4, 1.0])
    e = annealed_importance_sampling(CONJUGATE, ONE, schedule=given, num_leapfrog=2, seed=0)
    assert (e.settings["num_temperatures"], e.settings["schedule"]) == (3, "given")
    expected = torch.tensor([0, 0.05, 0.1, 0.25, 0.4, 0.7, 1]).double()
    torch.testing.assert_close(double_schedule(given, 500), expected, rtol=0, atol=1e-7)
    sigmoid = betas_of("sigmoid", 8)
    assert torch.equal(resample(sigmoid, 8), sigmoid)


@pytest.mark.parametrize(
    ("schedule", "words"),
    [
        (torch.tensor([0.1, 1.0]), r"schedule: expected β_0 = 0, the base density; got β_0 = 0.1"),
        (torch.tensor([0.0, 0.9]), r"schedule: expected β_T = 1, the joint density; got β_T = 0.9"),
        (torch.tensor([0.0, 0.5, 0.5, 1.0]), r"increase with every step; got β_1 = 0.5, β_2 = 0.5"),
        (torch.tensor([0.0, math.nan, 1.0]), r"increase with every step; got β_0 = 0, β_1 = nan"),
        (torch.tensor([1.0]), r"schedule: expected a vector of two or more β; got shape \(1,\)"),
    ],
)
def test_schedules_that_do_not_go_from_0_to_1_are_refused(schedule, words):
    with pytest.raises(InputError, match=words):
        annealed_importance_sampling(CONJUGATE, ONE, schedule=schedule)


def test_unknown_words_are_refused():
    with pytest.raises(InputError, match=r"schedule: expected 'sigmoid', 'linear' or .*'cosine'"):
        betas_of("cosine", 10)
    with pytest.raises(InputError, match="path: expected 'prior' or 'posterior'; got 'both'"):
        annealing_path(CONJUGATE, ONE, "both")


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"num_temperatures": 0}, "num_temperatures: expected at least 1; got 0"),
        ({"num_chains": 0}, "num_chains: expected at least 1; got 0"),
        ({"num_leapfrog": 0}, "num_leapfrog: expected at least 1; got 0"),
        ({"batch_size": 0}, "batch_size: expected at least 1; got 0"),
        (
            {"num_temperatures": 4, "step_sizes": torch.ones(4)},
            r"step_sizes: expected 3 positive numbers, one for each transition .* shape \(4,\)",
        ),
        (
            {"num_temperatures": 3, "step_sizes": torch.tensor([0.1, -0.1])},
            "step_sizes: expected 2 positive numbers.*got -0.1",
        ),
    ],
)
def test_settings_that_give_no_number_are_refused(wrong, words):
    with pytest.raises(InputError, match=words):
        annealed_importance_sampling(CONJUGATE, ONE, **wrong)


class Implicit(Normal):
    """Can be sampled only."""

    def log_prob(self, value: torch.Tensor) -> torch.Tensor:
        raise NotImplementedError


class WithoutDensity(Shifted):
    def __init__(self) -> None:
        super().__init__(torch.zeros(1).double())

    def encode(self, x: torch.Tensor) -> Distribution:
        return Implicit(x, torch.ones_like(x))


class Discrete(Shifted):
    def prior(self) -> Distribution:
        return Independent(torch.distributions.Bernoulli(torch.full((1,), 0.5).double()), 1)


@pytest.mark.parametrize(
    ("model", "path", "words"),
    [
        (WithoutDensity(), "posterior", r"encode\(x\).log_prob: expected a density.*Implicit"),
        (Broken(), "posterior", "path='posterior': expected a model with encode.*Broken without"),
        (Discrete(torch.zeros(1).double()), "prior", r"prior\(\): expected continuous latents"),
    ],
    ids=["implicit posterior", "no encoder", "discrete latents"],
)
def test_models_that_cannot_be_annealed_are_refused(model, path, words):
    with pytest.raises(ContractError, match=words):
        annealed_importance_sampling(model, ONE, path=path)


def test_a_posterior_without_density_does_not_matter_to_the_prior_path():
    e = annealed_importance_sampling(WithoutDensity(), ONE, num_temperatures=10, seed=0)
    assert abs(e.mean - Normal(0.0, math.sqrt(2)).log_prob(torch.ones(())).item()) < 0.3


def test_a_cross_entropy_is_never_called_log_px():
    model, x = mlp_vae((3,), 2, hidden=()), torch.zeros(5, 3)
    x[4, 0] = 0.5
    with pytest.raises(InputError, match="x: expected values in the support of the likelihood, B"):
        annealed_importance_sampling(model, x, num_temperatures=2, seed=0)


def test_latents_of_another_shape_are_refused():
    model = LinearGaussian.instance_1()
    with pytest.raises(
        InputError, match=r"z: expected one latent for each.*\(1, 2\); got \(3, 2\)"
    ):
        reverse_annealed_importance_sampling(model, X, torch.zeros(3, 2).double())


def test_latents_that_are_no_numbers_are_refused():
    """From them came an upper bound of −∞, and no word."""
    model, z = LinearGaussian.instance_1(), torch.full((1, 2), math.nan).double()
    with pytest.raises(InputError, match=r"z: expected one latent .* got NaN or infinite values"):
        reverse_annealed_importance_sampling(model, X, z, num_temperatures=5, seed=0)


def test_dropout_is_off():
    """A decoder in training mode is evaluated as it will be used."""
    model = mlp_vae((4,), 2, hidden=(8,))
    model.decoder.append(torch.nn.Dropout(0.5))
    model.train()
    x = torch.ones(3, 4)
    a = annealed_importance_sampling(model, x, num_temperatures=5, num_leapfrog=2, seed=0)
    model.decoder = model.decoder[:-1]
    b = annealed_importance_sampling(model, x, num_temperatures=5, num_leapfrog=2, seed=0)
    assert torch.equal(a.values, b.values)


def test_the_pilot_can_be_run_alone_on_any_schedule():
    path = annealing_path(CONJUGATE, ONE, "prior")
    with seeded(0), torch.no_grad():
        curve = pilot(path, betas_of("linear", 2), 16, 5)
    assert curve.at(betas_of("linear", 1)).shape == (0,)
    assert curve.at(betas_of("sigmoid", 50)).shape == (49,)
