"""Density ratios: exact critics give the truth, absurd ones no bound that is believed."""

import math

import pytest
import torch
from torch import Tensor

from elboscope.core import InputError, evaluating, seeded, standard_error
from elboscope.estimators import RatioClassifier
from elboscope.estimators.latents.aggregate_parts import Parts, split_aggregate
from elboscope.estimators.latents.ratio import (
    PRIOR_DRAWS,
    DensityRatioKL,
    _penalty,
    density_ratio_kl,
    with_critic,
)
from elboscope.models import LinearGaussian

SMALL = RatioClassifier((64, 64), max_steps=300)


def by_critic(model: LinearGaussian, critic, num_data: int = 4000, seed: int = 0) -> DensityRatioKL:
    x, _ = model.sample(num_data, seed=seed)
    with evaluating(model), seeded(seed):
        return with_critic(split_aggregate(model, x), critic, "given", {})


def exact_critic(model: LinearGaussian):
    q, p = model.aggregate_posterior(), model.prior()

    def critic(z: Tensor) -> Tensor:
        with torch.no_grad():
            return q.log_prob(z) - p.log_prob(z)

    return critic


@pytest.mark.parametrize("shift", [0.3, 1.0])
def test_the_exact_critic_gives_the_closed_form_three_times(shift: float) -> None:
    """Three latents whose q(z) is shifted: KL = 3·shift²/2, and log q/p is known."""
    model = LinearGaussian.perfect(3, 5).with_mistuned_posterior(mean_shift=shift)
    truth = model.marginal_kl().item()
    assert truth == pytest.approx(1.5 * shift**2)
    for estimate in by_critic(model, exact_critic(model)):
        loss = 0.02 if estimate.side == "lower" else 0.0  # of the ceiling, which is below max T
        assert truth - loss - 3.3 * estimate.stderr < estimate.mean
        assert estimate.mean < truth + 3.3 * estimate.stderr


def test_bounds_agree_with_the_literal_formulas() -> None:
    """A bounded critic, whose ceiling does not bite: both formulas as they are written."""
    model = LinearGaussian.perfect(3, 5).with_mistuned_posterior(mean_shift=0.5)

    def critic(z: Tensor) -> Tensor:
        return 0.7 * z[:, 0].tanh()

    found = by_critic(model, critic)
    with seeded(7):
        p = critic(model.prior().sample((400_000,)))
    assert found.ratio.settings["ceiling"] > 0.7
    donsker_varadhan = found.ratio.mean - p.exp().mean().log().item()
    assert found.donsker_varadhan.mean == pytest.approx(donsker_varadhan, abs=0.01)
    # NWJ with the constant that makes it tightest is Donsker–Varadhan.
    assert found.nwj.mean == pytest.approx(donsker_varadhan, abs=0.01)
    # What the prior draws add to the error, sd(e^T)/(E e^T √P), is shared by all values.
    shared = (p.exp().std() / p.exp().mean()).item() / math.sqrt(PRIOR_DRAWS)
    assert found.ratio.shared_stderr == 0
    for bound in (found.donsker_varadhan, found.nwj):
        assert bound.shared_stderr == bound.settings["prior_error"]
        assert bound.shared_stderr == pytest.approx(shared, rel=0.03)
        own = standard_error(bound.values)
        assert bound.stderr == pytest.approx(math.hypot(own, bound.shared_stderr))
        assert bound.held_out


def test_an_absurd_critic_inflates_the_ratio_and_not_the_bounds() -> None:
    model = LinearGaussian.perfect(3, 5).with_mistuned_posterior(mean_shift=1.0)
    exact = exact_critic(model)
    found = by_critic(model, lambda z: 1000 * exact(z))
    truth = model.marginal_kl().item()
    assert found.ratio.mean > 100 * truth
    for bound in (found.donsker_varadhan, found.nwj):
        assert bound.mean < truth + 3.3 * bound.stderr


def test_bounds_never_exceed_what_the_draws_can_prove() -> None:
    """q(z) forty standard deviations away: KL is 2400 nats, and log S is 11.5."""
    model = LinearGaussian.perfect(3, 5).with_mistuned_posterior(mean_shift=40.0)
    found = by_critic(model, exact_critic(model), 200)
    assert found.ratio.mean == pytest.approx(2400, rel=0.05)
    for bound in (found.donsker_varadhan, found.nwj):
        assert 5 < bound.mean < math.log(PRIOR_DRAWS / 3) + 1 + 1e-9


@pytest.mark.parametrize(
    ("model", "loss"),
    [
        (LinearGaussian.instance_2(), 0.05),
        (LinearGaussian.perfect(5, 6).with_mistuned_posterior(mean_shift=0.5), 0.15),
    ],
    ids=["instance 2", "shifted"],
)
def test_trained_classifiers_lie_below_the_truth_and_near_it(
    model: LinearGaussian, loss: float
) -> None:
    x, _ = model.sample(4000, seed=0)
    truth = model.marginal_kl().item()
    for estimate in density_ratio_kl(model, x, SMALL, seed=0):
        assert truth - loss - 3.3 * estimate.stderr < estimate.mean
        if estimate.side == "lower":
            assert estimate.mean < truth + 3.3 * estimate.stderr


