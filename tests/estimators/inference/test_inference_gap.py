"""The inference gap: exact parts, who is left out, what is not certified, and what is refused."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.distributions import Distribution, Independent, Laplace, MultivariateNormal, Normal
from torch.utils.data import DataLoader, TensorDataset

import elboscope as es
from elboscope.core import ContractError, Estimate, InputError, data_id, seeded
from elboscope.estimators import inference_gap, log_likelihood
from elboscope.estimators.inference import gap_result as inference_gap_bounds
from elboscope.estimators.inference.gap import _require_settings
from elboscope.estimators.inference.gap_result import largest, own_family
from elboscope.estimators.inputs import prepared
from elboscope.models import LinearGaussian
from elboscope.models.exact.bimodal import Bimodal
from elboscope.models.exact.quadrature import grid_log_likelihood, line

PARTS = ("log_px", "elbo", "approximation", "amortisation", "inference")


class Without:
    """A model without its encoder."""

    def __init__(self, model: es.core.GenerativeModel) -> None:
        self.model = model

    def prior(self) -> Distribution:
        return self.model.prior()

    def decode(self, z: torch.Tensor) -> Distribution:
        return self.model.decode(z)


class Encoded(Without):
    """A model with the encoder that is given."""

    def __init__(self, model: es.core.GenerativeModel, encode) -> None:
        super().__init__(model)
        self.encode = encode


def adds_up(gap: es.inference.InferenceGap) -> bool:
    """Whether inference = approximation + amortisation, datapoint by datapoint."""
    total = gap.approximation.values + gap.amortisation.values
    return torch.allclose(total, gap.inference.values, rtol=0, atol=1e-12)


@pytest.mark.parametrize("number", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_the_best_encoder_of_the_family_has_an_approximation_gap_only(number) -> None:
    model = LinearGaussian.instance_1() if number == 1 else LinearGaussian.instance_2()
    x, _ = model.sample(50, seed=0)
    gap = inference_gap(model, x, richer="full", seed=1)
    precision = model.posterior_precision.detach()
    rho = (precision[0, 1] / precision.diagonal().prod().sqrt()).item()
    truth = -0.5 * math.log(1 - rho**2)
    assert gap.approximation.mean == pytest.approx(truth, abs=0.01)
    assert gap.richer is not None
    assert gap.richer.mean == pytest.approx(truth, abs=0.005)
    assert abs(gap.amortisation.mean) < 3 * gap.amortisation.mc_error_of_mean + 1e-3
    assert gap.settings["chosen"] == "importance sampling from q*_full"
    assert gap.log_px.mean == pytest.approx(model.log_likelihood(x).mean().item(), abs=0.01)
    assert adds_up(gap)
    assert gap.optimal_posterior_certified
    assert gap.family == gap.settings["family"] == "diagonal"
    assert tuple(gap.optimal) == tuple(gap.optimal_elbo) == ("diagonal", "full")
    text = str(gap)
    assert "n=50, K=5000; family diagonal (the encoder's own)" in text
    assert "q* certified: none is farther from its optimum than said; log p̂ not certified" in text
    assert "L[q*_full] − L[q*_diagonal]" in text


@pytest.mark.parametrize(
    ("shift", "factor"),
    [
        (0.5, 1.0),
        pytest.param(0.0, 3.0, marks=pytest.mark.slow),
        pytest.param(-0.2, 0.4, marks=pytest.mark.slow),
    ],
)
def test_an_encoder_that_is_off_has_the_amortisation_gap_by_which_it_is_off(shift, factor) -> None:
    model = LinearGaussian.instance_1().with_mistuned_posterior(shift, factor)
    x, _ = model.sample(60, seed=0)
    gap = inference_gap(model, x, richer=None, seed=1)
    truth = model.amortisation_gap(x).detach()
    z = (gap.amortisation.values - truth) / gap.amortisation.mc_stderr
    assert z.abs().max() < 4
    assert z.square().mean() < 1.6
    assert gap.amortisation.mean == pytest.approx(truth.mean().item(), abs=0.01)
    assert gap.approximation.mean == pytest.approx(model.approximation_gap().item(), abs=0.01)
    assert adds_up(gap)
    assert gap.below == ()
    assert gap.fraction_below == 0
    unpaired = math.hypot(gap.log_px.stderr, gap.elbo.stderr)
    assert gap.inference.stderr < unpaired / 10
    assert gap.amortisation.stderr < unpaired / 10


@pytest.mark.slow
def test_an_encoder_with_a_covariance_is_split_by_its_own_family() -> None:
    model = LinearGaussian.instance_2().with_exact_posterior()
    x, _ = model.sample(30, seed=0)
    gap = inference_gap(model, x, richer=None, num_samples=1000, seed=1)
    assert gap.family == "full"
    assert gap.optimal_posterior_certified
    assert gap.approximation.mean == pytest.approx(0, abs=0.002)
    assert gap.amortisation.mean == pytest.approx(0, abs=0.002)
    assert gap.below == ()


@pytest.mark.slow
def test_the_flow_is_the_richer_family_where_nothing_else_is_asked_for() -> None:
    model = LinearGaussian.instance_2()
    x, _ = model.sample(2, seed=0)
    gap = inference_gap(model, x, num_samples=2000, max_steps=150, seed=1)
    truth = model.approximation_gap().item()
    assert tuple(gap.optimal) == ("diagonal", "flow")
    assert gap.richer is not None
    assert gap.richer.name == "L[q*_flow] − L[q*_diagonal]"
    assert gap.richer.mean == pytest.approx(truth, abs=0.01 + 3 * gap.richer.mc_error_of_mean)
    assert gap.settings["chosen"] == "importance sampling from q*_flow"
    assert gap.approximation.mean == pytest.approx(truth, abs=0.02)


@pytest.mark.slow
def test_a_flow_encoder_is_split_by_the_flow() -> None:
    with seeded(0):
        model = es.models.mlp_vae((3,), 2, hidden=(4,), scale=0.5, likelihood="gaussian",
                                  posterior=es.models.posteriors.AuxiliaryRealNVP())  # fmt: skip
        x = torch.randn(2, 3)
    gap = inference_gap(model, x, num_samples=2000, max_steps=150, seed=1)
    assert gap.family == "flow"
    assert tuple(gap.optimal) == ("diagonal", "flow")
    assert gap.below == ()
    assert gap.amortisation.mean > 0.1
    truth = grid_log_likelihood(model, x)
    assert gap.log_px.mean == pytest.approx(truth.mean().item(), abs=0.02)
    assert gap.approximation.mean == pytest.approx(0, abs=0.05)
    assert adds_up(gap)


def test_a_narrower_family_than_the_encoders_is_said_not_to_split_its_gap() -> None:
    model = LinearGaussian.instance_2().with_exact_posterior()
    x, _ = model.sample(30, seed=0)
    gap = inference_gap(model, x, "diagonal", richer=None, num_samples=1000, seed=1)
    assert gap.amortisation.mean == pytest.approx(-model.approximation_gap().item(), abs=0.03)
    assert not gap.optimal_posterior_certified
    assert len(gap.below) == 30
    assert gap.fraction_below == 1
    reason = "the encoder's q is no diagonal one, and the gap does not split by it"
    assert reason in str(gap)
    assert "family diagonal (asked for; the encoder's own is full)" in str(gap)


@pytest.mark.slow
def test_two_modes_against_quadrature_and_what_one_mode_hides() -> None:
    """Importance sampling from one mode never sees the other, and its ESS is excellent."""
    model = Bimodal(0.25)
    x = torch.linspace(0.8, 2.2, 60, dtype=torch.float64)[:, None]
    gap = inference_gap(model, x, richer=None, num_temperatures=150, num_samples=1000, seed=0)
    truth = model.approximation_gap(x).detach()
    assert gap.settings["chosen"] == gap.log_px.method == "AIS from the prior"
    error = gap.approximation.mc_error_of_mean
    assert error < 0.03
    assert gap.approximation.mean == pytest.approx(truth.mean().item(), abs=3 * error)
    assert gap.amortisation.mean == pytest.approx(0, abs=0.002)
    means = gap.settings["candidates"]
    assert means["AIS from the prior"] == gap.log_px.mean == max(means.values())
    hidden = means["AIS from the prior"] - means["importance sampling from q*_diagonal"]
    assert hidden == pytest.approx(math.log(2), abs=3 * error)
    assert adds_up(gap)


def test_q_star_and_log_px_are_certified_apart() -> None:
    """One Gaussian fits its mode, and log p̂ from it misses ln 2 of two modes: 60 % of the gap."""
    model = Bimodal(0.25)
    x = torch.linspace(1.0, 2.0, 6, dtype=torch.float64)[:, None]
    gap = inference_gap(model, x, richer=None, num_samples=1000, max_steps=200, seed=0)
    truth = model.approximation_gap(x).mean().item()
    assert gap.optimal_posterior_certified
    assert gap.approximation.mean < truth - 0.5 * math.log(2)
    assert not gap.log_px_certified
    assert not gap.certified
    assert "q* certified: none is farther" in str(gap)
    assert "a lower bound, so that the approximation gap may be larger" in str(gap)
    effort = {"num_temperatures": 10, "num_chains": 4, "num_leapfrog": 3, "num_simulated": 20}
    found = log_likelihood(model, x, 100, seed=0, num_pairs=500, **effort)
    checked = inference_gap(
        model, x, richer=None, num_samples=1000, max_steps=200, log_likelihood=found, seed=0
    )
    assert not checked.certified
    assert "log p̂ not certified, because on simulated data" in str(checked)
    with pytest.raises(
        InputError, match=r"log_likelihood: expected es\.log_likelihood of the same"
    ):
        inference_gap(model, x[:3], log_likelihood=found)


@pytest.mark.slow
def test_one_word_where_both_are_certified() -> None:
    model = LinearGaussian.instance_1()
    x, _ = model.sample(20, seed=0)
    effort = {"num_temperatures": 20, "num_chains": 8, "num_leapfrog": 4, "num_simulated": 30}
    found = log_likelihood(model, x, 1000, seed=1, num_pairs=1000, **effort)
    gap = inference_gap(
        model, x, richer=None, num_samples=1000, log_likelihood=found, tolerance=0.05, seed=0
    )
    assert gap.certified
    assert str(gap).endswith(
        "certified: no q* is farther from its optimum than said, nor log p̂ from log p"
    )
    assert gap.settings["candidates"]["importance sampling and AIS"] == found.log_px.mean
    assert gap.log_px.mean >= found.log_px.mean - 2 * found.log_px.mc_error_of_mean


def trained(latent_dim: int) -> tuple[es.VAE, torch.Tensor]:
    from elboscope.training import ELBO, adam, fit, minibatches, objective_step

    x = es.data.Binarisation("fixed").fixed_draw(es.data.digits().train).flatten(1)
    with seeded(0):
        model = es.models.mlp_vae((64,), latent_dim, hidden=(64,))
        step = objective_step(model, ELBO(), adam(model.parameters(), 3e-3))
        bounds = fit(step, minibatches(x, 100, seed=0))
        for _ in range(200):
            next(bounds)
    model.zero_grad(set_to_none=True)
    return model, x


def by_quadrature(model: es.core.GenerativeModel, x: torch.Tensor, q: Distribution) -> torch.Tensor:
    """E_q[log p(x, z) − log q(z)] on a grid, two latents."""
    axis, log_cell = line(6.0, 400)
    z = torch.cartesian_prod(axis, axis).float()[:, None]
    with torch.no_grad():
        log_q = q.log_prob(z)
        values = model.prior().log_prob(z) + model.decode(z).log_prob(x) - log_q
        return (log_q.exp() * values).double().sum(0) * math.exp(2 * log_cell)


@pytest.mark.slow
def test_a_trained_vae_with_two_latents_against_quadrature() -> None:
    model, x = trained(2)
    x = x[:20]
    gap = inference_gap(model, x, richer=None, seed=1)
    log_px = grid_log_likelihood(model, x)
    best = by_quadrature(model, x, gap.optimal["diagonal"].posterior)
    own = by_quadrature(model, x, model.encode(x))
    pairs = ((gap.approximation, log_px - best), (gap.amortisation, best - own),
             (gap.inference, log_px - own))  # fmt: skip
    for found, truth in pairs:
        assert found.mean == pytest.approx(truth.mean().item(), abs=0.01)
        errors = (found.values - truth) / found.mc_stderr
        assert errors.abs().max() < 4.5
    assert gap.amortisation.mean > 0.05


@pytest.mark.slow
def test_an_encoder_that_remembers_its_training_data_does_not_generalise() -> None:
    exact = LinearGaussian.instance_1()
    x_train, _ = exact.sample(80, seed=0)
    x, _ = exact.sample(60, seed=1)

    def nearest(x: torch.Tensor) -> Distribution:
        return exact.encode(x_train[torch.cdist(x, x_train).argmin(1)])

    gap = inference_gap(Encoded(exact, nearest), x, x_train=x_train, richer=None, seed=2)
    truth = exact.gap(x, nearest(x)).detach() - exact.approximation_gap().item()
    assert gap.train is not None
    assert gap.train.train is None
    assert gap.generalisation is not None
    assert gap.train.amortisation.mean == pytest.approx(0, abs=0.002)
    assert gap.amortisation.mean == pytest.approx(truth.mean().item(), abs=0.01)
    difference = gap.generalisation.amortisation
    assert difference.value == pytest.approx(truth.mean().item(), abs=0.01)
    assert difference.value > 4 * difference.stderr
    assert difference.stderr == pytest.approx(truth.std().item() / math.sqrt(60), rel=0.1)
    family = gap.generalisation.approximation
    assert abs(family.value) < 4 * family.stderr
    assert gap.generalisation.inference.value == pytest.approx(difference.value + family.value)
    assert (difference.num_data, difference.num_train) == (60, 80)
    text = str(gap)
    assert "on training data:" in text
    assert "amortisation gap, test − train: " in text
    assert "(independent samples, n=60 and 80)" in text


class Broken(Without):
    """Its decoder is NaN for datapoints whose condition is 1; it raises if the first is 2."""

    def __init__(self, model: LinearGaussian, bad: torch.Tensor | None = None) -> None:
        super().__init__(model)
        self.bad = bad

    def given(self, condition: torch.Tensor) -> "Broken":
        return Broken(self.model, condition)

    def encode(self, x: torch.Tensor) -> Distribution:
        return self.model.encode(x)

    def decode(self, z: torch.Tensor) -> Distribution:
        p = self.model.decode(z).base_dist
        assert self.bad is not None
        loc = p.loc.masked_fill(self.bad[:, None].expand_as(p.loc) == 1, torch.nan)
        return Independent(Normal(loc, p.scale, validate_args=bool(self.bad.max() > 1)), 1)


@pytest.mark.parametrize("other", [0.0, pytest.param(2.0, marks=pytest.mark.slow)])
def test_a_datapoint_that_diverged_is_named_and_is_in_no_part(other) -> None:
    """With conditions of 2 the decoder refuses NaN by raising."""
    model = LinearGaussian.instance_1()
    x, _ = model.sample(6, seed=0)
    condition = torch.tensor([other, other, 1, other, other, 1])
    gap = inference_gap(
        Broken(model), x, richer="full", num_samples=1000, seed=0, condition=condition,
        num_temperatures=0 if other else 5,
    )  # fmt: skip
    assert gap.diverged == (2, 5)
    assert gap.index.tolist() == [0, 1, 3, 4]
    estimates = [getattr(gap, part) for part in PARTS] + [gap.richer, *gap.optimal_elbo.values()]
    for found in estimates:
        assert len(found.values) == 4
        assert found.values.isfinite().all()
        assert found.data_id == data_id(x[gap.index])
    assert gap.settings["left_out"] == 2
    assert adds_up(gap)
    assert gap.approximation.mean == pytest.approx(model.approximation_gap().item(), abs=0.05)
    assert not gap.optimal_posterior_certified
    assert gap.reasons[-1] == "2 of 6 datapoints diverged (2, 5)"
    assert "diverged and left out: 2 of 6 datapoints (2, 5)" in str(gap)
    alone = es.evidence_lower_bound(model, x[gap.index], 10, seed=0)
    assert es.core.paired_difference(gap.elbo, alone, "same data").values.isfinite().all()


def test_where_all_diverged_there_is_no_number_and_no_certificate() -> None:
    model = LinearGaussian.instance_1()
    x, _ = model.sample(3, seed=0)
    gap = inference_gap(
        Broken(model), x, richer=None, num_samples=1000, seed=0, condition=torch.ones(3)
    )
    assert gap.diverged == (0, 1, 2)
    assert math.isnan(gap.inference.mean)
    assert math.isnan(gap.fraction_below)
    assert not gap.optimal_posterior_certified
    assert "3 of 3 datapoints diverged" in str(gap)


@pytest.mark.parametrize("validated", [pytest.param(False, marks=pytest.mark.slow), True])
@pytest.mark.parametrize("row", [0, pytest.param(3, marks=pytest.mark.slow)])
def test_an_encoder_that_is_nan_for_one_datapoint_loses_that_one_only(row, validated) -> None:
    """Validated, a distribution raises for the whole batch."""
    model = LinearGaussian.instance_1()
    x, _ = model.sample(5, seed=0)

    def encode(at: torch.Tensor) -> Distribution:
        mean = model.encode(at).mean.detach()
        mean = mean.masked_fill((at == x[row]).all(1)[:, None], torch.nan)
        return Independent(Normal(mean, torch.full_like(mean, 0.5), validate_args=validated), 1)

    gap = inference_gap(Encoded(model, encode), x, richer=None, num_samples=1000, seed=0)
    assert gap.diverged == (row,)
    assert gap.index.tolist() == [n for n in range(5) if n != row]
    assert gap.family == "diagonal"
    assert gap.optimal["diagonal"].index.tolist() == [0, 1, 2, 3, 4]


@pytest.mark.slow
def test_a_search_below_the_encoder_is_no_discovery(monkeypatch) -> None:
    model = LinearGaussian.instance_1()
    x, _ = model.sample(40, seed=0)
    search = inference_gap_bounds.optimal_posterior

    def fails(*args: object, **rest: object) -> es.inference.OptimalPosterior:
        found = search(*args, **rest)
        values = found.elbo.values.clone()
        values[[4, 7]] -= 0.5
        return replace(found, elbo=replace(found.elbo, values=values))

    healthy = inference_gap(model, x, richer=None, num_samples=1000, seed=0)
    assert healthy.optimal_posterior_certified
    assert len(healthy.below) <= 1
    monkeypatch.setattr(inference_gap_bounds, "optimal_posterior", fails)
    sick = inference_gap(model, x, richer=None, num_samples=1000, seed=0)
    assert set(sick.below) >= {4, 7}
    assert not sick.optimal_posterior_certified
    assert sick.reasons == (
        "L[q*] < L[q] beyond the error for 2 of 40 datapoints (4, 7): q* was not found there",
    )
    assert str(sick).count("not certified, because L[q*] < L[q]") == 1


@pytest.mark.slow
def test_noise_alone_does_not_speak_against_many_datapoints() -> None:
    """About three of 2000 lie three errors below zero, though q is q*."""
    model = LinearGaussian.instance_1()
    x, _ = model.sample(2000, seed=0)
    gap = inference_gap(model, x, richer=None, num_samples=1000, seed=0)
    assert gap.optimal_posterior_certified
    assert 0 < len(gap.below) < 15
    assert abs(gap.amortisation.mean) < 4 * gap.amortisation.mc_error_of_mean


def test_the_largest_mean_is_taken_for_all_datapoints_if_it_is_no_luck() -> None:
    values = {"a": [0.0, 5.0], "b": [4.0, 2.0], "c": [-9.0, 1.0], "luck": [5.0, 5.0]}
    candidates = {
        name: Estimate.per_datapoint(
            "log p(x)", name, torch.tensor(v), torch.full((2,), 3.0 * (name == "luck")), "lower"
        )
        for name, v in values.items()
    }
    chosen = largest(candidates)
    assert chosen.values.tolist() == [4.0, 2.0]
    assert chosen.settings["chosen"] == chosen.method == "b"
    assert chosen.settings["candidates"] == {"a": 2.5, "b": 3.0, "c": -4.0, "luck": 5.0}
    assert chosen.settings["candidate_errors"]["luck"] == pytest.approx(3 / math.sqrt(2))


def families() -> dict[str, tuple[es.core.LatentVariableModel, str]]:
    linear = LinearGaussian.instance_1()
    flow = es.models.mlp_vae((3,), 2, hidden=(4,), scale=0.5, likelihood="gaussian",
                             posterior=es.models.posteriors.RealNVP())  # fmt: skip
    auxiliary = es.models.mlp_vae((3,), 2, hidden=(4,), scale=0.5, likelihood="gaussian",
                                  posterior=es.models.posteriors.AuxiliaryRealNVP())  # fmt: skip

    def heavy(x: torch.Tensor) -> Distribution:
        return Independent(Laplace(torch.zeros(len(x), 2), torch.ones(len(x), 2)), 1)

    def full(x: torch.Tensor) -> Distribution:
        return MultivariateNormal(torch.zeros(len(x), 2), torch.eye(2))

    return {
        "diagonal": (linear, "diagonal"),
        "full": (Encoded(linear, full), "full"),
        "Laplace": (Encoded(linear, heavy), "flow"),
        "Real NVP": (flow, "flow"),
        "auxiliary": (auxiliary, "flow"),
    }


@pytest.mark.parametrize("name", ["diagonal", "full", "Laplace", "Real NVP", "auxiliary"])
def test_the_family_is_that_of_the_encoders_answer(name) -> None:
    model, family = families()[name]
    with torch.no_grad():
        assert own_family(model, prepared(model, torch.zeros(3, 3), None)) == family


@pytest.mark.slow
def test_any_form_of_data_gives_the_same_and_nothing_of_the_caller_is_touched() -> None:
    model, x = trained(2)
    x = x[:8]
    model.train()
    steps = []
    before = torch.get_rng_state()
    shared = {"richer": None, "num_samples": 1000, "max_steps": 60, "seed": 3}
    gap = inference_gap(
        model, x, **shared, progress=lambda done, total: steps.append((done, total))
    )
    assert torch.equal(before, torch.get_rng_state())
    assert model.training
    assert all(p.grad is None for p in model.parameters())
    assert steps[-1] == (1000, 1000)
    assert [done for done, _ in steps] == sorted(done for done, _ in steps)
    for same in (x.numpy(), DataLoader(TensorDataset(x), batch_size=3), np.asarray(x, dtype="f8")):
        again = inference_gap(model, same, **shared)
        torch.testing.assert_close(again.inference.values, gap.inference.values)
    assert gap.settings["seed"] == 3
    other = inference_gap(model, x, **{**shared, "seed": 4})
    assert not torch.equal(other.inference.values, gap.inference.values)


LINEAR = LinearGaussian.instance_1()
DATA, _ = LINEAR.sample(3, seed=0)
OTHER, _ = LINEAR.sample(4, seed=1)


def implicit(x: torch.Tensor) -> Distribution:
    class Implicit(Distribution):
        has_rsample = True

        def rsample(self, sample_shape: torch.Size = torch.Size()) -> torch.Tensor:  # noqa: B008
            return torch.zeros(*sample_shape, len(x), 2, dtype=x.dtype)

    return Implicit(torch.Size((len(x),)), torch.Size((2,)), validate_args=False)


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (Without(LINEAR), r"encode\(x\): expected an encoder, whose bound L\[q\] is set against"),
        (Encoded(LINEAR, implicit), r"encode\(x\)\.log_prob: expected a density of q\(z\|x\)"),
    ],
)
def test_a_model_without_a_density_of_q_is_told_what_it_can_have(model, words) -> None:
    with pytest.raises(ContractError, match=words) as error:
        inference_gap(model, DATA, seed=0)
    assert "es.optimal_posterior(model, x) finds the best q*" in str(error.value)
    assert "is its log_px minus its elbo" in str(error.value)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"max_steps": 1}, "max_steps: expected at least"),
        ({"num_samples": 1}, "num_samples: expected at least 2; got 1"),
        ({"num_temperatures": -1}, "num_temperatures: expected at least 0; got -1"),
        ({"x_train": DATA.clone()}, "x_train: expected other data than x.*; got the same"),
        ({"condition_train": DATA}, "condition_train: expected x_train with it; got no x_train"),
        ({"x_train": "digits"}, "x_train: expected"),
        ({"x_train": OTHER[:, :2]}, r"x_train: expected datapoints of shape \(3,\)"),
    ],
)
def test_what_cannot_be_meant_is_refused(settings, words) -> None:
    with pytest.raises(InputError, match=words):
        inference_gap(LINEAR, DATA, seed=0, **settings)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"family": "cubic"}, "family: expected None or one of .*; got 'cubic'"),
        ({"richer": "diagonal"}, r"richer: expected None or one of \('full', 'flow'\); got"),
        ({"tolerance": 0.0}, "tolerance: expected a positive number of nats; got 0.0"),
    ],
)
def test_unknown_families_and_no_tolerance_are_refused(changed, words) -> None:
    """Called where types are not checked, as a user's call is not."""
    healthy = {"family": None, "richer": "flow", "num_samples": 2000, "tolerance": 0.02,
               "max_steps": 100, "num_temperatures": 0}  # fmt: skip
    _require_settings(**healthy)
    with pytest.raises(InputError, match=words):
        _require_settings(**{**healthy, **changed})


def test_conditions_of_x_alone_are_refused() -> None:
    model = Broken(LINEAR)
    with pytest.raises(InputError, match="condition_train: expected conditions for both x and x"):
        inference_gap(model, DATA, x_train=OTHER, condition=torch.zeros(3), seed=0)
