"""Each reproduction at the smoke scale: complete, identified, and the same after interruptions."""

import math
import os
import signal

import pytest
import torch

from elboscope.core import InputError
from elboscope.reproductions.burda2016 import table1 as iwae_table1
from elboscope.reproductions.frame.experiment import Run, reproduce
from elboscope.reproductions.frame.images import load_images
from elboscope.reproductions.frame.sitting import Options, Sitting, Unfinished
from elboscope.reproductions.frame.training import Measured
from elboscope.reproductions.rainforth2018 import tighter_bounds as tighter_bounds_table1

NAMES = (
    "iwae-table1",
    "tighter-bounds-table1",
    "iwae-posteriors",
    pytest.param("latent-2d", marks=pytest.mark.slow),
)


def values(outcome):
    return [(row.label, row.quantity, row.value, row.error, row.per_seed) for row in outcome.rows]


@pytest.mark.parametrize("name", NAMES)
def test_a_number_says_what_it_was_made_with(smoke, name):
    outcome = smoke(name)
    assert (outcome.name, outcome.scale) == (name, "smoke")
    for row in outcome.rows:
        assert row.epochs == outcome.provenance["epochs"]
        assert row.num_data
        assert row.error_kind
    provenance = outcome.record()["provenance"]
    assert {"device", "versions", "seed", "epochs", "wall_seconds", "data"} <= set(provenance)
    assert {"python", "torch", "elboscope"} <= set(provenance["versions"])
    assert "sha256" in str(provenance["data"])
    assert all(claim.verdict == "undecided" for claim in outcome.claims)
    assert all("±" in claim.evidence for claim in outcome.claims)


def test_table_1_of_rainforth_has_five_models_and_four_quantities(smoke):
    rows = {(row.label, row.quantity): row for row in smoke("tighter-bounds-table1").rows}
    assert len(rows) == 20
    for name in tighter_bounds_table1.OBJECTIVES:
        bound, log_px, gap = (rows[name, q].value for q in ("IWAE-64", "log p̂", "−KL(Q‖P)"))
        assert gap == pytest.approx(bound - log_px, abs=1e-9)
        assert -60 < bound < log_px < -10  # bits of 64 pixels: 44 nats without a model
        assert 1 < rows[name, "ESS"].value < 128


def test_table_1_of_burda_has_ten_models(smoke):
    rows = smoke("iwae-table1").rows
    assert sum(row.quantity == "NLL" for row in rows) == 10
    assert sum(row.quantity == "active units" for row in rows) == 5
    assert sum(row.quantity == "active units, z2" for row in rows) == 5
    assert all(0 <= row.value <= 100 for row in rows)


@pytest.mark.slow
def test_posteriors_bring_their_figure_and_their_entropies_agree(smoke):
    outcome = smoke("iwae-posteriors")
    rows = {(row.label, row.quantity): row.value for row in outcome.rows}
    for name in ("VAE k=5", "IWAE k=50"):
        wider = rows[name, "H[q]"] - rows[name, "H[p(z|x)]"]
        assert rows[name, "H[q] − H[p(z|x)]"] == pytest.approx(wider, abs=1e-9)
        assert rows[name, "H[Gaussian] − H[p(z|x)]"] > -1e-6
    assert len(outcome.figures["posteriors"].axes) == 12


def test_published_numbers_stand_beside_ours_except_for_other_data(smoke, tmp_path):
    assert all(row.published is None for row in smoke("tighter-bounds-table1").rows)
    plan = tighter_bounds_table1.CPU
    images = load_images("smoke", Options())
    now = Sitting(tmp_path, math.inf, None, 0.0)
    run = Run("tighter-bounds-table1", "cpu", plan, 0, Options(), torch.device("cpu"), images, now)
    assert tighter_bounds_table1._rows(run, {}) == ()
    full = tighter_bounds_table1._rows(run, {"VAE": measure()})
    assert [row.published.value for row in full[:3]] == [-86.69, -86.21, -0.47]
    entry = iwae_table1.Entry("mnist", 2, "IWAE", 50)
    plan = iwae_table1.PAPER
    row, z1, z2 = iwae_table1._entry_rows(entry, measure(), plan)
    assert (row.published.value, z1.published.value, z2.published.value) == (82.90, 26.0, 7.0)
    assert (row.epochs, row.num_samples, row.published.epochs) == (3280, 5000, 3280)


def measure():
    values, units = torch.full((1, 3), -83.0).double(), torch.ones(1, 150).double()
    return Measured(values, values, values, values, units, 0.1 * units)


@pytest.mark.slow
def test_slices_give_the_numbers_of_one_sitting(smoke, ticking, tmp_path):
    out, pauses, outcome = tmp_path / "run", [], None
    while outcome is None:
        options = Options(resume=True, slice_seconds=60.0)
        try:
            outcome = reproduce(tighter_bounds_table1.EXPERIMENT, "smoke", out=out, options=options)
        except Unfinished as pause:
            pauses.append(str(pause))
        assert len(pauses) < 200
    assert any("epoch 0." in text for text in pauses), pauses  # within a training
    assert values(outcome) == values(smoke("tighter-bounds-table1"))


@pytest.fixture
def heard():
    """A program started in the background of a shell does not hear Ctrl-C: this one shall."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.slow
@pytest.mark.usefixtures("heard")
def test_ctrl_c_leaves_nothing_half_written_and_can_be_continued(smoke, tmp_path):
    out, told = tmp_path / "run", []

    def stop(stage, done, total):
        told.append(stage)
        if len(told) == 4:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        reproduce(tighter_bounds_table1.EXPERIMENT, "smoke", out=out, progress=stop)
    left = [path.name for path in out.rglob("*") if path.is_file()]
    assert not any(name.startswith("result") or name.endswith(".part") for name in left), left
    with pytest.raises(InputError, match="Continue it with --resume"):
        reproduce(tighter_bounds_table1.EXPERIMENT, "smoke", out=out)
    outcome = reproduce(
        tighter_bounds_table1.EXPERIMENT, "smoke", out=out, options=Options(resume=True)
    )
    assert values(outcome) == values(smoke("tighter-bounds-table1"))


def test_another_seed_is_another_run(smoke, tmp_path):
    with pytest.raises(InputError, match="seed: expected 0, with which"):
        reproduce(
            iwae_table1.EXPERIMENT,
            "smoke",
            out=begun(tmp_path),
            seed=1,
            options=Options(resume=True),
        )


def begun(tmp_path):
    out = tmp_path / "run"
    with pytest.raises(Unfinished):
        reproduce(iwae_table1.EXPERIMENT, "smoke", out=out, options=Options(slice_seconds=0.0))
    return out
