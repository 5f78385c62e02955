"""Overfitting of inference: verdicts on numbers made by hand, a smoke run, and its slices."""

from dataclasses import replace

import pytest
import torch

from elboscope.reproductions.cremer2018 import overfitting as inference_overfitting
from elboscope.reproductions.cremer2018.gaps import Gaps
from elboscope.reproductions.cremer2018.overfitting import overfitting_claims
from elboscope.reproductions.frame.experiment import reproduce
from elboscope.reproductions.frame.sitting import Options, Unfinished

NAME = "inference-overfitting"


def made(approximation, amortisation, log_px=-100.0, within=0.02):
    """Gaps of these means, spread over 50 images."""
    spread = torch.linspace(-1, 1, 50).double()
    log_px = log_px + 10 * spread
    optimal = log_px - approximation - 0.1 * spread
    elbo = optimal - amortisation - 0.1 * spread.flip(0)
    bounds = {"diagonal": within, "flow": within}
    return Gaps(log_px, optimal, optimal, elbo, "diagonal", {}, bounds, True, "", {},
                torch.arange(50))  # fmt: skip


def healthy(**changes):
    """The source's picture: on training images inference gets better, held out it gets worse."""

    def of(last):
        return {
            10: {"train": made(1.0, 3.0, **changes), "validation": made(1.0, 3.2, **changes)},
            100: {"train": made(1.1, 2.0, **changes), "validation": made(1.2, last, **changes)},
        }

    return {"Regular": of(5.0), "Large encoder": of(7.0)}


def test_the_papers_picture_is_reproduced():
    claims = list(overfitting_claims(healthy()))
    assert len(claims) == 2 * 4 + 1
    assert {claim.verdict for claim in claims} == {"reproduced"}
    larger = claims[-1]
    assert "larger encoder has the larger amortisation gap" in larger.text
    assert larger.value == pytest.approx(2.0)
    assert "50 validation images" in larger.evidence


def test_a_model_that_overfits_where_its_inference_does_not_is_contradicted():
    epochs = {
        10: {"train": made(1.0, 2.0), "validation": made(1.0, 3.0)},
        100: {"train": made(1.0, 2.5, -80.0), "validation": made(4.0, 2.5, -120.0)},
    }
    claims = {claim.text: claim for claim in overfitting_claims({"Regular": epochs})}
    assert {claim.verdict for claim in claims.values()} == {"contradicted"}
    more = claims["Regular: with training, inference overfits more than log p̂ does"]
    # Inference: −0.5 − 0.5; the model: its training images gained 20 nats, the others lost 20.
    assert more.value == pytest.approx(-1.0 - 40.0)


def test_what_is_of_one_image_is_subtracted_in_pairs_and_q_star_counts_as_often_as_it_enters():
    noise = 5 * torch.randn(50, generator=torch.Generator().manual_seed(0)).double()

    def of(amortisation):  # a search that is off by the noise: in both parts, with opposite signs
        gaps = made(1.0, amortisation, within=0.0)
        return gaps._replace(diagonal=gaps.diagonal + noise)

    splits = {"train": of(2.0), "validation": of(2.0)}
    apart, more = list(overfitting_claims({"Regular": {10: splits, 100: splits}}))[2:]
    balance = splits["train"].amortisation - splits["train"].approximation
    assert apart.error == pytest.approx((2 * balance.var().item() / 50) ** 0.5)
    assert more.error == pytest.approx(0.0, abs=1e-9)
    open_ = list(overfitting_claims(healthy(within=60.0)))
    assert open_[2].error == pytest.approx(2 * 30.0 * 2**0.5, rel=1e-3)
    assert open_[3].error == pytest.approx(30.0 * 4**0.5, rel=1e-3)


def test_an_uncertain_search_decides_nothing():
    found = overfitting_claims(healthy(within=60.0))
    assert {claim.verdict for claim in found} == {"undecided"}


@pytest.mark.slow
def test_a_run_has_every_model_checkpoint_and_split(smoke):
    outcome = smoke(NAME)
    rows = {(row.label, row.epochs, row.quantity): row.value for row in outcome.rows}
    assert len(rows) == 2 * 2 * 2 * 5
    for model in ("Regular", "Flow"):
        for split in ("train", "validation"):
            for epoch in (1, 2):
                log_px, optimal, elbo, approximation, amortisation = (
                    rows[f"{model} ({split})", epoch, name]
                    for name in ("log p̂", "L[q*]", "L[q]", "approximation gap", "amortisation gap")
                )
                assert -70 < elbo < log_px < -10
                assert approximation + amortisation == pytest.approx(log_px - elbo, abs=1e-9)
                assert optimal > elbo - 0.5
    figure = outcome.figures["gaps"]
    assert [axes.get_title() for axes in figure.axes] == ["Regular", "Flow"]
    assert len(figure.axes[0].containers) == 4
    assert len(outcome.claims) == 2 * 4
    assert all(c.verdict == "undecided" and "±" in c.evidence for c in outcome.claims)


@pytest.mark.slow
def test_slices_give_the_numbers_of_one_sitting(smoke, ticking, tmp_path, monkeypatch):
    plan = replace(inference_overfitting.SMOKE, models=("Regular",))
    monkeypatch.setitem(inference_overfitting.EXPERIMENT.plans, "smoke", plan)
    pauses, outcome = [], None
    while outcome is None:
        options = Options(resume=True, slice_seconds=12.0)
        try:
            outcome = reproduce(
                inference_overfitting.EXPERIMENT, "smoke", out=tmp_path / "o", options=options
            )
        except Unfinished as pause:
            pauses.append(str(pause))
        assert len(pauses) < 100
    assert pauses
    whole = [row for row in smoke(NAME).rows if row.label.startswith("Regular")]
    assert [row.value for row in outcome.rows] == [row.value for row in whole]
