"""q*: exact optima, every start, which samples report, and what is said where it fails."""

import math

import pytest
import torch
from torch.distributions import Bernoulli, Beta, Distribution, Independent, Normal

import elboscope as es
from elboscope.core import ContractError, InputError, evaluating, seeded
from elboscope.estimators import optimal_posterior
from elboscope.estimators.inference.convergence import Trial, judge
from elboscope.estimators.inference.gaussian_families import (
    DiagonalGaussian,
    FullGaussian,
    matched_noise,
)
from elboscope.estimators.inference.gaussian_search import Stage, ascend, gaussian_search
from elboscope.estimators.inference.optimal_posterior import _family, no_worse_than_encoder
from elboscope.estimators.inference.target import Target, score, starting_points
from elboscope.estimators.inputs import prepared
from elboscope.models import LinearGaussian
from elboscope.models.exact.bimodal import Bimodal
from elboscope.training import ELBO, adam, fit, minibatches, objective_step

X = torch.tensor([[1.0, -1.0, 0.5]], dtype=torch.float64)


class Without:
    """A model without its encoder."""

    def __init__(self, model: es.core.GenerativeModel) -> None:
        self.model = model

    def prior(self) -> Distribution:
        return self.model.prior()

    def decode(self, z: torch.Tensor) -> Distribution:
        return self.model.decode(z)


class Encoded(Without):
    """A model with an encoder of our own: N(mean, std²) for every x."""

    def __init__(self, model: es.core.GenerativeModel, mean: float, std: float) -> None:
        super().__init__(model)
        self.mean, self.std = mean, std

    def encode(self, x: torch.Tensor) -> Distribution:
        shape = (len(x), *self.prior().event_shape)
        q = Normal(torch.full(shape, self.mean).to(x), torch.full(shape, self.std).to(x))
        return Independent(q, len(shape) - 1)


def linear(number: int) -> LinearGaussian:
    return LinearGaussian.instance_1() if number == 1 else LinearGaussian.instance_2()


@pytest.mark.parametrize(
    ("number", "best", "gap"), [(1, -3.7639911095, 0.0675221012), (2, -4.3046858776, 0.3104782241)]
)
@pytest.mark.parametrize("start", ["no encoder", "terrible encoder", "best encoder"])
def test_the_best_diagonal_gaussian_of_a_correlated_posterior(number, best, gap, start) -> None:
    model = linear(number)
    given = {
        "no encoder": Without(model),
        "terrible encoder": Encoded(model, 6.0, 0.01),
        "best encoder": model,
    }[start]
    found = optimal_posterior(given, X, num_samples=4000, seed=0)
    exact = model.elbo(X, found.posterior).item()
    assert exact == pytest.approx(best, abs=1e-3)
    assert model.log_likelihood(X).item() - exact == pytest.approx(gap, abs=0.01)
    assert abs(found.elbo.mean - exact) < 4 * found.elbo.mc_stderr.item()
    precision = model.posterior_precision.diagonal()
    torch.testing.assert_close(found.posterior.mean, model.posterior(X).mean, atol=0.02, rtol=0)
    torch.testing.assert_close(found.posterior.variance[0], 1 / precision, atol=0, rtol=0.04)
    assert found.certificate.unconverged == found.certificate.diverged == ()


@pytest.mark.slow
def test_correlated_latents_more_than_samples_of_a_step_are_no_noise() -> None:
    W = 1.0 + 0.3 * torch.randn(30, 40, generator=torch.Generator().manual_seed(0)).double()
    model = LinearGaussian(W, torch.zeros(30).double(), 0.5)  # a gap of 51 nats
    x, _ = model.sample(20, seed=1)
    found = optimal_posterior(model, x, step_samples=32, num_samples=100, seed=0)
    best = model.elbo(x)  # this model's encoder is the best diagonal Gaussian
    short = best - model.elbo(x, found.posterior)
    assert short.mean() < 0.01
    assert short.max() < 0.02


def test_a_slope_below_zero_is_noise_of_its_size() -> None:
    ones = torch.ones(20, dtype=torch.float64)
    elbo = es.Estimate.per_datapoint("L[q*]", "test", -ones, 0 * ones, "lower")
    none = torch.zeros(0, dtype=torch.long)
    trial = Trial({"encoder": -1.0}, "encoder", 20, 0.0, 0.0)
    found = judge(elbo, trial, -0.2 * ones, none, none, none, 0.02)
    assert found.within == pytest.approx(0.2)
    assert not found.certified
    assert "the slope of the last window" in found.reasons[0]


