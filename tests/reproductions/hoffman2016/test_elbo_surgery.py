"""ELBO surgery: closed forms, verdicts by hand, a small run and its slices."""

import math
import shutil

import pytest
import torch

from elboscope.models import LinearGaussian
from elboscope.reproductions.frame.experiment import reproduce
from elboscope.reproductions.frame.sitting import Options, Unfinished
from elboscope.reproductions.hoffman2016 import elbo_surgery
from elboscope.reproductions.hoffman2016.elbo_surgery import (
    SMOKE,
    claims_of,
    claims_of_many,
    claims_of_priors,
)
from elboscope.reproductions.hoffman2016.values import (
    final_parts,
    fitted_parts,
    parts_now,
    plot_surgeries,
)

# avgKL, I, marginal KL, of each dimension, total correlation
CLOSED = {
    "instance_1": (1.2081124988, 1.1997738957, 0.0083386030, 0.0008844612, 0.0074541419),
    "instance_2": (1.1869440030, 1.0739419403, 0.1130020627, 0.0273097207, 0.0856923421),
}
NAMES = ("kl", "information", "marginal_kl", "dimensionwise_kl", "total_correlation")


@pytest.mark.parametrize("instance", CLOSED)
def test_parts_of_a_linear_gaussian_are_its_closed_forms(instance):
    model = getattr(LinearGaussian, instance)()
    x, _ = model.sample(4000, seed=0)
    test, _ = model.sample(1000, seed=1)
    parts = final_parts(model, x, test, seed=0)
    for name, truth in zip(NAMES, CLOSED[instance], strict=True):
        value, error = parts[name].tolist()
        assert abs(value - truth) < 4 * error, name
        assert error < 0.05, name
    held_out = parts["held_out"].tolist()
    assert held_out[0] < CLOSED[instance][2] + 3 * held_out[1]
    bound = model.elbo(test).detach()
    error = (parts["test"] - bound).std() / len(test) ** 0.5
    assert abs(parts["test"].mean() - bound.mean()) < 4 * error
    apart = parts["marginal_kl_plain"] - parts["marginal_kl"]
    either = math.hypot(parts["marginal_kl_plain"][1], parts["marginal_kl"][1])
    assert abs(apart[0]) < 4 * either


def test_parts_add_up_at_any_time():
    model = LinearGaussian.instance_2()
    x, _ = model.sample(1000, seed=0)
    for parts in (parts_now(model, x, seed=0), final_parts(model, x, x[:100], seed=0)):
        whole = parts["information"][0] + parts["marginal_kl"][0]
        assert whole == pytest.approx(parts["kl"][0].item(), abs=1e-9)
    inside, between = parts["dimensionwise_kl"], parts["total_correlation"]
    apart = inside[0] + between[0] - parts["marginal_kl"][0]
    assert abs(apart) < 4 * math.hypot(inside[1], between[1], parts["marginal_kl"][1])
    reconstruction = parts["reconstruction"]
    exact = model.reconstruction(x).detach()
    assert abs(reconstruction[0] - exact.mean()) < 0.1 * exact.std()


@pytest.mark.slow
def test_a_fitted_prior_gains_the_marginal_kl_and_leaves_nothing():
    """q(z) of a linear-Gaussian is a Gaussian: the optimum is among both families."""
    model = LinearGaussian.instance_2()
    x, _ = model.sample(6000, seed=0)
    test, _ = model.sample(4000, seed=1)
    parts = fitted_parts(model, x, test, max_steps=200, seed=0)
    truth = CLOSED["instance_2"][2]
    for family, slack in (("gmm", 0.003), ("flow", 0.02)):
        gain, left = parts[f"gain.{family}"].tolist(), parts[f"left.{family}"].tolist()
        assert abs(gain[0] - truth) < 4 * gain[1] + slack, family
        assert gain[0] < truth + 3 * gain[1], family
        assert -4 * left[1] < left[0] < 4 * left[1] + slack, family


def pair(value, error=0.01):
    return torch.tensor([value, error], dtype=torch.float64)


def built(*, information=10.8, marginal=5.0, held_out=1.0, gmm=1.5, flow=1.2, test=-100.0):
    noise = 0.1 * torch.linspace(-1, 1, 50, dtype=torch.float64)
    return {
        "information": pair(information),
        "marginal_kl": pair(marginal),
        "kl": pair(information + marginal),
        "held_out": pair(held_out),
        "gain.gmm": pair(gmm),
        "gain.flow": pair(flow),
        "test": test + noise,
    }


