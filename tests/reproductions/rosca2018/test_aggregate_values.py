"""What a marginal KL is made of: the closed form, its error, pairs, flows, parts of a sitting."""

import math

import pytest
import torch

from elboscope.core import InputError, evaluating, seeded
from elboscope.estimators import marginal_kl
from elboscope.models import LinearGaussian, RealNVP, mlp_vae
from elboscope.reproductions.frame.sitting import Options, Unfinished, sitting
from elboscope.reproductions.rosca2018.aggregate import (
    AggregateValues,
    _mixture,
    _rate,
    kl_difference,
    measure_aggregate,
)


def mixture(model, x, num_draws, seed=0):
    none = torch.zeros(1, dtype=torch.float64)
    found = _mixture(model, x, num_draws, 10, seed)
    return AggregateValues(**found, held_out=none, held_out_error=none[0])


@pytest.fixture
def measure(tmp_path):
    """The values of the linear-Gaussian model with correlated latents."""
    model = LinearGaussian.instance_2()
    x, _ = model.sample(2000, seed=0)
    with sitting(tmp_path / "run", {}, Options(), None) as now:
        return model, x, measure_aggregate("linear", model, x, 2000, 50, 0, now)


def test_all_parts_are_those_of_the_closed_form(measure):
    model, x, values = measure
    truth, marginal = model.marginal_kl().item(), values.marginal
    assert abs(marginal.value - truth) < 3.5 * marginal.error
    assert marginal.error < 0.2 * truth
    assert values.held_out.mean().item() < truth + 3.3 * values.held_out_error.item()
    assert torch.allclose(values.kl, model.kl(x))
    error = values.reconstruction.std().item() / math.sqrt(50)
    assert abs(values.reconstruction.mean().item() - model.reconstruction(x).mean()) < 4 * error
    low, high = values.interval
    assert low == 0.0 < marginal.value < high == pytest.approx(model.kl(x).mean().item())


def test_it_is_the_estimate_of_the_library(measure):
    model, x, values = measure
    estimate = marginal_kl(model, x, num_draws=2000, seed=0)
    assert values.marginal.value == pytest.approx(estimate.mean, abs=1e-12)
    assert values.marginal.error == pytest.approx(estimate.stderr, rel=1e-9)


def test_the_error_with_fewer_draws_than_images_states_the_scatter_over_data_sets():
    model = LinearGaussian.instance_1().with_mistuned_posterior(mean_shift=0.5)
    runs = []
    for seed in range(60):
        x, _ = model.sample(400, seed=seed)
        runs.append(mixture(model, x, 100, seed).marginal)
    spread = torch.tensor([run.value for run in runs]).std().item()
    stated = sum(run.error for run in runs) / len(runs)
    assert abs(spread / stated - 1) < 0.3  # 60 draws scatter by 9 %


def test_differences_are_of_pairs():
    model = LinearGaussian.instance_1()
    shifted = model.with_mistuned_posterior(mean_shift=0.4)
    x, _ = model.sample(1000, seed=0)
    a, b = (mixture(m, x, 500) for m in (shifted, model))
    found, truth = kl_difference(a, b), shifted.marginal_kl() - model.marginal_kl()
    assert truth > 0.1
    assert abs(found.value - truth.item()) < 3.5 * found.error
    assert found.error < 0.8 * math.hypot(a.marginal.error, b.marginal.error)
    assert kl_difference(b, a).value == pytest.approx(-found.value, abs=1e-12)
    with pytest.raises(InputError, match=r"two models with draws of the same images; got 1000 and"):
        kl_difference(a, mixture(model, x[:900], 500))


def test_the_rate_of_a_flow_is_sampled():
    """A flow that moves nothing yet is its Gaussian, whose rate is known."""
    with seeded(0):
        model = mlp_vae((6,), 3, (8,), posterior=RealNVP(hidden=8, context=4))
        x = torch.rand(300, 6)
    with evaluating(model), seeded(1):
        sampled = _rate(model, x)
        base = model.encode(x).base
        mu, sigma = base.mean.double(), base.stddev.double()
        closed = 0.5 * (sigma.square() + mu.square() - 1 - 2 * sigma.log()).sum(1)
    excess = sampled - closed
    assert abs(excess.mean()) < 3.5 * excess.std() / math.sqrt(len(x))
    assert 0.05 < excess.std() < 1.0  # ten draws of sd about 0.7 each


def test_grey_values_are_scored_as_a_cross_entropy(tmp_path):
    with seeded(0):
        model, x = mlp_vae((6,), 2, (8,)), torch.rand(60, 6)
    with sitting(tmp_path / "run", {}, Options(), None) as now:
        found = measure_aggregate("grey", model, x, 60, 60, 0, now)
    entropy = -(x * x.log() + (1 - x) * (1 - x).log()).sum(1).double()
    assert (found.reconstruction < -entropy).all()  # a cross-entropy is at least the entropy


def test_parts_are_kept_and_read(tmp_path):
    model = LinearGaussian.instance_1()
    x, _ = model.sample(200, seed=0)
    asked, out = {"a": 1}, tmp_path / "run"
    with sitting(out, asked, Options(), None) as now:
        whole = measure_aggregate("linear", model, x, 100, 10, 0, now)
    for name in ("linear-bound.safetensors", "linear-bound-begun"):
        (out / "state" / name).unlink()
    over = Options(resume=True, slice_seconds=0.0)
    with (  # once: a sitting too short for reading the state goes on nevertheless
        pytest.raises(Unfinished, match="the held-out bound of linear"),
        sitting(out, asked, over, None) as now,
    ):
        measure_aggregate("linear", model, x, 100, 10, 0, now)
    with sitting(out, asked, Options(resume=True), None) as now:
        again = measure_aggregate("linear", model, x, 100, 10, 0, now)
    assert all(torch.equal(a, b) for a, b in zip(whole, again, strict=True))
