"""Interrupted anywhere, a sweep goes on where it was: nothing is lost, nothing is repeated."""

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time

import pytest

from elboscope.core import InputError
from elboscope.sweeps.executor import Executor, held
from elboscope.sweeps.space import Choices, Range, SweepPlan
from elboscope.sweeps.study import run_state
from elboscope.sweeps.sweep import SweepInterrupted, sweep

TWO = Executor(workers=2)


def starts(folder):
    path = folder / "starts.txt"
    return [int(line) for line in path.read_text().split()] if path.exists() else []


def epochs(folder):
    lines = (folder / "metrics.csv").read_text().splitlines()[1:]
    return [int(line.split(",")[0]) for line in lines]


def wait_for(holds, seconds=60.0):
    until = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < until, "it did not happen"
        time.sleep(0.01)


@pytest.mark.slow
def test_every_ending_is_recorded_and_nothing_is_repeated(tmp_path, prepare, plan_of):
    plan = plan_of(seeds=(0, 1), x=[1.0], mode=["fine", "diverged", "error", "killed"])
    told = []

    def report(found, done):
        told.append(done)

    result = sweep(plan, tmp_path / "s", prepare, executor=Executor(workers=4), report=report)
    fine, diverged, error, killed = result.trials
    assert fine.values == pytest.approx({0: 0.5, 1: 0.6})
    assert (fine.mean, fine.sd) == pytest.approx((0.55, 0.1 / 2**0.5))
    reasons = [trial.runs[0].state for trial in (diverged, error, killed)]
    assert [state.status for state in reasons] == ["diverged", "failed", "failed"]
    assert reasons[0].reason == "diverged at step 3 (epoch 0.20)"
    assert reasons[1].reason == "exit code 1: error: x: expected less"
    assert reasons[2].reason.startswith("killed by SIGKILL 3 times (is there enough memory?)")
    assert len(starts(killed.runs[0].run.folder)) == 3
    assert result.best is fine
    assert len(told) == max(told) == 8
    before = {run.run.folder: starts(run.run.folder) for run in result.runs}

    again = sweep(plan, tmp_path / "s", prepare)
    assert [r.value for r in again.runs] == [r.value for r in result.runs]
    assert {run.run.folder: starts(run.run.folder) for run in again.runs} == before


@pytest.mark.slow
def test_failed_runs_begin_again_when_asked_to(tmp_path, prepare, plan_of, script):
    plan = plan_of(x=[1.0], mode=["error"])
    assert sweep(plan, tmp_path / "s", prepare).best is None
    script.write_text(script.read_text().replace('mode == "error"', "False"))
    assert sweep(plan, tmp_path / "s", prepare).best is None
    again = sweep(plan, tmp_path / "s", prepare, retry_failed=True)
    assert [run.value for run in again.runs] == [1.0 - 1 / 2]  # of seed 0, two epochs


@pytest.mark.slow
def test_ctrl_c_saves_and_says_how_to_go_on(tmp_path, prepare, plan_of, capfd):
    plan, folder = plan_of(x=[1.0], epochs=[2, 60]), tmp_path / "s"
    running = folder / "trial-001" / "seed-0"

    def interrupt():
        wait_for(lambda: (running / "metrics.csv").exists() and len(epochs(running)) > 2)
        wait_for(lambda: run_state(folder / "trial-000" / "seed-0").over)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(SweepInterrupted) as stop:
        sweep(plan, folder, prepare, executor=TWO)
    thread.join()
    assert "Stopped by Ctrl-C with 1 of 2 runs over; the others are saved" in str(stop.value)
    assert "Continue with the same command" in str(stop.value)
    assert run_state(running).reason == "interrupted by SIGTERM"
    assert not held(running)
    assert capfd.readouterr().err == ""  # no traceback of what is behind
    done = len(epochs(running))
    assert 2 < done < 60
    # what was saved is continued: no epoch twice
    finished = sweep(plan, folder, prepare, executor=TWO)
    assert finished.trials[1].complete
    assert epochs(running) == list(range(1, 61))
    assert len(starts(running)) == 2
    assert len(starts(folder / "trial-000" / "seed-0")) == 1


DRIVER = """
    import sys
    from pathlib import Path
    from elboscope.sweeps.executor import Executor
    from elboscope.sweeps.space import SweepPlan
    from elboscope.sweeps.space import Choices
    from elboscope.sweeps.sweep import sweep
    def prepare(run):
        p = run.trial.parameters
        return [sys.executable, "-S", sys.argv[1], str(run.folder), str(run.seed), str(p["x"]),
                str(p["epochs"]), "fine"]
    space = {"x": Choices("x", (1.0,)), "epochs": Choices("epochs", (2, 60, 3))}
    sweep(SweepPlan(space), Path(sys.argv[2]), prepare, executor=Executor(workers=2))
"""