@pytest.mark.parametrize("number", [1, 2])
def test_the_best_full_gaussian_is_the_posterior(number) -> None:
    model = linear(number)
    x, _ = model.sample(30, seed=1)
    found = optimal_posterior(model, x, "full", num_samples=1000, seed=0)
    assert model.gap(x, found.posterior).max() < 0.002
    assert abs(found.elbo.mean - model.log_likelihood(x).mean().item()) < 0.002
    assert found.certificate.certified
    assert found.posterior.batch_shape == (30,)


@pytest.mark.parametrize(
    ("x", "s", "best"),
    [(1, 0.25, -2.0752300528), (1, 0.1, -2.1064210199), (2, 0.25, -2.9399118731)],
)
def test_one_of_two_modes_is_found_where_zero_is_a_saddle(x, s, best) -> None:
    model, data = Bimodal(s), torch.full((1, 1), float(x), dtype=torch.float64)
    found = optimal_posterior(Encoded(model, 0.0, 1.0), data, num_samples=20_000, seed=0)
    q = found.posterior
    assert model.elbo(data, q.mean, q.variance).item() == pytest.approx(best, abs=0.002)
    assert abs(found.elbo.mean - best) < 0.002 + 4 * found.elbo.mc_stderr.item()
    assert found.certificate.certified


def trained_on_digits() -> tuple[es.VAE, torch.Tensor]:
    x = es.data.Binarisation("fixed").fixed_draw(es.data.digits().train).flatten(1)
    with seeded(0):
        model = es.models.mlp_vae((64,), 8, hidden=(64,))
        adam_ = adam(model.parameters(), 3e-3)
        bounds = fit(objective_step(model, ELBO(), adam_), minibatches(x, 100, seed=0))
        for _ in range(400):
            next(bounds)
    model.zero_grad(set_to_none=True)
    return model, x


@pytest.fixture(scope="module")
def digits() -> tuple[es.VAE, torch.Tensor]:
    return trained_on_digits()


@pytest.mark.slow
def test_no_datapoint_of_a_trained_vae_is_below_its_encoder(digits) -> None:
    model, x = digits
    before = [p.detach().clone() for p in model.parameters()]
    model.train()
    found = optimal_posterior(model, x[:120], num_samples=1000, seed=0)
    q = es.evidence_lower_bound(model, x[:120], 1000, seed=1)
    gap = es.core.paired_difference(found.elbo, q, "amortisation gap")
    assert gap.mean > 0.1
    assert (gap.values > -4 * gap.mc_stderr).all()
    log_px = es.importance_sampling(model, x[:120], 1000, seed=2)
    assert found.elbo.mean < log_px.mean
    assert found.certificate.unconverged == found.certificate.kept_encoder == ()
    full = optimal_posterior(model, x[:120], "full", num_samples=1000, seed=0)
    assert found.elbo.mean < full.elbo.mean < log_px.mean + 0.05
    assert model.training
    assert all(p.grad is None for p in model.parameters())
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))


@pytest.mark.slow
def test_a_certificate_of_a_trained_vae_holds_for_a_search_ten_times_as_long(digits) -> None:
    model, x = digits
    found = optimal_posterior(model, x[:110], num_samples=2000, step_samples=16, seed=0)
    assert found.certificate.trial.num_data == 50 or found.certificate.trial.chosen.startswith(
        "best"
    )
    target, family = Target(model, prepared(model, x[:110], None)), DiagonalGaussian((8,))
    index = torch.arange(110)
    with torch.no_grad(), seeded(5):
        q = found.posterior
        start = family.start(q.mean, q.stddev)
        longer = ascend(target, family, start, index, (Stage(128, 0.1, 0.01),), 200)
        gains = []
        for parameters in (longer.parameters, start):
            with seeded(6):
                gains.append(score(target, family, parameters, index, 2000).mean(0))
    gain = (gains[0] - gains[1]).mean().item()
    assert -0.005 < gain < found.certificate.within


@pytest.mark.slow
def test_a_datapoint_does_not_depend_on_its_company(digits) -> None:
    model, x = digits
    alone = optimal_posterior(model, x[:3], num_samples=3000, seed=0)
    together = optimal_posterior(model, x[:40], num_samples=3000, seed=1)
    error = (alone.elbo.mc_stderr.square() + together.elbo.mc_stderr[:3].square()).sqrt()
    assert ((alone.elbo.values - together.elbo.values[:3]).abs() < 0.03 + 4 * error).all()