@pytest.mark.slow
def test_a_perfect_model_of_narrow_posteriors_has_no_hole() -> None:
    model = LinearGaussian.perfect(10, 12)
    for seed in range(3):
        x, _ = model.sample(300, seed=seed)
        found = density_ratio_kl(model, x, SMALL, seed=seed)
        assert abs(found.ratio.mean) < 0.05 + 3 * found.ratio.stderr
        for bound in (found.donsker_varadhan, found.nwj):
            assert bound.mean <= 3 * bound.stderr


@pytest.mark.slow
def test_the_errors_state_the_scatter_over_data_sets() -> None:
    model = LinearGaussian.perfect(3, 5).with_mistuned_posterior(mean_shift=0.7)
    critic = exact_critic(model)
    runs = [by_critic(model, critic, 200, seed) for seed in range(40)]
    for k in range(3):
        spread = torch.tensor([run[k].mean for run in runs]).std().item()
        stated = sum(run[k].stderr for run in runs) / len(runs)
        assert abs(spread / stated - 1) < 0.35  # 40 draws scatter by 11 %


@pytest.mark.slow
def test_the_value_depends_on_the_classifier_and_says_which() -> None:
    model = LinearGaussian.perfect(5, 6).with_mistuned_posterior(mean_shift=0.5)
    x, _ = model.sample(400, seed=0)
    linear = density_ratio_kl(model, x, RatioClassifier((), max_steps=200), seed=0)
    few = density_ratio_kl(model, x, RatioClassifier(max_steps=3), seed=0)
    assert "classifier linear" in linear.ratio.method
    assert "(no bound)" in linear.ratio.method
    assert few.ratio.mean < linear.ratio.mean - 3 * linear.ratio.stderr  # log q/p is linear here
    assert linear.ratio.settings["hidden"] == ()
    last = RatioClassifier((64,), max_steps=200, early_stopping=False, learning_rate=0.02)
    overfitted = density_ratio_kl(model, x[:40], last, seed=0)
    assert overfitted.ratio.settings["best_step"] == 200
    cross_entropy = -overfitted.ratio.settings["score"]
    assert cross_entropy > -few.ratio.settings["score"]  # worse than knowing nothing


def test_the_gradient_penalty_of_a_linear_critic() -> None:
    network = RatioClassifier(()).network(2)
    network[0].weight.data = torch.tensor([[3.0, 4.0]])
    with seeded(0):
        q, p = torch.randn(10, 2), torch.randn(10, 2)
        assert _penalty(network, q, p).item() == pytest.approx(16.0, rel=1e-5)


def test_activation_noise_and_dropout_act_in_training_only() -> None:
    noisy = RatioClassifier((16,), activation_noise=2.0, dropout=0.5, gradient_penalty=1.0)
    network = noisy.network(2)
    torch.nn.init.ones_(network[-2].weight)
    with seeded(0):
        z = torch.randn(5, 2)
        assert not torch.equal(network(z), network(z))
        network.eval()
        assert torch.equal(network(z), network(z))
    model = LinearGaussian.instance_1()
    x, _ = model.sample(100, seed=0)
    penalised = RatioClassifier((16,), max_steps=4, dropout=0.5, gradient_penalty=1.0)
    found = density_ratio_kl(model, x, penalised, seed=0)
    assert found.ratio.settings["gradient_penalty"] == 1.0


def test_refusals() -> None:
    with pytest.raises(InputError, match=r"dropout: expected a number in \[0, 1\); got 1.0"):
        RatioClassifier(dropout=1.0)
    with pytest.raises(InputError, match="max_steps: expected at least 1; got 0"):
        RatioClassifier(max_steps=0)
    with pytest.raises(InputError, match=r"hidden: expected widths of at least 1; got \(16, 0\)"):
        RatioClassifier((16, 0))
    with pytest.raises(InputError, match="activation_noise: expected a finite number ≥ 0"):
        RatioClassifier(activation_noise=-1.0)


def test_parts_hold_different_datapoints() -> None:
    model = LinearGaussian.instance_1()
    x, _ = model.sample(101, seed=0)
    with evaluating(model), seeded(0):
        parts = split_aggregate(model, x)
    assert isinstance(parts, Parts)
    means = torch.cat([parts[k].posteriors.mu for k in range(3)])
    truth = model.encode(x).mean.detach()
    assert torch.equal(means.sort(0).values, truth.sort(0).values)
    assert [parts[k].size for k in range(3)] == [50, 25, 26]
