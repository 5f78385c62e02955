"""Hybrids: claims by hand, networks, a small run, slices, what diverges and what is missing."""

import math
import shutil
from dataclasses import replace

import pytest
import torch
from torch import nn

from elboscope import data
from elboscope.core import InputError, seeded
from elboscope.reproductions.frame.experiment import reproduce
from elboscope.reproductions.frame.sitting import Options, Unfinished, sitting
from elboscope.reproductions.rosca2018 import hybrid_plan as hybrids_data
from elboscope.reproductions.rosca2018.hybrid_plan import GANS, MODELS, load_hybrid_images
from elboscope.reproductions.rosca2018.hybrid_runs import HybridRun, Outcome, train_run
from elboscope.reproductions.rosca2018.hybrid_scores import (
    LABELS,
    Measured,
    hybrid_claims,
    model_rows,
    sweep_rows,
)
from elboscope.reproductions.rosca2018.hybrids import CELEBA, CIFAR_10, COLOR_MNIST, _notes
from elboscope.reproductions.rosca2018.networks import new_model

SMOKE, PAPER = (COLOR_MNIST.plans[scale] for scale in ("smoke", "paper"))
NAMES = ("colormnist", "cifar10", "celeba")
# Five seeds, three rates for all; VGH and VGH++ have two pairs of weights as well.
PLAN = replace(
    PAPER,
    swept_rates=(1.0, 2.0, 3.0),
    swept_weights=((1.0, 1.0), (5.0, 5.0)),
    rate=1.0,
    weights=(1.0, 1.0),
)
PUBLISHED = {"VAE": 5, "AAE": 6, "VEEGAN": 4, "VGH": 3.5, "VGH++": 3, "DCGAN": 2, "WGAN-GP": 6}


def scored(critic, modes, *, noise=0.1, spread=None):
    """Runs whose scores scatter around a value a model, and with the place of their setting."""
    found = {}
    with seeded(0):
        for setting, s in PLAN.runs:
            place = PLAN.settings(setting.model).index(setting)
            shift = (spread or {}).get(setting.model, 0.0) * (-1) ** place if place else 0.0
            value = critic[setting.model] + shift + noise * torch.randn(()).item()
            found[setting, s] = {
                "samples: critic_test": Measured(value, 0.1),
                "samples: modes_covered": Measured(float(modes[setting.model] + s % 2), 1.0),
            }
    return found


def verdicts(found, plan=PLAN):
    return {claim.text.partition(" (")[0]: claim.verdict for claim in hybrid_claims(found, plan)}


def test_the_published_ordering_is_reproduced():
    modes = dict.fromkeys(MODELS, 100) | {"VGH++": 300}
    found = scored(PUBLISHED, modes, spread={"VGH": 9.0, "VGH++": 9.0})
    outcome = verdicts(found)
    assert outcome["ColorMNIST: VGH++ is nearer to the data than VGH"] == "reproduced"
    assert outcome["ColorMNIST: VGH++ is better than VGH in modes covered"] == "reproduced"
    assert set(outcome.values()) == {"reproduced"}
    assert len(outcome) == 2 + 6 + 3 + 1 + 4


def test_the_opposite_ordering_contradicts():
    critic = {"VAE": 6, "AAE": 2, "VEEGAN": 4, "VGH": 3, "VGH++": 3.5, "DCGAN": 5, "WGAN-GP": 5.5}
    modes = dict.fromkeys(MODELS, 100) | {"VGH": 300}
    outcome = verdicts(scored(critic, modes, spread=dict.fromkeys(GANS, 90.0)))
    wrong = [text for text, verdict in outcome.items() if verdict == "contradicted"]
    assert "ColorMNIST: VGH++ is nearer to the data than VGH" in wrong
    assert "ColorMNIST: VGH++ is better than VGH in modes covered" in wrong
    assert "ColorMNIST: VEEGAN is nearer to the data than AAE" in wrong
    assert "ColorMNIST: VGH is not nearer to the data than the better GAN, here DCGAN" in wrong
    assert any("the VAE's samples are good" in text for text in wrong)
    assert "ColorMNIST: VGH is more sensitive to its settings than WGAN-GP" in wrong
    assert outcome["ColorMNIST: VGH is nearer to the data than VAE"] == "reproduced"


def test_noise_leaves_it_open():
    same = dict.fromkeys(MODELS, 3.0)
    outcome = verdicts(scored(same, dict.fromkeys(MODELS, 100), noise=1.0))
    paired = [t for t in outcome if t.endswith(("than VGH", "in modes covered"))]
    assert {outcome[text] for text in paired} == {"undecided"}
    one = replace(PLAN, seeds=1)
    assert verdicts(scored(PUBLISHED, same), one)[paired[0]] != "contradicted"


