"""Collapsed, pruned, mis-scaled KL, one half ignoring the other: each is told from the others.

The models are trained on embedded digits by the mistake that their name says.
"""

import math
from dataclasses import replace
from functools import cache

import pytest
import torch
import zoo
from handmade import estimate, evidence, scale, units

from elboscope.diagnostics import gather_evidence, posterior_collapse, unit_table
from elboscope.diagnostics.checks.posterior_collapse import Cause, cause_of, treatment
from elboscope.models import LinearGaussian

BUDGET = replace(zoo.BUDGET, num_samples=50, num_temperatures=0, num_optimised=0)


def dead_encoder():
    """All hidden units of the encoder off for good: it can say one thing only, the prior."""
    model = zoo.vae()
    with torch.no_grad():
        model.encoder[0].bias.fill_(-100.0)
    return zoo.fitted(model, zoo.grey()[0], epochs=30, dynamic=True)[0]


def deaf_decoder():
    """The encoder of one run beside the decoder of another, which had learnt to do without z."""
    model, _ = zoo.fitted(zoo.vae(), zoo.grey()[0], epochs=30, dynamic=True)
    model.decoder = dead_encoder().decoder
    return model


def frozen_out_encoder():
    """A decoder that was trained well, and an encoder reset to the prior."""
    model, _ = zoo.fitted(zoo.vae(), zoo.grey()[0], epochs=30, dynamic=True)
    with torch.no_grad():
        for p in model.encoder[-1].parameters():
            p.zero_()
    return model


def pruned():
    """Loadings for three units of eight: exactly the others are the prior."""
    base = zoo.mnist_like(d=3)
    W = torch.cat([base.W.detach(), torch.zeros(30, 5, dtype=torch.float64)], 1)
    return LinearGaussian(W, base.b.detach(), 0.1)


def linear_beta_vae():
    """The exact encoder at β = 4, that of four times the noise: one unit of eight is left."""
    model = LinearGaussian.perfect(8, 30, sigma2=0.1, seed=3)
    sizes = torch.tensor([1.0] + [0.02] * 7, dtype=torch.float64)
    W = model.W.detach() * sizes
    optimum = LinearGaussian(W, model.b.detach(), 0.4)
    return LinearGaussian(W, model.b.detach(), 0.1).with_encoder(optimum.encoder)


def trained(loss=zoo.elbo, epochs=30, d=6):
    return lambda: zoo.fitted(zoo.vae(d=d), zoo.grey()[0], loss, epochs=epochs, dynamic=True)[0]


BUILT = {
    "dead encoder": (dead_encoder, "collapsed"),
    "β = 20": (trained(zoo.beta(20.0), 60), "mis-scaled KL"),
    "linear, β = 4": (linear_beta_vae, "mis-scaled KL"),
    "deaf decoder": (deaf_decoder, "decoder ignores z"),
    "encoder reset": (frozen_out_encoder, "encoder ignores x"),
    "three units of eight": (pruned, "pruned"),
    "six units": (trained(), "none"),
}


@cache
def built(name):
    model = BUILT[name][0]()
    if isinstance(model, LinearGaussian):
        x, x_train = model.sample(160, seed=0)[0], None
    else:
        x, x_train = zoo.binary()[1], zoo.binary()[0]
    history = ({"epoch": 60.0, "weight": 20.0},) if name == "β = 20" else ()
    return gather_evidence(model, x, x_train=x_train, history=history, budget=BUDGET, seed=1)


# The other kinds are trained in the second tier.
FIRST_TIER = ("linear, β = 4",)


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=() if n in FIRST_TIER else pytest.mark.slow) for n in BUILT],
)
def test_the_cause_of_a_built_model_is_told(name):
    finding = posterior_collapse(built(name))
    cause = BUILT[name][1]
    assert finding.evidence["cause"] == cause, finding
    sick = cause not in ("pruned", "none")
    assert (finding.severity in ("warning", "problem")) is sick
    assert ("Cause: " + cause in finding.summary) is sick
    assert ("are pruned, which is no fault" in finding.summary) is (cause == "pruned")
    assert bool(finding.action) is sick


def test_a_gaussian_that_declares_too_much_variance_is_a_mis_scaled_kl():
    empty = dict.fromkeys(("active_units", "unit_kl", "zeroing"), units([0.0] * 4))
    wide = posterior_collapse(evidence(scale=scale(0.05), **empty))
    assert "declares a variance 20 times its squared error" in wide.summary
    assert "--model.scale learned" in wide.action
    right = posterior_collapse(evidence(scale=scale(1.0), **empty))
    assert right.evidence["cause"] == "collapsed"


def test_widths_decide_by_two_errors():
    empty = dict.fromkeys(("active_units", "unit_kl", "zeroing"), units([0.0] * 4))
    for error, cause in ((2.0, "mis-scaled KL"), (12.0, "collapsed")):
        found = posterior_collapse(evidence(implied_kl_weight=estimate(20.0, error), **empty))
        assert found.evidence["cause"] == cause
        assert found.evidence["implied_kl_weight"] == pytest.approx(20.0)


def test_a_kl_weight_of_another_unit_is_not_taken_for_beta():
    empty = dict.fromkeys(("active_units", "unit_kl", "zeroing"), units([0.0] * 4))
    rows = ({"weight": 4.0},)
    plain = evidence(history=rows, **empty)
    assert posterior_collapse(plain).evidence["cause"] == "mis-scaled KL"
    mean = plain.replace(settings={**plain.settings, "kl_weight": 4.0, "reduction": "sum"})
    assert posterior_collapse(mean).evidence["cause"] == "collapsed"


@pytest.mark.parametrize(
    ("kl", "variance", "effect", "state"),
    [
        (1.0, 0.9, 2.0, "used"),
        (1.0, 0.9, 0.0, "ignored"),
        (1.0, 0.9, -0.5, "ignored"),
        (0.0, 0.0, 0.0, "pruned"),
        (0.5, 0.0, 0.0, "constant"),
        (0.0, 0.0, -0.5, "unread"),
    ],
)
def test_the_state_of_a_unit(kl, variance, effect, state):
    some = evidence(unit_kl=units([kl]), active_units=units([variance]), zeroing=units([effect]))
    (row,) = unit_table(some)
    assert (row.state, row.kl, row.effect) == (state, kl, effect)
    assert math.isnan(row.information)


@pytest.mark.slow
def test_units_are_sorted_by_cost_and_carry_their_information():
    rows = unit_table(built("three units of eight"))
    assert [row.state for row in rows] == ["used"] * 3 + ["pruned"] * 5
    assert sorted(row.unit for row in rows[:3]) == [0, 1, 2]
    for row in rows[:3]:
        assert 0 < row.information <= row.kl + 0.1
    assert rows[4].information == pytest.approx(0.0, abs=1e-9)


def test_free_bits_lagging_and_committed_rate_are_named_where_training_missed_the_optimum():
    action = treatment(Cause("collapsed"))
    for option in ("FreeBits", "aggressive_epochs", "CommittedGaussian", "warm_up_epochs"):
        assert option in action
    assert "FreeBits" not in treatment(Cause("mis-scaled KL"))


def test_what_is_undecided_gets_no_cause():
    few = evidence(active_units=units([0.9] * 4 + [0.0101] + [1e-4] * 15))
    assert posterior_collapse(few).evidence["cause"] == "undecided"
    assert cause_of(few, {"pruned": 1}, starved=False, ignored=False).kind == "pruned"
