"""A model in a user's own file, diagnosed by the command line: every number against its truth.

The linear-Gaussian model knows the answer to every question, so each estimate in findings.json
has to lie within its own printed error of a closed form: numbers of these data within their
Monte Carlo error, numbers of the population within their standard error.
"""

import json
import math

import numpy as np
import pytest

from elboscope.cli import main
from elboscope.models import LinearGaussian

FILE = """
import elboscope as es

model = es.models.LinearGaussian.instance_1()
"""
pytestmark = pytest.mark.slow
N = 1000  # what the standard budget takes whole


@pytest.fixture(scope="module")
def truth() -> LinearGaussian:
    return LinearGaussian.instance_1()


@pytest.fixture(scope="module")
def x(truth):
    return truth.sample(N, seed=11)[0]


@pytest.fixture(scope="module")
def findings(x, tmp_path_factory):
    folder = tmp_path_factory.mktemp("user")
    (folder / "my_file.py").write_text(FILE)
    np.save(folder / "x.npy", x.numpy())
    arguments = [f"{folder}/my_file.py:model", "--data", f"{folder}/x.npy", "--out", f"{folder}/r"]
    assert main(["diagnose", *arguments, "--budget", "standard", "--seed", "3"]) == 0
    return json.loads((folder / "r" / "findings.json").read_text())


def within(estimate: dict, expected: float, error: str, factor: float = 4) -> None:
    assert estimate[error] > 0
    assert abs(estimate["mean"] - expected) < factor * estimate[error], (estimate, expected)


def test_log_likelihood_and_bounds_of_the_population(findings, truth):
    estimates = findings["estimates"]
    within(estimates["log_px"], truth.expected_log_likelihood().item(), "stderr")
    gap = truth.approximation_gap().item()
    within(estimates["bound_gap"], gap, "mc_error_of_mean")
    within(estimates["elbo"], truth.expected_log_likelihood().item() - gap, "stderr")
    within(estimates["kl"], truth.expected_kl().item(), "stderr")
    expected = truth.expected_log_likelihood().item() - gap + truth.expected_kl().item()
    within(estimates["reconstruction"], expected, "stderr")


def test_surgery_of_the_population(findings, truth):
    estimates = findings["estimates"]
    within(estimates["mutual_information"], truth.mutual_information().item(), "stderr")
    within(estimates["marginal_kl"], truth.marginal_kl().item(), "stderr")
    within(estimates["total_correlation"], truth.total_correlation().item(), "stderr")
    held_out = estimates["marginal_kl_held_out"]
    assert held_out["side"] == "lower"
    assert held_out["mean"] <= truth.marginal_kl().item() + 4 * held_out["stderr"]
    log_n = findings["elbo_surgery"]["log_n"]
    assert log_n == pytest.approx(math.log(findings["settings"]["n_mixture"]))
    low, high = findings["elbo_surgery"]["marginal_kl_interval"]
    assert low <= estimates["marginal_kl"]["mean"] <= high


def test_surgery_adds_up(findings):
    e = {key: value["mean"] for key, value in findings["estimates"].items()}
    assert e["mutual_information"] + e["marginal_kl"] == pytest.approx(e["mixture_kl"], abs=1e-9)
    split = e["total_correlation"] + findings["estimates"]["dimensionwise_kl"]["total"]
    assert split == pytest.approx(e["marginal_kl"], abs=1e-6)
    assert e["log_px"] - e["elbo"] == pytest.approx(e["bound_gap"], abs=1e-9)
    assert e["reconstruction"] - e["kl"] == pytest.approx(e["elbo"], abs=1e-6)


def test_units(findings, truth):
    units = findings["estimates"]["active_units"]
    covariance = truth.encoder.A @ truth.marginal().covariance_matrix @ truth.encoder.A.T
    stderr = [math.sqrt(2 / findings["settings"]["n"]) * v for v in covariance.diagonal()]
    for value, exact, error in zip(units["values"], covariance.diagonal(), stderr, strict=True):
        assert abs(value - exact.item()) < 4 * error


def test_the_verdicts_are_those_of_a_perfect_model(findings):
    verdicts = {f["check"]: f["severity"] for f in findings["findings"]}
    assert set(verdicts.values()) <= {"ok", "unavailable", "undecided"}, verdicts
    assert verdicts["prior hole"] == "ok"


def test_numbers_of_these_very_data(findings, truth, x):
    """With light tails and K in the thousands the bias is far below the Monte Carlo error."""
    estimates = findings["estimates"]
    assert findings["settings"]["n"] == estimates["log_px"]["n"] == N
    within(estimates["log_px"], truth.log_likelihood(x).mean().item(), "mc_error_of_mean")
    within(estimates["elbo"], truth.elbo(x).mean().item(), "mc_error_of_mean")
    within(estimates["bound_gap"], truth.approximation_gap().item(), "mc_error_of_mean")
    assert estimates["kl"]["mean"] == pytest.approx(truth.kl(x).mean().item(), rel=1e-12)
