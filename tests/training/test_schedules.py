"""Exact values at chosen moments."""

import math

import pytest

from elboscope.training import burda_rate, constant, cyclical, entropy_annealing, linear_warm_up


def test_warm_up_is_linear_and_then_stays() -> None:
    values = [linear_warm_up(t, 4.0, start=0.2, end=1.0) for t in (0.0, 1.0, 2.0, 4.0, 9.0)]
    assert values == pytest.approx([0.2, 0.4, 0.6, 1.0, 1.0])
    assert linear_warm_up(0.0, 0.0) == 1.0
    assert constant(7.0, 0.3) == 0.3


def test_cycle_rises_stays_and_begins_anew() -> None:
    times = (0.0, 1.0, 2.0, 3.9, 4.0, 5.0, 7.0)
    values = [cyclical(t, 4.0, rising=0.5, end=2.0) for t in times]
    assert values == pytest.approx([0.0, 1.0, 2.0, 2.0, 0.0, 1.0, 2.0])
    assert cyclical(3.0, 4.0, rising=1.0) == 0.75


def test_entropy_annealing_is_the_published_staircase() -> None:
    assert entropy_annealing(0.5 / 600, 400.0) == 1 / 400  # the first epoch
    assert entropy_annealing(1.0, 400.0) == 1 / 400
    assert entropy_annealing(399.5, 400.0) == 1.0
    assert entropy_annealing(0.0, 0.0) == 1.0


def test_burda_stages_last_three_to_the_i_and_fall_by_ten_to_the_seventh() -> None:
    begin = 0.0
    for i in range(8):
        length = 3**i
        for t in (begin, begin + length - 1e-6):
            assert burda_rate(t) == pytest.approx(10 ** (-i / 7), rel=1e-12)
        begin += length
    assert begin == 3280
    assert math.isclose(burda_rate(1e9), 0.1)
