"""A number carries its doubt: what is printed, subtracted and refused."""

import dataclasses
import math

import pytest
import torch

from elboscope.core import Estimate, InputError, data_id, paired_difference, seeded, standard_error


def estimate(values, error=0.0, side="lower", **rest):
    values = torch.tensor(values, dtype=torch.float64)
    error = torch.full_like(values, error)
    name = rest.pop("name", "log p(x)")
    return Estimate.per_datapoint(name, "importance sampling", values, error, side, **rest)


def test_it_prints_the_value_its_error_its_side_and_its_method():
    e = estimate([-89.0, -90.0, -91.0, -90.0], settings={"num_samples": 5000})
    assert str(e) == "log p(x) ≥ -90.00 ± 0.41 nats (n=4, importance sampling, K=5000)"


@pytest.mark.parametrize(
    ("side", "mark"), [("lower", "≥"), ("upper", "≤"), ("unbiased", "="), ("none", "≈")]
)
def test_every_side_has_its_mark(side, mark):
    assert f"log p(x) {mark} 1.50" in str(estimate([1.0, 2.0], side=side))


def test_binarisation_is_printed_when_it_is_known():
    e = estimate([1.0, 2.0], settings={"binarisation": "fixed draw, seed 0", "batch": 3})
    assert str(e).endswith("(n=2, importance sampling, fixed draw, seed 0)")


def test_small_errors_show_their_first_two_digits():
    assert "1.00050 ± 0.00050 nats" in str(estimate([1.0, 1.001]))
    assert "≥ 1.0000 nats, one datapoint: no error (n=1" in str(estimate([1.0]))


def test_below_zero_within_the_error_is_zero():
    e = estimate([-0.5, 0.4, -0.1], name="marginal KL", nonnegative=True)
    assert "marginal KL ≥ 0 within the error [-0.07 ± 0.26 nats]" in str(e)
    far = estimate([-9.0, -8.9, -9.1], name="marginal KL", nonnegative=True)
    assert "within the error" not in str(far)
    assert "within the error" not in str(estimate([-0.5, 0.4, -0.1]))
    assert "within" not in str(estimate([0.5, 0.4], nonnegative=True))


def test_what_is_not_finite_is_no_number():
    assert "log p(x) ≥ nan nats" in str(estimate([1.0, math.nan]))
    assert "log p(x) ≥ -inf nats" in str(estimate([1.0, -math.inf]))


def test_units_print_their_total():
    values = torch.tensor([1.0, 2.0, 3.5])
    e = Estimate("KL", "analytic", values, torch.zeros(3), "unbiased", 0.25, axis="unit")
    assert str(e) == "total KL = 6.50 ± 0.25 nats (units=3, analytic)"
    assert (e.mean, e.total) == (pytest.approx(6.5 / 3), 6.5)


def test_the_errors_of_the_mean_shrink_as_they_should():
    e = estimate([1.0, 2.0, 3.0, 6.0], error=0.5)
    assert e.stderr == pytest.approx(torch.tensor([1.0, 2, 3, 6]).std().item() / 2)
    assert e.mc_error_of_mean == pytest.approx(0.5 / 2)
    assert math.isnan(standard_error(torch.ones(1)))


def test_the_stderr_covers_the_population_mean():
    with seeded(0):
        draws = torch.randn(2000, 30, dtype=torch.float64)
    z = [row.mean().item() / standard_error(row) for row in draws]
    inside = sum(abs(v) < 2.045 for v in z) / len(z)  # 95 % of Student's t with 29
    assert inside == pytest.approx(0.95, abs=0.015)


def test_lengths_that_disagree_are_a_defect_told_by_name():
    values = torch.zeros(3)
    with pytest.raises(ValueError, match=r"log p\(x\): ess has shape \(4,\), values have \(3,\)"):
        Estimate("log p(x)", "m", values, values, "lower", 0.0, diagnostics={"ess": torch.ones(4)})


def test_it_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        estimate([1.0, 2.0]).name = "other"


def test_a_paired_difference_has_the_error_of_the_pairs():
    with seeded(0):
        hard = 10 * torch.randn(500, dtype=torch.float64)
        gain = 1 + 0.1 * torch.randn(500, dtype=torch.float64)
    a, b = estimate((hard + gain).tolist(), 0.3), estimate(hard.tolist(), 0.4)
    difference = paired_difference(a, b, "gain")
    assert abs(difference.mean - 1) < 4 * difference.stderr
    assert difference.stderr < 0.01 < a.stderr / 10
    torch.testing.assert_close(difference.mc_stderr, torch.full((500,), 0.5).double())
    assert difference.side == "none"
    assert difference.method == "importance sampling − importance sampling"


