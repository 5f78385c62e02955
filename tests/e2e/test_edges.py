"""One datapoint, equal data, half precision, two devices, odd histories: right, or refused."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

import elboscope as es
from elboscope.core import ContractError, InputError
from elboscope.models import VAE
from elboscope.report.tables import netcdf

SMALL = replace(es.diagnostics.QUICK, num_samples=100, num_temperatures=3, num_optimised=2)


def small() -> tuple[VAE, Tensor]:
    with es.seeded(0):
        return es.models.mlp_vae((6,), 2, hidden=(8,)), (torch.rand(40, 6) > 0.5).float()


ASKED: dict[str, Callable[[VAE, Tensor], object]] = {
    "importance_sampling": lambda m, x: es.importance_sampling(m, x, 10),
    "elbo": lambda m, x: es.evidence_lower_bound(m, x, 10),
    "elbo_surgery": es.elbo_surgery,
    "active_units": es.active_units,
    "simulated": lambda m, x: es.bidirectional_monte_carlo(m, num_data=2, num_temperatures=3),
    "gradient_snr": lambda m, x: es.gradient_snr(m, x, {"E": es.objectives.elbo}, 1, 10),
    "optimal_posterior": lambda m, x: es.optimal_posterior(m, x[:2]),
    "diagnose": lambda m, x: es.diagnose(m, x, budget=SMALL),
}


@pytest.mark.parametrize("asked", ASKED)
def test_half_precision_is_refused(asked: str) -> None:
    """bfloat16 has 8 bits: log p(x) = −100 is stored in steps of half a nat."""
    model, x = small()
    with pytest.raises(ContractError, match=r"got torch.bfloat16, which rounds .* 0.39 nats"):
        ASKED[asked](model.bfloat16(), x)
    model, _ = small()
    with pytest.raises(ContractError, match=r"got torch.float16, .* Use model.float\(\)"):
        ASKED[asked](model.half(), x)


def test_the_contract_refuses_half_precision() -> None:
    model, x = small()
    with pytest.raises(ContractError, match=r"a model in float32 .*; got torch\.float16"):
        es.check_model(model.half(), x.half())
    assert es.check_model(model.double(), x.double()).finite


@pytest.mark.parametrize("asked", ASKED)
def test_a_model_on_two_devices_is_refused(asked: str) -> None:
    model, x = small()
    model.decoder.to("meta")
    expected = "the whole model on one device; prior.. draws on cpu; got parameter decoder.0.weight"
    with pytest.raises(ContractError, match=expected):
        ASKED[asked](model, x)


def test_latents_that_are_whole_numbers_leave_x_alone() -> None:
    class Labels:
        def prior(self) -> torch.distributions.Distribution:
            return torch.distributions.Categorical(torch.ones(3))

    placed = es.core.placed_like(torch.tensor([0.25, 1.5]), Labels())
    assert placed.tolist() == [0.25, 1.5]
    assert es.core.placed_like(torch.tensor([1, 2]), Labels()).dtype == torch.float32


def test_one_datapoint_has_no_error_over_data() -> None:
    model = es.models.LinearGaussian.instance_1()
    x, _ = model.sample(1, seed=0)
    log_px = es.importance_sampling(model, x, 2000, seed=0)
    assert abs(log_px.mean - model.log_likelihood(x).item()) < 4 * log_px.mc_error_of_mean
    assert " nats, one datapoint: no error (n=1" in str(log_px)
    parts = es.elbo_surgery(model, x, seed=0)
    assert parts.mutual_information.mean == pytest.approx(0, abs=1e-9)  # log 1
    assert parts.marginal_kl.mean == pytest.approx(model.kl(x).item())
    for ask in (es.latents.held_out_marginal_kl, es.fit_prior):
        with pytest.raises(InputError, match="at least 20 datapoints; got 1"):
            ask(model, x, seed=0)
    with pytest.raises(InputError, match="number of datapoints: expected at least 2; got 1"):
        es.active_units(model, x)
    diagnosis = es.diagnose(model, x, budget=SMALL, seed=0)
    assert "one datapoint: no error" in str(diagnosis.estimates["elbo"])
    assert diagnosis["bound tightness"].severity not in ("ok", "problem", "warning")


def test_equal_data_carry_no_information() -> None:
    model = es.models.LinearGaussian.instance_1()
    x = model.sample(1, seed=0)[0].expand(40, -1).clone()
    parts = es.elbo_surgery(model, x, seed=0)
    assert parts.mutual_information.mean == pytest.approx(0, abs=1e-9)
    assert parts.marginal_kl.mean == pytest.approx(model.kl(x).mean().item())
    assert es.active_units(model, x).settings["active"] == 0
    log_px = es.importance_sampling(model, x, 500, seed=0)
    assert abs(log_px.mean - model.log_likelihood(x[:1]).item()) < 4 * log_px.mc_error_of_mean
    assert es.diagnose(model, x, budget=SMALL, seed=0)["posterior collapse"].severity == "problem"


@pytest.mark.slow
def test_columns_with_a_slash_reach_every_form_of_the_report() -> None:
    model, x = small()
    rows = [{"epoch": i, "train/bound": -4.0, "train.bound": 1.0, "phase": "a"} for i in range(3)]
    diagnosis = es.diagnose(model, x, history=rows, budget=SMALL, seed=0)
    training = diagnosis.to_datatree()["training"]
    assert training["train.bound."].values.tolist() == [-4.0] * 3
    assert training["train.bound."].attrs == {"column": "train/bound"}
    assert training["train.bound"].values.tolist() == [1.0] * 3
    assert "phase" not in training
    assert netcdf(diagnosis.to_datatree()).startswith(b"\x89HDF")


def test_histories_that_are_no_numbers_are_refused() -> None:
    model, x = small()
    taken = [{"epoch": 0, "train_bound": torch.tensor(-4.0), "val_bound": None}, {"epoch": 1}]
    evidence = es.diagnostics.gather_evidence(
        model, x, history=taken, budget=replace(SMALL, num_temperatures=0, num_optimised=0)
    )
    assert evidence.history[0]["train_bound"] == -4.0
    assert math.isnan(evidence.history[0]["val_bound"])
    assert "train_bound" not in evidence.history[1]
    columns: Any = {"epoch": [0, 1]}
    with pytest.raises(InputError, match=r"history: expected a sequence of rows, .*; got dict"):
        es.diagnose(model, x, history=columns, budget=SMALL)
    words: list[Any] = [{"loss": 1.0}, {"loss": "n/a"}]
    with pytest.raises(InputError, match=r"column 'loss': expected .*; got 'n/a' in row 1"):
        es.diagnose(model, x, history=words, budget=SMALL)
