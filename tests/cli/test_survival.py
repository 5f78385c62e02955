"""A stopped diagnosis leaves a report of what is done; ``--out`` never costs a file of others."""

import io
import json
import os
import random
import signal
import subprocess
import sys
import time
from contextlib import redirect_stderr, redirect_stdout

import numpy as np
import pytest

from elboscope.cli import diagnose_command, main, terminal
from elboscope.cli.terminal import reported, shown_progress, stoppable
from elboscope.core.files import only_process, output_folder
from elboscope.diagnostics import QUANTITIES
from elboscope.diagnostics import budget as budgets
from elboscope.models import LinearGaussian
from elboscope.report import diagnosis as report_module
from elboscope.report import html

COMMAND = "diagnose tiny.py:model --data x.npy --budget quick --out r"
FILES = {"diagnosis.nc", "findings.json", "report.html"}
SMALL = budgets.Budget("quick", 50, 5, 40, 40, 50, 60.0)
MODEL = """
import elboscope as es
model = es.models.LinearGaussian.instance_1()
"""


@pytest.fixture
def drawn(folder, user_file, monkeypatch):
    """A model and data that are diagnosed in a second."""
    user_file(MODEL, "tiny.py")
    np.save("x.npy", LinearGaussian.instance_1().sample(40, seed=0)[0].numpy())
    monkeypatch.setattr(budgets, "_BUDGETS", {"quick": SMALL})
    return folder


@pytest.fixture
def tiny(drawn, monkeypatch):
    """The same, with a page that takes no time to draw."""
    monkeypatch.setattr(html, "page", lambda findings, estimates, evidence: "a page")
    return drawn


@pytest.fixture
def at_stage(monkeypatch):
    """Does something before the n-th quantity."""

    def arm(number: int, do) -> None:
        def progress(stage: str, done: int, total: int) -> None:
            if done == number:
                do()

        @terminal.contextmanager
        def shown(title: str):
            yield progress

        monkeypatch.setattr(diagnose_command, "shown_progress", shown)

    return arm


def findings(folder) -> dict[str, object]:
    found = json.loads((folder / "r/findings.json").read_text())
    found["settings"].pop("expected_seconds")
    return found


@pytest.mark.parametrize(
    ("number", "name", "code"),
    [
        (signal.SIGINT, "Ctrl-C", 130),
        (signal.SIGTERM, "SIGTERM", 143),
        (signal.SIGHUP, "SIGHUP", 129),
    ],
)
def test_a_signal_leaves_a_report_of_what_is_done(number, name, code, tiny, at_stage, capsys):
    at_stage(6, lambda: os.kill(os.getpid(), number))
    assert main(COMMAND.split()) == code
    said = capsys.readouterr()
    assert f"Stopped by {name} after 6 of {len(QUANTITIES)} quantities." in said.err
    assert "The report in r has these; --resume computes the rest." in said.err
    assert "log p(x)" in said.out
    where = f"stopped by {name} after 6 of {len(QUANTITIES)} quantities"
    assert findings(tiny)["settings"]["unfinished"] == where
    assert {path.name for path in (tiny / "r").iterdir()} == {*FILES, "unfinished"}


@pytest.mark.slow
def test_resume_completes_the_report(drawn, at_stage):
    at_stage(6, lambda: os.kill(os.getpid(), signal.SIGTERM))
    assert main(COMMAND.split()) == 143
    assert "stopped by SIGTERM after 6 of" in (drawn / "r/report.html").read_text()
    at_stage(-1, lambda: None)
    assert main(f"{COMMAND} --resume".split()) == 0
    resumed = findings(drawn)
    assert {path.name for path in (drawn / "r").iterdir()} == FILES
    assert "stopped by" not in (drawn / "r/report.html").read_text()
    assert main(COMMAND.split()) == 0
    assert findings(drawn) == resumed


