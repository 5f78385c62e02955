"""``elboscope sweep`` from the user's end: a YAML file, its mistakes, a kill, the table."""

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
from elboscope.sweeps.study import run_state

BASE = """
data: digits
model: {class_path: mlp_vae, init_args: {latent_dim: 2, hidden: [16]}}
training: {epochs: 1, tensorboard: false, checkpoint_epochs: 1}
"""


@pytest.fixture
def write(folder):
    """Writes s.yaml: the small model with this ``sweep:`` section."""

    def written(section: str) -> None:
        (folder / "s.yaml").write_text(f"{BASE}\nsweep: {section}\n")

    return written


@pytest.mark.parametrize(
    ("section", "words"),
    [
        ("{parameters: {model.latent_dm: [2]}}", ["model.init_args.latent_dm", "'latent_dim'?"]),
        ("{parameters: {modle.latent_dim: [2]}}", ["modle.latent_dim", "mean 'model'?"]),
        ("{parameters: {training.epochs: [2, two]}}", ["training.epochs: expected a whole"]),
        (
            "{parameters: {training.seed: [1]}}",
            ["got the seed", "are sweep.seeds"],
        ),
        ("{parameters: {training.epochs: 3}}", ["a list of values, or {low: …, high: …}; got 3"]),
        ("{parameters: [training.epochs]}", ["sweep.parameters: expected dotted names"]),
        ("{parameters: {training.epochs: []}}", ["training.epochs: expected at least one value"]),
        ("{parameters: {training.epochs: [2, 2]}}", ["expected each value once; got 2 twice"]),
        ("{parameters: {training.epochs: {low: 5, high: 2}}}", ["low < high; got low 5, high 2"]),
        ("{parameters: {training.epochs: {low: 1}}}", ["training.epochs.high: expected a number"]),
        ("{parameters: {training.epochs: {low: 1, hi: 2}}}", ["got 'hi'", "Did you mean 'high'?"]),
        ("{parameters: {training.epochs: {low: 1, high: 9}}}", ["points, how many a grid takes"]),
        (
            "{parameters: {training.eps: {low: 0, high: 1, log: true, points: 2}}}",
            ["training.eps: expected low > 0, for a logarithm"],
        ),
        (
            "{parameters: {training.epochs: {low: 1, high: 9, points: 1}}}",
            ["points: a whole number ≥ 2; got 1"],
        ),
        (
            "{parameters: {training.learning_rate: {low: -1.0, high: 1.0, points: 2}}}",
            ["learning_rate: expected a number > 0"],
        ),
        ("{parameter: {}}", ["sweep.parameter:", "Did you mean 'parameters'?"]),
        ("{sampler: gird}", ["sweep.sampler: expected one of grid, random, tpe", "'grid'?"]),
        ("{sampler: random, parameters: {training.epochs: [1]}}", ["trials: expected a whole"]),
        ("{sampler: tpe, trials: 3}", ["parameters: expected some; got none"]),
        ("{trials: 3}", ["trials: expected nothing with the grid sampler"]),
        ("{trials: x}", ["sweep.trials: expected a whole number; got 'x'"]),
        ("{seeds: [0, 0]}", ["seeds: expected each once; got [0, 0]"]),
        ("{seeds: 0}", ["seeds: expected at least one"]),
        ("{seeds: [-1]}", ["seeds: expected whole numbers ≥ 0"]),
        ("{seeds: many}", ["sweep.seeds: expected whole numbers, or how many; got 'many'"]),
        ("{metric: valid_elbo}", ["sweep.metric: expected one of", "mean 'validation_elbo'?"]),
        ("{metric: loss}", ["sweep.direction: expected maximise or minimise, for the metric loss"]),
        ("{parameters: {training.epochs: [2020-01-01]}}", ["got 2020-01-01. Quote it."]),
        ("{direction: up}", ["sweep.direction: expected one of maximise, minimise; got 'up'"]),
        ("{workers: 0}", ["workers: expected a whole number ≥ 1; got 0"]),
        ("{executor: slrm}", ["sweep.executor: expected one of local, slurm", "'slurm'?"]),
        ("{resources: {cpu: 1}}", ["sweep.resources.cpu", "Did you mean 'cpus'?"]),
        ("{resources: {cpus: some}}", ["sweep.resources.cpus: expected a whole number"]),
        ("{resources: {cpus: 0}}", ["resources.cpus: expected a number > 0; got 0"]),
        ("{resources: {gpus: -1}}", ["resources.gpus: expected a number ≥ 0; got -1"]),
        ("{folder: 3}", ["sweep.folder: expected a path; got 3"]),
        ("3", ["sweep: expected keys with values; got int 3"]),
    ],
)
def test_mistakes(write, refuses, section, words):
    write(section)
    refuses("sweep s.yaml", *words)


