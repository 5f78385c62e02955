"""Synthetic density ratios: looks against the truth, verdicts on rows made by hand, slices."""

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from elboscope.core import seeded
from elboscope.models.exact.gaussian_pair import (
    FactorGaussian,
    gaussian_kl,
    optimal_logit,
    random_gaussian,
)
from elboscope.reproductions.frame import course as density_ratio_runs
from elboscope.reproductions.frame.course import Course, run_course
from elboscope.reproductions.frame.experiment import reproduce
from elboscope.reproductions.frame.sitting import Options, Unfinished, sitting
from elboscope.reproductions.rosca2018 import density_ratio as density_ratio_synthetic
from elboscope.reproductions.rosca2018.density_ratio import (
    curve,
    learning_notes,
    plot_errors,
    plot_learning,
    ratio_claims,
)
from elboscope.reproductions.rosca2018.density_ratio_runs import (
    SMOKE,
    Plan,
    Size,
    divergences,
    gaussian_pair,
    learning,
    look_at,
)

NAME = "density-ratio-synthetic"
CPU = torch.device("cpu")
TINY = Plan(
    sizes=(Size(dim=1, hidden=(4,), measured=(3, 6), learning_steps=6, num_held_out=100),),
    num_seeds=1,
    rate=1e-3,
    every=3,
    batch_size=8,
)


@pytest.mark.parametrize("regime", ["natural", "KL 1", "KL 10"])
def test_the_optimal_logit_has_no_error_beyond_that_of_its_draws(regime):
    pair = gaussian_pair(3, regime, 0)
    with seeded(0):
        found = look_at(pair, lambda x: optimal_logit(x.double(), *pair), 20_000)
    assert found["kl"] == pytest.approx(gaussian_kl(*pair).item())
    assert abs(found["estimate"] - found["kl"]) < 3.5 * found["optimal_stderr"]
    assert found["error"] == 0
    assert found["stderr"] == pytest.approx(found["optimal_stderr"], rel=0.05)
    assert found["nwj"] < found["kl"]
    assert found["dv"] < found["kl"]


def test_a_critic_off_by_a_constant_is_off_by_that():
    pair = gaussian_pair(3, "KL 10", 0)
    with seeded(0):
        found = look_at(pair, lambda x: optimal_logit(x.double(), *pair) - 2, 1000)
    assert found["error"] == pytest.approx(-2, abs=1e-9)
    assert found["error_stderr"] < 1e-9


def test_regimes_share_the_target_and_the_natural_pair_is_what_is_learned():
    natural, ten = (gaussian_pair(3, regime, 4) for regime in ("natural", "KL 10"))
    assert torch.equal(natural.p.loc, ten.p.loc)
    assert ten.kl.item() == pytest.approx(10, abs=1e-10)
    assert not torch.equal(natural.p.loc, gaussian_pair(3, "natural", 5).p.loc)


def test_learning_begins_at_the_pair_that_is_estimated(tmp_path):
    size = Size(dim=3, hidden=(4,), measured=(1,), learning_steps=2, num_held_out=100)
    plan = replace(TINY, every=2)
    with sitting(tmp_path / "run", {}, Options(), None) as now:
        rows = learning(size, "natural", plan, 1, now, CPU)
        equal = learning(size, "equal means", plan, 1, now, CPU)
    pair = gaussian_pair(3, "natural", 1)
    assert [row["step"] for row in rows] == [0, 2]
    assert rows[0]["forward"] == pytest.approx(pair.kl.item(), rel=1e-5)
    assert rows[0]["reverse"] == pytest.approx(gaussian_kl(pair.q, pair.p).item(), rel=1e-5)
    log_det = 2 * pair.q.scale_tril.diagonal().log().sum().item()
    assert rows[0]["log_det"] == equal[0]["log_det"] == pytest.approx(log_det, abs=1e-5)
    assert equal[0]["reverse_of_means"] == pytest.approx(0, abs=1e-10)
    of_covariances = rows[0]["reverse"] - rows[0]["reverse_of_means"]
    assert equal[0]["reverse"] == pytest.approx(of_covariances, abs=1e-5)


