"""Aggressive epochs: the encoder catches up first, the decoder moves once, runs resume exactly."""

from __future__ import annotations

import math
import os
import signal

import pytest
import torch
from small_vae import SampledELBO, SmallVAE, grey, settings

import elboscope as es
from elboscope.core import InputError, seeded
from elboscope.data import Binarisation
from elboscope.models import LinearGaussian
from elboscope.models.exact.affine_encoder import AffineDiagonal
from elboscope.training import (
    Minibatch,
    TrainingInterrupted,
    TrainingSettings,
    adam,
    lagging_inference_step,
    objective_step,
    random_minibatches,
    train,
)

DYNAMIC = Binarisation("dynamic")


def loss(model, x, epoch):
    return es.objectives.elbo_analytic_kl(model, x)


@pytest.mark.parametrize("only", ["encoder", "decoder"])
def test_a_step_of_one_part_leaves_the_other_untouched(only):
    with seeded(0):
        model, batch = SmallVAE(), Minibatch(torch.bernoulli(grey()), 0.5)
        before = {k: v.clone() for k, v in model.named_parameters()}
        optimiser = adam(model.parameters(), 0.1)
        objective_step(model, loss, optimiser, only=only)(batch)
    moved = {k for k, v in model.named_parameters() if not torch.equal(v, before[k])}
    assert moved == {k for k in before if k.startswith(only)}


def steps_of_the_encoder(losses, most_steps=100):
    """How many of its steps are taken before the decoder's, for losses in this order."""
    taken = []

    def encoder(batch):
        taken.append("e")
        return es.core.Bound(batch.x, torch.tensor(losses[min(len(taken), len(losses)) - 1]))

    def decoder(batch):
        taken.append("d")
        return es.core.Bound(batch.x, torch.tensor(0.0))

    batch = Minibatch(torch.zeros(1), 0.5)
    step = lagging_inference_step(
        decoder, encoder, decoder, lambda epoch: batch, 1.0, most_steps=most_steps
    )
    step(batch)
    assert taken[-1] == "d"
    return taken.count("e")


def test_the_encoder_steps_as_long_as_ten_steps_are_better_than_the_ten_before():
    falling = [1.0 - i for i in range(200)]
    assert steps_of_the_encoder([1.0]) == 20
    assert steps_of_the_encoder([3.0] * 10 + [2.0] * 10 + [2.5] * 10) == 30
    assert steps_of_the_encoder(falling) == 100
    assert steps_of_the_encoder(falling, most_steps=25) == 25
    assert steps_of_the_encoder([math.nan] * 10) == 10  # a diverged model is not followed


def test_after_the_aggressive_epochs_the_ordinary_step_is_taken():
    plain = es.core.Bound(torch.zeros(1), torch.tensor(7.0))
    batch = Minibatch(torch.zeros(1), 1.25)

    def other(batch):
        pytest.fail("aggressive after its epochs")

    step = lagging_inference_step(lambda b: plain, other, other, other, 1.0)
    assert step(batch) is plain


def lagging_model(aggressive):
    """A decoder that has learnt, an encoder that has not: one decoder step decides who moves."""
    truth = LinearGaussian.perfect(2, 8, sigma2=0.1)
    x, _ = truth.sample(400, seed=0)
    late = truth.with_prior_as_posterior()
    encoder = late.encoder
    assert isinstance(encoder, AffineDiagonal)
    with seeded(0):
        result = train(
            late, x,
            TrainingSettings(
                epochs=1, learning_rate=0.02, aggressive_epochs=aggressive, validation_fraction=0.0
            ),
        )  # fmt: skip
    return es.evidence_lower_bound(result.model, x, 64, seed=1).mean, truth, x


def test_one_aggressive_epoch_brings_the_encoder_to_a_decoder_that_was_ahead():
    plain, truth, x = lagging_model(None)
    aggressive, _, _ = lagging_model(1.0)
    best = truth.elbo(x).mean().item()
    assert best - aggressive < 0.2 * (best - plain)


@pytest.mark.slow
@pytest.mark.parametrize("at", [30, 100, 260])
def test_an_interrupted_aggressive_run_resumes_bit_for_bit(at, tmp_path, monkeypatch):
    def run(folder=None, resume=False):
        model = SmallVAE()
        asked = settings(epochs=3, aggressive_epochs=2.0)
        return train(model, grey(), asked, folder, binarisation=DYNAMIC, resume=resume)

    whole = run()
    original, calls = SampledELBO.__call__, [0]

    def interrupting(self, model, x, epoch):
        calls[0] += 1
        if calls[0] == at:
            os.kill(os.getpid(), signal.SIGINT)
        return original(self, model, x, epoch)

    monkeypatch.setattr(SampledELBO, "__call__", interrupting)
    with pytest.raises(TrainingInterrupted):
        run(tmp_path / "r")
    resumed = run(tmp_path / "r", resume=True)
    for a, b in zip(whole.model.parameters(), resumed.model.parameters(), strict=True):
        assert torch.equal(a, b)


def test_minibatches_of_the_encoder_take_condition_with_x():
    x = torch.arange(9.0)[:, None]
    with seeded(0):
        batch = random_minibatches(x, 4, 10 * x, Binarisation("none"))(0.25)
    assert torch.equal(batch.condition, 10 * batch.x)
    assert batch.epoch == 0.25


def test_mistakes_are_named():
    with pytest.raises(InputError, match="aggressive_epochs: expected a number > 0, or none; got"):
        TrainingSettings(aggressive_epochs=-1.0)