def test_a_second_signal_does_not_cost_the_report(tiny, at_stage, monkeypatch, capsys):
    original = diagnose_command.summary

    def closing(diagnosis):
        os.kill(os.getpid(), signal.SIGHUP)
        os.kill(os.getpid(), signal.SIGTERM)
        return original(diagnosis)

    monkeypatch.setattr(diagnose_command, "summary", closing)
    at_stage(3, lambda: os.kill(os.getpid(), signal.SIGHUP))
    assert main(COMMAND.split()) == 129
    assert (tiny / "r/report.html").exists()


def test_a_hangup_that_was_ignored_before_stays_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stoppable():
            os.kill(os.getpid(), signal.SIGHUP)  # as under nohup
    finally:
        signal.signal(signal.SIGHUP, before)


def test_begun_again_without_resume_says_so(tiny, at_stage, capsys):
    at_stage(2, lambda: os.kill(os.getpid(), signal.SIGINT))
    assert main(COMMAND.split()) == 130
    assert main(COMMAND.split()) == 130
    assert "r has an interrupted diagnosis; it begins again, without" in capsys.readouterr().out
    assert main(f"{COMMAND} --seed 1 --resume".split()) == 2
    words = "seed: expected 0, with which the diagnosis in r/unfinished was begun; got 1."
    assert words in capsys.readouterr().err


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_a_terminal_without_greek_is_told_in_other_words(encoding, tiny, at_stage):
    at_stage(3, lambda: os.kill(os.getpid(), signal.SIGINT))
    out = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    with redirect_stdout(out):
        assert main(COMMAND.split()) == 130
    shown = out.buffer.getvalue().decode(encoding)
    assert "log p(x)" in shown
    assert ">= -" in shown
    assert ("+/-" if encoding == "ascii" else "±") in shown
    assert (tiny / "r/report.html").exists()


def test_a_reader_that_has_had_enough_does_not_cost_the_report(tiny, at_stage):
    at_stage(3, lambda: os.kill(os.getpid(), signal.SIGINT))
    end, start = os.pipe()
    os.close(end)
    with open(start, "w", buffering=1) as out, redirect_stdout(out):
        assert main(COMMAND.split()) == 130
    assert (tiny / "r/report.html").exists()


@pytest.mark.slow
def test_a_full_disk_behind_standard_output_does_not_cost_the_report(tiny, at_stage, capsys):
    at_stage(3, lambda: None)
    with open("/dev/full", "w", buffering=1) as out, redirect_stdout(out):
        assert main(COMMAND.split()) == 2
    assert "the output was cut off: No space left on device" in capsys.readouterr().err
    assert (tiny / "r/report.html").exists()


def test_where_the_report_does_not_fit_the_numbers_are_printed_and_kept(
    tiny, at_stage, monkeypatch, capsys
):
    def full(path, content):
        from elboscope.core import InputError

        raise InputError(str(path), expected="a path that can be written", got="OSError: No space")

    with monkeypatch.context() as patch:
        patch.setattr(report_module, "replace_with", full)
        assert main(COMMAND.split()) == 2
    said = capsys.readouterr()
    assert "log p(x)" in said.out
    assert "Make room; --resume then writes the report, and computes nothing again." in said.err
    at_stage(0, lambda: None)
    assert main(f"{COMMAND} --resume".split()) == 0
    assert (tiny / "r/report.html").exists()


def test_progress_without_a_terminal_is_a_line_now_and_then(monkeypatch):
    monkeypatch.setattr(terminal, "SOON", 0.01)
    monkeypatch.setattr(terminal, "LATER", 0.01)
    err = io.StringIO()
    with redirect_stderr(err), shown_progress("diagnosing") as progress:
        progress("log_px", 3, 33)
        while "log_px" not in err.getvalue():
            time.sleep(0.01)
    assert err.getvalue().startswith("diagnosing: 3 of 33 done, now log_px (0 s)\n")


def test_one_diagnosis_a_folder(tiny, capsys):
    (tiny / "r/unfinished").mkdir(parents=True)
    with only_process(tiny / "r/unfinished", ".report.lock"):
        assert main(COMMAND.split()) == 2
    words = (
        f"expected a folder that no other process is writing; got one that process {os.getpid()}"
    )
    assert words in capsys.readouterr().err


