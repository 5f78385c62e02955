"""Stacked MNIST: modes of hand-made answers, verdicts on rows made by hand, slices."""

import json
import math
from pathlib import Path

import pytest
import torch

from elboscope.classifiers import classifier_for
from elboscope.core import seeded
from elboscope.data import color_digits
from elboscope.reproductions.frame.claims import references
from elboscope.reproductions.frame.experiment import reproduce
from elboscope.reproductions.frame.sitting import Options, Unfinished
from elboscope.reproductions.srivastava2017 import stacked_mnist
from elboscope.reproductions.srivastava2017.networks import (
    ENCODERS,
    KINDS,
    MODELS,
    SCORES,
    SMOKE,
    PairDiscriminator,
    game_of,
    new_model,
    perfect_modes,
    tally,
)
from elboscope.reproductions.srivastava2017.stacked_mnist import (
    corrected_kl,
    plot_mode_kl,
    rows_of,
    stacked_claims,
)
from elboscope.training import VGHPlusPlus

NAME = "stacked-mnist"


def answers(classes, p, of=1000):
    """A classifier that gives each image's class probability p, all others the same."""
    log_probs = torch.full((len(classes), of), (1 - p) / (of - 1))
    return log_probs.scatter(1, torch.tensor(classes)[:, None], p).log()


def test_modes_of_images_that_fail_to_be_digits_are_not_sure_ones():
    half = torch.cat([answers(range(300), 0.9), answers(range(200, 500), 0.3)])
    found = tally(half)
    assert found["modes"] == 500
    assert found["sure_modes"] == 300
    assert found["sure"] == 0.5
    assert found["sure error"] == pytest.approx(0.5 / math.sqrt(600))
    p = torch.tensor([1 / 600] * 400 + [2 / 600] * 100).double()
    assert found["kl"] == pytest.approx((p * (1000 * p).log()).sum().item())
    none = tally(answers([0, 1], 0.4))
    assert none["sure_modes"] == 0
    assert math.isnan(none["sure_modes error"])


def test_perfect_samples_cover_what_chance_leaves():
    with seeded(0):
        draws = torch.randint(1000, (400, 2600))
    met = torch.tensor([len(row.unique()) for row in draws]).double()
    expected = perfect_modes(2600, 1000)
    assert abs(met.mean() - expected) < 4 * met.std() / math.sqrt(len(met))
    assert perfect_modes(10**6, 1000) == pytest.approx(1000)


def looks(modes, sure, error=5.0):
    scores = {"modes": modes, "sure_modes": sure, "kl": 1.0, "sure": 0.5}
    values = {f"{kind}: {k}": float(v) for kind in KINDS for k, v in scores.items()}
    return [{"step": 9, "num": 2600.0, **values, **{f"{k} error": error for k in values}}]


def found_of(**runs):
    return {model: runs.get(model, [looks(500, 500)]) for model in MODELS}


def verdicts(**runs):
    return [claim.verdict for claim in stacked_claims(found_of(**runs), 2600, 1000)]


def test_a_model_learns_by_its_samples_and_by_those_that_are_sure():
    needed = perfect_modes(2600, 1000) / 2
    assert 460 < needed < 465
    found = {"AVB": [looks(900, 100)], "VEEGAN": [looks(460, 460)], "DCGAN": [looks(99, 99)]}
    *pairs, order = verdicts(**found)
    assert pairs[:2] == ["reproduced", "contradicted"]
    assert pairs[2:4] == ["undecided"] * 2
    assert pairs[4:] == ["reproduced"] * 2
    assert order == "reproduced"
    claim = stacked_claims(found_of(**found), 2600, 1000)[1]
    assert claim.value == pytest.approx(100 - needed)
    assert claim.error == 5.0


def test_the_order_is_judged_with_the_spread_of_runs():
    apart = {"VEEGAN": [looks(150, 1), looks(152, 1)], "DCGAN": [looks(99, 1), looks(101, 1)]}
    assert verdicts(**apart)[-1] == "reproduced"
    mixed = {"VEEGAN": [looks(150, 1), looks(90, 1)], "DCGAN": [looks(99, 1), looks(101, 1)]}
    assert verdicts(**mixed)[-1] == "undecided"
    other = {"VEEGAN": [looks(90, 1)], "DCGAN": [looks(130, 1)]}
    assert verdicts(**other)[-1] == "contradicted"