@pytest.mark.parametrize(
    ("objective", "section", "words"),
    [
        ("GANGame", "{seeds: 2}", ["sweep.metric: expected one of generator_loss, data_loss"]),
        ("VGH", "{metric: data_los}", ["got 'data_los'. Did you mean 'data_loss'?"]),
        ("VGH", "{metric: train_bound}", ["sweep.metric", "got 'train_bound'"]),
        (
            "ELBO",
            "{metric: loss, direction: minimise, parameters: {objective: [VGHH]}}",
            ["class_path", "'VGHH'"],
        ),
        ("ELBO", "{metric: data_loss, parameters: {objective: [VGH, AAE]}}", ["got 'data_loss'"]),
    ],
)
def test_a_metric_that_a_game_does_not_have(folder, refuses, objective, section, words):
    (folder / "s.yaml").write_text(
        "data: digits\nmodel: {class_path: mlp_hybrid, init_args: {latent_dim: 2}}\n"
        f"objective: {objective}\nsweep: {section}\n"
    )
    refuses("sweep s.yaml", *words)


def test_mistakes_beside_the_section(write, refuses, folder, monkeypatch):
    refuses("sweep small.yaml", "sweep: expected this key; got none", "For example sweep:")
    write("{seeds: 2}")
    refuses("train s.yaml", "got a sweep", "elboscope sweep s.yaml")
    refuses("sweep s.yaml --workers 0", "--workers: expected a whole number ≥ 1; got '0'")
    refuses("sweep s.yaml --dry", "Did you mean '--dry-run'?")
    text = (folder / "s.yaml").read_text()
    (folder / "s.yaml").write_text(text.replace("epochs: 1,", "validation_fraction: 0,"))
    refuses("sweep s.yaml", "sweep.metric", "validation_fraction 0 nothing is held out")
    write("{executor: slurm}")
    monkeypatch.setenv("PATH", "")
    refuses("sweep s.yaml", "a machine of a SLURM cluster; got none: no sbatch here")


def test_without_the_extra_a_grid_is_shown_and_nothing_trained(write, refuses, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    write("{parameters: {model.latent_dim: [2, 4], model.hidden: [[8], [8, 8]]}, seeds: 3}")
    assert main(["sweep", "s.yaml", "--dry-run"]) == 0
    shown = capsys.readouterr().out
    assert "4 trials × 3 seeds = 12 runs, by grid; maximise validation_elbo" in shown
    assert [line.split()[:3] for line in shown.splitlines()[1:3]] == [
        ["0", "2", "[8]"],
        ["1", "2", "[8,"],
    ]
    refuses("sweep s.yaml", "got no module named 'optuna'", "pip install 'elboscope[sweep]'")


def test_a_dry_run_shows_the_draws_that_come(write, folder, capsys):
    space = "parameters: {training.learning_rate: {low: 1e-4, high: 1e-2, log: true}}"
    for sampler, rows in (("random", 3), ("tpe", 1)):
        write(f"{{{space}, sampler: {sampler}, trials: 3}}")
        assert main(["sweep", "s.yaml", "--dry-run"]) == 0
        shown = capsys.readouterr().out
        assert "3 trials × 1 seeds = 3 runs" in shown
        values = shown.partition("3 trials")[0].splitlines()[1:]
        assert len(values) == rows
    assert "0.0001 to 0.01, logarithmic" in shown
    assert not (folder / "sweeps").exists()


def test_the_example_is_the_one_of_the_documents(capsys):
    root = Path(__file__).parents[2]
    example = (root / "examples" / "sweep.yaml").read_text()
    assert example.partition("\n")[2] in (root / "docs" / "sweep.md").read_text()
    assert main(["sweep", str(root / "examples" / "sweep.yaml"), "--dry-run"]) == 0
    assert "4 trials × 3 seeds = 12 runs" in capsys.readouterr().out


def process(command: str, **options) -> subprocess.Popen:
    words = [sys.executable, "-m", "elboscope", *command.split()]
    return subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **options)


def metrics(run):
    with (run / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    return [{k: v for k, v in row.items() if k not in ("seconds", "samples_per_s")} for row in rows]


@pytest.mark.slow
def test_killed_and_called_again(write, folder, capsys):
    write("{parameters: {training.epochs: [1, 40]}, folder: here}")
    child = process("sweep s.yaml", cwd=folder, start_new_session=True)
    short, long = (folder / "here" / f"trial-00{n}" / "seed-0" for n in (0, 1))
    while child.poll() is None and not (
        (long / "metrics.csv").exists() and len(metrics(long)) > 2  # two checkpoints at least
    ):
        time.sleep(0.01)
    os.killpg(child.pid, signal.SIGKILL)
    os.kill(int((long / ".lock").read_text()), signal.SIGKILL)
    child.wait()
    assert run_state(short).status == "finished"
    assert not run_state(long).over, "it was too fast to be killed"
    written = (short / "run.json").stat().st_mtime_ns

    assert main(["sweep", "s.yaml"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "maximise validation_elbo of the last epoch" in shown
    assert "trial 0, seed 0" not in shown  # it was not trained again
    assert (short / "run.json").stat().st_mtime_ns == written
    assert json.loads((long / "run.json").read_text())["resumed_at_step"] > 0
    main(["train", str(long / "config.yaml"), "--out", "whole"])
    assert metrics(long) == metrics(folder / "whole")

    found = json.loads((folder / "here" / "sweep.json").read_text())
    assert found["best"] == 1
    with (folder / "here" / "sweep.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["training.epochs"] for row in rows] == ["1", "40"]
    assert float(rows[1]["validation_elbo"]) == float(metrics(long)[-1]["validation_elbo"])