def test_the_reported_value_is_not_the_one_that_was_selected() -> None:
    """Among many starts the one with the luckiest noise wins; fresh noise does not know it."""
    model = LinearGaussian.instance_2()
    x = X.expand(2000, 3).contiguous()
    found = optimal_posterior(model, x, num_samples=2, step_samples=4, seed=3)
    exact = model.elbo(x, found.posterior)
    z = (found.elbo.mean - exact.mean().item()) / found.elbo.stderr
    assert abs(z) < 3.5
    assert found.elbo.stderr < 0.03


class Broken(Without):
    """Its decoder is NaN for datapoints whose condition is 1."""

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
        return Independent(Normal(loc, p.scale, validate_args=self.bad[0].item() == 2), 1)


@pytest.mark.parametrize("first", [0.0, 2.0])
def test_datapoints_that_diverge_are_named_and_left_out(first) -> None:
    """With the first condition 2 the decoder raises for NaN instead of passing it on."""
    model = LinearGaussian.instance_1()
    x, _ = model.sample(6, seed=0)
    condition = torch.tensor([first, 0, 1, 0, 0, 1])
    found = optimal_posterior(Broken(model), x, num_samples=500, seed=0, condition=condition)
    assert found.certificate.diverged == (2, 5)
    assert found.index.tolist() == [0, 1, 3, 4]
    assert len(found.elbo.values) == 4
    assert found.elbo.settings["left_out"] == 2
    assert found.elbo.mean == pytest.approx(model.elbo(x[found.index]).mean().item(), abs=0.1)
    assert found.posterior.mean.isfinite().all()
    text = str(found)
    assert "2 of 6 datapoints diverged" in text
    assert "2 diverged and left out (datapoints 2, 5)" in text
    rest = es.evidence_lower_bound(model, x[found.index], 10, seed=0)
    assert es.core.paired_difference(found.elbo, rest, "gap").values.isfinite().all()


def test_too_few_steps_are_not_certified_and_say_which_datapoints() -> None:
    model = LinearGaussian.instance_1()
    x, _ = model.sample(5, seed=0)
    found = optimal_posterior(Encoded(model, 40.0, 1e-3), x, num_samples=500, max_steps=20, seed=0)
    assert not found.certificate.certified
    assert found.certificate.unconverged
    assert "not converged (datapoints " in str(found)
    assert "the slope of the last window promises more" in str(found)


def test_the_encoder_is_kept_where_the_search_did_worse_and_only_there() -> None:
    model = LinearGaussian.instance_1()
    x, _ = model.sample(6, seed=0)
    target, family = Target(model, prepared(model, x, None)), DiagonalGaussian((2,))
    search = gaussian_search(target, family, starting_points(target), 8, 20, 0)
    q = model.encode(x)
    off = torch.tensor([0.0, 1.0, 0.0, 0.0, 2.0, 0.0])[:, None]
    with evaluating(model):
        parameters = family.start(q.mean + off, q.stddev)
        fixed, kept = no_worse_than_encoder(search, parameters, 6)
    assert kept.tolist() == [False, True, False, False, True, False]
    torch.testing.assert_close(fixed[0], q.mean)


@pytest.mark.slow
def test_any_shape_of_latents_and_both_families() -> None:
    with seeded(0):
        decoder = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 6))
        encoder = torch.nn.Sequential(torch.nn.Linear(6, 8), torch.nn.Unflatten(1, (4, 1, 2)))
        model = es.VAE(encoder, decoder, es.models.mlp_vae((6,), 2).likelihood,
                       latent_shape=(2, 1, 2), data_shape=(6,))  # fmt: skip
        x = torch.bernoulli(torch.full((7, 6), 0.5))
    values = {}
    for family in ("diagonal", "full"):
        found = optimal_posterior(model, x, family, num_samples=4000, seed=0)
        assert found.posterior.sample().shape == (7, 2, 1, 2)
        z = found.posterior.sample((2000,))
        log_w = model.prior().log_prob(z) + model.decode(z).log_prob(x)
        log_w = log_w - found.posterior.log_prob(z)
        error = log_w.std() / math.sqrt(log_w.numel()) + found.elbo.mc_error_of_mean
        assert abs(log_w.mean().item() - found.elbo.mean) < 4 * error
        values[family] = found.elbo.mean
    assert values["full"] > values["diagonal"] - 0.005


@pytest.mark.parametrize("n", [101, 113, 201, 1000])
def test_the_starts_compete_on_fifty_of_many_datapoints_whatever_their_number(n) -> None:
    x, _ = LinearGaussian.instance_1().sample(n, seed=0)
    best = optimal_posterior(LinearGaussian.instance_1(), x, num_samples=100, max_steps=20, seed=0)
    assert best.certificate.trial.num_data == 50


