"""Three kinds of estimate on models whose marginal KL is known, and what a difference means."""

import inspect
import math

import pytest
import torch
from torch import Tensor
from torch.distributions import Distribution

from elboscope.core import Estimate, InputError, seeded
from elboscope.estimators import (
    RatioClassifier,
    compare_marginal_kl,
    elbo_surgery,
    marginal_kl,
    marginal_kl_disagreements,
)
from elboscope.estimators.latents.ratio import density_ratio_kl
from elboscope.models import LinearGaussian

from ..likelihood.test_lower_bound import Flowing
from .test_surgery import Given

SMALL = RatioClassifier((64, 64), max_steps=300)
BOUNDS = ("donsker_varadhan", "nwj", "gmm", "maf", "lstm")


@pytest.mark.parametrize("instance", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_every_estimator_is_on_its_stated_side_of_the_linear_gaussian(instance: int) -> None:
    model = (LinearGaussian.instance_1, LinearGaussian.instance_2)[instance - 1]()
    truth = model.marginal_kl().item()
    x, _ = model.sample(4000, seed=0)
    x_new, _ = model.sample(3000, seed=1)
    found = compare_marginal_kl(model, x_new, x_train=x, classifier=SMALL, max_steps=200, seed=0)
    assert tuple(found.estimates) == ("mixture", "mixture_plain", "ratio", *BOUNDS)
    for name, estimate in found.estimates.items():
        assert estimate.side == ("lower" if name in BOUNDS else "none")
        assert estimate.mean < truth + 3.3 * estimate.stderr, name
        assert estimate.mean > truth - 0.05 - 3.3 * estimate.stderr, name
    sizes = {name: e.mixture_size for name, e in found.estimates.items()}
    assert sizes == {"mixture": 4000, "mixture_plain": 4000} | dict.fromkeys(("ratio", *BOUNDS))
    assert [name for name, e in found.estimates.items() if e.held_out] == ["ratio", *BOUNDS]
    for name in ("mixture", "mixture_plain"):
        estimate = found.estimates[name]
        assert abs(estimate.mean - truth) < 3.3 * estimate.stderr
    assert found.interval is not None
    assert found.interval[0] <= truth <= found.interval[1]
    assert found.best_bound.side == "lower"


@pytest.mark.slow
def test_a_perfect_model_of_narrow_posteriors_is_never_told_it_has_a_hole() -> None:
    """The mixture says 14 nats of N; no bound says more than its error; the truth is 0."""
    model = LinearGaussian.perfect(10, 12)
    x, _ = model.sample(300, seed=0)
    found = compare_marginal_kl(model, x, classifier=SMALL, max_steps=100, seed=0)
    assert found.estimates["mixture"].mean > 10
    for name in BOUNDS:
        assert found.estimates[name].mean <= 3 * found.estimates[name].stderr + 1e-12
    assert found.mutual_information is not None
    assert found.mutual_information.mean == pytest.approx(math.log(300), abs=1e-3)
    told = found.disagreements
    pairs = {(d.higher, d.lower): d.meaning for d in told}
    assert "overstates the population's KL" in pairs["mixture", "maf"]
    assert all(d.higher == "mixture" for d in told)


@pytest.mark.slow
def test_a_real_hole_is_shown_by_bounds_of_which_two_saturate() -> None:
    """Six latents on a line: a diagonal mixture misses correlation, DV and NWJ saturate."""
    with seeded(0):
        x = 3 * torch.randn(2000, 1).double() + 0.2 * torch.randn(2000, 6).double()
    model = Given(6, torch.tensor(0.1))
    covariance = 9 * torch.ones(6, 6) + 0.05 * torch.eye(6)
    truth = 0.5 * (covariance.trace() - 6 - covariance.logdet()).item()
    found = compare_marginal_kl(model, x, classifier=SMALL, max_steps=300, seed=0)
    for name in BOUNDS:
        estimate = found.estimates[name]
        assert 3 < estimate.mean < truth + 3.3 * estimate.stderr
    assert found.best_bound.mean > truth - 1.5
    pairs = {(d.higher, d.lower): d.meaning for d in found.disagreements}
    assert ("maf", "nwj") in pairs
    assert pairs["maf", "nwj"].startswith("the first describes q(z) better")
    lines = str(found).splitlines()
    assert lines[0].startswith("mixture           KL(q_N(z) ‖ p(z)) ≈ ")
    assert lines[3].startswith("donsker_varadhan  KL(q(z) ‖ p(z)) ≥ ")
    assert "mutual information" in lines[8]


def estimate(mean: float, side: str, stderr: float = 0.1, **kind: object) -> Estimate:
    spread = torch.tensor([-1.0, 1.0, 0.0])
    return Estimate("KL", "m", mean + spread, torch.full((3,), 0.01), side, stderr, **kind)


MIXTURE = estimate(5.0, "none", mixture_size=10)


@pytest.mark.parametrize(
    ("a", "b", "words"),
    [
        (MIXTURE, estimate(2.0, "lower"), "the truth lies between"),
        (MIXTURE, estimate(2.0, "none"), "the classifier sees less than there is"),
        (estimate(9.0, "none"), MIXTURE, "the classifier is overconfident"),
        (estimate(9.0, "none"), estimate(2.0, "lower"), "is not proven"),
        (estimate(9.0, "lower"), estimate(2.0, "none"), "a lower bound proves more"),
        (estimate(9.0, "lower"), estimate(2.0, "lower"), "misses at least this much"),
        (estimate(9.0, "lower"), MIXTURE, "both cannot be right but by chance"),
        (estimate(5.5, "none", mixture_size=10), MIXTURE, "heavy tail"),
    ],
)
def test_what_a_difference_means_depends_on_the_kinds(a: Estimate, b: Estimate, words: str) -> None:
    for estimates in ({"a": a, "b": b}, {"b": b, "a": a}):
        (told,) = marginal_kl_disagreements(estimates)
        assert (told.higher, told.lower) == ("a", "b")
        assert words in told.meaning
        assert told.difference == pytest.approx(a.mean - b.mean)


def test_differences_within_the_errors_are_not_told() -> None:
    near = estimate(5.4, "lower")
    assert marginal_kl_disagreements({"a": MIXTURE, "b": near}) == ()
    assert len(marginal_kl_disagreements({"a": MIXTURE, "b": near}, errors=2.0)) == 1


def test_estimates_of_the_same_draws_are_compared_in_pairs() -> None:
    a = estimate(5.2, "lower", 1.0, held_out=True)
    b = estimate(5.0, "lower", 1.0, held_out=True)
    (told,) = marginal_kl_disagreements({"a": a, "b": b})
    assert told.stderr < 1e-6  # their spread is one and the same
    c = estimate(5.0, "lower", 1.0, held_out=True, shared_stderr=0.1)
    assert marginal_kl_disagreements({"a": a, "c": c}) == ()


@pytest.mark.slow
def test_a_posterior_without_density_has_no_mixture_and_all_the_others() -> None:
    class Implicit(Distribution):
        def __init__(self, q: Distribution) -> None:
            super().__init__(q.batch_shape, q.event_shape, validate_args=False)
            self.q = q

        def sample(self, shape: torch.Size = torch.Size()) -> Tensor:  # noqa: B008
            return self.q.sample(shape)

    class Model(Flowing):
        def encode(self, x: Tensor) -> Distribution:
            return Implicit(super().encode(x))

    exact = LinearGaussian.instance_2()
    x, _ = exact.sample(1000, seed=0)
    found = compare_marginal_kl(Model(exact), x, classifier=SMALL, max_steps=50, seed=0)
    assert tuple(found.estimates) == ("ratio", *BOUNDS)
    assert "Implicit, which can only be sampled" in found.unavailable["mixture"]
    assert found.interval is None
    for estimate in found.estimates.values():
        assert estimate.mean < 0.1130020622 + 3.3 * estimate.stderr


def test_one_latent_unit_has_no_flow_and_says_so() -> None:
    model = LinearGaussian.conjugate()
    x, _ = model.sample(200, seed=0)
    found = compare_marginal_kl(
        model, x, classifier=RatioClassifier((4,), max_steps=5), max_steps=5, seed=0
    )
    assert "at least 2 for MAF" in found.unavailable["maf"]
    assert "maf" not in found.estimates


def test_the_mixture_of_a_surgery_is_not_drawn_again() -> None:
    model = LinearGaussian.instance_1()
    x, _ = model.sample(60, seed=0)
    surgery = elbo_surgery(model, x, seed=5)
    few = RatioClassifier((8,), max_steps=5)
    found = compare_marginal_kl(
        model, x, classifier=few, densities=("gmm",), surgery=surgery, seed=0
    )
    assert found.estimates["mixture"] is surgery.marginal_kl
    assert found.mutual_information is surgery.mutual_information
    assert [name for name in found.estimates if name in BOUNDS[2:]] == ["gmm"]
    with pytest.raises(InputError, match="surgery: expected that of x; got that of other data"):
        compare_marginal_kl(model, x[:50], surgery=surgery, seed=0)


@pytest.mark.slow
def test_one_method_is_that_of_the_comparison():
    model = LinearGaussian.instance_2()
    x, _ = model.sample(200, seed=0)
    mixture = marginal_kl(model, x, num_draws=200, seed=0)
    assert mixture.method.startswith("average KL − mutual information")
    ratio = marginal_kl(model, x, "classifier", classifier=SMALL, seed=0)
    parts = density_ratio_kl(model, x, SMALL, seed=0)
    assert (ratio.side, ratio.mean) == ("none", parts.ratio.mean)
    assert torch.equal(ratio.diagnostics["donsker_varadhan"], parts.donsker_varadhan.values)
    assert torch.equal(ratio.diagnostics["nwj"], parts.nwj.values)
    assert marginal_kl(model, x, "density", density="gmm", seed=0).side == "lower"


def test_the_mixture_is_of_the_training_data_where_they_are_given():
    model = LinearGaussian.instance_2()
    x, _ = model.sample(50, seed=0)
    x_train, _ = model.sample(120, seed=1)
    found = marginal_kl(model, x, x_train=x_train, num_draws=120, seed=0)
    assert torch.equal(found.values, marginal_kl(model, x_train, num_draws=120, seed=0).values)


def test_an_unknown_method_is_told():
    expected = "method: expected 'mixture', 'classifier' or 'density'; got 'ratio'"
    with pytest.raises(InputError, match=expected):
        inspect.unwrap(marginal_kl)(LinearGaussian.instance_1(), torch.zeros(30, 3), "ratio")
