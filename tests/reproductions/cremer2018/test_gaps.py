"""The gap in two parts: exact truth, what is kept between sittings, and what is chosen as log p̂."""

import json
import math
from dataclasses import replace

import pytest
import torch
from safetensors import safe_open

from elboscope.core import InputError
from elboscope.models import LinearGaussian
from elboscope.reproductions.cremer2018 import gaps as module
from elboscope.reproductions.cremer2018.gaps import Gaps, measure_gaps
from elboscope.reproductions.frame.sitting import Options, Unfinished, sitting

MODEL = LinearGaussian.instance_1()
X, _ = MODEL.sample(40, seed=0)
SETTINGS = {"num_samples": 1000, "max_steps": 200, "flow": False}


def open_sitting(folder, **options):
    return sitting(folder, {}, Options(resume=True, **options), None)


def measure(folder, x=X, **changes):
    with open_sitting(folder) as now:
        return measure_gaps("toy", MODEL, x, "diagonal", now, **(SETTINGS | changes))


def test_the_parts_are_those_of_the_closed_form(tmp_path):
    found = measure(tmp_path)
    truth = MODEL.log_likelihood(X).double() - MODEL.elbo(X).double()  # the encoder is the best
    error = math.sqrt(truth.mean().item() * 2 / (1000 * 40))  # of a mean of log-weights
    assert abs(found.approximation.mean() - truth.mean()) < 5 * error + 0.002
    assert abs(found.amortisation.mean()) < 5 * error + 0.002
    torch.testing.assert_close(found.inference, found.approximation + found.amortisation)
    assert found.flow.isnan().all()
    assert found.certified
    assert found.within["diagonal"] < 0.02
    assert found.certificates["diagonal"].startswith("certified")


@pytest.mark.slow
def test_log_px_is_the_best_candidate_and_not_one_ahead_by_luck(tmp_path):
    found = measure(tmp_path, X[:8], full=True, num_temperatures=5)
    assert set(found.candidates) == {
        "importance sampling from q",
        "importance sampling from q* (diagonal)",
        "importance sampling from q* (full)",
        "annealing",
    }
    assert found.chosen == "importance sampling from q* (full)"  # exact, without any noise
    assert found.candidates["annealing"] > found.candidates[found.chosen]  # five temperatures
    assert found.log_px.mean().item() == pytest.approx(found.candidates[found.chosen])


def test_a_second_sitting_reads_every_part_that_there_is(tmp_path, monkeypatch):
    first = measure(tmp_path)

    def never(*arguments, **settings):
        raise AssertionError("measured again")

    for name in ("optimal_posterior", "importance_sampling", "evidence_lower_bound"):
        monkeypatch.setattr(module, name, never)
    again = measure(tmp_path)
    for a, b in zip(first, again, strict=True):
        if isinstance(a, torch.Tensor):
            torch.testing.assert_close(a, b, rtol=0, atol=0, equal_nan=True)
        else:
            assert a == b


def test_the_state_holds_what_each_search_says_of_itself(tmp_path):
    found = measure(tmp_path)
    kept = {}
    for part in ("q", "diagonal"):
        with safe_open(tmp_path / "state" / f"toy-gaps-{part}.safetensors", "pt") as file:
            kept[part] = json.loads(file.metadata()["said"])
    text, within = found.certificates["diagonal"], found.within["diagonal"]
    assert kept == {"q": {}, "diagonal": {"text": text, "within": within, "certified": True}}


def test_a_slice_ends_between_two_parts_and_says_before_which(tmp_path):
    with (
        pytest.raises(Unfinished, match="ended at toy, q, after"),
        open_sitting(tmp_path, slice_seconds=0.0) as now,
    ):
        measure_gaps("toy", MODEL, X, "diagonal", now, **SETTINGS)


def test_datapoints_without_a_value_are_out_of_every_quantity(tmp_path, monkeypatch):
    search = module.optimal_posterior

    def lost(model, x, *arguments, **settings):
        found = search(model, x[1:], *arguments, **settings)
        return replace(found, index=found.index + 1)

    monkeypatch.setattr(module, "optimal_posterior", lost)
    found = measure(tmp_path)
    assert found.rows.tolist() == list(range(1, 40))
    assert all(len(v) == 39 for v in (found.log_px, found.elbo, found.diagonal, found.inference))


def test_a_flow_needs_its_search(tmp_path):
    with (
        open_sitting(tmp_path) as now,
        pytest.raises(InputError, match="flow: expected True for a model trained with a flow"),
    ):
        measure_gaps("toy", MODEL, X, "flow", now, flow=False)


def test_the_family_of_the_training_splits_the_gap():
    log_px, flow, diagonal, elbo = (torch.tensor([v]).double() for v in (0.0, -1.0, -3.0, -4.0))
    common = ({}, {}, True, "", {}, torch.zeros(1, dtype=torch.int64))
    parts = {
        family: (g.approximation.item(), g.amortisation.item(), g.inference.item())
        for family in ("diagonal", "flow")
        for g in (Gaps(log_px, flow, diagonal, elbo, family, *common),)
    }
    assert parts == {"diagonal": (3.0, 1.0, 4.0), "flow": (1.0, 3.0, 4.0)}