def test_means_and_covariances_share_the_divergence():
    p, q = random_gaussian(4, seed=0), FactorGaussian.random(4, seed=1)
    found = divergences(q, p)
    with torch.no_grad():
        q.b.copy_(p.loc)
    assert divergences(q, p)["reverse_of_means"] == pytest.approx(0, abs=1e-12)
    of_covariances = divergences(q, p)["reverse"]
    assert found["reverse"] == pytest.approx(found["reverse_of_means"] + of_covariances, abs=1e-6)


def test_a_singular_generator_has_an_infinite_divergence():
    q = FactorGaussian(torch.tensor([[1.0, 2.0], [2.0, 4.0]]), torch.zeros(2))
    found = divergences(q, random_gaussian(2, seed=0))
    assert found["reverse"] == found["forward"] == math.inf


def estimated(errors, kl=10.0):
    return [[{"step": 5, "error": e, "kl": kl, "dv": kl + e - 1}] for e in errors]


def learned(changes, start=5.0):
    return [
        [{"step": step, "reverse": start + at, "estimate": 1.0} for step, at in ((0, 0.0), (9, c))]
        for c in changes
    ]


def verdicts(claims):
    return [claim.verdict for claim in claims]


def test_estimates_below_the_truth_reproduce_and_those_above_contradict():
    found = {
        (1, "natural"): estimated([-1.0, -1.1, -0.9]),
        (1, "KL 1"): estimated([1.0, 1.1, 0.9]),
        (1, "KL 10"): estimated([-1.0, 1.0, 0.1]),
        (10, "natural"): estimated([-1.0]),
    }
    assert verdicts(ratio_claims(found, {})) == [
        "reproduced",
        "contradicted",
        "undecided",
        "undecided",
    ]


def test_low_dimensions_must_be_learned_and_high_ones_must_not():
    fall, rise, mixed = [-1.0, -1.1, -0.9], [1.0, 1.1, 0.9], [1.0, -1.0, 0.2]
    found = {
        (1, "natural"): learned(fall),
        (10, "natural"): learned(rise),
        (100, "equal means"): learned(rise),
        (1000, "natural"): learned(fall),
    }
    assert verdicts(ratio_claims({}, found)) == [
        "reproduced",
        "contradicted",
        "reproduced",
        "contradicted",
    ]
    (claim,) = ratio_claims({}, {(1, "natural"): learned([-4.0, -4.0])})
    assert claim.value == pytest.approx(math.log(0.2))
    found = {(n, "natural"): learned(mixed) for n in (1, 100)}
    assert verdicts(ratio_claims({}, found)) == ["undecided"] * 2


def test_notes_tell_the_parts_of_the_divergence_apart():
    ends = [{"reverse": 9.0, "reverse_of_means": 8.0}, {"reverse": 3.0, "reverse_of_means": 0.5}]
    rows = [{"step": step, "estimate": 0.25, **end} for step, end in enumerate(ends)]
    (note,) = learning_notes({(100, "natural"): [rows, rows]})
    assert (
        "the means' part of KL(q‖p) went from 8 to 0.5 nats, the covariances' from 1 to 2.5" in note
    )
    assert "estimates the whole at 0.25 at the end" in note


def test_curves_end_where_the_first_run_ends():
    runs = [[{"step": s, "v": v} for s, v in rows] for rows in (((1, 1.0), (2, 5.0)), ((1, 3.0),))]
    found = curve(runs, lambda row: row["v"])
    assert found.step.tolist() == [1]
    assert found.mean.tolist() == [2]
    assert found.sd.tolist() == [pytest.approx(math.sqrt(2))]


def test_figures_show_errors_as_shares_of_the_truth_and_the_learned_divergence():
    lines = plot_errors({10: estimated([-4.0, -6.0])}).axes[0].get_lines()
    assert [list(line.get_ydata()) for line in lines[:2]] == [[-0.5], [-0.6]]
    lines = plot_learning({10: learned([-1.0, -3.0])}).axes[0].get_lines()
    assert list(lines[0].get_ydata()) == pytest.approx([5.0, math.sqrt(4.0 * 2.0)])
    assert list(lines[1].get_ydata()) == [1.0, 1.0]


