"""Whole commands on tiny runs: train, kill, resume, diagnose, sample, check, data."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from elboscope.cli import main

EXAMPLES = Path(__file__).parents[2] / "examples"


def process(command: str, **options) -> subprocess.Popen:
    words = [sys.executable, "-m", "elboscope", *command.split()]
    pipe = subprocess.PIPE
    return subprocess.Popen(words, stdout=pipe, stderr=pipe, text=True, **options)


def metrics(run: Path) -> list[dict[str, str]]:
    with (run / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    return [{k: v for k, v in row.items() if k not in ("seconds", "samples_per_s")} for row in rows]


@pytest.mark.parametrize("command", ["--help", "train --help", "diagnose --help", "--version"])
def test_help_imports_no_torch(command):
    code = f"""
import sys, time
began = time.perf_counter()
from elboscope.cli import main
assert main({command.split()!r}) == 0
heavy = [m for m in ("torch", "numpy", "rich", "yaml", "jsonargparse") if m in sys.modules]
print(f"took {{time.perf_counter() - began:.3f}} s", file=sys.stderr)
assert not heavy, heavy
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    print(done.stderr)  # shown on failure and with -s: the time is information, not a test
    assert done.stdout


def test_trained_twice_from_the_written_configuration(folder, capsys):
    assert main(["train", "small.yaml", "--out", "a", "--training.seed", "3"]) == 0
    assert "Next: elboscope diagnose a" in capsys.readouterr().out
    assert main(["train", "a/config.yaml", "--out", "b"]) == 0
    assert (folder / "a/config.yaml").read_text() == (folder / "b/config.yaml").read_text()
    assert metrics(folder / "a") == metrics(folder / "b")
    weights = [(folder / run / "model.safetensors").read_bytes() for run in "ab"]
    assert weights[0] == weights[1]


@pytest.mark.slow
def test_killed_resumed_diagnosed_sampled(folder, capsys):
    options = "--training.epochs 30 --training.checkpoint_epochs 1"
    assert main(f"train small.yaml --out whole {options}".split()) == 0
    child = process(f"train small.yaml --out run {options}", cwd=folder)
    while child.poll() is None and not (folder / "run/metrics.csv").exists():
        time.sleep(0.01)
    while child.poll() is None and len((folder / "run/metrics.csv").read_text().splitlines()) < 6:
        time.sleep(0.005)
    os.kill(child.pid, signal.SIGKILL)
    child.communicate()
    assert child.returncode == -signal.SIGKILL, "it was too fast to be killed"
    assert main(f"train small.yaml --out run {options}".split()) == 2  # a run is there
    assert main(f"train small.yaml --out run {options} --resume".split()) == 0
    assert metrics(folder / "run") == metrics(folder / "whole")
    capsys.readouterr()

    assert main(["diagnose", "run", "--budget", "quick"]) == 0
    shown = capsys.readouterr().out
    for words in (
        "✓ ok", "log p(x)", "≥ −", "ceiling log N = ", "marginal KL interval", "active units",
        "log p̂(x) − ELBO", "k̂ at most", "run/report/report.html",
    ):  # fmt: skip
        assert words in " ".join(shown.split()), words
    report = folder / "run/report"
    names = ["diagnosis.nc", "findings.json", "report.html"]
    assert sorted(p.name for p in report.iterdir()) == names
    findings = json.loads((report / "findings.json").read_text())
    assert "likelihood scale" in json.dumps(findings)

    assert main(["sample", "run", "--out", "picture.png", "--num", "9"]) == 0
    assert (folder / "picture.png").read_bytes().startswith(b"\x89PNG")
    assert main(["check", "run"]) == 0


