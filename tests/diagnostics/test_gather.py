"""Evidence agrees with closed forms, survives broken models, and keeps to its budget."""

import math
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.distributions import Distribution, Independent, Normal

import elboscope as es
from elboscope.core import ContractError, InputError
from elboscope.diagnostics import (
    CHECKS,
    QUICK,
    Budget,
    divergence,
    gather_evidence,
    likelihood_scale,
    prior_hole,
)
from elboscope.diagnostics.plan import plan_for, stratified
from elboscope.models import LinearGaussian, mlp_vae

SMALL = Budget("quick", 400, 50, 60, 60, 300, 60.0)
ANNEALED = replace(SMALL, num_temperatures=10, num_chains=4, num_annealed=12, num_simulated=20,
                   num_optimised=15, num_optimised_train=12, num_prior=200, ratio_steps=20,
                   densities=("gmm",))  # fmt: skip


@pytest.fixture(scope="module")
def exact():
    model = LinearGaussian.instance_1()
    x, x_train = model.sample(60, seed=0)[0], model.sample(300, seed=1)[0]
    return model, x, gather_evidence(model, x, x_train=x_train, budget=ANNEALED, seed=3)


def test_every_number_agrees_with_its_closed_form(exact):
    model, x, e = exact
    truth = {"log_px": model.log_likelihood(x), "elbo": model.elbo(x)}
    truth |= {
        "reconstruction": model.reconstruction(x),
        "kl": model.kl(x),
        "bound_gap": model.gap(x),
    }
    for name, value in truth.items():
        estimate = e[name]
        error = max(estimate.mc_error_of_mean, 1e-6)
        assert abs(estimate.mean - value.mean().item()) < 4 * error, name
    assert e["unit_kl"].total == pytest.approx(model.kl(x).mean().item(), rel=1e-5)
    assert e["scale"].declared == pytest.approx(0.5)
    assert abs(e["scale"].ratio - 1) < 4 * e["scale"].ratio_stderr
    assert torch.allclose(e["posterior_means"], model.posterior(x).mean)


def test_annealing_agrees_with_the_closed_form_on_its_own_rows(exact):
    model, x, e = exact
    assert len(e.rows["log_likelihood"]) == 12
    mine = x[e.rows["log_likelihood"]]
    for part in (e["log_likelihood"].annealed, e["log_likelihood"].log_px):
        error = part.mc_error_of_mean
        assert abs(part.mean - model.log_likelihood(mine).mean().item()) < 4 * error
    assert len(e["log_likelihood"].sandwich.x) == 20
    assert e.settings["n_annealed"] == 12


def test_the_bounds_by_samples_are_of_the_same_weights_and_rise(exact):
    e = exact[2]
    assert list(e["bounds_by_samples"]) == [1, 2, 5, 10, 50, 64, 100, 400]
    assert e["bounds_by_samples"][400] is not None
    assert torch.equal(e["bounds_by_samples"][400].values, e["log_px"].values)
    means = [e["bounds_by_samples"][K].mean for K in (1, 5, 10, 50, 100, 400)]
    assert means == sorted(means)


def test_the_parts_of_the_inference_gap_agree_with_the_closed_form_on_their_rows(exact):
    model, x, e = exact
    gap, mine = e["inference_gap"], x[e.rows["inference_gap"]]
    assert (len(e.rows["inference_gap"]), e.settings["n_optimised"]) == (15, 15)
    assert gap.optimal_posterior_certified, gap.reasons
    truth = {"approximation": model.gap(mine), "amortisation": model.gap(mine) * 0}
    for part, value in truth.items():
        assert abs(getattr(gap, part).mean - value.mean().item()) < 0.01, part
    assert len(gap.train.index) == e.settings["n_optimised_train"] == 12
    assert abs(gap.generalisation.amortisation.value) < 0.01


@pytest.mark.slow
def test_training_data_that_are_the_evaluation_data_are_no_second_set():
    model = LinearGaussian.instance_1()
    x, _ = model.sample(12, seed=0)
    e = gather_evidence(model, x, x_train=x, budget=replace(ANNEALED, num_temperatures=0))
    assert "inference_gap" in e
    assert e["inference_gap"].train is None


class WithoutGradient(LinearGaussian):
    """A decoder in numpy."""

    def decode(self, z):
        return super().decode(torch.from_numpy(z.numpy()))


