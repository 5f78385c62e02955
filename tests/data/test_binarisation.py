"""The draws have the grey values as their means; the evaluation draw is one and stays one."""

from __future__ import annotations

import pytest
import torch
from scipy import stats

from elboscope.core import InputError, seeded
from elboscope.data import Binarisation


@pytest.fixture
def grey() -> torch.Tensor:
    return torch.linspace(0, 1, 11).expand(4000, 11).contiguous()


@pytest.mark.parametrize("mode", ["dynamic", "fixed"])
def test_the_fixed_draw_is_bernoulli_of_the_grey_value(grey, mode):
    counts = Binarisation(mode, seed=3).fixed_draw(grey).sum(0)
    for p, count in zip(grey[0].tolist(), counts.tolist(), strict=True):
        assert stats.binomtest(int(count), len(grey), p).pvalue > 1e-4


def test_training_batches_are_fresh_draws_with_the_right_mean(grey):
    binarisation = Binarisation("dynamic")
    with seeded(0):
        first, second = binarisation.batch(grey), binarisation.batch(grey)
    differ = (first != second).double().mean(0)
    p = grey[0].double()
    expected = 2 * p * (1 - p)
    error = (expected * (1 - expected) / len(grey)).sqrt()
    assert ((differ - expected).abs() <= 4 * error).all()
    for p_k, count in zip(p.tolist(), first.sum(0).tolist(), strict=True):
        assert stats.binomtest(int(count), len(grey), p_k).pvalue > 1e-4


def test_the_evaluation_draw_depends_on_its_seed_alone(grey):
    draw = Binarisation("dynamic", seed=5).fixed_draw(grey)
    with seeded(99):
        torch.rand(17)
        again = Binarisation("fixed", seed=5).fixed_draw(grey)
    assert torch.equal(draw, again)
    assert not torch.equal(draw, Binarisation("dynamic", seed=6).fixed_draw(grey))
    assert torch.equal(draw[:100], Binarisation("dynamic", seed=5).fixed_draw(grey[:100]))


def test_float64_and_float32_greys_give_the_same_draw():
    x = torch.rand(500, 8, generator=torch.Generator().manual_seed(0))
    single, double = Binarisation().fixed_draw(x), Binarisation().fixed_draw(x.double())
    assert double.dtype == torch.float64
    assert torch.equal(single, double.float())


def test_the_training_stream_is_independent_of_the_evaluation_stream(grey):
    half = torch.full((20_000, 1), 0.5)
    binarisation = Binarisation("fixed", seed=2)
    agree = (binarisation.fixed_draw(half) == binarisation.fixed_draw(half, stream=1)).sum()
    assert stats.binomtest(int(agree), len(half), 0.5).pvalue > 1e-4


def test_drawing_leaves_the_random_state_alone(grey):
    before = torch.get_rng_state()
    Binarisation().fixed_draw(grey)
    assert torch.equal(before, torch.get_rng_state())


def test_threshold_and_none():
    x = torch.tensor([[0.0, 127 / 255, 0.5, 128 / 255, 1.0]])
    threshold = Binarisation("threshold")
    assert threshold.fixed_draw(x).tolist() == [[0, 0, 0, 1, 1]]
    assert threshold.is_binary
    assert not Binarisation("none").is_binary
    assert Binarisation("none").fixed_draw(x - 7).tolist() == (x - 7).tolist()
    for mode in ("fixed", "threshold", "none"):
        assert Binarisation(mode).batch(x) is x


def test_binary_data_pass_through_every_mode():
    x = torch.tensor([[0.0, 1.0, 1.0]])
    for mode in ("dynamic", "fixed", "threshold", "none"):
        assert torch.equal(Binarisation(mode).fixed_draw(x), x)
        assert torch.equal(Binarisation(mode).batch(x), x)


@pytest.mark.parametrize(
    ("mode", "text"),
    [
        ("dynamic", "dynamic binarisation (x ~ Bernoulli(grey), afresh in each training minibatch; "
         "evaluated on one draw, seed 4)"),
        ("fixed", "fixed binarisation (one draw x ~ Bernoulli(grey), seed 4)"),
        ("threshold", "threshold binarisation (x = 1 where grey > 0.5)"),
        ("none", "no binarisation (values as they are)"),
    ],
)  # fmt: skip
def test_the_text_says_what_was_done(mode, text):
    assert str(Binarisation(mode, seed=4)) == text


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("dynamc",), "fixed, threshold, none; got 'dynamc'. Did you mean 'dynamic'"),
        (("fixed", -1), "binarisation seed: expected a whole number ≥ 0; got -1"),
        (("threshold", 0, 1.0), r"expected a grey value in \[0, 1\); got 1.0"),
        (("threshold", 0, float("nan")), r"expected a grey value in \[0, 1\); got nan"),
    ],
)  # fmt: skip
def test_bad_settings_are_named(arguments, words):
    with pytest.raises(InputError, match=words):
        Binarisation(*arguments)


@pytest.mark.parametrize("bad", [-0.01, 1.5, float("nan")])
def test_values_outside_the_range_are_refused(bad):
    with pytest.raises(
        InputError, match=r"x: expected values in \[0, 1\]; got values in .*Rescale"
    ):
        Binarisation().fixed_draw(torch.tensor([[0.5, bad]]))
