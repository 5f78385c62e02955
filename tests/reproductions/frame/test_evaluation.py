"""Bounds, ESS and active units of a model whose log p(x) is known."""

import math

import pytest
import torch

from elboscope.models import LinearGaussian
from elboscope.reproductions.frame.sitting import Options, Unfinished, sitting
from elboscope.reproductions.frame.training import count_error, measure_members

CPU = torch.device("cpu")


def open_sitting(folder, **options):
    return sitting(folder, {}, Options(resume=True, **options), None)


def test_both_bounds_are_where_the_closed_form_says(tmp_path):
    model = LinearGaussian.instance_1()
    x, _ = model.sample(300, seed=0)
    with open_sitting(tmp_path / "run") as now:
        found = measure_members("exact", [model, model], x, 640, [0, 1], now, CPU)
    truth = model.log_likelihood(x)
    chi2 = 0.2421557909  # of the optimal q: L_K lies χ²/(2K) below, one value spreads √(χ²/K)
    for values, K, groups in ((found.log_px, 640, 1), (found.bound_64, 64, 10)):
        error = math.sqrt(chi2 / K / groups / values.numel())
        z = ((values - truth).mean().item() + chi2 / (2 * K)) / error
        assert abs(z) < 4, (K, z)
    assert 0 < found.ess.mean().item() / 640 - 1 / (1 + chi2) < 0.04  # slowly, from above
    assert found.unreliable < 0.05
    assert found.unit_variance.shape == (2, 2)


def test_a_second_sitting_reads_what_the_first_measured(tmp_path):
    model = LinearGaussian.instance_1()
    x, _ = model.sample(20, seed=0)
    arguments = ("exact", [model], x, 64, [0])
    with open_sitting(tmp_path / "run") as now:
        first = measure_members(*arguments, now, CPU)
    with open_sitting(tmp_path / "run", slice_seconds=1e-9) as now:
        again = measure_members(*arguments, now, CPU)
        with pytest.raises(Unfinished, match="evaluation of other, seed 0"):
            measure_members("other", *arguments[1:], now, CPU)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))


def test_units_far_from_the_threshold_are_counted_without_error():
    sure = torch.tensor([1.0, 0.5, 1e-5]), torch.tensor([0.1, 0.05, 1e-6])
    assert count_error(*sure) < 1e-6
    on_it = torch.tensor([0.01, 0.01, 1.0]), torch.tensor([0.002, 0.001, 0.1])
    assert count_error(*on_it) == pytest.approx(math.sqrt(0.5))