@pytest.mark.slow
def test_a_decoder_without_a_gradient_costs_only_the_certificate():
    first = LinearGaussian.instance_1()
    model = WithoutGradient(first.W, first.b, 0.5)
    e = gather_evidence(model, first.sample(40, seed=0)[0], budget=ANNEALED)
    assert "AIS needs the decoder's gradient" in e.skipped["log_likelihood"]
    assert "the search for q* needs the decoder's gradient" in e.skipped["inference_gap"]
    assert "log_px" in e
    assert "log_likelihood" not in e.nonfinite


def test_a_budget_without_temperatures_says_so():
    model = LinearGaussian.instance_1()
    e = gather_evidence(model, model.sample(40, seed=0)[0], budget=SMALL)
    assert e.skipped == {
        "log_likelihood": "budget 'quick' has no temperatures for annealing",
        "inference_gap": "budget 'quick' searches no best posteriors",
        "local_posteriors": "budget 'quick' searches no best posteriors",
        "marginal_kl_comparison": "budget 'quick' trains no classifier and no density network",
        "fitted_prior": "budget 'quick' draws no prior samples to compare with q(z)",
        "fitted_prior_elbo": "budget 'quick' draws no prior samples to compare with q(z)",
        "fitted_prior_samples": "budget 'quick' draws no prior samples to compare with q(z)",
        "low_posterior": "budget 'quick' draws no prior samples to compare with q(z)",
        "sample_quality": "budget 'quick' scores no samples",
        "sample_quality_gap": "budget 'quick' scores no samples",
        "discriminator_kl": "the model carries no discriminator of codes",
        "train_elbo": "no training data was given",
        "train_log_px": "no training data was given",
    }


def test_the_mixture_is_that_of_the_training_data(exact):
    model, _, e = exact
    assert e.settings["n_mixture"] == 300
    assert e["surgery"].log_n == pytest.approx(math.log(300))
    low, high = e["surgery"].interval
    assert low <= e["surgery"].marginal_kl.mean <= high
    information = e["surgery"].mutual_information
    assert abs(information.mean - model.mutual_information().item()) < 5 * information.stderr + 0.05


def test_nothing_is_skipped_for_a_model_that_can_be_asked_everything(exact):
    images = {"sample_quality", "sample_quality_gap", "discriminator_kl"}
    assert set(exact[2].skipped) <= images  # what no linear-Gaussian model of vectors has
    assert exact[2].nonfinite == {}


def test_the_callers_random_state_and_the_models_mode_are_left_alone():
    model = mlp_vae((8,), 2, hidden=(16,)).train()
    x, state = torch.bernoulli(torch.full((30, 8), 0.5)), torch.get_rng_state()
    gather_evidence(model, x, budget=SMALL)
    assert torch.equal(state, torch.get_rng_state())
    assert model.training


@pytest.mark.slow
def test_the_perfect_model_gets_no_hole_at_n_1000():
    model = LinearGaussian.perfect(20, 64)
    x, x_train = model.sample(60, seed=0)[0], model.sample(1000, seed=1)[0]
    e = gather_evidence(model, x, x_train=x_train, budget=replace(SMALL, num_mixture=1000))
    finding = prior_hole(e)
    assert e["surgery"].marginal_kl.mean == pytest.approx(32.3, abs=0.5)
    assert finding.severity == "undecided"