def test_a_difference_of_unbiased_estimates_is_unbiased_and_keeps_shared_settings():
    a = estimate([1.0, 2.0], side="unbiased", settings={"seed": 0, "num_samples": 5}, data_id="f")
    b = estimate([0.0, 2.0], side="unbiased", settings={"seed": 0, "num_samples": 9}, data_id="f")
    found = paired_difference(a, b, "gap", method="paired")
    assert (found.side, found.method, found.data_id) == ("unbiased", "paired", "f")
    assert dict(found.settings) == {"seed": 0}


@pytest.mark.parametrize(
    "other",
    [
        {"values": [1.0, 2.0], "data_id": "bb"},
        {"values": [1.0, 2.0, 3.0], "data_id": "aa"},
        {"values": [1.0, 2.0], "data_id": "aa", "axis": "draw"},
    ],
)
def test_estimates_of_different_data_are_not_subtracted(other):
    a = estimate([1.0, 2.0], data_id="aa")
    message = r"expected two estimates of the same data; got data aa \(2 by datapoint\) and"
    with pytest.raises(InputError, match=message):
        paired_difference(a, estimate(**other), "gap")


def test_data_id_depends_on_shape_dtype_and_every_value():
    x = torch.arange(6.0)
    ids = {data_id(v) for v in (x, x.reshape(2, 3), x.double(), x.flip(0), x + 1e-6)}
    assert len(ids) == 5
    assert data_id(x[::2]) == data_id(x[::2].contiguous())
    assert all(len(i) == 12 and int(i, 16) >= 0 for i in ids)


def test_its_repr_is_a_line_and_no_dump_of_tensors():
    x = torch.zeros(1000)
    found = Estimate.per_datapoint("ELBO", "ELBO", x, x, "lower", data_id="abc")
    assert repr(found) == f"<Estimate: {found}>"
    assert "tensor" not in repr(found)


def test_counts_are_typed_fields_that_the_settings_repeat():
    e = estimate([1.0, 2.0], num_temperatures=50, num_chains=8, settings={"seed": 0})
    assert (e.num_temperatures, e.num_chains, e.num_samples) == (50, 8, None)
    assert list(e.settings.items()) == [("num_temperatures", 50), ("num_chains", 8), ("seed", 0)]
    assert str(e).endswith("(n=2, importance sampling, T=50, 8 chains)")


def test_a_count_that_changes_changes_in_the_settings_too():
    e = estimate([1.0, 2.0], settings={"seed": 0, "num_samples": 5}, num_samples=9)
    assert list(e.settings.items()) == [("seed", 0), ("num_samples", 9)]
    assert dataclasses.replace(e, num_samples=7).settings["num_samples"] == 7


def test_a_difference_keeps_the_counts_and_notes_that_both_share():
    a = estimate([1.0, 2.0], data_id="f", num_samples=5, num_chains=2, notes=("scaled", "cut"))
    b = estimate([0.0, 2.0], data_id="f", num_samples=9, num_chains=2, notes=("scaled",))
    found = paired_difference(a, b, "gap")
    assert (found.num_samples, found.num_chains, found.notes) == (None, 2, ("scaled",))


def test_a_difference_is_of_a_mixture_or_held_out_only_where_both_are():
    a = estimate([1.0, 2.0], data_id="f", mixture_size=9, held_out=True, shared_stderr=0.3)
    b = dataclasses.replace(a, expected=0.5, num_images=7)
    same, other = paired_difference(a, b, "gap"), dataclasses.replace(b, mixture_size=8)
    assert (same.mixture_size, same.held_out) == (9, True)
    # What the two share cancels in a pair; no score is expected of a difference.
    assert (same.shared_stderr, same.num_images, math.isnan(same.expected)) == (0.0, None, True)
    other = paired_difference(a, dataclasses.replace(other, held_out=False), "gap")
    assert (other.mixture_size, other.held_out) == (None, False)


def test_a_headline_is_printed_instead_of_the_number():
    e = estimate([1.0, 2.0], headline="1 of 2 units active", num_samples=3)
    assert str(e) == "1 of 2 units active (n=2, importance sampling, K=3)"
