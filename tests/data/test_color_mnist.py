"""Triples of digits: the stream, the channels, the modes, and that test digits stay test digits."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from elboscope.core import InputError
from elboscope.data import Images, color_digits, digits, load, stack_digits
from elboscope.data.color_mnist import triples

FIRST_TRAIN = [[39212, 42186, 39719], [10864, 32010, 34175], [39000, 8582, 5091]]
FIRST_TEST = [[5781, 4130, 7196], [2043, 8845, 3243]]


def test_each_channel_is_the_digit_that_its_label_says():
    grey, colour = digits(), color_digits(300, 50, seed=3)
    index = triples(len(grey.train), 300, 3, "train")
    for c in range(3):
        assert torch.equal(colour.train[:, c], grey.train[index[:, c], 0])
    parts = torch.stack([colour.train_labels // 100, colour.train_labels // 10 % 10,
                         colour.train_labels % 10], 1)  # fmt: skip
    assert torch.equal(parts, grey.train_labels[index])


def test_test_triples_are_of_test_digits_alone():
    grey, colour = digits(), color_digits(10, 40)
    known = {row.numpy().tobytes() for row in grey.test.flatten(1)}
    assert all(c.numpy().tobytes() in known for x in colour.test for c in x.flatten(1))


def test_the_stream_is_fixed_for_ever():
    """These numbers may never change: likelihoods of the set would no longer be comparable."""
    assert triples(60_000, 3, 0, "train").tolist() == FIRST_TRAIN
    assert triples(10_000, 2, 0, "test").tolist() == FIRST_TEST


@given(st.integers(1, 50), st.integers(1, 50), st.integers(0, 5))
@settings(max_examples=20, deadline=None)
def test_the_first_triples_do_not_depend_on_how_many_are_taken(a, b, seed):
    few = min(a, b)
    one, other = (triples(977, n, seed, "train")[:few] for n in (a, b))
    assert torch.equal(one, other)


def test_modes_are_equally_likely():
    """χ² of 1000 modes, 100 000 triples of ten equally frequent classes."""
    classes = triples(10, 100_000, 1, "train") @ torch.tensor([100, 10, 1])
    counts = np.bincount(classes.numpy(), minlength=1000)
    chi2 = ((counts - 100) ** 2 / 100).sum()
    assert abs(chi2 - 999) < 4 * np.sqrt(2 * 999)


def test_seeds_and_parts_differ():
    streams = [triples(1000, 50, seed, part) for seed in (0, 1) for part in ("train", "test")]
    assert all(not torch.equal(a, b) for i, a in enumerate(streams) for b in streams[:i])
    assert color_digits(20, 5).checksum != color_digits(20, 5, seed=1).checksum


def test_the_set_has_a_name():
    images = load("Color-Digits")
    assert (images.name, len(images.train), images.data_shape) == ("color_digits", 5000, (3, 8, 8))
    assert "three images as red, green and blue" in images.treatment


def test_mistakes_are_named():
    with pytest.raises(InputError, match="num_test: expected at least 1; got 0"):
        color_digits(5, 0)
    x = torch.rand(4, 1, 2, 2)
    plain = Images("mine", x, x, "a test", (0.0, 1.0))
    with pytest.raises(InputError, match=r"mine: expected grey images .* with labels; .*no lab"):
        stack_digits(plain, "mine in colour", 2, 2, 0)


@pytest.mark.full_data
def test_color_mnist_of_the_full_set(full_data):
    images = load("color_mnist", full_data, download=False)
    assert tuple(images.train.shape) == (50_000, 3, 28, 28)
    assert len(images.train_labels.unique()) == 1000
    assert images.train.mean().item() == pytest.approx(0.1306605, abs=5e-4)
