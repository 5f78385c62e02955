"""Grids, draws, and what the journal remembers of them."""

import math

import numpy as np
import pytest
from scipy import stats

from elboscope.core import InputError
from elboscope.sweeps.space import Choices, Range, SweepPlan, Trial, grid
from elboscope.sweeps.study import JOURNAL, open_study

RATE = Range("rate", 1e-4, 1e-1, log=True)
SPACE = {"rate": RATE, "units": Range("units", 3, 9), "hidden": Choices("hidden", ((8,), (8, 8)))}


def drawn(folder, plan, num):
    with open_study(folder, plan) as study:
        return [study.ask() for _ in range(num)]


def test_a_grid_is_every_combination_once():
    space = {"a": Choices("a", (1, 2, 3)), "b": Range("b", 0.0, 1.0, num_points=5)}
    points = grid(space)
    assert len(points) == len({tuple(p.values()) for p in points}) == 15
    assert [p["b"] for p in points[:5]] == [0.0, 0.25, 0.5, 0.75, 1.0]
    logs = np.log([float(v) for v in Range("c", 1e-5, 1e-1, True, 9).points()])
    assert np.diff(logs) == pytest.approx([math.log(10) / 2] * 8)
    assert Range("d", 1, 3, num_points=9).points() == (1, 2, 3)  # whole numbers, none twice


def test_random_draws_have_the_distribution_that_was_asked_for():
    plan = SweepPlan(SPACE, sampler="random", trials=300, seed=1)
    trials = drawn(None, plan, 300)
    rates = np.log10([t.parameters["rate"] for t in trials])
    assert stats.kstest((rates + 4) / 3, "uniform").pvalue > 1e-3
    units = [t.parameters["units"] for t in trials]
    assert set(units) == set(range(3, 10))
    assert stats.chisquare([units.count(k) for k in range(3, 10)]).pvalue > 1e-3
    hidden = [t.parameters["hidden"] for t in trials]
    assert stats.binomtest(hidden.count((8,)), 300).pvalue > 1e-3


@pytest.mark.parametrize("sampler", ["random", "tpe"])
def test_reopened_the_study_goes_on_as_if_it_had_not_been_closed(tmp_path, sampler):
    plan = SweepPlan(SPACE, sampler=sampler, trials=14)

    def take(study, num):
        for _ in range(num):
            study.tell(trial := study.ask(), -float(trial.parameters["rate"]))

    for name, parts in (("whole", (14,)), ("parts", (5, 6, 3))):
        (tmp_path / name).mkdir()
        for part in parts:
            with open_study(tmp_path / name, plan) as study:
                take(study, part)
    with open_study(tmp_path / "whole", plan) as a, open_study(tmp_path / "parts", plan) as b:
        assert a.begun() == b.begun()
        assert len(b.begun()) == 14
        assert b.ask() is None


def test_the_parzen_estimator_learns(tmp_path):
    """Its later draws are nearer to the optimum at rate 1e-3 than random ones."""

    def distances(sampler):
        plan = SweepPlan({"rate": RATE}, sampler=sampler, trials=40)
        with open_study(None, plan) as study:
            for _ in range(40):
                trial = study.ask()
                study.tell(trial, -((math.log10(float(trial.parameters["rate"])) + 3) ** 2))
            late = study.begun()[20:]
        return [abs(math.log10(float(t.parameters["rate"])) + 3) for t in late]

    found = stats.mannwhitneyu(distances("tpe"), distances("random"), alternative="less")
    assert found.pvalue < 0.01


def test_a_line_that_was_being_written_is_cut_off(tmp_path):
    plan = SweepPlan({"a": Choices("a", (1, 2, 3))})
    before = drawn(tmp_path, plan, 2)
    journal = tmp_path / JOURNAL
    whole = journal.read_bytes()
    journal.write_bytes(whole + b'{"op_code": 4, "tri')
    with open_study(tmp_path, plan) as study:
        assert study.begun() == before
        assert study.ask() == Trial(2, {"a": 3})
    journal.write_bytes(b"no json\n" + whole)
    with pytest.raises(InputError, match=r"journal.log: expected the journal of a sweep"):
        drawn(tmp_path, plan, 1)


def test_a_grid_that_was_half_asked_for_is_completed(tmp_path):
    plan = SweepPlan({"a": Choices("a", (1, 2)), "b": Choices("b", ("x", "y"))})
    first = drawn(tmp_path, plan, 1)
    lines = (tmp_path / JOURNAL).read_bytes().splitlines(keepends=True)
    (tmp_path / JOURNAL).write_bytes(b"".join(lines[:3]))  # killed while it was written down
    again = drawn(tmp_path, plan, 5)
    assert again[0] == first[0]
    assert [t.parameters for t in again[:4]] == grid(plan.parameters)
    assert again[4] is None