LOG_N = math.log(60_000)


def judge(parts):
    claims = (*claims_of_many("a model", parts, LOG_N), *claims_of("a model", parts))
    return [claim.verdict for claim in claims]


@pytest.mark.parametrize(
    ("change", "wrong"),
    [
        ({}, ()),
        ({"information": 6.0}, (0,)),
        ({"marginal": 0.8, "gmm": 0.5, "flow": 0.5, "held_out": 0.5}, (1,)),
        ({"held_out": -1.0}, (2,)),
        ({"gmm": -1.0}, (3,)),
        ({"gmm": 6.0}, (4,)),
        ({"flow": -1.0}, (5,)),
        ({"flow": 6.0}, (6,)),
    ],
)
def test_each_claim_is_about_its_own_part(change, wrong):
    verdicts = judge(built(**change))
    assert verdicts == ["contradicted" if i in wrong else "reproduced" for i in range(7)]


def test_claims_within_their_errors_are_undecided():
    parts = built(information=LOG_N - 0.5) | {"held_out": pair(0.01), "gain.gmm": pair(5.01)}
    verdicts = judge(parts)
    assert [i for i, v in enumerate(verdicts) if v == "undecided"] == [0, 2, 4]


def test_other_priors_are_compared_with_the_standard_normal_on_the_same_images():
    found = {
        "d = 3": built(),
        "better": built(marginal=4.0, test=-99.99),
        "worse": built(marginal=6),
    }
    claims = {c.text: c for c in claims_of_priors(found, "d = 3")}
    assert len(claims) == 4
    verdicts = [claim.verdict for claim in claims.values()]
    assert verdicts == ["reproduced", "reproduced", "contradicted", "undecided"]
    assert "50 test images" in next(c.evidence for t, c in claims.items() if "test bound" in t)


def test_the_bars_end_at_the_average_kl_and_split_only_where_there_is_a_split():
    whole = {"information": pair(3.0), "marginal_kl": pair(2.0), "kl": pair(5.0)}
    split = whole | {"dimensionwise_kl": pair(0.5), "total_correlation": pair(1.5)}
    bars, curves = plot_surgeries({"a": {1: whole, 2: split}, "b": {1: whole, 2: whole}}, 4.0).axes
    tops = {}
    for bar in bars.patches:
        x = round(bar.get_x() + bar.get_width() / 2)
        tops.setdefault(x, []).append(bar.get_y() + bar.get_height())
    assert {x: (len(tops[x]), max(tops[x])) for x in tops} == {0: (3, 5.0), 1: (2, 5.0)}
    assert [t.get_text() for t in bars.get_xticklabels()] == ["a", "b"]
    assert len(curves.containers) == 4


@pytest.fixture(scope="module")
def smoke(smoke_run):
    return smoke_run("elbo-surgery")


def test_a_small_run_is_complete_and_decides_nothing(smoke):
    outcome, _ = smoke
    plan = SMOKE
    assert {claim.verdict for claim in outcome.claims} == {"undecided"}
    rows = {(row.label, row.quantity): row.value for row in outcome.rows}
    for setting in plan.settings:
        for epoch in plan.epochs:
            place = f"{setting.name}, epoch {epoch}"
            kl, information, marginal = (
                rows[place, q]
                for q in ("average KL", "information I(n; z)", "marginal KL(q_N ‖ p)")
            )
            assert information <= math.log(plan.num_train)
            assert kl == pytest.approx(information + marginal, abs=1e-6), place
        gained = (place, "gain of a fitted flow") in rows
        assert gained == (setting.prior is None)
    assert len(outcome.figures["surgery"].axes) == 2


@pytest.mark.slow
def test_slices_give_the_numbers_of_one_sitting(smoke, tmp_path):
    """The last model is made again in slices."""
    outcome, finished = smoke
    out, pauses, again = tmp_path / "run", [], None
    shutil.copytree(finished, out)
    for part in (out / "state").glob("d-3-VampPrior*"):
        shutil.rmtree(part) if part.is_dir() else part.unlink()
    while again is None:
        try:
            options = Options(resume=True, slice_seconds=0.05)
            again = reproduce(elbo_surgery.EXPERIMENT, "smoke", out=out, options=options)
        except Unfinished as pause:
            pauses.append(str(pause))
        assert len(pauses) < 100
    assert pauses
    assert [row.value for row in again.rows] == [row.value for row in outcome.rows]
