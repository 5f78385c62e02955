"""Density models of q(z): densities indeed, on the lower side, tight where they can be."""

import inspect
import math

import pytest
import torch
from torch import nn

from elboscope.core import InputError, evaluating, paired_difference, seeded
from elboscope.estimators import marginal_kl
from elboscope.estimators.latents import density as density_kl
from elboscope.estimators.latents.aggregate_parts import split_aggregate
from elboscope.estimators.latents.density import (
    AutoregressiveLSTM,
    FlowDensity,
    descend,
    fit_density,
)
from elboscope.estimators.latents.held_out import fitted_mixture
from elboscope.models import LinearGaussian

from .test_surgery import Given

FAMILIES = ("gmm", "maf", "lstm")


def integral(log_r) -> float:
    """∫ r over a square of the plane, by the midpoint rule."""
    axis = torch.linspace(-12, 12, 241)
    grid = torch.cartesian_prod(axis, axis)
    with torch.no_grad():
        return (log_r(grid).double().exp().sum() * (24 / 240) ** 2).item()


@pytest.mark.parametrize("network", [FlowDensity, AutoregressiveLSTM])
def test_networks_are_normalised_whatever_their_weights(network) -> None:
    with seeded(0):
        r = network(2)
        for p in r.parameters():
            p.data += 0.04 * torch.randn_like(p)
    assert abs(integral(r) - 1) < 1e-3


def test_mixtures_are_normalised_in_the_units_of_z() -> None:
    with seeded(0):
        z = torch.randn(300, 2).double() * torch.tensor([0.5, 2.0]) + torch.tensor([1.0, -3.0])
        log_r = fitted_mixture(z, 3, "diag")
    assert abs(integral(lambda grid: log_r(grid.double())) - 1) < 1e-3


def test_the_lstm_never_sees_the_latent_that_it_predicts() -> None:
    with seeded(0):
        r = AutoregressiveLSTM(4)
        for p in r.parameters():
            p.data += 0.3 * torch.randn_like(p)
        z = torch.randn(1, 4)
    moved = z.clone()
    moved[0, 3] += 1.0  # then log r changes as its one Gaussian does: quadratically
    again = z.clone()
    again[0, 3] += 2.0
    a, b, c = (r(v).item() for v in (z, moved, again))
    before = torch.cat([torch.zeros(1, 1), z[:, :3]], 1)
    output = (r.head(r.lstm(before[..., None])[0]) + r.offset)[0, 3]
    assert c - 2 * b + a == pytest.approx(-math.exp(-2 * output[1].item()), rel=1e-3)


@pytest.mark.parametrize("family", ["gmm", "maf", pytest.param("lstm", marks=pytest.mark.slow)])
def test_bounds_of_the_linear_gaussian_lie_below_the_truth_and_near_it(family) -> None:
    model = LinearGaussian.instance_2()
    x, _ = model.sample(4000, seed=0)
    x_new, _ = model.sample(4000, seed=1)
    bound = marginal_kl(model, x_new, "density", density=family, x_train=x, max_steps=300, seed=0)
    truth = model.marginal_kl().item()
    assert bound.side == "lower"
    assert truth - 0.02 - 3.3 * bound.stderr < bound.mean < truth + 3.3 * bound.stderr
    assert bound.settings["evaluated_on"] == len(bound.values) == 4000
    assert (bound.held_out, bound.mixture_size, bound.shared_stderr) == (True, None, 0.0)