@pytest.mark.slow
@pytest.mark.parametrize("all_of_it", [False, True], ids=["the sweep alone", "everything"])
def test_killed(tmp_path, prepare, script, plan_of, all_of_it):
    folder = tmp_path / "s"
    driver = tmp_path / "driver.py"
    driver.write_text(textwrap.dedent(DRIVER))
    words = [sys.executable, str(driver), str(script), str(folder)]
    child = subprocess.Popen(words, start_new_session=True)
    short, long = (folder / f"trial-00{n}" / "seed-0" for n in (0, 1))
    wait_for(lambda: run_state(short).over and (long / "metrics.csv").exists())
    wait_for(lambda: len(epochs(long)) > 3)
    (os.killpg if all_of_it else os.kill)(child.pid, signal.SIGKILL)
    if all_of_it:
        os.kill(starts(long)[0], signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL
    assert not run_state(long).over, "it was too fast to be killed"

    result = sweep(plan_of(x=[1.0], epochs=[2, 60, 3]), folder, prepare, executor=TWO)
    assert [trial.complete for trial in result.trials] == [True, True, True]
    assert len(starts(short)) == 1
    # the training that outlived the sweep was waited for; the one that did not was continued
    assert len(starts(long)) == (2 if all_of_it else 1)
    assert epochs(long) == list(range(1, 61))


@pytest.mark.slow
def test_another_sweep_in_the_folder_is_refused(tmp_path, prepare, plan_of):
    sweep(plan_of(x=[1.0]), tmp_path / "s", prepare, about={"config": {"data": "digits"}})
    with pytest.raises(InputError, match=r"the sweep that is there, with sweep.parameters.x.values "
                       r"\[1.0\]; got \[2.0\]. Choose another folder"):  # fmt: skip
        sweep(plan_of(x=[2.0]), tmp_path / "s", prepare, about={"config": {"data": "digits"}})
    with pytest.raises(InputError, match=r"with config\.data 'digits'; got 'mnist'"):
        sweep(plan_of(x=[1.0]), tmp_path / "s", prepare, about={"config": {"data": "mnist"}})
    with pytest.raises(InputError, match="a new folder, or one of a sweep; got a run folder"):
        sweep(plan_of(x=[1.0]), tmp_path / "s" / "trial-000" / "seed-0", prepare)


@pytest.mark.parametrize("name", ["plan.json", "sweep.csv", "sweep.json", "journal.log"])
def test_files_that_are_not_of_a_sweep_are_kept(name, tmp_path, prepare, plan_of):
    (tmp_path / name).write_text("mine")
    with pytest.raises(InputError, match=f"or one of a sweep; got one with {name} of something"):
        sweep(plan_of(x=[1.0]), tmp_path, prepare)
    assert (tmp_path / name).read_text() == "mine"


@pytest.mark.slow
def test_more_trials_go_on_where_fewer_ended(tmp_path, prepare):
    def plan(trials):
        return SweepPlan({"x": Range("x", 0.0, 1.0)}, sampler="random", trials=trials, seed=3)

    whole = sweep(plan(3), tmp_path / "whole", prepare, executor=Executor(workers=3))
    first = sweep(plan(1), tmp_path / "s", prepare)
    grown = sweep(plan(3), tmp_path / "s", prepare, executor=TWO)
    points = [trial.trial.parameters["x"] for trial in whole.trials]
    assert [trial.trial.parameters["x"] for trial in grown.trials] == points
    assert len(set(points)) == 3
    assert first.trials[0].values == grown.trials[0].values
    with pytest.raises(InputError, match=r"sweep\.trials 3 or more; got 2"):
        sweep(plan(2), tmp_path / "s", prepare)


@pytest.mark.slow
def test_a_process_that_leaves_nothing_is_no_endless_loop(tmp_path, plan_of):
    result = sweep(plan_of(x=[1.0]), tmp_path / "s", lambda run: ["/no/such/program"])
    state = result.runs[0].state
    assert state.status == "failed"
    assert "its process ended 3 times without a result" in state.reason


def test_a_run_without_the_metric_has_failed(tmp_path, prepare):
    plan = SweepPlan({"x": Choices("x", (1.0,))}, metric="train_bound")
    state = sweep(plan, tmp_path / "s", prepare).runs[0].state
    assert state.status == "failed"
    assert state.reason.startswith("no train_bound in metrics.csv, which has epoch, seconds")


def test_without_the_extra(tmp_path, prepare, plan_of, monkeypatch):
    monkeypatch.setitem(sys.modules, "submitit", None)
    with pytest.raises(InputError, match=r"pip install 'elboscope\[sweep\]'"):
        sweep(plan_of(x=[1.0]), tmp_path / "s", prepare)
    assert not (tmp_path / "s").exists()
