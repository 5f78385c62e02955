"""Each objective of the settings is its function at the schedule's weight, and truth is reached."""

from __future__ import annotations

import pytest
import torch
from small_vae import SmallVAE, grey

from elboscope import objectives
from elboscope.core import seeded
from elboscope.models import LinearGaussian
from elboscope.training import (
    CIWAE,
    ELBO,
    IWAE,
    MIWAE,
    PIWAE,
    AnnealedEntropy,
    BetaELBO,
    DReG,
    FreeBits,
    KLWeight,
    Objective,
    ScoreFunction,
    StickingTheLanding,
    TrainingSettings,
    WakePhase,
    train,
)

CASES = [
    (ELBO(), objectives.elbo_analytic_kl, ()),
    (ELBO(analytic_kl=False), objectives.elbo, ()),
    (BetaELBO(4.0, warm_up_epochs=10.0), objectives.beta_elbo, (1.0,)),
    (BetaELBO(1.0, cycle_epochs=2.0), objectives.beta_elbo, (0.5,)),
    (KLWeight(0.02, "mean"), objectives.kl_weighted, (0.02, "mean")),
    (FreeBits(0.3), objectives.free_bits, (0.3,)),
    (AnnealedEntropy(10.0), objectives.annealed_entropy, (0.3,)),
    (IWAE(7), objectives.iwae, (7,)),
    (MIWAE(2, 5), objectives.miwae, (2, 5)),
    (PIWAE(2, 5), objectives.piwae, (2, 5)),
    (CIWAE(7, 0.3), objectives.ciwae, (7, 0.3)),
    (DReG(7, 0.9), objectives.dreg, (7, 0.9)),
    (StickingTheLanding(3), objectives.sticking_the_landing, (3,)),
    (WakePhase(4), objectives.wake_phase, (4,)),
    (ScoreFunction(4), objectives.score_function, (4,)),
]


@pytest.mark.parametrize(("objective", "function", "arguments"), CASES)
def test_an_objective_is_its_function_at_the_weight_of_the_moment(
    objective: Objective, function, arguments: tuple[object, ...]
) -> None:
    model, x = SmallVAE().eval(), grey().round()
    with seeded(0):
        a = objective(model, x, 2.5)
    with seeded(0):
        b = function(model, x, *arguments)
    assert torch.equal(a.value, b.value)
    assert torch.equal(a.loss, b.loss)
    assert (a.encoder_loss is None) == (b.encoder_loss is None)
    if a.encoder_loss is not None:
        assert torch.equal(a.encoder_loss, b.encoder_loss)


def test_warm_up_settles_when_the_weight_arrives() -> None:
    assert [BetaELBO(2.0, warm_up_epochs=3.0).settled(t) for t in (0.0, 2.9, 3.0)] == [
        False, False, True,
    ]  # fmt: skip
    assert [AnnealedEntropy(3.0).settled(t) for t in (1.0, 2.0, 2.1, 9.0)] == [
        False, False, True, True,
    ]  # fmt: skip


@pytest.mark.slow
def test_a_trained_linear_vae_reaches_probabilistic_pca() -> None:
    """Maximum likelihood is known in closed form; no training may exceed it, ours gets there.

    The bound of a linear VAE with a diagonal posterior equals log p(x) at the optimum, where
    W's columns are orthogonal (Lucas et al. 2019), so the ELBO reaches the same value.
    """
    with seeded(0):
        W = torch.randn(8, 2) @ torch.diag(torch.tensor([1.5, 0.8]))
        x = torch.randn(2000, 2) @ W.T + 0.5 * torch.randn(2000, 8)
        start = LinearGaussian(0.1 * torch.randn(8, 2), torch.zeros(8), 1.0)
    best = LinearGaussian.fit(x, 2).log_likelihood(x.double()).mean().item()
    before = start.elbo(x).mean().item()
    for epochs, batch_size, rate in ((150, 100, 0.05), (60, 200, 0.005), (60, 1000, 0.001)):
        stage = TrainingSettings(
            epochs=epochs, batch_size=batch_size, learning_rate=rate, validation_fraction=0.0
        )
        train(start, x, stage)
    likelihood = start.log_likelihood(x).mean().item()
    elbo = start.elbo(x).mean().item()
    assert before < best - 5
    assert elbo <= likelihood + 1e-4
    assert likelihood <= best + 1e-4
    assert best - elbo < 0.003  # nats