def test_a_run_whose_weights_are_no_numbers_ends_there(tmp_path):
    module = torch.nn.Linear(1, 1)
    taken = []

    def step():
        taken.append(1)
        if len(taken) == 3:
            torch.nn.init.constant_(module.weight, math.nan)

    optimizer = torch.optim.SGD(module.parameters(), 0.1)
    looks = range(0, 9, 2)
    course = Course("a run", module, optimizer, step, lambda step: {"v": 1.0}, looks, 0, {})
    with sitting(tmp_path / "run", {}, Options(), None) as now:
        assert [row["step"] for row in run_course(course, now)] == [0, 2]
        assert len(taken) == 4
        assert [row["step"] for row in run_course(course, now)] == [0, 2]
    assert len(taken) == 4


def walk(taken):
    """A course whose looks depend on weights, moments and noise; ``taken`` may stop it."""
    with seeded(0):
        module = torch.nn.Linear(2, 1)
    optimizer = torch.optim.Adam(module.parameters(), 0.1)

    def step():
        taken.append(1)
        if len(taken) == 5:
            raise OSError("killed")
        optimizer.zero_grad()
        module(torch.randn(3, 2)).square().mean().backward()
        optimizer.step()

    def look(step):
        return {"v": module.weight.detach().sum().item()}

    return Course("a run", module, optimizer, step, look, range(0, 9, 2), 3, {})


def test_a_run_killed_between_looks_goes_on_from_what_was_saved(monkeypatch, tmp_path):
    monkeypatch.setattr(density_ratio_runs, "SAVE_SECONDS", -1.0)
    with sitting(tmp_path / "whole", {}, Options(), None) as now:
        whole = run_course(walk([1] * 9), now)
    with sitting(tmp_path / "run", {}, Options(), None) as now:
        with pytest.raises(OSError, match="killed"):
            run_course(walk([]), now)
        taken = [1] * 9
        assert run_course(walk(taken), now) == whole
        assert len(taken) == 9 + 8 - 4


@pytest.fixture(scope="module")
def outcome(smoke):
    return smoke("density-ratio-synthetic")


@pytest.mark.slow
def test_a_smoke_run_shows_truth_estimate_and_bounds_and_decides_nothing(outcome, tmp_path):
    rows = {(row.label, row.quantity): row for row in outcome.rows}
    for size in SMOKE.sizes:
        assert rows[f"estimation, n = {size.dim}, KL 10", "true KL(p‖q)"].per_seed == pytest.approx(
            (10, 10), abs=1e-10
        )
        start, end = (
            rows[f"learning, n = {size.dim}, natural", f"of which the means, {at}"]
            for at in ("start", "end")
        )
        assert end.value < start.value
        for regime in ("natural", "KL 1", "KL 10"):
            label = f"estimation, n = {size.dim}, {regime}"
            truth, off = (rows[label, q] for q in ("true KL(p‖q)", "estimate − true KL"))
            check, estimate = (rows[label, q] for q in ("mean of t* − true KL", "estimate E_p[T]"))
            assert estimate.value == pytest.approx(truth.value + off.value + check.value)
            assert rows[label, "Donsker–Varadhan bound"].value < truth.value
    assert {claim.verdict for claim in outcome.claims} == {"undecided"}
    assert set(outcome.figures) == {
        "learning-natural",
        "learning-equal-means",
        "estimation-natural",
        "estimation-kl-1",
        "estimation-kl-10",
    }
    record = json.loads(Path(outcome.save(tmp_path)).read_text())
    assert record["provenance"]["settings"]["num_seeds"] == 2


@pytest.mark.slow
@pytest.mark.usefixtures("ticking")
def test_slices_give_the_numbers_of_one_sitting(monkeypatch, tmp_path):
    monkeypatch.setitem(density_ratio_synthetic.EXPERIMENT.plans, "smoke", TINY)
    whole = reproduce(density_ratio_synthetic.EXPERIMENT, "smoke", out=tmp_path / "whole")
    pauses, again = [], None
    while again is None:
        options = Options(resume=True, slice_seconds=9.0)
        try:
            again = reproduce(
                density_ratio_synthetic.EXPERIMENT, "smoke", out=tmp_path / "run", options=options
            )
        except Unfinished as pause:
            pauses.append(str(pause))
        assert len(pauses) < 90
    assert any("learning" in text for text in pauses)
    assert any("estimation" in text for text in pauses)
    assert [row.per_seed for row in again.rows] == [row.per_seed for row in whole.rows]
    assert not list((tmp_path / "run/state").glob("*.safetensors"))
