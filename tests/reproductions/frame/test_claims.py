"""Verdicts by hand, and errors of differences against the formula and against simulation."""

import math

import pytest
import torch

from elboscope.core import InputError
from elboscope.reproductions.frame.claims import (
    Difference,
    Published,
    agreement,
    difference,
    judge,
    run_error,
    verdict,
    without_verdict,
)


@pytest.mark.parametrize(
    ("value", "error", "sign", "expected"),
    [
        (1.0, 0.49, 1, "reproduced"),
        (1.0, 0.5, 1, "undecided"),  # exactly two errors are not beyond two errors
        (-1.0, 0.49, 1, "contradicted"),
        (-1.0, 0.49, -1, "reproduced"),
        (1.0, 0.49, -1, "contradicted"),
        (-0.3, 0.2, 1, "undecided"),
        (0.0, 0.0, 1, "undecided"),
        (0.1, 0.0, 1, "reproduced"),
        (math.nan, 0.1, 1, "undecided"),
        (1.0, math.nan, 1, "undecided"),
        (math.inf, 0.1, 1, "undecided"),
    ],
)
def test_a_sign_counts_beyond_two_standard_errors(value, error, sign, expected):
    assert verdict(value, error, sign) == expected


def test_the_error_joins_images_and_seeds():
    a = torch.tensor([[1.0, 2.0, 6.0], [3.0, 4.0, 6.0]])
    b = torch.tensor([[0.0, 0.0, 0.0], [1.0, 1.0, 1.0]])
    found = difference(a, b)
    # differences: 1, 2, 6 and 2, 3, 5. Over images: 1.5, 2.5, 5.5; over seeds: 3, 10/3.
    images = torch.tensor([1.5, 2.5, 5.5]).var().item() / 3
    seeds = torch.tensor([3.0, 10 / 3]).var().item() / 2
    assert found.value == pytest.approx(19 / 6)
    assert found.error == pytest.approx(math.sqrt(images + (12.7062 / 2) ** 2 * seeds), rel=1e-5)
    assert (found.num_seeds, found.num_data) == (2, 3)
    assert difference(a, b, runs=0.3).error == pytest.approx(math.sqrt(images + 0.09))


def test_one_seed_leaves_the_images_and_one_value_leaves_nothing():
    one_seed = difference(torch.tensor([[1.0, 2.0]]), torch.zeros(1, 2))
    assert one_seed.error == pytest.approx(0.5)
    one_image = difference(torch.tensor([[1.0], [2.0]]), torch.zeros(2, 1))
    assert one_image.error == pytest.approx(0.5 * 12.7062 / 2, rel=1e-5)
    alone = difference(torch.tensor([[1.0]]), torch.zeros(1, 1))
    assert judge("", "", alone).verdict == "undecided"
    assert run_error([torch.tensor([[1.0, 2.0]])]) == 0.0


@pytest.mark.parametrize("num_seeds", [2, 4])
@pytest.mark.parametrize("pooled", [False, True])
def test_verdicts_of_equal_models_err_in_one_of_twenty(num_seeds, pooled):
    """2000 tables of five equal models, whose runs differ by more than their images."""
    generator = torch.Generator().manual_seed(0)
    wrong = 0
    for _ in range(2000):
        runs = torch.randn(5, num_seeds, 1, generator=generator)
        images = torch.randn(1, 1, 30, generator=generator)
        table = runs + images + 0.2 * torch.randn(5, num_seeds, 30, generator=generator)
        error = run_error(table) if pooled else None
        wrong += judge("", "", difference(table[0], table[1], runs=error)).verdict != "undecided"
    assert 0.02 < wrong / 2000 < 0.07


def test_values_of_other_images_are_refused():
    with pytest.raises(InputError, match="values of the same seeds and test images"):
        difference(torch.zeros(2, 3), torch.zeros(2, 4))


@pytest.mark.parametrize(
    ("value", "error", "expected"),
    [(-84.9, 0.1, "reproduced"), (-84.02, 0.3, "reproduced"), (-85.2, 0.2, "undecided"),
     (-85.2, 0.05, "contradicted")],
)  # fmt: skip
def test_absolute_numbers_are_held_to_half_a_nat(value, error, expected):
    claim = agreement("log p̂", value, error, Published(-84.52, "a paper", 0.02))
    assert claim.verdict == expected
    assert "-84.52 ± 0.02" in claim.evidence


def test_a_smoke_run_decides_nothing_but_shows_its_evidence():
    (claim,) = without_verdict([judge("A > B", "a paper", Difference(9.0, 0.1, 1, 50))])
    assert claim.verdict == "undecided"
    assert "+9.000 ± 0.100 nats" in claim.evidence
    assert "decides nothing" in claim.evidence