def test_seeds_are_compared_in_pairs():
    """What all models of a seed share cancels, however large it is."""
    found = {}
    for setting, s in PLAN.runs:
        value = PUBLISHED[setting.model] + 100.0 * s + 0.01 * (s % 3) * (setting.model == "VGH")
        found[setting, s] = {
            "samples: critic_test": Measured(value, 0.1),
            "samples: modes_covered": Measured(1.0, 0.0),
        }
    claim = next(hybrid_claims(found, PLAN))
    assert claim.verdict == "reproduced"
    assert claim.value == pytest.approx(0.5 + 0.01 * (0 + 1 + 2 + 0 + 1) / 5)
    sd = 0.01 * torch.tensor([0.0, 1.0, 2.0, 0.0, 1.0]).std().item()
    assert claim.error == pytest.approx(sd / math.sqrt(5) * 2.776 / 2, rel=1e-3)


def test_photographs_are_where_a_vae_is_poor():
    photos = replace(PLAN, data="CIFAR-10")
    modes = dict.fromkeys(MODELS, 100)
    found = {
        key: scores | {"samples: inception_score": Measured(1.0, 0.1)}
        for key, scores in scored(PUBLISHED | {"VAE": 9}, modes).items()
    }
    outcome = verdicts(found, photos)
    (poor,) = [text for text in outcome if "the VAE's samples are poor" in text]
    assert outcome[poor] == "reproduced"
    faces = verdicts(found, replace(PLAN, data="CelebA"))
    assert len(faces) == len(outcome) - 1  # no second score without a classifier


def test_the_sweep_is_the_published_one():
    assert len(PAPER.settings("VGH++")) == 16 * 4
    assert len(PAPER.settings("DCGAN")) == 4
    assert {s.weights for s in PAPER.settings("VGH")} >= {(1.0, 50.0), (50.0, 1.0), (5.0, 10.0)}
    own = [key for key in PAPER.runs if key[0] == PAPER.own("VGH")]
    assert len(own) == PAPER.seeds == 5
    assert len(set(PAPER.runs)) == len(PAPER.runs) == 7 * 5 + 2 * 63 + 5 * 3


@pytest.mark.parametrize("experiment", [COLOR_MNIST, CIFAR_10, CELEBA], ids=NAMES)
def test_all_generators_are_of_one_size_and_a_critic_is_not_normalised(experiment):
    plan = replace(experiment.plans["paper"], latents=3, code_hidden=(4,), joint_maps=(4, 4))
    shape = {2: (3, 28, 28), 3: (3, 32, 32), 4: (3, 64, 64)}[len(plan.maps)]
    sizes = set()
    for name in MODELS:
        with seeded(0):
            model = new_model(name, plan, shape)
        generator = model.generator if name in GANS else model.decoder
        sizes.add(sum(p.numel() for p in generator.parameters() if p.ndim > 1))
        adversaries = model.adversaries.get_submodule("") if name in GANS else model.adversaries
        norms = [m for m in adversaries.modules() if isinstance(m, nn.BatchNorm2d)]
        assert bool(norms) == (name in ("VGH", "VGH++", "DCGAN"))
        z = model.prior().sample((2,))
        assert model.eval().generate(z).shape == (2, *shape)
    assert len(sizes) == 1
    assert set(new_model("VEEGAN", plan, shape).adversaries) == {"joint"}


def test_gap_is_the_difference_and_its_spread_that_of_the_seeds():
    plan = replace(SMOKE, seeds=2)
    found = {
        (plan.own(model), s): {
            "samples: recall": Measured(0.5 + 0.1 * s, 0.03),
            "reconstructions: recall": Measured(0.9 - 0.1 * s, 0.04),
        }
        for model in MODELS
        for s in range(2)
    }
    rows = {(row.label, row.quantity): row for row in model_rows(found, plan)}
    gap = rows["VGH, gap", "recall"]
    assert gap.value == pytest.approx(-0.3)
    assert gap.error == pytest.approx(torch.tensor([-0.4, -0.2]).std().item())
    assert gap.error_kind == "sd over 2 seeds"
    one = {(row.label, row.quantity): row for row in model_rows(found, replace(plan, seeds=1))}
    assert one["VGH, gap", "recall"].error == pytest.approx(0.05)  # 3, 4, 5
    assert one["VGH, gap", "recall"].error_kind == "own error, one run"


def test_spread_over_settings_is_of_one_run_each():
    found = scored(PUBLISHED, dict.fromkeys(MODELS, 100), spread={"VGH": 5.0})
    rows = {(row.label, row.quantity): row for row in sweep_rows(found, PLAN)}
    row = rows["VGH, samples, 6 settings", "independent critic Ŵ(test)"]
    assert row.error == pytest.approx(torch.tensor(row.per_seed).double().std().item())
    assert row.error > 3
    assert rows["DCGAN, samples, 3 settings", "independent critic Ŵ(test)"].error < 0.5
    assert row.error_kind == "sd over settings, one run each"