@pytest.mark.slow
def test_frozen_parameters_and_the_same_seed() -> None:
    model = LinearGaussian.instance_1().requires_grad_(False)
    a, b = (optimal_posterior(model, X, num_samples=50, seed=7).elbo for _ in range(2))
    assert torch.equal(a.values, b.values)
    done = []
    optimal_posterior(model, X, num_samples=50, seed=7, progress=lambda *c: done.append(c))
    assert done[-1] == (2, 2)
    assert sorted(done) == done


class Elsewhere(Without):
    """A prior that is no distribution on the real line."""

    def __init__(self, prior: Distribution) -> None:
        super().__init__(LinearGaussian.instance_1())
        self.p = prior

    def prior(self) -> Distribution:
        return self.p


@pytest.mark.parametrize(
    ("prior", "got"),
    [
        (Independent(Bernoulli(torch.full((2,), 0.5).double()), 1), "Bernoulli"),
        (Independent(Beta(torch.ones(2).double(), torch.ones(2).double()), 1), "Beta"),
    ],
)
def test_latents_that_a_gaussian_does_not_fit_are_refused(prior, got) -> None:
    with pytest.raises(ContractError, match=rf"prior\(\): expected latents on all real.*{got}"):
        optimal_posterior(Elsewhere(prior), X)


def test_mistakes_are_named() -> None:
    model = LinearGaussian.instance_1()
    with pytest.raises(
        InputError, match="family: expected 'diagonal', 'full' or 'flow'; got 'flowing'"
    ):
        _family("flowing", (2,), 1)
    with pytest.raises(InputError, match="num_samples: expected at least 1; got 0"):
        optimal_posterior(model, X, num_samples=0)
    with pytest.raises(InputError, match="step_samples: expected at least 2; got 1"):
        optimal_posterior(model, X, step_samples=1)
    with pytest.raises(InputError, match="max_steps: expected at least 20; got 5"):
        optimal_posterior(model, X, max_steps=5)
    with pytest.raises(InputError, match="tolerance: expected a positive number of nats"):
        optimal_posterior(model, X, tolerance=-1.0)
    wide = es.models.mlp_vae((4,), 20_000, hidden=(2,))
    with pytest.raises(InputError, match=r"family: expected n·d² of at most.*n=1, d=20000.*diag"):
        optimal_posterior(wide, torch.ones(1, 4), "full")


@pytest.mark.parametrize("family", [DiagonalGaussian((3,)), FullGaussian((3,))])
def test_directions_are_the_gradient_in_the_coordinates_of_the_scale(family) -> None:
    """Against autograd through q: ∂L/∂shift and ∂L/∂stretch at zero, the latter over 2."""
    with seeded(0):
        noise = matched_noise(40, 3, torch.zeros(1, dtype=torch.float64))
        A = torch.randn(3, 3, dtype=torch.float64)
    log_p = lambda z: -((z @ A) ** 2).sum(-1) / 50 + z[..., 0] / 30  # noqa: E731
    mean = torch.full((2, 3), 0.3, dtype=torch.float64)
    parameters = family.start(mean, 0.5 + mean)
    step = tuple(torch.zeros_like(p, requires_grad=True) for p in parameters)
    z, log_q = family.draw(family.moved(parameters, step), noise)
    entropy = -log_q.mean(0)
    (log_p(z).mean(0) + entropy).sum().backward()
    z = family.draw(parameters, noise)[0].detach().requires_grad_()
    (slope,) = torch.autograd.grad(log_p(z).sum(), z)
    shift, stretch = family.ascent(parameters, noise, slope)
    torch.testing.assert_close(shift, step[0].grad)
    expected = step[1].grad.clone()
    if expected.ndim == 3:
        expected.diagonal(dim1=1, dim2=2).div_(2)
        expected = expected.tril()
    else:
        expected = expected / 2
    torch.testing.assert_close(stretch, expected)


def test_matched_noise_has_the_moments_of_the_normal() -> None:
    with seeded(0):
        noise = matched_noise(12, 5, torch.zeros(1))[:, 0]
        pairs = matched_noise(4, 5, torch.zeros(1))[:, 0]
        many = torch.cat([matched_noise(12, 5, torch.zeros(1)) for _ in range(2000)])
    assert noise.mean(0).abs().max() < 1e-6
    torch.testing.assert_close(noise.T @ noise / 12, torch.eye(5), atol=1e-5, rtol=0)
    assert torch.equal(pairs[:2], -pairs[2:])
    assert abs(many.pow(3).mean()) < 0.03
    assert abs(many.pow(4).mean() - 3 * 12 / 14) < 0.2
