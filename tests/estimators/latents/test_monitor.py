"""Readings of a known model; nothing of the caller's is touched."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from elboscope.core import InputError, seeded
from elboscope.estimators.latents.monitor import Monitor
from elboscope.models import LinearGaussian


def test_readings_agree_with_the_closed_forms() -> None:
    model = LinearGaussian.instance_1()
    x, _ = model.sample(1000, seed=0)
    reading = Monitor(model, x).measure(epoch=3)
    truth = model.log_likelihood(x).mean().item()
    # L_64 lies 0.0017 nats below log p (here over one x), less than the error of the bound
    assert abs(reading["bound"] - truth) < 0.01
    assert reading["kl"] == pytest.approx(model.kl(x).mean().item(), abs=1e-4)
    assert sum(reading["unit_kl"]) == pytest.approx(reading["kl"])
    assert reading["log_n"] == pytest.approx(math.log(1000))
    assert abs(reading["mutual_information"] - model.mutual_information().item()) < 0.1
    assert reading["active_units"] == 2
    collapsed = Monitor(model.with_prior_as_posterior(), x).measure(epoch=3)
    assert collapsed["active_units"] == 0
    assert collapsed["kl"] == pytest.approx(0.0, abs=1e-6)
    assert abs(collapsed["mutual_information"]) < 1e-6


def test_mode_and_random_state_are_left_alone_and_readings_repeat() -> None:
    model = LinearGaussian.instance_1()
    model.dropout = nn.Dropout()
    model.train()
    x, _ = model.sample(100, seed=0)
    monitor = Monitor(model, x, every=2)
    with seeded(5):
        before = torch.get_rng_state()
        for epoch in range(1, 5):
            monitor.epoch_ended(epoch)
        assert torch.equal(before, torch.get_rng_state())
    assert model.training
    assert model.dropout.training
    first, second = monitor.history
    assert (first.pop("epoch"), second.pop("epoch")) == (2.0, 4.0)
    assert first == second


def test_the_hook_of_lightning_logs_numbers() -> None:
    logged: dict[str, float] = {}
    model = LinearGaussian.instance_1()
    model.log_dict = logged.update
    x, _ = model.sample(50, seed=0)
    said: list[object] = []
    monitor = Monitor(None, x, log=said.append)
    monitor.on_train_epoch_end(SimpleNamespace(current_epoch=0), model)
    assert logged["elboscope/bound"] == monitor.history[0]["bound"]
    assert said == monitor.history
    assert "elboscope/unit_kl" not in logged


def test_refusals() -> None:
    x = torch.zeros(2, 3)
    with pytest.raises(InputError, match="every: expected a whole number ≥ 1; got 0"):
        Monitor(None, x, every=0)
    with pytest.raises(InputError, match=r"model: expected a model; got none. Give Monitor one."):
        Monitor(None, x).measure(epoch=1)