def test_files_that_are_not_of_a_report_are_kept(tiny, capsys):
    (tiny / "r").mkdir()
    (tiny / "r/report.html").write_text("mine")
    assert main(COMMAND.split()) == 2
    words = (
        "r: expected a new folder, or one of an earlier report; got one with report.html of some"
    )
    assert words in capsys.readouterr().err
    assert (tiny / "r/report.html").read_text() == "mine"


@pytest.mark.parametrize("name", ["config.yaml", "metrics.csv", "model.safetensors", "run.json"])
def test_train_keeps_off_files_that_are_not_of_its_run(name, folder, capsys):
    (folder / name).write_text("mine")
    for more in ("", " --resume"):
        assert main(f"train small.yaml --out .{more}".split()) == 2
        words = f"or one of a run with its training_state; got one with {name} of something else"
        assert words in capsys.readouterr().err
    assert (folder / name).read_text() == "mine"
    assert not (folder / "training_state").exists()


def test_train_keeps_off_the_configuration_it_reads(folder, capsys):
    text = (folder / "small.yaml").read_text()
    (folder / "config.yaml").write_text(text)
    assert main(["train", "config.yaml", "--out", "."]) == 2
    assert "got one with config.yaml of something else. Nothing was ch" in capsys.readouterr().err
    assert (folder / "config.yaml").read_text() == text


def test_a_run_whose_training_state_was_left_behind_is_not_overwritten(folder, capsys):
    assert main(["train", "small.yaml", "--out", "a"]) == 0
    before = (folder / "a/model.safetensors").read_bytes()
    (folder / "a/training_state/checkpoint.safetensors").unlink()
    assert main(["train", "small.yaml", "--out", "a", "--resume"]) == 2
    assert (
        "got one with model.safetensors and run.json of something else" in capsys.readouterr().err
    )
    assert (folder / "a/model.safetensors").read_bytes() == before


@pytest.mark.parametrize("out", ["", " ", "/", "..", "../.."])
@pytest.mark.parametrize(
    "command",
    [
        "train small.yaml",
        "diagnose tiny.py:model --data x.npy",
        "sweep small.yaml",
        "reproduce single-bit --scale smoke",
        "demo",
    ],
)
def test_a_folder_that_no_one_means_is_refused(out, command, tiny, capsys):
    (tiny / "small.yaml").write_text(
        (tiny / "small.yaml").read_text() + "sweep: {parameters: {model.latent_dim: [2]}}\n"
        if command.startswith("sweep")
        else (tiny / "small.yaml").read_text()
    )
    assert main([*command.split(), "--out", out]) == 2
    assert "--out: expected a folder for the results of this command; got" in (
        capsys.readouterr().err
    )


def test_a_folder_below_is_taken(folder):
    assert output_folder("../elsewhere/a").name == "a"
    assert output_folder(".").resolve() == folder.resolve()


def test_output_that_is_lost_is_no_error_of_the_command(capsys):
    """Ten thousand lines into a closed pipe: the command goes on to its end."""
    end, start = os.pipe()
    os.close(end)
    seen = []

    def run() -> int:
        for number in range(10_000):
            print(number)
        seen.append("the end")
        return 0

    with open(start, "w") as out, redirect_stdout(out):
        assert reported(run, debug=False) == 0
    assert seen == ["the end"]


@pytest.mark.slow
def test_kill_9_at_random_moments_changes_no_number(tiny):
    words = [sys.executable, "-m", "elboscope", *COMMAND.split(), "--resume"]
    began = time.monotonic()
    assert subprocess.run(words, capture_output=True, check=False).returncode == 0
    seconds = time.monotonic() - began
    whole = findings(tiny)
    (tiny / "r").rename(tiny / "whole")
    rng, kills = random.Random(7), 0
    while kills < 3:
        child = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(rng.uniform(0.3, 1.0) * seconds)
        kills += child.poll() is None
        child.kill()
        child.wait()
    assert subprocess.run(words, capture_output=True, check=False).returncode == 0
    assert findings(tiny) == whole
