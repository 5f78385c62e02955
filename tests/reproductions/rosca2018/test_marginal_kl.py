"""Marginal KLs of VAEs: verdicts by hand, a small run, slices."""

import math
import shutil
from dataclasses import replace

import pytest
import torch

from elboscope.core import InputError, seeded
from elboscope.reproductions.frame.experiment import reproduce
from elboscope.reproductions.frame.sitting import Options, Unfinished
from elboscope.reproductions.rosca2018 import marginal_kl
from elboscope.reproductions.rosca2018.aggregate import AggregateValues
from elboscope.reproductions.rosca2018.marginal_kl import Subject, load_grey, new_subject

N, S = 100, 40
PHOTO = Subject("CIFAR-10", "bernoulli", "FFG", 50)


def values(marginal, bound=1.0, *, noise=0.0):
    """A model of this marginal KL, I at log N − 1, and a held-out bound known to ± 0.1."""
    i = math.log(N) - 1
    with seeded(int(10 * marginal)):
        kl = marginal + i + noise * torch.randn(N, dtype=torch.float64)
    return AggregateValues(
        kl + (marginal + i - kl.mean()),
        torch.arange(S),
        torch.full((S,), i, dtype=torch.float64),
        torch.full((N,), bound, dtype=torch.float64),
        torch.tensor(0.1, dtype=torch.float64),
        torch.full((10,), -50.0, dtype=torch.float64),
    )


def verdicts(found):
    return {claim.text: claim.verdict for claim in marginal_kl._claims(found)}


@pytest.mark.parametrize(
    ("flow", "noise", "verdict"),
    [
        (29.0, 0.0, "reproduced"),
        (27.0, 0.0, "contradicted"),
        (28.0, 0.0, "undecided"),
        (27.9, 9.0, "undecided"),
    ],
)
def test_a_flow_that_reduces_the_marginal_kl_contradicts(flow, noise, verdict):
    found = {
        PHOTO: values(28.0, noise=noise),
        PHOTO._replace(posterior="RNVP"): values(flow, noise=noise),
    }
    (text, outcome), (positive, _) = verdicts(found).items()
    assert outcome == verdict
    assert text.startswith("CIFAR-10, 50 latents: a flow as posterior")
    assert positive.startswith("no VAE matches its prior")


def test_likelihoods_are_compared_at_the_same_size():
    found = {
        PHOTO: values(28.0),
        PHOTO._replace(likelihood="categorical"): values(115.0),
        PHOTO._replace(likelihood="dequantized_normal"): values(20.0),
        PHOTO._replace(likelihood="dequantized_normal", latents=100): values(500.0),
    }
    outcome = verdicts(found)
    start = "CIFAR-10, 50 latents: KL(q_N‖p) is larger with "
    assert outcome[start + "Categorical than with Bernoulli"] == "reproduced"
    assert outcome[start + "QuantizedNormal than with Bernoulli"] == "contradicted"
    assert len(outcome) == 3


@pytest.mark.parametrize(
    ("bound", "verdict"), [(0.3, "reproduced"), (0.1, "undecided"), (-0.3, "contradicted")]
)
def test_one_vae_without_a_certain_hole_is_enough_to_leave_the_claim_open(bound, verdict):
    found = {PHOTO: values(28.0), PHOTO._replace(latents=100): values(99.0, bound)}
    (claim,) = marginal_kl._claims(found)
    assert claim.verdict == verdict
    assert "least certain VAE" in claim.evidence


def test_notes_say_what_more_latents_do_and_where_the_mixture_says_nothing():
    plan = marginal_kl.EXPERIMENT.plans["cpu"]
    found = {PHOTO._replace(latents=10): values(8.0), PHOTO: values(28.0)}
    notes = tuple(marginal_kl._notes(found, plan))
    assert "CIFAR-10, Bernoulli, FFG, 50 latents against 10: KL(q_N‖p) +20.000 ± 0.000 nats" in (
        "\n".join(notes)
    )
    assert not any("nat of log N" in note for note in notes)
    full = found[PHOTO]._replace(information=found[PHOTO].information + 0.95)
    notes = tuple(marginal_kl._notes(found | {PHOTO: full}, plan))
    assert any("within 0.1 nat of log N in 1 of 2 VAEs" in note for note in notes)


