"""A run folder of someone else is data: nothing that it names is executed unless it is trusted."""

import inspect
import typing

import numpy as np
import pytest
import yaml
from campaign.folders import COMMANDS, FOLDERS, attacked, written

from elboscope import models
from elboscope.cli import main
from elboscope.cli.resolve import MODELS, POSTERIORS, PRIORS
from elboscope.models import PosteriorFamily, PriorFamily


@pytest.fixture(scope="module")
def here():
    with written() as folder:
        yield folder


@pytest.mark.parametrize("number", range(len(FOLDERS)), ids=[f.name for f in FOLDERS])
def test_a_hostile_folder_is_refused_or_harmless(here, number):
    how, said = attacked(FOLDERS[number], ("diagnose", "sample")[number % 2])
    assert how in ("refused", "opened"), said
    assert "Traceback" not in said
    assert "\x1b" not in said


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_opens_every_hostile_folder(here, command):
    endings = {hostile.name: attacked(hostile, command) for hostile in FOLDERS}
    assert {k: v for k, v in endings.items() if v[0] not in ("refused", "opened")} == {}


@pytest.mark.parametrize("name", [*MODELS, *POSTERIORS, *PRIORS])
def test_no_argument_of_an_own_class_can_name_code(name):
    """Jsonargparse would import a class for an argument of a type that is none of these."""
    plain = (bool, int, float, str, type(None), PosteriorFamily, PriorFamily)

    def parts(hint):
        inner = typing.get_args(hint)
        if typing.get_origin(hint) is typing.Literal or hint is Ellipsis:
            return []
        return [p for i in inner for p in parts(i)] if inner else [hint]

    target = getattr(models, name)
    hints = typing.get_type_hints(target.__init__ if inspect.isclass(target) else target)
    hints.pop("return", None)
    assert [p for hint in hints.values() for p in parts(hint) if p not in plain] == []


CODE = """
from pathlib import Path
Path("imported").touch()
from elboscope.objectives import ELBO
from elboscope.models import mlp_vae
def build(data_shape): return mlp_vae(data_shape, 2, (8,))
def objective():
    Path("built").touch()
    return ELBO()
"""


@pytest.fixture
def of_a_friend(folder, capsys):
    """A run whose model and objective are functions in a file."""
    (folder / "mine.py").write_text(CODE)
    config = {
        "data": "x.npy",
        "model": {"class_path": "mine.py:build"},
        "objective": {"class_path": "mine.py:objective"},
        "training": {"epochs": 1, "tensorboard": False},
    }
    (folder / "mine.yaml").write_text(yaml.safe_dump(config))
    np.save(folder / "x.npy", np.eye(40, 64, dtype="float32"))
    assert main(["train", "mine.yaml", "--out", "run"]) == 0
    assert "Next: elboscope diagnose run --trust" in capsys.readouterr().out
    for name in ("imported", "built"):
        (folder / name).unlink()
    return folder


def test_a_class_of_ones_own_is_imported_where_it_is_trusted(of_a_friend, refuses, capsys):
    words = (
        "run/config.yaml, model.class_path: expected one of elboscope's own classes",
        "mine.py:build', code that would run with your rights",
        "Nothing was imported.",
        "--trust",
    )
    refuses("sample run --out a.png", *words)
    refuses("check run", *words)
    refuses("diagnose run", *words)
    refuses("train run/config.yaml --resume --training.epochs 2", *words)
    assert main(["check", "run", "--trust"]) == 0
    out = capsys.readouterr().out
    place = of_a_friend / "mine.py"
    assert f"--trust: importing '{place}:build' (model.class_path in run/config.yaml)" in out
    assert out.index("importing") < out.index("keeps the contract")
    assert (of_a_friend / "imported").exists()
    assert not (of_a_friend / "built").exists()  # the objective, of which a diagnosis needs nothing
    assert main(["train", "run/config.yaml", "--resume", "--trust", "--training.epochs", "2"]) == 0
    assert (of_a_friend / "built").exists()


def test_what_is_typed_needs_no_trust(of_a_friend, refuses):
    assert main(["train", "run/config.yaml", "--out", "again", "--model", "mine.py:build",
                 "--objective", "ELBO"]) == 2  # fmt: skip
    assert not (of_a_friend / "imported").exists()
    (of_a_friend / "run/config.yaml").write_text("data: x.npy\nmodel: mlp_vae\n")
    assert main(["train", "run/config.yaml", "--out", "again", "--model", "mine.py:build",
                 "--training.epochs", "1"]) == 0  # fmt: skip


@pytest.mark.parametrize(("name", "trusted"), [("mine.py:build", True), ("mlp_vae", False)])
def test_the_runs_of_a_sweep_trust_what_its_file_names(of_a_friend, name, trusted):
    from types import SimpleNamespace

    from elboscope.cli.sweep_command import _prepared

    settings = {} if trusted else {"latent_dim": 2}
    base = {"data": "x.npy", "model": {"class_path": name, "init_args": settings}}
    run = SimpleNamespace(trial=SimpleNamespace(parameters={}), seed=0, folder=of_a_friend)
    assert ("--trust" in _prepared(base, None, run)) is trusted


def test_the_objective_of_a_run_is_repeated_and_not_built(folder):
    from elboscope.cli.diagnose_command import _settings
    from elboscope.cli.evaluation_data import EvaluationData, load_target
    from elboscope.data import Binarisation

    weighted = "--objective KLWeight --objective.kl_weight 3 --training.epochs 1 --out run"
    assert main(f"train small.yaml {weighted} --binarisation fixed".split()) == 0
    target = load_target("run")
    assert target.run.settings.objective is None
    data = EvaluationData(None, None, Binarisation("none"), "x", "", None)
    known = _settings(target, data)
    assert known["objective"] == "KLWeight(kl_weight=3.0, reduction='sum')"
    assert (known["kl_weight"], known["reduction"]) == (3.0, "sum")
