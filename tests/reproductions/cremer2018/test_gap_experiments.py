"""Decoder capacity and flow amortisation: verdicts by hand, a frozen decoder, small runs."""

import math
import shutil

import pytest
import torch

from elboscope.core import seeded
from elboscope.models import AuxiliaryRealNVP
from elboscope.reproductions.cremer2018 import decoder_capacity, flow_amortisation
from elboscope.reproductions.cremer2018.decoder_capacity import Measured
from elboscope.reproductions.cremer2018.flow_amortisation import Found
from elboscope.reproductions.cremer2018.gaps import GapPlan, Gaps, cremer_vae, train_model
from elboscope.reproductions.frame.experiment import reproduce
from elboscope.reproductions.frame.images import load_binary_images
from elboscope.reproductions.frame.sitting import Options, Unfinished, sitting
from elboscope.reproductions.frame.training import Schedule

CPU = torch.device("cpu")
PLAN = GapPlan(data="digits", schedule=Schedule(epochs=3), num_seeds=1, num_images=1)
MODULES = {"decoder-capacity": decoder_capacity, "flow-amortisation": flow_amortisation}
NOISE = torch.tensor([-0.1, 0.0, 0.1, 0.0], dtype=torch.float64)


def gaps(log_px, flow, diagonal, elbo=-100.0, *, noise=0.0, rows=(0, 1, 2, 3)):
    """Four images around these means; the noise is in L[q*] alone."""
    n, spread = len(rows), noise * NOISE[: len(rows)]
    values = [torch.full((n,), v, dtype=torch.float64) for v in (log_px, flow, diagonal, elbo)]
    return Gaps(
        values[0], values[1] + spread, values[2] + spread, values[3], "diagonal",
        {"diagonal": "sure", "flow": "sure"}, {"diagonal": 0.01, "flow": 0.01}, True, "AIS",
        {}, torch.tensor(rows),
    )  # fmt: skip


def capacities(*approximations, noise=0.0, log_px=(-90.0, -85.0, -80.0)):
    """One model for each depth, with this approximation gap; log p̂ differs as models do."""
    return {
        depth: [Measured(gaps(p, -99.0, p - gap, noise=noise), 20, 0.1, 1000)]
        for depth, gap, p in zip(decoder_capacity.DEPTHS, approximations, log_px, strict=True)
    }


@pytest.mark.parametrize(
    ("approximations", "verdicts"),
    [
        ((4.0, 2.0, 1.0), ("reproduced", "reproduced", "reproduced")),
        ((1.0, 2.0, 4.0), ("contradicted", "contradicted", "contradicted")),
        ((4.0, 1.0, 2.0), ("reproduced", "contradicted", "reproduced")),
        ((2.0, 2.0, 1.0), ("undecided", "reproduced", "reproduced")),
    ],
)
def test_capacity_compares_the_gaps_of_decoders_not_their_likelihoods(approximations, verdicts):
    claims = tuple(decoder_capacity._claims(capacities(*approximations)))
    assert tuple(claim.verdict for claim in claims) == verdicts
    assert claims[0].value == pytest.approx(approximations[0] - approximations[1])
    assert "training images" in claims[0].evidence


def test_what_a_search_may_have_missed_is_in_the_errors():
    found = capacities(4.0, 2.0, 1.0)
    lax = {"diagonal": 6.0, "flow": 8.0}
    found[0] = [found[0][0]._replace(gaps=found[0][0].gaps._replace(within=lax))]
    claims = tuple(decoder_capacity._claims(found))
    assert [claim.verdict for claim in claims] == ["undecided", "reproduced", "undecided"]
    assert claims[0].error == pytest.approx(math.hypot(3.0, 0.005))
    linear = encoders(-98.0, -95.0)
    linear = linear._replace(decoder=linear.decoder._replace(within=lax))
    amortisation, inference = flow_amortisation._claims(linear)
    assert amortisation.error == pytest.approx(5.0)
    assert amortisation.verdict == "undecided"
    assert inference.error == 0.0  # no q* is in it


def test_noise_that_two_decoders_share_does_not_blur_their_difference():
    alike = tuple(decoder_capacity._claims(capacities(1.05, 1.0, 1.0, noise=1.0)))
    assert alike[0].verdict == "reproduced"
    found = capacities(1.05, 1.0, 1.0, noise=1.0)
    found[2] = [found[2][0]._replace(gaps=gaps(-85.0, -99.0, -86.0, noise=-1.0))]
    assert next(decoder_capacity._claims(found)).verdict == "undecided"


def test_an_image_that_one_model_lost_is_left_out_of_all():
    found = capacities(4.0, 2.0, 1.0)
    found[4] = [found[4][0]._replace(gaps=gaps(-80.0, -99.0, -81.0, rows=(0, 2, 3)))]
    found[0][0].gaps.diagonal[1] = -1e6
    assert decoder_capacity._values(found, 0, "approximation").tolist() == [[4.0, 4.0, 4.0]]
    assert decoder_capacity._values(found, 4, "approximation").tolist() == [[1.0, 1.0, 1.0]]


def test_a_gap_that_is_small_by_unused_latents_is_said_to_be():
    found = capacities(4.0, 2.0, 1.0)
    assert not tuple(decoder_capacity._fewer_units(found))
    found[4] = [found[4][0]._replace(units=5)]
    (note,) = decoder_capacity._fewer_units(found)
    assert note.startswith("4 hidden layers against 2: the gap is smaller, but that of each active")
    assert "(0.200 against 0.100 nats)" in note


