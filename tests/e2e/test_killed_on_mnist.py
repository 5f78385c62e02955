"""Training on MNIST, killed with ``kill -9`` at random moments and resumed: the same bits.

Every metric of the resumed run equals the uninterrupted run's, time columns aside, and so does
every weight. The kills come at moments that nothing in the process can foresee.
"""

import csv
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

CONFIG = Path(__file__).parents[2] / "examples" / "mnist.yaml"
TIMES = ("seconds", "samples_per_s")


def start(out: Path, *more: str) -> subprocess.Popen[str]:
    settings = ["--training.epochs", "3", "--training.checkpoint_seconds", "0.3"]
    settings += ["--training.tensorboard", "false", "--data-dir", os.environ["ELBOSCOPE_DATA"]]
    command = [sys.executable, "-m", "elboscope", "train", str(CONFIG), "--out", str(out)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [*command, *settings, *more], env=environment, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip


def finished(process: subprocess.Popen[str]) -> None:
    output = process.communicate()[0]
    assert process.returncode == 0, output


def killed(out: Path, rng: random.Random, *more: str) -> None:
    """Kills a run at a random moment after its first checkpoint, wherever it then is."""
    process = start(out, *more)
    while not (out / "model.safetensors").exists():
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.01)
    time.sleep(rng.uniform(0.3, 4))
    assert process.poll() is None, "the run ended before it could be killed"
    process.send_signal(signal.SIGKILL)
    process.communicate()


def metrics(out: Path) -> list[dict[str, str]]:
    rows = list(csv.DictReader((out / "metrics.csv").read_text().splitlines()))
    return [{k: v for k, v in row.items() if k not in TIMES} for row in rows]


@pytest.mark.full_data
@pytest.mark.slow
def test_a_run_killed_three_times_gives_the_bits_of_an_uninterrupted_one(tmp_path):
    rng = random.Random()
    finished(start(tmp_path / "whole"))
    killed(tmp_path / "parts", rng)
    killed(tmp_path / "parts", rng, "--resume")
    killed(tmp_path / "parts", rng, "--resume")
    finished(start(tmp_path / "parts", "--resume"))
    assert metrics(tmp_path / "parts") == metrics(tmp_path / "whole")
    assert len(metrics(tmp_path / "whole")) == 3
    whole, parts = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "parts"))
    assert whole.keys() == parts.keys()
    assert all(torch.equal(whole[key], parts[key]) for key in whole)