def test_published_numbers_stand_beside_samples_alone():
    rows = list(rows_of(found_of(), 2600, references(NAME)))
    beside = {(r.label, r.quantity): r.published.value for r in rows if r.published}
    assert beside == {
        ("VEEGAN, samples", "modes covered"): 150.0,
        ("VEEGAN, samples", "KL(modes ‖ uniform)"): 2.95,
        ("DCGAN, samples", "modes covered"): 99.0,
        ("DCGAN, samples", "KL(modes ‖ uniform)"): 3.4,
    }
    assert len(rows) == len(SCORES) * (len(MODELS) + len(ENCODERS))


def test_models_begin_at_the_mean_colours_and_play_with_their_weights():
    plan = SMOKE
    x = color_digits(50, 10).train
    with seeded(0):
        for model in ENCODERS:
            built = new_model(model, plan, x)
            with torch.no_grad():
                made = built.decode(built.prior().sample((200,))).mean
            assert (made.mean((0, 2, 3)) - x.mean((0, 2, 3))).abs().max() < 0.05
    game = game_of("VGH++", plan)
    assert isinstance(game, VGHPlusPlus)
    assert (game.encoder_weight, game.generator_weight) == plan.paces["VGH++"].weights


def test_logits_of_pairs_are_of_added_features():
    with seeded(0):
        T = PairDiscriminator((3, 8, 8), 2, (4, 4), 6).eval()
        x, z = torch.rand(5, 3, 8, 8), torch.randn(5, 2)
    features = T.of_x(x) + z @ T.of_z.weight.T + T.of_z.bias
    torch.testing.assert_close(T(x, z), T.judge(features))
    assert T(x, z).std() > 0
    assert not torch.allclose(T(x, z), T(x, z.roll(1, 0)))


def test_the_kl_of_few_perfect_samples_is_corrected():
    """With uniform draws the plug-in KL is (C − 1)/2n too large, to first order."""
    values = []
    for seed in range(20):
        with seeded(seed):
            found = tally(answers(torch.randint(50, (500,)).tolist(), 0.9, of=50))
        row = {"num": 500.0, **{f"samples: {k}": v for k, v in found.items()}}
        values.append(corrected_kl(row))
    kl = torch.tensor(values)
    assert abs(kl.mean()) < 4 * kl.std() / math.sqrt(len(kl))


def test_the_figure_has_the_mean_over_runs_against_the_share_of_the_training():
    found = {"DCGAN": [looks(200, 100), looks(300, 300)]}
    (line,) = plot_mode_kl(found, SMOKE).axes[0].get_lines()
    assert list(line.get_ydata()) == pytest.approx([1 - 249 / 5200])
    assert list(line.get_xdata()) == [9 / 6]


def test_reconstructions_that_miss_the_modes_of_samples_are_told():
    row = {"samples: modes": 800.0, "reconstructions: modes": 119.0}
    (note,) = stacked_mnist._unlike("VGH++", row)
    assert "reconstructions meet 119 modes where samples meet 800" in note
    assert not list(stacked_mnist._unlike("AVB", {**row, "reconstructions: modes": 900.0}))
    assert not list(stacked_mnist._unlike("DCGAN", {"samples: modes": 800.0}))


@pytest.fixture(scope="module")
def outcome(smoke):
    return smoke("stacked-mnist")


@pytest.mark.slow
def test_a_smoke_run_counts_samples_and_reconstructions_and_decides_nothing(outcome, tmp_path):
    rows = {(row.label, row.quantity): row for row in outcome.rows}
    labels = {label for label, _ in rows}
    assert {f"{m}, reconstructions" for m in ENCODERS} < labels
    assert "DCGAN, reconstructions" not in labels
    plan = SMOKE
    x = color_digits(plan.num_train, plan.num_test).test
    ours = tally(classifier_for((3, 8, 8))(x).log_probs)["modes"]
    truth = rows["test images instead of samples", "modes covered"]
    assert truth.value == ours
    assert {claim.verdict for claim in outcome.claims} == {"undecided"}
    assert set(outcome.figures) == {"pictures", "mode-kl"}
    record = json.loads(Path(outcome.save(tmp_path)).read_text())
    assert record["provenance"]["settings"]["AVB"]["steps"] == 6


@pytest.mark.slow
@pytest.mark.usefixtures("ticking")
def test_slices_give_the_numbers_of_one_sitting(outcome, tmp_path):
    pauses, again = [], None
    while again is None:
        options = Options(resume=True, slice_seconds=9.0)
        try:
            again = reproduce(
                stacked_mnist.EXPERIMENT, "smoke", out=tmp_path / "run", options=options
            )
        except Unfinished as pause:
            pauses.append(str(pause))
        assert len(pauses) < 90
    assert any("step" in text for text in pauses)
    assert [row.per_seed for row in again.rows] == [row.per_seed for row in outcome.rows]
    assert not list((tmp_path / "run/state").glob("AVB*[0-9].safetensors"))
