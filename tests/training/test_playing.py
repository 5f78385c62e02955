"""Games in the one loop: resumed bit for bit, recorded, read back, and never a bound too many."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from players import GAMES, NAMES, avb, data, gan, hybrid
from torch import nn

import elboscope as es
from elboscope.core import InputError, seeded
from elboscope.training import (
    AVB,
    VGH,
    Game,
    GANGame,
    MatchedELBO,
    Row,
    TrainingInterrupted,
    TrainingSettings,
    Turn,
    VGHPlusPlus,
    load_run,
    read_rows,
    train,
)

CLOCK = ("seconds", "samples_per_s")


def settings(game: Game, **changes: object) -> TrainingSettings:
    base: dict[str, object] = {"epochs": 4, "batch_size": 8, "objective": game,
                               "learning_rate": 0.01, "tensorboard": False}  # fmt: skip
    return TrainingSettings(**{**base, **changes})  # type: ignore[arg-type]


def numbers(rows: list[Row]) -> list[dict[str, str]]:
    return [{k: repr(v) for k, v in row.items() if k not in CLOCK} for row in rows]


def same(a: nn.Module, b: nn.Module) -> bool:
    pairs = zip(a.state_dict().items(), b.state_dict().items(), strict=True)
    return all(k == m and torch.equal(v, w) for (k, v), (m, w) in pairs)


@pytest.fixture
def signal_in_turn(monkeypatch: pytest.MonkeyPatch) -> Callable[[type[Game], int], None]:
    """Sends this process a signal while the n-th step is at its second turn."""

    def arm(game: type[Game], at: int) -> None:
        original, calls = game.turns, [0]

        def interrupting(self, model, x, epoch):  # type: ignore[no-untyped-def]
            calls[0] += 1
            for index, turn in enumerate(original(self, model, x, epoch)):
                if calls[0] == at and index == 1:
                    os.kill(os.getpid(), signal.SIGINT)
                yield turn

        monkeypatch.setattr(game, "turns", interrupting)

    return arm


@pytest.mark.parametrize("at", [1, 7, 13])
@pytest.mark.parametrize(
    ("game", "build"),
    [
        (GANGame(), gan),
        (VGHPlusPlus(), hybrid("data", "code")),
        (AVB(), avb),
        (MatchedELBO(reconstruction_weight=1.0), hybrid("data")),
    ],
    ids=["GAN", "VGH++", "AVB", "MatchedELBO"],
)
def test_interrupted_and_resumed_is_bit_for_bit_the_whole_run(
    game: Game, build, at: int, tmp_path: Path, signal_in_turn
) -> None:
    whole = build()
    rows = numbers(train(whole, data(), settings(game)).history)
    signal_in_turn(type(game), at)
    with pytest.raises(TrainingInterrupted, match=rf"\(step {at}\)"):
        train(build(), data(), settings(game), tmp_path)
    model = build(seed=99)  # all its weights come from the checkpoint
    result = train(model, data(), settings(game), tmp_path, resume=True)
    assert numbers(result.history) == rows
    assert numbers(read_rows(tmp_path / "metrics.csv")) == rows
    assert same(model, whole)


@pytest.mark.parametrize(("game", "build"), GAMES, ids=NAMES)
def test_a_run_folder_of_each_game(game: Game, build, tmp_path: Path) -> None:
    model = build()
    result = train(model, data(), settings(game, epochs=2), tmp_path)
    saved = load_run(tmp_path, again := build(seed=5))
    assert same(model, again)
    assert numbers(saved.history) == numbers(result.history)
    assert saved.record["status"] == "finished"
    assert saved.record["settings"]["objective"]["class"] == type(game).__name__
    columns = (tmp_path / "metrics.csv").read_text().splitlines()[0].split(",")
    assert set(game.columns) <= set(columns)
    assert ("train_bound" in columns) == ("train_bound" in game.columns)
    explicit = build is not avb and hasattr(model, "encode")
    assert saved.record["has_bound"] == explicit
    assert ("validation_elbo" in columns) == explicit
    losses = [row[c] for row in saved.history for c in columns if c.endswith(("loss", "accuracy"))]
    assert all(torch.isfinite(torch.tensor(losses)))


def test_the_held_out_bound_of_a_hybrid_is_that_of_its_densities(tmp_path: Path) -> None:
    model, x = hybrid("data", "code")(), data(400)
    result = train(model, x[:200], settings(VGH(), epochs=1), x=x[200:])
    elbo = es.evidence_lower_bound(model, x[200:], 200, seed=3)
    told = result.history[-1]["validation_elbo"]
    one_draw = 1.5 / 200**0.5  # of one z for each datapoint
    assert abs(told - elbo.mean) < 4 * one_draw


def test_a_game_in_which_somebody_is_no_number_any_more(tmp_path: Path, monkeypatch) -> None:
    original, calls = GANGame.turns, [0]

    def poisoned(self, model, x, epoch):  # type: ignore[no-untyped-def]
        calls[0] += 1
        for turn in original(self, model, x, epoch):
            nan = turn.loss * float("nan")
            yield turn._replace(loss=nan) if calls[0] == 7 else turn

    monkeypatch.setattr(GANGame, "turns", poisoned)
    model = gan()
    result = train(model, data(), settings(GANGame(), checkpoint_epochs=1), tmp_path)
    assert result.diverged
    assert result.status == "diverged at step 7 (epoch 1.40)"
    assert all(bool(p.isfinite().all()) for p in model.state_dict().values())
    finding = es.diagnose(model, data(), history=result.history, budget="quick").findings[0]
    assert finding.severity == "problem"
    assert "Diverged, from step 7" in finding.summary


def test_columns_must_be_those_that_were_announced(monkeypatch) -> None:
    def more(self, model, x, epoch):  # type: ignore[no-untyped-def]
        for turn in original(self, model, x, epoch):
            yield Turn(turn.player, turn.loss, {**turn.observed, "more": turn.loss})

    original = GANGame.turns
    monkeypatch.setattr(GANGame, "turns", more)
    with pytest.raises(InputError, match=r"GANGame\.columns: expected data_accuracy, .*more"):
        train(gan(), data(), settings(GANGame()))


def test_a_callers_random_state_is_left_alone() -> None:
    with seeded(4):
        before = torch.get_rng_state()
        train(gan(), data(), settings(GANGame(), epochs=1))
        assert torch.equal(before, torch.get_rng_state())
