"""Runs that take no time: a script that leaves a run folder, as training does, without torch."""

import sys
import textwrap

import pytest

from elboscope.sweeps.space import Choices, SweepPlan

TRAINING = """
import json, os, pathlib, signal, sys, time
folder, seed, x, epochs, mode = pathlib.Path(sys.argv[1]), int(sys.argv[2]), *sys.argv[3:]
stopped = []
signal.signal(signal.SIGTERM, lambda *a: stopped.append(1))
with (folder / "starts.txt").open("a") as file:
    file.write(f"{os.getpid()}\\n")
if mode == "error":
    sys.exit("elboscope: error: x: expected less")
if mode == "killed":
    os.kill(os.getpid(), signal.SIGKILL)

def say(status):
    (folder / "part").write_text(json.dumps({"status": status}))
    os.replace(folder / "part", folder / "run.json")

metrics = folder / "metrics.csv"
if not metrics.exists():
    metrics.write_text("epoch,seconds,validation_elbo\\n")
say("running")
for epoch in range(len(metrics.read_text().splitlines()), int(epochs) + 1):
    time.sleep(0.05)
    with metrics.open("a") as file:
        file.write(f"{epoch},{0.05 * epoch},{float(x) + 0.1 * seed - 1 / epoch}\\n")
    if stopped:
        say("interrupted by SIGTERM")
        sys.exit(143)
say("diverged at step 3 (epoch 0.20)" if mode == "diverged" else "finished")
sys.exit(mode == "diverged")
"""


@pytest.fixture
def script(tmp_path):
    path = tmp_path / "training.py"
    path.write_text(textwrap.dedent(TRAINING))
    return path


@pytest.fixture
def prepare(script):
    """Returns the command of a run: its value is x + seed/10 − 1/epochs."""

    def words(run):
        p = run.trial.parameters
        given = (p.get("x", 0.0), p.get("epochs", 2), p.get("mode", "fine"))
        return [sys.executable, "-S", str(script), str(run.folder), str(run.seed), *map(str, given)]

    return words


@pytest.fixture
def plan_of():
    """Returns a plan over the choices that are given."""

    def plan(seeds=(0,), **choices):
        return SweepPlan({name: Choices(name, tuple(v)) for name, v in choices.items()}, seeds)

    return plan
