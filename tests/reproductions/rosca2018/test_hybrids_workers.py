"""Runs of hybrids by workers: the numbers of one process, whatever fails or is killed."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace

import pytest
import torch

from elboscope.core import InputError, seeded
from elboscope.reproductions import names_taking
from elboscope.reproductions.frame.experiment import reproduce, reproduce_run
from elboscope.reproductions.frame.sitting import Options, Workers, sitting
from elboscope.reproductions.rosca2018 import hybrid_runs as hybrids_training
from elboscope.reproductions.rosca2018.hybrid_plan import MODELS, load_hybrid_images
from elboscope.reproductions.rosca2018.hybrid_runs import hybrid_runs, run_name
from elboscope.reproductions.rosca2018.hybrid_scores import Measured, hybrid_claims
from elboscope.reproductions.rosca2018.hybrids import CELEBA, CIFAR_10, COLOR_MNIST
from elboscope.reproductions.rosca2018.networks import new_model
from elboscope.sweeps.executor import Executor
from elboscope.sweeps.study import run_state
from elboscope.training import read_rows
from elboscope.training.steps import TrainingInterrupted

SMOKE = COLOR_MNIST.plans["smoke"]
TWO = Executor(workers=2)
RUNS = hybrid_runs(SMOKE)
VGH = [run for run in RUNS if run.setting.model == "VGH"]
SWEPT = next(run for run in RUNS if run.setting.weights == (1.0, 1.0))


def saying(code):
    """Workers that do nothing but this."""
    return Workers(TWO, (sys.executable, "-S", "-c", code))


FAILING = saying("import sys; sys.exit('elboscope: error: no memory')")


@pytest.fixture
def without(hybrids_run, tmp_path):
    """Returns a copy of the finished folder from which some runs are missing."""

    def copy(*runs):
        out = tmp_path / "run"
        shutil.copytree(hybrids_run[1], out)
        for run in runs:
            shutil.rmtree(out / "state" / run.name)
        return out

    return copy


def swept(out, run):
    return out / "state" / "sweep" / f"trial-{RUNS.index(run):03d}" / "seed-0"


def wait_for(holds, seconds=120.0):
    until = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < until, "it did not happen"
        time.sleep(0.02)


@pytest.mark.parametrize("experiment", [COLOR_MNIST, CIFAR_10, CELEBA], ids=lambda e: e.name)
def test_every_run_has_a_name_of_its_own(experiment):
    assert experiment.name in names_taking("--workers")
    for plan in experiment.plans.values():
        names = [run.name for run in hybrid_runs(plan)]
        assert len({name.lower() for name in names}) == len(names)
        assert run_name(len(names) - 1, plan) == names[-1]
        assert run_name(len(names), plan) == "data"
        with pytest.raises(InputError, match=f"a run: expected a number below {len(names) + 1}"):
            run_name(len(names) + 1, plan)


@pytest.mark.slow
def test_one_run_alone_is_that_of_the_whole_and_nothing_is_done_twice(without, hybrids_run):
    """What this process has made needs no worker: these would fail."""
    outcome, _ = hybrids_run
    out = without(VGH[1])
    reproduce_run(COLOR_MNIST, RUNS.index(VGH[1]), "smoke", out=out)
    folder = swept(out, VGH[1])
    assert run_state(folder).status == "finished"
    said = json.loads((folder / "run.json").read_text())
    assert said["run"] == VGH[1].name
    assert said["steps"] == SMOKE.steps
    (row,) = read_rows(folder / "metrics.csv")
    again = reproduce(COLOR_MNIST, "smoke", out=out, options=Options(resume=True, workers=FAILING))
    assert again.failed == ()
    assert again.rows == outcome.rows
    assert again.claims == outcome.claims
    assert again.notes == outcome.notes
    (vgh,) = [r for r in again.rows if (r.label, r.quantity[-7:]) == ("VGH, samples", "Ŵ(test)")]
    assert row["samples: critic_test"] == vgh.per_seed[1]
    assert again.provenance["device"] == said["device"]
    assert again.provenance["seconds_of_workers"] == said["seconds"]
    assert not list(out.glob("state/sweep/trial-*/seed-0/output.txt"))  # no worker was started


@pytest.mark.slow
def test_what_fails_is_named_and_the_rest_is_there(without, hybrids_run):
    outcome, _ = hybrids_run
    out = without(VGH[1], SWEPT)
    found = reproduce(COLOR_MNIST, "smoke", out=out, options=Options(resume=True, workers=FAILING))
    assert found.failed == (VGH[1].name, SWEPT.name)
    for name in found.failed:
        said = f"{name} failed and is excluded from every number: exit code 1: error: no memory"
        assert said in found.notes
    assert found.record()["failed"] == list(found.failed)
    assert "failed" not in outcome.record()
    rows = {(row.label, row.quantity): row for row in found.rows}
    for row in outcome.rows:
        if row.label.startswith("VGH,"):
            alone = rows[row.label, row.quantity]
            assert alone.error_kind == "own error, one run"
            assert alone.value == row.per_seed[0]
        elif not row.label.endswith(" 3 settings"):
            assert rows[row.label, row.quantity] == row
    assert ("VGH++, samples, 2 settings", "independent critic Ŵ(test)") in rows
    claims = {claim.text: claim.evidence for claim in found.claims}
    (pair,) = [text for text in claims if "VGH++ is nearer to the data than VGH" in text]
    assert "(1 seed)" in claims[pair]
    # the cause is repaired: nothing but what failed is made
    whole = reproduce(COLOR_MNIST, "smoke", out=out, options=Options(resume=True))
    assert whole.rows == outcome.rows
    assert whole.failed == ()


@pytest.mark.slow
def test_a_model_without_any_run_is_an_error(without):
    out = without(*VGH)
    options = Options(resume=True, workers=FAILING)
    words = "VGH: expected a run that ends well; got none: exit code 1: error: no memory"
    with pytest.raises(InputError, match=words):
        reproduce(COLOR_MNIST, "smoke", out=out, options=options)
    assert (out / "state" / RUNS[0].name / "model.safetensors").is_file()


@pytest.mark.slow
def test_ctrl_c_says_how_to_go_on(without):
    out, waiting = without(VGH[0]), saying("import time; time.sleep(300)")

    def interrupt():
        wait_for(lambda: (swept(out, VGH[0]) / "output.txt").exists())
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt) as stop:
        reproduce(COLOR_MNIST, "smoke", out=out, options=Options(resume=True, workers=waiting))
    thread.join()
    said = str(stop.value)
    assert f"Stopped by Ctrl-C with {len(RUNS)} of {len(RUNS) + 1} runs over" in said
    assert said.endswith("Continue with the same command. Add --resume, if it has none.")


@pytest.mark.slow
def test_a_run_by_itself_belongs_to_a_reproduction(without, tmp_path):
    with pytest.raises(InputError, match="new: expected the folder of a reproduction that was beg"):
        reproduce_run(COLOR_MNIST, 0, "smoke", out=tmp_path / "new")
    out = without()
    with pytest.raises(InputError, match="seed: expected 0, with which"):
        reproduce_run(COLOR_MNIST, 0, "smoke", out=out, seed=7)
    with pytest.raises(InputError, match="a run: expected a number below 18; got 18"):
        reproduce_run(COLOR_MNIST, 18, "smoke", out=out)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_training_goes_on_from_its_last_step(tmp_path, monkeypatch, number):
    images = load_hybrid_images(SMOKE, Options(), 0, torch.device("cpu"))
    setting = SMOKE.own("WGAN-GP")
    true = hybrids_training.optimizer_and_step
    steps = []

    def stopping(*arguments):
        optimizer, step = true(*arguments)

        def taken(batch):
            steps.append(step(batch))
            if len(steps) == 2:
                os.kill(os.getpid(), number)

        return optimizer, taken

    def weights(name):
        with seeded(0):
            model = new_model("WGAN-GP", SMOKE, images.shape)
        with sitting(tmp_path / "run", {}, Options(resume=True), None) as now:
            folder = now.folder / name
            hybrids_training.train_run(setting, model, images.train, SMOKE, folder, 0, now)
        return model.state_dict()

    whole = weights("whole")
    monkeypatch.setattr(hybrids_training, "optimizer_and_step", stopping)
    with pytest.raises(TrainingInterrupted, match=r"at epoch 0.32 \(step 2\); saved in .*stopped"):
        weights("stopped")
    again = weights("stopped")
    assert len(steps) == SMOKE.steps
    assert all(torch.equal(whole[name], again[name]) for name in whole)


def test_pairs_are_of_seeds_that_both_finished():
    plan = replace(COLOR_MNIST.plans["paper"], swept=())
    worth = {"VGH": 5.0, "VGH++": 3.0}
    found = {
        (plan.own(model), s): {
            "samples: critic_test": Measured(100.0 * s + worth.get(model, 4.0), 0.1),
            "samples: modes_covered": Measured(1.0, 0.1),
        }
        for model in MODELS
        for s in range(5)
    }
    del found[plan.own("VGH"), 1], found[plan.own("VGH++"), 4]
    claim = next(hybrid_claims(found, plan))
    assert claim.value == pytest.approx(2.0)
    assert "(3 seeds)" in claim.evidence
    for s in (0, 2, 3):
        del found[plan.own("VGH"), s]
    claim = next(hybrid_claims(found, plan))
    assert claim.verdict == "undecided"
    assert "(0 seeds)" in claim.evidence


@pytest.mark.slow
def test_killed_and_called_again(without, hybrids_run, monkeypatch):
    """The parent is killed, its workers go on; the same command finds what they made."""
    monkeypatch.setenv("OMP_NUM_THREADS", str(torch.get_num_threads()))
    outcome, _ = hybrids_run
    out = without(VGH[0], SWEPT)
    name = [sys.executable, "-m", "elboscope", "reproduce", "hybrids-colormnist"]
    command = [*name, "--scale", "smoke", "--out", str(out), "--resume", "--workers", "2"]
    parent = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_for(lambda: (swept(out, VGH[0]) / "output.txt").exists())
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    content = json.loads((out / "result.json").read_text())
    expected = json.loads(json.dumps(outcome.record()["rows"]))
    assert content["rows"] == expected
    outputs = list(out.glob("state/sweep/trial-*/seed-0/output.txt"))
    assert sorted(path.parent for path in outputs) == sorted(
        (swept(out, VGH[0]), swept(out, SWEPT))
    )
