"""A run that was interrupted, killed, or extended gives the numbers of one that was not."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from small_vae import SampledELBO, SmallVAE, grey, settings

from elboscope.core import InputError, seeded
from elboscope.data import Binarisation
from elboscope.training import Row, TrainingInterrupted, load_run, open_run, read_rows, train

CLOCK = ("seconds", "samples_per_s")
DYNAMIC = Binarisation("dynamic")


def numbers(rows: list[Row]) -> list[Row]:
    return [{k: v for k, v in row.items() if k not in CLOCK} for row in rows]


def same(a: torch.nn.Module, b: torch.nn.Module) -> bool:
    pairs = zip(a.state_dict().items(), b.state_dict().items(), strict=True)
    return all(k == m and torch.equal(v, w) for (k, v), (m, w) in pairs)


@pytest.fixture(scope="module")
def whole() -> tuple[SmallVAE, list[Row]]:
    """The uninterrupted run: six epochs of six steps."""
    model = SmallVAE()
    result = train(model, grey(), settings(), binarisation=DYNAMIC)
    assert result.status == "finished"
    return model, numbers(result.history)


@pytest.fixture
def signal_in_step(monkeypatch: pytest.MonkeyPatch) -> Callable[[int, signal.Signals], None]:
    """Sends this process a signal in the middle of the n-th step from now."""
    original, calls = SampledELBO.__call__, [0]

    def arm(at: int, number: signal.Signals) -> None:
        def interrupting(self, model, x, epoch):  # type: ignore[no-untyped-def]
            calls[0] += 1
            if calls[0] == at:
                os.kill(os.getpid(), number)
            return original(self, model, x, epoch)

        monkeypatch.setattr(SampledELBO, "__call__", interrupting)

    return arm


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("at", [1, 3, 6, 7, 12, 20, 35])
def test_interrupted_and_resumed_is_bit_for_bit_the_whole_run(
    at: int, number: signal.Signals, tmp_path: Path, signal_in_step, whole
) -> None:
    signal_in_step(at, number)
    reason = "Ctrl-C" if number == signal.SIGINT else "SIGTERM"
    with pytest.raises(TrainingInterrupted, match=rf"{reason}.*\(step {at}\); saved in .*--resume"):
        train(SmallVAE(), grey(), settings(), tmp_path, binarisation=DYNAMIC)
    assert load_run(tmp_path).record["status"] == f"interrupted by {reason}"
    model = SmallVAE(seed=99)  # its weights come from the checkpoint
    result = train(model, grey(), settings(), tmp_path, binarisation=DYNAMIC, resume=True)
    assert numbers(result.history) == whole[1]
    assert numbers(read_rows(tmp_path / "metrics.csv")) == whole[1]
    assert same(model, whole[0])


def test_a_terminal_that_is_closed_saves_too(tmp_path: Path, signal_in_step, whole) -> None:
    signal_in_step(4, signal.SIGHUP)
    with pytest.raises(TrainingInterrupted, match=r"Stopped by SIGHUP.*\(step 4\); saved in "):
        train(SmallVAE(), grey(), settings(), tmp_path, binarisation=DYNAMIC)
    result = train(SmallVAE(), grey(), settings(), tmp_path, binarisation=DYNAMIC, resume=True)
    assert numbers(result.history) == whole[1]


def test_interrupted_twice_in_one_run(tmp_path: Path, signal_in_step, whole) -> None:
    for at, resume in ((4, False), (13, True)):
        signal_in_step(at, signal.SIGINT)
        with pytest.raises(TrainingInterrupted):
            train(SmallVAE(), grey(), settings(), tmp_path, binarisation=DYNAMIC, resume=resume)
    result = train(SmallVAE(), grey(), settings(), tmp_path, binarisation=DYNAMIC, resume=True)
    assert numbers(result.history) == whole[1]


def test_without_a_folder_the_message_says_that_nothing_was_saved(signal_in_step) -> None:
    signal_in_step(2, signal.SIGINT)
    with pytest.raises(TrainingInterrupted, match="not saved, for no folder was given"):
        train(SmallVAE(), grey().round(), settings())


def test_a_finished_run_can_be_given_more_epochs(tmp_path: Path, whole) -> None:
    train(SmallVAE(), grey(), settings(epochs=2), tmp_path, binarisation=DYNAMIC)
    model = SmallVAE()
    result = train(model, grey(), settings(), tmp_path, binarisation=DYNAMIC, resume=True)
    assert numbers(result.history) == whole[1]
    assert same(model, whole[0])
    again = train(SmallVAE(3), grey(), settings(), tmp_path, binarisation=DYNAMIC, resume=True)
    assert numbers(again.history) == whole[1]  # nothing was left to do


def test_metrics_written_after_the_checkpoint_are_cut_off(tmp_path: Path, whole) -> None:
    train(SmallVAE(), grey(), settings(epochs=2), tmp_path, binarisation=DYNAMIC)
    with (tmp_path / "metrics.csv").open("a") as file:
        file.write("18,3.0,-1.0,1.0,,,1.0,0.01,1.0,1.0\n24,4.0,-2.0")  # and half a line
    result = train(SmallVAE(), grey(), settings(), tmp_path, binarisation=DYNAMIC, resume=True)
    assert numbers(result.history) == whole[1]
    assert numbers(read_rows(tmp_path / "metrics.csv")) == whole[1]


def test_the_callers_random_state_does_not_matter_and_is_left_alone(tmp_path: Path, whole) -> None:
    with seeded(123):
        before = torch.get_rng_state()
        result = train(SmallVAE(), grey(), settings(), tmp_path, binarisation=DYNAMIC)
        assert torch.equal(before, torch.get_rng_state())
    assert numbers(result.history) == whole[1]


@pytest.mark.parametrize("moment", range(1, 14, 2))
def test_death_between_write_and_rename_leaves_the_old_file(
    moment: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole
) -> None:
    """The n-th rename never happens: what is in the folder still resumes to the same numbers."""
    rename, calls = os.replace, [0]

    def dying(source: object, target: object) -> None:
        calls[0] += 1
        if calls[0] >= moment:
            raise MemoryError("killed here")
        rename(source, target)  # type: ignore[type-var]

    every_epoch = settings(checkpoint_epochs=1)
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", dying)
        with pytest.raises(MemoryError):
            train(SmallVAE(), grey(), every_epoch, tmp_path, binarisation=DYNAMIC)
    result = train(SmallVAE(), grey(), every_epoch, tmp_path, binarisation=DYNAMIC, resume=True)
    assert numbers(result.history) == whole[1]
    assert not list(tmp_path.rglob("*.part"))


def start(folder: Path, epochs: int, pause: float, *more: str) -> subprocess.Popen[bytes]:
    program = Path(__file__).with_name("small_vae.py")
    command = [sys.executable, str(program), str(folder), str(epochs), str(pause), *more]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, stderr=subprocess.PIPE, env=environment)


@pytest.mark.slow
def test_kill_9_at_random_moments_changes_no_number(tmp_path: Path) -> None:
    epochs, pause = 25, 0.004  # 150 steps, at least 0.6 s
    complete = start(tmp_path / "whole", epochs, pause)
    moments = torch.rand(3, generator=torch.Generator().manual_seed(5)).tolist()
    folder, kills = tmp_path / "killed", 0
    for moment in moments:
        process = start(folder, epochs, pause, *(["--resume"] if folder.exists() else []))
        checkpoint = folder / "training_state" / "checkpoint.safetensors"
        while not checkpoint.exists() and process.poll() is None:
            time.sleep(0.01)
        if kills:  # the import takes most of a restart: wait until it has written again
            before = checkpoint.stat().st_mtime_ns
            while checkpoint.stat().st_mtime_ns == before and process.poll() is None:
                time.sleep(0.01)
        time.sleep(0.2 * moment)
        kills += process.poll() is None
        process.kill()
        process.communicate()
    assert kills == 3
    last = start(folder, epochs, pause, "--resume")
    assert last.communicate()[1] == b""
    assert last.returncode == 0
    assert complete.communicate()[1] == b""
    assert complete.returncode == 0
    rows = numbers(read_rows(folder / "metrics.csv"))
    assert rows == numbers(read_rows(tmp_path / "whole" / "metrics.csv"))
    assert len(rows) == epochs
    a, b = SmallVAE(), SmallVAE()
    load_run(folder, a)
    load_run(tmp_path / "whole", b)
    assert same(a, b)


def test_one_process_at_a_time(tmp_path: Path) -> None:
    process = start(tmp_path, 100_000, 0.01)
    try:
        while not (tmp_path / "run.json").exists():
            time.sleep(0.02)
        with pytest.raises(InputError, match=f"process {process.pid} is writing in. Wait for it"):
            train(SmallVAE(), grey().round(), settings(), tmp_path, resume=True)
    finally:
        process.kill()
        process.communicate()
    with open_run(tmp_path, resume=True) as run:  # the dead hold no lock
        assert run.checkpoint.exists()


def test_refusals_name_the_offender(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nothing: expected the folder of a run to resume; got no"):
        train(SmallVAE(), grey().round(), settings(), tmp_path / "nothing", resume=True)
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="file: expected a folder; got a file"):
        train(SmallVAE(), grey().round(), settings(), tmp_path / "file")
    run = tmp_path / "run"
    train(SmallVAE(), grey().round(), settings(epochs=1), run)
    with pytest.raises(InputError, match="run: expected a folder without a run; got one that"):
        train(SmallVAE(), grey().round(), settings(), run)
    with pytest.raises(InputError, match=r"learning_rate: expected 0\.01, with which the run"):
        train(SmallVAE(), grey().round(), settings(learning_rate=0.02), run, resume=True)
    with pytest.raises(InputError, match=r"data checksum: expected '.*got '"):
        train(SmallVAE(), grey(seed=2).round(), settings(), run, resume=True)
    with pytest.raises(InputError, match="binarisation: expected 'no binarisation"):
        train(SmallVAE(), grey().round(), settings(), run, resume=True, binarisation=DYNAMIC)
    wider = SmallVAE()
    wider.decoder = torch.nn.Sequential(torch.nn.Linear(2, 6))
    with pytest.raises(InputError, match="model: expected the model whose weights are in"):
        train(wider, grey().round(), settings(), run, resume=True)
    checkpoint = run / "training_state" / "checkpoint.safetensors"
    checkpoint.write_bytes(checkpoint.read_bytes()[:100])
    with pytest.raises(InputError, match=r"checkpoint.safetensors: expected a checkpoint of this"):
        train(SmallVAE(), grey().round(), settings(), run, resume=True)
