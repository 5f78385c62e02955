"""`elboscope reproduce`: names without torch, one clear error, numbers beside the paper's."""

import json
import subprocess
import sys

import pytest
from rich.console import Console

from elboscope.cli import main, reproduce_command
from elboscope.reproductions import SUMMARIES, tighter_bounds_table1
from elboscope.reproductions.sitting import Unfinished


def test_help_lists_the_names_without_torch():
    code = (
        "import sys; from elboscope.cli import main; assert main(['reproduce', '--help']) == 0; "
        "assert not {'torch', 'numpy', 'rich'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for name in (*SUMMARIES, "smoke", "cpu", "paper"):
        assert name in done.stdout


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("reproduce iwae-tabel1", ("NAME: expected one of", *SUMMARIES, "'iwae-table1'?")),
        ("reproduce", ("elboscope reproduce", "NAME")),
        ("reproduce iwae-table1 --scale big", ("--scale", "smoke, cpu, paper", "'big'")),
        ("reproduce iwae-table1 --slice-seconds 0", ("--slice-seconds", "at least 1|≥ 1")),
        ("reproduce iwae-table1 --seed x", ("--seed", "'x'")),
        ("reproduce iwae-table1 --sede 1", ("--sede", "Did you mean '--seed'?")),
        ("reproduce iwae-table1 --scale smoke --omniglot no.mat", ("no.mat", "chardata.mat")),
        ("reproduce snr-figure --omniglot x.npy", ("--omniglot", "except with iwae-table1")),
        ("reproduce snr-figure --columns a", ("--columns", "except with inference-subop")),
        ("reproduce inference-suboptimality-table1 --columns ,", ("--columns", "names of columns")),
        ("reproduce iwae-table1 --scale smoke --out x.npy", ("x.npy", "a folder; got a file")),
        ("reproduce iwae-table1 --scale cpu --data-dir x.npy", ("x.npy",)),
    ],
)
def test_mistakes_are_one_line(refuses, command, words):
    line = refuses(command)
    for word in words:
        assert any(choice in line for choice in word.split("|")), (word, line)


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

    monkeypatch.setattr(tighter_bounds_table1, "reproduce", reproduce)
    assert main(["reproduce", "tighter-bounds-table1", "--scale", "smoke", "--out", "here"]) == 75
    assert "Continue with --resume" in capsys.readouterr().out
    assert not list(folder.glob("here/result*"))


def test_text_is_never_taken_for_markup(monkeypatch):
    from elboscope.reproductions.claims import Claim
    from elboscope.reproductions.result import Reproduction, Row

    row = Row("[bold]x[/bold]", "log p(x)", 1.0, 0.1, "se")
    claim = Claim("[red]A > B", "[a paper]", "reproduced", "+1 ± 0.1 nats")
    console = Console(width=200, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    with console.file:
        outcome = Reproduction("a", "[b]T", "cpu", (row,), (claim,), ("[i]note",))
        console.print(reproduce_command.printed(outcome))
    text = console.export_text()
    for word in ("[bold]x[/bold]", "[red]A > B", "[a paper]", "[i]note", "[b]T"):
        assert word in text