def test_published_numbers_stand_beside_gaussians_of_the_same_data_alone():
    plan = marginal_kl.EXPERIMENT.plans["paper"]
    beside = {
        s: next(marginal_kl._rows_of(s, values(30.0), plan)).published
        for s in plan.subjects
        if s.latents == 50
    }
    shown = {s.label: p.value for s, p in beside.items() if p is not None}
    assert shown == {
        "CIFAR-10, Bernoulli, FFG, 50 latents": 44.7,
        "CIFAR-10, QuantizedNormal, FFG, 50 latents": 256.7,
    }
    row = next(marginal_kl._rows_of(PHOTO, values(30.0), marginal_kl.SMOKE))
    assert row.published is None


def test_every_subject_of_the_paper_is_a_model_of_its_data():
    plan = marginal_kl.EXPERIMENT.plans["paper"]
    assert len(plan.subjects) == 14
    for subject in {s._replace(latents=2) for s in plan.subjects}:
        side = 28 if subject.data == "ColorMNIST" else 32
        with seeded(0):
            model = new_subject(subject, plan, (3, side, side))
            p = model.eval().decode(torch.zeros(1, 2))
        x = torch.randint(0, 256, (1, 3, side, side)) / 255
        # a mass of 256 levels, or a cross-entropy: neither is positive
        assert p.log_prob(x).item() < 0
        assert model.encode(x).event_shape == (2,)
    odd = replace(marginal_kl.SMOKE, maps={"CIFAR-10": (1,)})
    with pytest.raises(InputError, match="maps: expected two or three numbers"):
        new_subject(PHOTO, odd, (3, 32, 32))


def test_images_are_rounded_to_the_levels():
    plan = replace(marginal_kl.SMOKE, num_images=30, num_train=20, levels=5)
    grey = load_grey("ColorMNIST", plan, Options())
    assert (4 * grey.x).unique().tolist() == [0.0, 1.0, 2.0, 3.0, 4.0]


@pytest.fixture(scope="module")
def run(smoke_run):
    return smoke_run("marginal-kl")


@pytest.mark.slow
def test_rows_of_a_small_run_add_up(run):
    outcome, _ = run
    by = {(row.label, row.quantity): row.value for row in outcome.rows}
    for label in {label for label, _ in by}:
        rate = by[label, "highest it can be, average KL"]
        information = by[label, "I(n; z), at most log N"]
        assert by[label, "KL(q_N‖p)"] == pytest.approx(rate - information, abs=1e-9)
        assert information < math.log(128)
        names = [quantity for key, quantity in by if key == label]
        assert ("minus the cross-entropy, no likelihood" in names) == ("Bernoulli" in label)
        assert ("ELBO" in names) == ("Bernoulli" not in label)
    assert {claim.verdict for claim in outcome.claims} == {"undecided"}
    assert len(outcome.figures["marginal-kl"].axes[0].get_yticklabels()) == 6


@pytest.mark.slow
def test_slices_give_the_numbers_of_one_sitting(run, tmp_path):
    """The last model is trained and measured again, in slices."""
    outcome, finished = run
    out, pauses, again = tmp_path / "run", [], None
    shutil.copytree(finished, out)
    for part in (out / "state").glob("CIFAR-10-QuantizedNormal*"):
        shutil.rmtree(part) if part.is_dir() else part.unlink()
    while again is None:
        try:
            options = Options(resume=True, slice_seconds=0.001)
            again = reproduce(marginal_kl.EXPERIMENT, "smoke", out=out, options=options)
        except Unfinished as pause:
            pauses.append(str(pause))
        assert len(pauses) < 50
    assert any("the mixture of" in text for text in pauses), pauses
    assert [row.value for row in again.rows] == [row.value for row in outcome.rows]