@pytest.mark.slow
def test_a_small_run_has_every_model_and_score(hybrids_run):
    outcome, _ = hybrids_run
    rows = {(row.label, row.quantity): row for row in outcome.rows}
    for model in MODELS:
        for name, _ in LABELS.values():
            assert math.isfinite(rows[f"{model}, samples", name].value)
            encodes = model not in GANS
            assert ((f"{model}, reconstructions", name) in rows) == encodes
            if encodes:
                a, b = (rows[f"{model}, {k}", name].value for k in ("samples", "reconstructions"))
                assert rows[f"{model}, gap", name].value == pytest.approx(a - b, abs=1e-9)
    assert not any("ELBO" in quantity for _, quantity in rows)
    assert any("VGH++, samples, 3 settings" in label for label, _ in rows)
    assert {claim.verdict for claim in outcome.claims} == {"undecided"}
    assert set(outcome.figures) == {"pictures", "scores", "settings"}
    assert any("digits classifier per channel, 2.49% test error" in n for n in outcome.notes)
    perfect = rows["data instead of samples", "recall"]
    assert perfect.value > max(rows[f"{m}, samples", "recall"].value for m in MODELS)


@pytest.mark.slow
def test_slices_give_the_numbers_of_one_sitting(hybrids_run, tmp_path, ticking):
    """One model is trained again, and another scored again, in slices."""
    outcome, finished = hybrids_run
    out, pauses, again = tmp_path / "run", [], None
    shutil.copytree(finished, out)
    (trained,) = [p for p in (out / "state").glob("VGHpp-*run-1") if p.is_dir()]
    shutil.rmtree(trained)
    for part in (out / "state").glob("DCGAN*run-1/samples*"):
        part.unlink()
    while again is None:
        try:
            options = Options(resume=True, slice_seconds=2.0)
            again = reproduce(COLOR_MNIST, "smoke", out=out, options=options)
        except Unfinished as pause:
            pauses.append(str(pause))
        assert len(pauses) < 50
    assert any(", step 1 of 3" in text for text in pauses), pauses
    assert any("critic-0" in text for text in pauses), pauses
    assert [row.value for row in again.rows] == [row.value for row in outcome.rows]


@pytest.mark.slow
def test_what_is_kept_of_a_finished_run_is_its_weights_and_scores(hybrids_run):
    _, finished = hybrids_run
    kept = {path.name for path in (finished / "state").glob("VAE*run-0/*")}
    assert {"model.safetensors", "pictures.safetensors", "samples-views.json"} <= kept
    assert "checkpoint.safetensors" not in kept


def test_a_run_that_diverges_ends_at_its_last_whole_state(tmp_path):
    plan = replace(SMOKE, steps=4)
    images = load_hybrid_images(plan, Options(), 0, torch.device("cpu"))
    setting = plan.own("VAE")._replace(rate=1e30)
    with seeded(0):
        model = new_model("VAE", plan, images.shape)
    with sitting(tmp_path / "run", {}, Options(), None) as now:
        steps = train_run(setting, model, images.train, plan, now.folder / "it", 0, now)
    assert steps == 0
    assert all(p.isfinite().all() for p in model.parameters())
    notes = tuple(_notes(plan, images, "cpu", {HybridRun(setting, 0): Outcome({}, {}, steps)}, {}))
    assert notes[-1] == "VAE, rate 1e+30, run 0: diverged; scored as it was after 0 steps."
    assert any("nothing has converged" in note for note in notes)


def test_faces_are_the_users_own(tmp_path):
    options = Options(data_dir=tmp_path)
    with pytest.raises(InputError, match="img_align_celeba"):
        reproduce(CELEBA, "cpu", out=tmp_path / "run", options=options)


def test_too_few_held_out_images_are_refused(monkeypatch):
    few = data.color_digits(30, 30)
    monkeypatch.setattr(hybrids_data, "color_digits", lambda *counts: few)
    with pytest.raises(InputError, match=r"test images: expected 80; got 30 of ColorMNIST"):
        load_hybrid_images(SMOKE, Options(), 0, torch.device("cpu"))


@pytest.mark.slow
@pytest.mark.parametrize("experiment", [CIFAR_10, CELEBA], ids=NAMES[1:])
def test_other_data_run_too(experiment, smoke):
    outcome = smoke(experiment.name)
    quantities = {row.quantity for row in outcome.rows}
    assert "independent critic Ŵ(test)" in quantities
    assert ("Inception Score" in quantities) == (experiment is CIFAR_10)
    assert any("No classifier" in n for n in outcome.notes) == (experiment is CELEBA)