def encoders(ffg, flow, *, noise=0.0, runs=0.0):
    """A decoder with log p̂ = −90, L[q*] = −91 and −92, and two linear encoders of each family."""
    spread = torch.tensor([[-runs], [runs]], dtype=torch.float64)
    one = torch.ones(2, 4, dtype=torch.float64)
    return Found(gaps(-90.0, -91.0, -92.0), ffg * one + spread + noise * NOISE, flow * one - spread)


def test_each_family_has_its_own_best_and_its_gaps_add_up():
    found = encoders(-98.0, -95.0)
    means = {f: {k: v.mean().item() for k, v in found.gaps(f).items()} for f in ("FFG", "Flow")}
    assert means["FFG"] == {
        "L[q]": -98, "approximation gap": 2, "amortisation gap": 6, "inference gap": 8
    }  # fmt: skip
    assert means["Flow"] == {
        "L[q]": -95, "approximation gap": 1, "amortisation gap": 4, "inference gap": 5
    }  # fmt: skip
    assert {name: gain.mean().item() for name, gain in found.gains().items()} == {
        "less approximation gap": 1,
        "less amortisation gap": 2,
        "less amortisation gap, at least": 1,
    }


@pytest.mark.parametrize(
    ("ffg", "flow", "verdicts"),
    [
        (-98.0, -95.0, ("reproduced", "reproduced")),
        (-95.0, -98.0, ("contradicted", "contradicted")),
        (-98.0, -97.5, ("contradicted", "reproduced")),  # the family's nat, and no more
        (-98.0, -97.0, ("undecided", "reproduced")),
    ],
)
def test_a_better_bound_is_no_smaller_amortisation_gap(ffg, flow, verdicts):
    found = encoders(ffg, flow, noise=1.0)
    assert tuple(c.verdict for c in flow_amortisation._claims(found)) == verdicts


def test_encoders_that_disagree_decide_nothing():
    found = encoders(-98.0, -95.0, runs=3.0)
    assert {c.verdict for c in flow_amortisation._claims(found)} == {"undecided"}


@pytest.mark.parametrize("posterior", [None, AuxiliaryRealNVP(hidden=8, context=0)])
def test_a_frozen_decoder_is_the_same_to_the_bit(tmp_path, posterior):
    images = load_binary_images("digits", Options(), num_train=200)
    with seeded(0):
        whole = cremer_vae(images.train, encoder=(8,), decoder=(8,), latent_dim=3)
    model = flow_amortisation._linear(whole, posterior, 1)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with sitting(tmp_path / "run", {}, Options(), None) as now:
        train_model("encoder", model, images.train, PLAN, 0, now, CPU)
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]) == name.startswith("decoder."), name
    assert all(p.grad is None for p in model.decoder.parameters())
    z = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    x = images.test[:5]
    assert torch.equal(model.decode(z).log_prob(x), whole.decode(z).log_prob(x))
    assert [type(layer).__name__ for layer in model.encoder] == ["Linear"]


@pytest.mark.parametrize(
    "name", ["decoder-capacity", pytest.param("flow-amortisation", marks=pytest.mark.slow)]
)
def test_a_small_run_is_complete_and_decides_nothing(smoke, name):
    outcome = smoke(name)
    assert (outcome.name, outcome.scale) == (name, "smoke")
    assert all(row.epochs == outcome.provenance["epochs"] and row.num_data for row in outcome.rows)
    assert {"device", "versions", "seed", "wall_seconds", "data"} <= set(outcome.provenance)
    assert {claim.verdict for claim in outcome.claims} == {"undecided"}
    assert all("±" in claim.evidence for claim in outcome.claims)
    rows = {(row.label, row.quantity): row.value for row in outcome.rows}
    gap = {key: value for key, value in rows.items() if key[1].endswith("gap")}
    assert all(value > -0.05 for key, value in gap.items() if "instead" not in key[0]), gap


@pytest.mark.slow
def test_a_small_run_counts_with_one_decoder(smoke):
    rows = {(row.label, row.quantity): row.value for row in smoke("flow-amortisation").rows}
    for family in ("FFG", "Flow"):
        q, best = f"linear encoder, {family}", rows["the decoder", f"L[q*_{family}]"]
        assert rows[q, "amortisation gap"] == pytest.approx(best - rows[q, "L[q]"], abs=1e-9)
        whole = rows[q, "approximation gap"] + rows[q, "amortisation gap"]
        assert rows["the decoder", "log p̂"] - rows[q, "L[q]"] == pytest.approx(whole, abs=1e-9)


PARTS = {
    "decoder-capacity": ("4-hidden-layers-seed-0*", "2-hidden-layers-seed-0-gaps-q*"),
    "flow-amortisation": ("linear-encoder-Flow*", "linear-encoder-FFG-seed-0-bound*"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", MODULES)
def test_slices_give_the_numbers_of_one_sitting(smoke_run, ticking, name, tmp_path):
    """The parts that a stopped run would not have yet are made again, in slices."""
    outcome, finished = smoke_run(name)
    out, pauses, again = tmp_path / "run", [], None
    shutil.copytree(finished, out)
    for part in [path for pattern in PARTS[name] for path in (out / "state").glob(pattern)]:
        shutil.rmtree(part) if part.is_dir() else part.unlink()
    while again is None:
        try:
            options = Options(resume=True, slice_seconds=60.0)
            again = reproduce(MODULES[name].EXPERIMENT, "smoke", out=out, options=options)
        except Unfinished as pause:
            pauses.append(str(pause))
        assert len(pauses) < 200
    assert pauses
    assert [row.value for row in again.rows] == [row.value for row in outcome.rows]