def test_ctrl_c_says_how_to_resume(folder):
    child = process("train small.yaml --out run --training.epochs 10000", cwd=folder)
    while child.poll() is None and not (folder / "run/metrics.csv").exists():
        time.sleep(0.01)
    child.send_signal(signal.SIGINT)
    _, err = child.communicate(timeout=60)
    assert child.returncode == 130
    assert "Stopped by Ctrl-C" in err
    assert "--resume" in err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("target", "data"),
    [
        pytest.param("my_file.py:model", "x.npy", marks=pytest.mark.slow),
        pytest.param("my_conv_file.py:model", "images.npy", marks=pytest.mark.slow),
        # flat pixels are laid out as the model has them
        pytest.param("my_conv_file.py:model", "x.npy", marks=pytest.mark.slow),
    ],
)
def test_the_example_files_are_diagnosed(folder, capsys, target, data):
    command = f"diagnose {EXAMPLES / target} --data {data} --budget quick --out r"
    assert main(command.split()) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "60 datapoints" in shown
    assert "no binarisation (values as they are)" in shown
    assert (folder / "r/report.html").exists()


@pytest.mark.parametrize("name", ["my_file.py", "my_conv_file.py"])
def test_the_example_files_are_ten_lines_of_code(name):
    code = (EXAMPLES / name).read_text().split('"""')[2].splitlines()
    lines = [line for line in code if line.strip() and not line.lstrip().startswith("#")]
    assert len(lines) <= 10


def test_check_tells_what_a_model_can_do_and_what_is_wrong(folder, capsys):
    example = f"{EXAMPLES / 'my_file.py'}:model"
    assert main(["check", example, "--data", "x.npy"]) == 0
    assert "x in its support    yes" in capsys.readouterr().out
    assert main(["check", example, "--data", "digits"]) == 1  # grey values
    assert "problem: x lies outside the support" in capsys.readouterr().out
    assert main(["check", example, "--data", "digits", "--binarise", "fixed"]) == 0


def test_a_model_in_an_importable_module(folder, user_file, capsys):
    user_file(
        """
        from torch import nn
        import elboscope as es
        def model():
            return es.from_modules(nn.Linear(64, 4), nn.Linear(2, 64))
        """,
        "my_models_here.py",
    )
    assert main(["check", "my_models_here:model", "--data", "x.npy"]) == 0


def test_data_lists_what_is_here(folder, capsys):
    assert main(["data", "--data-dir", "nowhere"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "digits 1×8×8 1438 359 — embedded (scikit-learn)" in shown
    assert "Data directory: nowhere" in shown


def test_a_closed_pipe_is_no_error(folder):
    child = process("data --data-dir nowhere", cwd=folder)
    child.stdout.close()
    with child.stderr as err:
        assert err.read() == ""
    child.wait()


@pytest.mark.slow
def test_the_demo_is_healthy_and_repeatable(folder, capsys):
    assert main(["demo", "--out", "d"]) == 0
    shown = capsys.readouterr().out
    findings = json.loads((folder / "d/findings.json").read_text())["findings"]
    severities = {finding["check"]: finding["severity"] for finding in findings}
    assert severities["likelihood scale"] == "ok"
    assert "problem" not in severities.values()
    assert str(folder / "d/report.html") in shown
    assert main(["demo", "--out", "d"]) == 0  # a second time: trained already
    assert main(["demo", "--out", "."]) == 2
    assert "a folder with other files" in capsys.readouterr().err


@pytest.mark.slow
def test_without_an_encoder_the_headline_is_ais():
    """An estimate that was made is not hidden behind the one that could not be."""
    from dataclasses import replace

    import elboscope as es
    from elboscope.cli.diagnose_command import headline
    from elboscope.diagnostics.budget import QUICK
    from elboscope.models import LinearGaussian

    model = LinearGaussian.instance_1()
    x, _ = model.sample(120, seed=0)

    class Decoder:
        prior, decode = model.prior, model.decode

    short = replace(QUICK, num_samples=100)
    diagnosis = es.diagnose(Decoder(), x, budget=short)
    first, ais = headline(diagnosis)[0], diagnosis.estimates["log_px_annealed"]
    assert first.quantity == "log p(x), AIS"
    assert f"≥ {ais.mean:.2f}".replace("-", "−") in first.value
    assert "annealed importance sampling" in first.beside
