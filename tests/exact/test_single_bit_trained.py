"""A network trained on copies of one bit reaches the optimum that quadrature knows."""

from __future__ import annotations

import math

import pytest
import torch

import elboscope as es
from elboscope.core import seeded
from elboscope.models.exact.enumerable import SingleBit


def trained(copies: int, steps: int = 1500) -> tuple[torch.nn.Module, torch.Tensor]:
    """An MLP of Shu's size (without his 1000 identical rows, which 64 samples replace)."""
    x = SingleBit.optimal(copies).data().float()
    with seeded(0):
        model = es.models.mlp_vae((copies,), 1, hidden=(10, 10), nonlinearity="elu")
        optimiser = torch.optim.Adam(model.parameters(), 5e-3)
        for step in range(steps):
            for group in optimiser.param_groups:
                group["lr"] = 5e-3 * 0.02 ** (step / steps)
            optimiser.zero_grad()
            es.objectives.elbo_analytic_kl(model, x, 64).loss.backward()
            optimiser.step()
    return model.eval(), x


@pytest.mark.slow
@pytest.mark.parametrize("copies", [1, 2, 10])
def test_training_reaches_the_optimum_and_never_beats_it(copies):
    model, x = trained(copies)
    found = es.evidence_lower_bound(model, x, 100_000, seed=1)
    error = math.hypot(*found.mc_stderr.tolist()) / 2
    optimum = SingleBit.optimal(copies).elbo().item()
    assert found.mean < optimum + 4 * error + 1e-3
    assert found.mean > optimum - 0.02 - 4 * error


@pytest.mark.parametrize("copies", [1, 2, 3, 5, 10, 30, 100, 300, 1000])
def test_the_optimum_is_monotone_in_copies_and_beats_the_collapsed_one(copies):
    """One bit is ln 2 nats; the excess is the Gaussian family's, and grows with the copies."""
    best = SingleBit.optimal(copies)
    more = SingleBit.optimal(copies + 1)
    assert more.elbo() < best.elbo() <= -math.log(2) + 1e-12
    assert best.elbo().item() >= -copies * math.log(2) - 1e-12
    assert -1e-12 <= best.mutual_information().item() <= math.log(2) + 1e-12
    best.zero_grad()
    best.elbo().backward()
    assert abs(best.m.grad.item()) < 1e-6
    assert abs(best.log_s.grad.item()) < 1e-6
