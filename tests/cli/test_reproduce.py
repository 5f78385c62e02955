"""`elboscope reproduce`: names without torch, one clear error, numbers beside the paper's."""

import json
import subprocess
import sys
from dataclasses import replace

import pytest
from rich.console import Console

from elboscope.cli import main, reproduce_command
from elboscope.cli import reproduce_command as reproduce_workers
from elboscope.reproductions import EXPERIMENTS, names_taking
from elboscope.reproductions.frame.result import Reproduction
from elboscope.reproductions.frame.sitting import Unfinished
from elboscope.sweeps.executor import Resources

NAMES = tuple(entry.name for entry in EXPERIMENTS)


def test_help_lists_the_names_without_torch():
    code = (
        "import sys; from elboscope.cli import main; assert main(['reproduce', '--help']) == 0; "
        "assert not {'torch', 'numpy', 'rich'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for name in (*NAMES, "smoke", "cpu", "paper"):
        assert name in done.stdout


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("reproduce iwae-tabel1", ("NAME: expected one of", *NAMES, "'iwae-table1'?")),
        ("reproduce", ("elboscope reproduce", "NAME")),
        ("reproduce iwae-table1 --scale big", ("--scale", "smoke, cpu, paper", "'big'")),
        ("reproduce iwae-table1 --slice-seconds 0", ("--slice-seconds", "at least 1|≥ 1")),
        ("reproduce iwae-table1 --seed x", ("--seed", "'x'")),
        ("reproduce iwae-table1 --sede 1", ("--sede", "Did you mean '--seed'?")),
        ("reproduce iwae-table1 --scale smoke --omniglot no.mat", ("no.mat", "chardata.mat")),
        ("reproduce snr-figure --omniglot x.npy", ("--omniglot", "except with iwae-table1")),
        ("reproduce snr-figure --columns a", ("--columns", "except with inference-subop")),
        ("reproduce inference-suboptimality-table1 --columns ,", ("--columns", "names of columns")),
        ("reproduce snr-figure --workers 2", ("--workers", "except with hybrids-colormnist, ",
                                              "independent; got it with snr-figure")),
        ("reproduce snr-figure --executor slurm", ("--executor: expected nothing, except with",)),
        ("reproduce snr-figure --only-run 0", ("--only-run: expected nothing, except with",)),
        ("reproduce hybrids-celeba --workers 0", ("--workers", "≥ 1", "'0'")),
        ("reproduce hybrids-celeba --executor slrm", ("--executor", "'slurm'?")),
        ("reproduce hybrids-celeba --gpus 0", ("--gpus: expected nothing without --workers or",)),
        ("reproduce hybrids-celeba --workers 2 --minutes 9",
         ("--minutes: expected nothing without --executor slurm; got 9",)),
        ("reproduce hybrids-celeba --workers 2 --slice-seconds 9",
         ("--slice-seconds: expected nothing with --workers: a run that is stopped is saved",)),
        ("reproduce iwae-table1 --scale smoke --out x.npy", ("x.npy", "a folder; got a file")),
        ("reproduce iwae-table1 --scale cpu --data-dir x.npy", ("x.npy",)),
    ],
)  # fmt: skip
def test_mistakes_are_one_line(refuses, command, words):
    line = refuses(command)
    for word in words:
        assert any(choice in line for choice in word.split("|")), (word, line)


@pytest.mark.slow
def test_smoke_prints_and_saves_rows_and_verdicts(folder, capsys):
    command = ["reproduce", "tighter-bounds-table1", "--scale", "smoke", "--out", "here"]
    assert main(command) == 0
    printed = capsys.readouterr().out
    for word in ("IWAE-64", "PIWAE(8,8)", "its epochs", "undecided", "Saved in here"):
        assert word in printed
    content = json.loads((folder / "here/result.json").read_text())
    assert len(content["rows"]) == 20
    assert content["provenance"]["device"].startswith("CPU")
    assert "| paper |" in (folder / "here/result.md").read_text()
    assert main(command) == 2
    assert "Continue it with --resume" in capsys.readouterr().err
    assert main([*command, "--resume"]) == 0  # all is there: it is read
    again = json.loads((folder / "here/result.json").read_text())
    assert again["rows"] == content["rows"]


