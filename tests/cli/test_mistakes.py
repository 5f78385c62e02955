"""A sample of the campaigns: whatever is typed or passed wrongly, elboscope does not blame itself.

All of it is ``python -m campaign mistakes``.
"""

import warnings

import pytest
from campaign.mistakes import FAULTS, calls, commands, prepared, run_command

from elboscope.cli import main


@pytest.fixture(scope="module")
def here():
    with prepared() as folder:
        yield folder


@pytest.mark.filterwarnings("ignore")
def test_generated_commands(here):
    generated = [words for kind, words in commands(seed=0, count=12) if kind != "full_disk"]
    endings = [run_command(words) for words in generated]
    assert [ending for ending in endings if ending.how in FAULTS] == []
    assert sum(ending.how == "user error" for ending in endings) > 6


@pytest.mark.filterwarnings("ignore")
def test_generated_calls():
    """Beartype refuses some arguments of ``check_model`` before it can: those are left out."""
    endings = [e for e in calls(seed=0, count=40) if not e.said.startswith("TypeCheckError")]
    assert [ending for ending in endings if ending.how in FAULTS] == []
    assert len(endings) > 25


EXITING = """
import sys, torch
from torch.distributions import Bernoulli, Independent, Normal
class Model:
    def prior(self): return Independent(Normal(torch.zeros(2), torch.ones(2)), 1)
    def encode(self, x): return Independent(Normal(x[:, :2], 1.0), 1)
    def decode(self, z):
        {body}
        return Independent(Bernoulli(logits=z.repeat_interleave(32, -1)), 1)
model = Model()
{end}
"""


@pytest.mark.parametrize(
    ("body", "end", "words"),
    [
        ("pass", "sys.exit()", "mine.py: expected code that can be imported; got SystemExit"),
        ("sys.exit(0)", "", "decode(z): expected an answer for an argument of shape"),
        ("raise SystemExit", "", "got sys.exit()"),
        ("pass", "Model.__init__ = lambda s: sys.exit(0); model = Model", "mine.py:model"),
    ],
)
def test_sys_exit_in_a_model_is_no_success(refuses, user_file, body, end, words):
    user_file(EXITING.format(body=body, end=end))
    refuses("check mine.py:model --data x.npy", words)


def test_sys_exit_where_no_clause_is_checked(refuses, user_file):
    end = "model = type('M', (Model,), {'__getattr__': lambda s, n: sys.exit(0)})()"
    user_file(EXITING.format(body="pass", end=end))
    refuses("check mine.py:model --data x.npy", "mine.py, line 11: expected a model whose methods "
            "return; got sys.exit(0), as a script would")  # fmt: skip


def test_what_the_users_code_raises_is_the_users(refuses, user_file):
    end = "Model.decode = property(lambda self: 1 / 0)"
    user_file(EXITING.format(body="pass", end=end))
    refuses("check mine.py:model --data x.npy", "ZeroDivisionError: division by zero", "mine.py")


def test_sample_checks_the_contract(refuses, user_file):
    user_file(EXITING.format(body="return z.sigmoid()", end=""))
    refuses("sample mine.py:model --out a.png",
            "decode(z): expected a torch.distributions.Distribution; got Tensor.")  # fmt: skip


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("--training.epochs=2020-13-45", "--training.epochs: expected a value; got month must be"),
        ("--training.epochs=null", "epochs: expected a whole number ≥ 1; got None."),
        ("--training.betas=[1,2]", "betas: expected two numbers in [0, 1)"),
        ("--model=&a {b: *a}", "--model: expected a value; got one that contains itself"),
        (f"--model={'[' * 500}", "--model: expected a value; got brackets nested too deeply"),
        ("--data=~no_such_user/x.npy", "~no_such_user/x.npy: expected a path; got the home folder"),
        ("--objective=os:path", "objective (os:path): expected an Objective or a Game"),
        ("--objective=builtins:int", "objective (builtins:int): expected an Objective or a Game"),
    ],
)
def test_values_that_no_one_means(folder, capsys, option, words):
    assert main(["train", "small.yaml", option, "--out", "run"]) == 2
    err = capsys.readouterr().err
    assert err.startswith(f"elboscope: error: {words}")
    assert err.count("\n") == 1


@pytest.fixture
def run(folder):
    assert main(["train", "small.yaml", "--out", "run", "--training.epochs", "1"]) == 0
    return folder / "run"


@pytest.mark.parametrize(
    ("file", "text", "words"),
    [
        (
            "run.json",
            "null",
            "run: expected a run folder with a run.json; got one that holds a NoneType",
        ),
        (
            "run.json",
            '{"data": {"shape": [3, "a"]}}',
            "run/run.json, data.shape: expected the shape of the training data",
        ),
        ("run.json", "[" * 100_000, "got a damaged one (maximum recursion"),
        ("metrics.csv", "step,loss\n1,x\n", "metrics.csv: expected a line of names and a line of"),
        ("metrics.csv", "step\n1,2,3\n", "got a damaged file"),
        ("config.yaml", "data: &a [*a]\n", "run/config.yaml: expected YAML; got one that contains"),
    ],
)
def test_a_damaged_run_folder(run, capsys, file, text, words):
    (run / file).write_text(text)
    capsys.readouterr()
    with warnings.catch_warnings():
        assert main(["check", "run"]) == 2
    assert words in capsys.readouterr().err


def test_a_full_disk_is_no_defect(here, capsys):
    ending = run_command(["FULL", "1000", "train", "small.yaml", "--out", "out/full"])
    assert ending.how == "user error"
    assert "File too large" in ending.said


def test_a_link_in_a_folder_is_not_followed(run, capsys):
    (run.parent / "precious").write_text("kept")
    (run / ".lock").unlink()
    (run / ".lock").symlink_to(run.parent / "precious")
    assert main(["train", "small.yaml", "--out", "run", "--resume", "--training.epochs", "2"]) == 2
    assert ".lock: expected a file; got a link to another place." in capsys.readouterr().err
    assert (run.parent / "precious").read_text() == "kept"