@pytest.mark.parametrize(
    ("family", "max_steps", "settled"),
    [("gmm", 1, True), ("maf", 50, False), pytest.param("maf", 2000, True, marks=pytest.mark.slow)],
)
def test_a_fit_says_whether_its_steps_were_used_up(family, max_steps, settled) -> None:
    """The first latent moves by 1: the flow improves from step 0, and not for 2000 steps."""
    model = LinearGaussian.perfect(2, 5).with_mistuned_posterior(mean_shift=1.0)
    x, _ = model.sample(400, seed=0)
    with evaluating(model), seeded(0):
        parts = split_aggregate(model, x)
        fit = fit_density(parts, family, max_steps=max_steps)
        bound = fit.bound(parts, 0)
    assert fit.settled == settled
    assert bound.settings.get("stopped", True) == settled
    assert bound.settings.get("steps", 0) <= max_steps
    assert bound.settings["density"] == fit.name
    whole = marginal_kl(model, x, "density", density=family, max_steps=max_steps, seed=0)
    assert torch.equal(whole.values, bound.values)


@pytest.mark.slow
def test_a_flow_and_an_lstm_see_a_correlation_that_one_diagonal_gaussian_misses() -> None:
    with seeded(0):
        common = torch.randn(2000, 1).double()
        x = 0.95 * common + 0.2 * torch.randn(2000, 6).double()
    model = Given(6, torch.tensor(0.1))
    covariance = 0.9025 * torch.ones(6, 6) + (0.04 + 0.01) * torch.eye(6)
    truth = 0.5 * (covariance.trace() - 6 - covariance.logdet()).item()
    found = {
        f: marginal_kl(model, x, "density", density=f, max_steps=400, seed=0) for f in FAMILIES
    }
    for bound in found.values():
        assert bound.mean < truth + 3.3 * bound.stderr
        assert bound.mean > 10 * bound.stderr
    for family in ("maf", "lstm"):
        assert found[family].mean > truth - 0.2 - 3.3 * found[family].stderr
        gain = paired_difference(found[family], found["gmm"], "gain")  # the draws are shared
        assert gain.mean > 3 * gain.stderr


@pytest.mark.parametrize("family", ["gmm", "maf", pytest.param("lstm", marks=pytest.mark.slow)])
def test_a_perfect_model_of_narrow_posteriors_has_no_hole(family) -> None:
    """The mixture over its N = 300 posteriors says 30 nats; the bound says none."""
    model = LinearGaussian.perfect(10, 12)
    for seed in range(3):
        x, _ = model.sample(300, seed=seed)
        bound = marginal_kl(model, x, "density", density=family, max_steps=100, seed=seed)
        assert bound.mean < 3 * bound.stderr


def test_the_best_weights_on_the_other_part_are_kept() -> None:
    """A loss that drives the weight past the optimum of the score: the best one comes back."""
    network = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(network.weight)
    ended = descend(
        network,
        lambda: -network.weight.sum(),
        lambda: -abs(network.weight.item() - 0.3),
        max_steps=1000,
        learning_rate=0.01,
        check_every=10,
    )
    assert network.weight.item() == pytest.approx(0.3, abs=0.01)
    assert ended.stopped
    assert ended.score == pytest.approx(0.0, abs=0.01)
    worse = descend(
        network, lambda: network.weight.sum(), lambda: network.weight.item(),
        max_steps=20, learning_rate=0.1, check_every=10,
    )  # fmt: skip
    assert (worse.best_step, worse.steps, worse.stopped) == (0, 20, False)
    assert network.weight.item() == pytest.approx(0.3, abs=0.01)


def test_refusals() -> None:
    model = LinearGaussian.instance_1()
    x, _ = model.sample(40, seed=0)
    unchecked = inspect.unwrap(density_kl._network)  # past the type check of tests
    with pytest.raises(InputError, match="'gmm', 'maf' or 'lstm'; got 'kde'"):
        unchecked("kde", 2)
    with pytest.raises(InputError, match="max_steps: expected at least 1"):
        marginal_kl(model, x, "density", max_steps=0)
    with pytest.raises(InputError, match="at least 2 for MAF"):
        marginal_kl(LinearGaussian.conjugate(), x[:, :1], "density")
    with pytest.raises(InputError, match="at least 20 datapoints; got 10"):
        marginal_kl(model, x[:10], "density")