def test_an_unfinished_slice_has_its_own_code(folder, capsys, monkeypatch):
    def reproduce(*_, **__):
        raise Unfinished("The slice of time ended. Continue with --resume.")

    monkeypatch.setattr(reproduce_command, "reproduce", reproduce)
    assert main(["reproduce", "tighter-bounds-table1", "--scale", "smoke", "--out", "here"]) == 75
    assert "Continue with --resume" in capsys.readouterr().out
    assert not list(folder.glob("here/result*"))


@pytest.fixture
def asked(monkeypatch):
    """Returns the options with which hybrids-celeba is called, and has it return this outcome."""

    def call(outcome, *words):
        told = []

        def reproduce(experiment, scale, *, out, options, **_):
            assert experiment.name == outcome.name
            told.append(options)
            outcome.save(out)
            return outcome

        monkeypatch.setattr(reproduce_command, "reproduce", reproduce)
        code = main(["reproduce", "hybrids-celeba", "--out", "here", *words])
        return code, told[0]

    return call


OUTCOME = Reproduction("hybrids-celeba", "Title", "paper", (), ())


def test_workers_are_told_the_same_command(asked, folder, monkeypatch):
    monkeypatch.setattr(reproduce_workers, "require_slurm", lambda: None)
    words = "--scale paper --seed 3 --data-dir faces --executor slurm --minutes 90 --partition big"
    code, options = asked(
        OUTCOME, *words.split(), "--account", "me", "--cpus", "4", "--memory-gb", "8"
    )
    assert code == 0
    executor, command = options.workers.executor, options.workers.command
    assert executor.resources == Resources(4, 1, 8, 90, "big", "me")
    assert (executor.kind, options.slice_seconds) == ("slurm", None)
    assert command[0] == sys.executable
    told = f"--scale paper --out {folder}/here --seed 3 --data-dir {folder}/faces --only-run"
    assert " ".join(command[1:]) == f"-m elboscope reproduce hybrids-celeba {told}"


def test_one_process_unless_workers_are_asked_for(asked, folder):
    assert asked(OUTCOME)[1].workers is None
    executor = asked(OUTCOME, "--workers", "3")[1].workers.executor
    assert (executor.kind, executor.workers, executor.resources.gpus) == ("local", 3, 0)
    here = asked(OUTCOME, "--workers", "3", "--scale", "paper", "--gpus", "0")[1].workers.executor
    assert here.resources.gpus == 0


def test_runs_that_failed_are_named(asked, folder, capsys):
    code, _ = asked(replace(OUTCOME, failed=("VGH-run-1", "AAE-run-0")))
    assert code == 1
    said = capsys.readouterr().out
    assert "Failed: VGH-run-1, AAE-run-0. The same command with --resume begins them again" in said
    assert json.loads((folder / "here/result.json").read_text())["failed"][0] == "VGH-run-1"


@pytest.mark.parametrize("name", names_taking("--workers"))
def test_a_worker_does_one_run(name, folder, monkeypatch):
    told = []

    def reproduce_run(experiment, *a, out, seed, **_):
        told.append((experiment.name, *a, str(out), seed))

    monkeypatch.setattr(reproduce_command, "reproduce_run", reproduce_run)
    assert main(["reproduce", name, "--out", "here", "--seed", "2", "--only-run", "5"]) == 0
    assert told == [(name, 5, "cpu", "here", 2)]


def test_text_is_never_taken_for_markup(monkeypatch):
    from elboscope.reproductions.frame.claims import Claim
    from elboscope.reproductions.frame.result import Reproduction, Row

    row = Row("[bold]x[/bold]", "log p(x)", 1.0, 0.1, "se")
    claim = Claim("[red]A > B", "[a paper]", "reproduced", "+1 ± 0.1 nats")
    console = Console(width=200, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    with console.file:
        outcome = Reproduction("a", "[b]T", "cpu", (row,), (claim,), ("[i]note",))
        console.print(reproduce_command.printed(outcome))
    text = console.export_text()
    for word in ("[bold]x[/bold]", "[red]A > B", "[a paper]", "[i]note", "[b]T"):
        assert word in text
