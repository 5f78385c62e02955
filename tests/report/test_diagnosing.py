"""From a model to verdicts, against a model whose every number is known."""

from __future__ import annotations

import json
import math

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from elboscope.core import InputError
from elboscope.diagnostics import CHECKS
from elboscope.models import LinearGaussian
from elboscope.report import Diagnosis, diagnose

SEED = 3


@pytest.fixture(scope="module")
def model() -> LinearGaussian:
    return LinearGaussian.instance_1()


@pytest.fixture(scope="module")
def x(model) -> torch.Tensor:
    return model.sample(150, seed=0)[0]


@pytest.fixture(scope="module")
def diagnosis(model, x) -> Diagnosis:
    x_train = model.sample(150, seed=1)[0]
    return diagnose(
        model, x, x_train=x_train, budget="quick", seed=SEED, settings={"data": "exact"}
    )


def test_one_verdict_a_check(diagnosis):
    assert [f.check for f in diagnosis.findings] == [check.name for check in CHECKS]


def test_the_likelihood_agrees_with_the_closed_form(diagnosis, model, x):
    log_px = diagnosis.estimates["log_px"]
    truth = model.log_likelihood(x).double().mean().item()
    assert abs(log_px.mean - truth) < 4 * log_px.mc_error_of_mean + 1e-6


def test_findings_json_says_what_the_estimates_say(diagnosis):
    read = json.loads(diagnosis.to_json())
    for key, estimate in diagnosis.estimates.items():
        assert read["estimates"][key]["mean"] == pytest.approx(estimate.mean, nan_ok=True)
    assert read["settings"]["data"] == "exact"
    assert read["settings"]["seed"] == SEED
    assert {"torch", "elboscope", "python", "data_id", "conversion"} <= set(read["settings"])


@pytest.mark.slow
def test_the_same_seed_gives_the_same_numbers_and_leaves_the_callers_state(diagnosis, model, x):
    before = torch.get_rng_state()
    x_train = model.sample(150, seed=1)[0]
    again = diagnose(model, x, x_train=x_train, budget="quick", seed=SEED)
    assert torch.equal(before, torch.get_rng_state())
    for key, estimate in diagnosis.estimates.items():
        assert torch.equal(estimate.values, again.estimates[key].values), key


@pytest.mark.slow
def test_a_loader_is_read_and_what_was_done_is_recorded(model, x):
    loader = DataLoader(TensorDataset(x, torch.zeros(len(x))), batch_size=40)
    diagnosis = diagnose(model, loader, budget="quick")
    assert torch.equal(diagnosis.evidence.x, x)
    assert "labels ignored" in diagnosis.evidence.settings["conversion"]


@pytest.mark.slow
def test_a_report_of_a_real_diagnosis_shows_its_numbers(diagnosis, tmp_path):
    text = diagnosis.save(tmp_path / "report.html").read_text()
    for finding in diagnosis.findings:
        assert f'<article class="verdict {finding.severity}">' in text
    assert f"{math.log(150):.4g}" in text


def test_wrong_data_and_budgets_are_named(model, x):
    with pytest.raises(InputError, match="x: expected finite values"):
        diagnose(model, x / 0)
    with pytest.raises(InputError, match="x_train: expected"):
        diagnose(model, x, x_train="train")
    with pytest.raises(InputError, match="budget: expected 'quick' or"):
        diagnose(model, x, budget="large")


def test_training_data_of_another_shape_are_refused(model, x) -> None:
    with pytest.raises(InputError, match="x_train: expected datapoints of shape"):
        diagnose(model, x, x_train=torch.zeros(5, 2), budget="quick")