class Implicit(nn.Module):
    """A posterior that can only be sampled."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def prior(self) -> Distribution:
        return self.model.prior()

    def decode(self, z) -> Distribution:
        return self.model.decode(z)

    def encode(self, x) -> Distribution:
        return SampleOnly(self.model.encode(x))


class SampleOnly(Distribution):
    def __init__(self, q):
        super().__init__(q.batch_shape, q.event_shape, validate_args=False)
        self.q = q

    has_rsample = True

    def rsample(self, sample_shape=()):
        return self.q.rsample(torch.Size(sample_shape))

    def log_prob(self, value):
        raise NotImplementedError


class Generator:
    """A prior and a decoder, no encoder."""

    def __init__(self, model):
        self.prior, self.decode = model.prior, model.decode


@pytest.mark.parametrize(
    ("wrap", "missing", "words"),
    [
        (
            Implicit,
            ("log_px", "elbo", "unit_kl", "surgery", "inference_gap"),
            "can be sampled but has no density",
        ),
        (Generator, ("log_px", "elbo", "active_units", "scale", "inference_gap"), "no encoder"),
    ],
)
def test_what_a_model_cannot_be_asked_is_skipped_with_its_reason(wrap, missing, words):
    model = LinearGaussian.instance_1()
    e = gather_evidence(wrap(model), model.sample(40, seed=0)[0], budget=ANNEALED)
    assert e["log_likelihood"].annealed.settings["path"] == "prior"
    assert e["log_likelihood"].widened is None
    for name in missing:
        assert name not in e
        assert words in e.skipped[name]
    assert "prior_sampling" in e
    assert {check(e).severity for check in CHECKS} <= {"ok", "unavailable", "undecided"}


@pytest.mark.parametrize("part", ["encoder", "decoder"])
def test_nan_parameters_are_a_finding_and_no_crash(part):
    model, x = mlp_vae((8,), 2, hidden=(16,)), torch.bernoulli(torch.full((40, 8), 0.5))
    with torch.no_grad():
        next(getattr(model, part).parameters())[0, 0] = torch.nan
    e = gather_evidence(model, x, x_train=x, budget=SMALL)
    findings = {finding.check: finding for finding in (check(e) for check in CHECKS)}
    assert findings["divergence"].severity == "problem"
    assert "1 parameters are NaN or infinite" in findings["divergence"].summary
    assert "log_px" not in e
    assert e.skipped["log_px"]


def test_a_model_that_validates_its_arguments_and_is_nan_is_a_finding_too():
    model = LinearGaussian.instance_1()
    with torch.no_grad():
        model.W[0, 0] = torch.nan
    e = gather_evidence(model, torch.zeros(40, 3, dtype=torch.float64), budget=SMALL)
    assert CHECKS[0](e).severity == "problem"


def test_overflow_without_nan_parameters_is_a_finding():
    model, x = mlp_vae((8,), 2, hidden=(16,)), torch.bernoulli(torch.full((40, 8), 0.5))
    with torch.no_grad():
        for p in model.decoder.parameters():
            p.fill_(1e30)
    e = gather_evidence(model, x, budget=SMALL)
    assert CHECKS[0](e).severity == "problem"


def test_bernoulli_on_grey_values_gives_no_likelihood_but_its_latents():
    model, x = mlp_vae((8,), 2, hidden=(16,)), torch.rand(40, 8)
    e = gather_evidence(model, x, budget=SMALL)
    assert "log_px" not in e
    assert "a cross-entropy, not a likelihood" in e.skipped["log_px"]
    assert "unit_kl" in e
    assert e["posterior_means"].shape == (40, 2)


def test_a_structural_breach_raises():
    class Forgotten(LinearGaussian):
        def decode(self, z):
            return Normal(z @ self.W.T + self.b, self.sigma2.sqrt())

    first = LinearGaussian.instance_1()
    model = Forgotten(first.W, first.b, 0.5)
    with pytest.raises(ContractError, match="Independent"):
        gather_evidence(model, torch.zeros(20, 3, dtype=torch.float64), budget=SMALL)


class Slow(nn.Module):
    """A decoder that claims the time of a very large one."""

    def __init__(self):
        super().__init__()
        self.a = nn.Parameter(torch.zeros(()))

    def prior(self):
        return Independent(Normal(torch.zeros(2), torch.ones(2)), 1)

    def decode(self, z):
        import time

        time.sleep(0.02)
        mean = z.sum(-1, keepdim=True).expand(*z.shape[:-1], 784) * self.a
        return Independent(Normal(mean, torch.ones_like(mean)), 1)

    def encode(self, x):
        mu = x[:, :2]
        return Independent(Normal(mu, torch.ones_like(mu)), 1)


@pytest.mark.slow
def test_what_is_too_slow_is_cut_and_then_skipped_and_says_so():
    x = torch.randn(2000, 784)
    hurried = replace(QUICK, max_seconds=1e-3)
    e = gather_evidence(Slow(), x, budget=hurried)
    assert len(e.x) == 100
    assert "100 of 2000 datapoints" in e.settings["subsampled"]
    assert e.num_given == e.settings["n_given"] == 2000
    assert "would take about" in e.skipped["log_px"]
    assert "AIS would take about" in e.skipped["log_likelihood"]
    assert "the best posteriors of 10 datapoints would take about" in e.skipped["inference_gap"]
    assert "elbo" in e
    trust = {c(e).check: c(e) for c in CHECKS}["likelihood trust"]
    assert (trust.severity, "would take about" in trust.summary) == ("unavailable", True)


@pytest.mark.slow
def test_big_data_are_subsampled_within_the_budget():
    x = torch.bernoulli(torch.full((10_000, 784), 0.2))
    e = gather_evidence(mlp_vae((784,), 4, hidden=(16,)), x, x_train=x, budget=SMALL, seed=5)
    assert (len(e.x), len(e.x_train), e.settings["n_mixture"]) == (60, 60, 300)
    assert "60 of 10000 datapoints, one from each" in e.settings["subsampled"]


def test_stratified_rows_cover_every_stretch_and_follow_the_seed():
    rows = stratified(1000, 100, seed=1)
    assert torch.equal(rows // 10, torch.arange(100))
    assert not torch.equal(rows, stratified(1000, 100, seed=2))
    assert torch.equal(stratified(5, 10, seed=0), torch.arange(5))


def test_conditions_must_match_the_data():
    x = torch.zeros(40, 3, dtype=torch.float64)
    with pytest.raises(InputError, match=r"condition: expected one row per datapoint \(40\)"):
        gather_evidence(LinearGaussian.instance_1(), x, condition=torch.zeros(3), budget=SMALL)


def test_an_unknown_budget_is_named():
    with pytest.raises(InputError, match="budget: expected 'quick' or 'standard' or 'thorough'"):
        gather_evidence(LinearGaussian.instance_1(), torch.zeros(4, 3), budget="fast")


def test_progress_is_told_every_quantity():
    stages = []
    model = LinearGaussian.instance_1()
    x, _ = model.sample(30, seed=0)

    def progress(stage: str, done: int, total: int) -> None:
        stages.append((stage, done, total))

    gather_evidence(model, x, budget=SMALL, progress=progress)
    assert [done for _, done, _ in stages] == list(range(len(stages)))
    assert {total for _, _, total in stages} == {len(stages)}


def test_a_budget_says_what_it_spends():
    assert "K=5000" in es.diagnostics.STANDARD.describe()
    assert "20 temperatures × 8 chains" in QUICK.describe()
    assert "AIS" not in SMALL.describe()
    # 10 temperatures · 10 leapfrog steps: 3 passes of 4 chains on 12 + 6 · 40 datapoints, 13 runs
    expected = 100 * (1e-6 * 3 * 4 * 252 + 8e-4 * 13)
    assert ANNEALED.annealing_seconds(1e-6, 12, 20) == pytest.approx(expected)
    with_pairs = ANNEALED.annealing_seconds(1e-6, 12, 20, 5000)
    assert with_pairs - expected == pytest.approx(5000 * 33 * 1e-6)
    assert "the best posteriors of 30 datapoints" in QUICK.describe()
    # 15 datapoints: 250 steps · 16 samples · 3 passes, 5000 samples for each of three bounds
    searched = 1e-6 * 15 * (12_000 + 15_000) + 250 * 8e-4
    assert ANNEALED.optimising_seconds(1e-6, 15) == pytest.approx(searched)
    # 400 samples of 60 + 60 (posterior, prior) + 60 datapoints, 50 of 2 · 60 for the ELBO
    assert SMALL.expected_seconds(1e-6, 60, 60) == pytest.approx(1e-6 * (400 * 180 + 50 * 120))


def test_the_expected_seconds_are_of_all_that_is_not_left_out():
    """Each sum is rounded to a tenth, as it is printed."""
    x = torch.zeros(40, 3, dtype=torch.float64)
    model = LinearGaussian.instance_1()
    plan = plan_for(model, es.core.check_model(model, x), x, None, QUICK, 0)
    plan = replace(plan, seconds=1.04, annealing_seconds=2.03, optimising_seconds=4.04)
    assert plan.expected_seconds == plan.record()["expected_seconds"] == 7.1  # 3.1 + 4.04
    without = replace(plan, budget=replace(QUICK, num_temperatures=0))
    assert without.expected_seconds == 5.0  # 1.0 + 4.04
    neither = replace(plan, budget=replace(QUICK, num_temperatures=0, num_optimised=0))
    assert neither.expected_seconds == neither.record()["expected_seconds"] == 1.0


def test_one_datapoint_decides_nothing():
    model = es.from_modules(nn.Linear(5, 2), nn.Linear(1, 5), likelihood="gaussian", scale=1.0)
    evidence = gather_evidence(model, torch.zeros(1, 5), budget=SMALL)
    assert divergence(evidence).severity == "ok"
    assert {check(evidence).severity for check in (likelihood_scale, prior_hole)} == {"undecided"}
