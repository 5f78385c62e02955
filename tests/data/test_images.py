"""A set is known by its content; a split is a partition fixed by its seed."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from elboscope.core import InputError
from elboscope.data import Images, digits
from elboscope.data.images import split

DIGITS_SHA256 = "04f2d0d58e3c8042d34b12836b37177873ef7ae62a18fa0479b1229a24c14d8e"


def test_the_digits_are_what_they_always_were():
    images = digits()
    assert images.checksum == DIGITS_SHA256
    x = torch.cat([images.train, images.test])
    assert torch.equal((16 * x).round() / 16, x)
    assert (16 * x).sum() == 561_718  # the sum of all grey values of the published set
    assert images.train_labels is not None
    assert images.test_labels is not None
    counts = torch.cat([images.train_labels, images.test_labels]).bincount()
    assert counts.tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]


def test_another_seed_is_another_split_with_another_checksum():
    assert digits(seed=1).checksum != DIGITS_SHA256
    assert "seed 1" in digits(seed=1).source


def test_the_checksum_sees_a_single_bit_and_the_split():
    x = torch.rand(6, 2, generator=torch.Generator().manual_seed(0))

    def checksum(train, test):
        return Images("x", train, test, "here", (0.0, 1.0)).checksum

    y = x.clone()
    y[5, 1] = torch.nextafter(y[5, 1], torch.tensor(2.0))
    whole = checksum(x[:4], x[4:])
    assert whole == checksum(x[:4].clone(), x[4:].clone())
    assert len({whole, checksum(x[:3], x[3:]), checksum(y[:4], y[4:])}) == 3


def test_the_unit_interval_is_read_from_the_range():
    x = torch.zeros(2, 1)
    assert Images("x", x, x, "here", (0.2, 1.0)).in_unit_interval
    assert not Images("x", x, x, "here", (0.0, 1.01)).in_unit_interval


@given(st.integers(2, 300), st.floats(0.01, 0.99), st.integers(0, 2**31))
@settings(max_examples=60, deadline=None)
def test_a_split_is_a_partition_with_the_stated_share(n, fraction, seed):
    train, test = split(n, fraction, seed, "x")
    assert sorted(train.tolist() + test.tolist()) == list(range(n))
    assert min(len(train), len(test)) >= 1
    assert abs(len(test) - fraction * n) <= 1
    assert torch.equal(test, split(n, fraction, seed, "x")[1])


@pytest.mark.parametrize("fraction", [0.0, 1.0, -1.0, float("nan")])
def test_an_impossible_fraction_is_refused(fraction):
    with pytest.raises(InputError, match="test_fraction: expected a number between 0 and 1"):
        digits(test_fraction=fraction)


def test_one_datapoint_cannot_be_split():
    with pytest.raises(
        InputError, match=r"mine: expected at least 2 datapoints.*; got 1.*read_array"
    ):
        split(1, 0.5, 0, "mine")
