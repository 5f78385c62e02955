"""Spread, noise and effects beside their closed forms; the files beside the results."""

import csv
import json
import math
from pathlib import Path

import numpy as np
import pytest

from elboscope.sweeps.result import (
    RunResult,
    SweepResult,
    TrialResult,
    effects,
    lead,
    save,
    spread,
    to_json,
)
from elboscope.sweeps.space import Choices, Range, Run, SweepPlan, Trial, grid
from elboscope.sweeps.study import RunState

SEEDS = (0, 1, 2)
SPACE = {"a": Choices("a", (0, 10)), "b": Choices("b", (0, 1, 2))}


def made(plan, value, folder=Path("s")):
    """A result whose runs have value(parameters, seed); None: diverged."""

    def run(one):
        found = value(one.trial.parameters, one.seed)
        state = RunState("finished", "finished") if found is not None else RunState("diverged", "d")
        return RunResult(one, state, found, 1.0, 2.0)

    trials = [Trial(n, p) for n, p in enumerate(grid(plan.parameters))]
    results = [TrialResult(t, tuple(map(run, plan.runs(t, folder)))) for t in trials]
    return SweepResult(plan, tuple(results), folder)


def additive(p, seed):
    return p["a"] + 0.5 * p["b"] + (seed - 1) * 0.2


def test_an_additive_grid_has_its_main_effects_and_its_noise():
    result = made(SweepPlan(SPACE, SEEDS), additive)
    found = spread(result)
    means = [a + 0.5 * b for a in (0, 10) for b in (0, 1, 2)]
    assert found.sd == pytest.approx(np.std(means, ddof=1))
    assert (found.low, found.middle, found.high) == pytest.approx((0, 5.5, 11))
    assert found.noise == pytest.approx(0.2)
    assert [(e.name, e.range) for e in effects(result)] == [
        ("a", pytest.approx(10)),
        ("b", pytest.approx(1)),
    ]
    assert [g[2] for g in effects(result)[0].groups] == [3, 3]
    assert result.best.trial.parameters == {"a": 10, "b": 2}
    least = made(SweepPlan(SPACE, SEEDS, direction="minimise"), additive)
    assert least.best.trial.parameters == {"a": 0, "b": 0}


def test_the_lead_is_paired_over_seeds():
    """Seeds differ by 5, trials by 0.1 ± 0.01: only paired is that seen."""
    jitter = {(0, 0): 0.01, (10, 1): -0.01}
    value = lambda p, seed: 5.0 * seed + 0.01 * p["a"] + jitter.get((p["a"], seed), 0.0)  # noqa: E731
    found = lead(made(SweepPlan({"a": SPACE["a"]}, SEEDS), value))
    differences = [0.09, 0.09, 0.1]
    assert found.mean == pytest.approx(np.mean(differences))
    assert found.stderr == pytest.approx(np.std(differences, ddof=1) / math.sqrt(3))
    assert found.half_width == pytest.approx(4.30265 * found.stderr, rel=1e-5)
    assert found.decided
    noisy = made(SweepPlan({"a": SPACE["a"]}, SEEDS), lambda p, s: 0.1 * p["a"] + (p["a"] + 1) * s)
    assert not lead(noisy).decided
    assert math.isnan(lead(made(SweepPlan({"a": SPACE["a"]}), additive_of_a)).stderr)


def additive_of_a(p, seed):
    return float(p["a"])


def test_a_trial_of_which_one_seed_diverged_is_no_best():
    def value(p, seed):
        return None if p["a"] == 10 and seed == 1 else additive_of_a(p, seed)

    result = made(SweepPlan({"a": SPACE["a"]}, SEEDS), value)
    assert result.best.trial.parameters == {"a": 0}
    assert result.ranked[1].values == {0: 10.0, 2: 10.0}
    assert spread(result).num_trials == 1
    assert lead(result) is None
    assert effects(result) == []
    assert made(SweepPlan({"a": SPACE["a"]}), lambda p, s: None).best is None


def test_a_range_with_many_values_is_compared_in_thirds():
    plan = SweepPlan({"c": Range("c", 1.0, 9.0, num_points=9)})
    (effect,) = effects(made(plan, lambda p, s: p["c"] ** 2))
    assert [name for name, _, _ in effect.groups] == ["1 to 3", "4 to 6", "7 to 9"]
    assert [mean for _, mean, _ in effect.groups] == pytest.approx([14 / 3, 77 / 3, 194 / 3])


def test_the_files_say_what_the_result_says(tmp_path):
    space = {"h": Choices("h", ([8], [8, 8])), "a": SPACE["a"]}
    plan = SweepPlan(space, SEEDS)
    result = made(plan, lambda p, s: None if p["a"] and s else len(p["h"]) + 0.1 * s, tmp_path)
    table, everything = save(result)
    with table.open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == plan.num_runs == 12
    assert json.loads(rows[-1]["h"]) == [8, 8]
    assert (rows[-1]["validation_elbo"], rows[-1]["status"]) == ("", "diverged")
    finished = [row for row in rows if row["validation_elbo"]]
    assert [float(row["validation_elbo"]) for row in finished] == [
        r.value for r in result.runs if r.value is not None
    ]
    assert rows[4]["folder"] == "trial-001/seed-1"
    content = json.loads(everything.read_text())
    assert content == json.loads(json.dumps(to_json(result)))
    assert content["trials"][1]["sd"] is None
    assert content["best"] == result.best.trial.number == 2
    assert Run(result.trials[0].trial, 1, tmp_path).seed == 1
