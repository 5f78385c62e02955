"""The listing and the experiments agree, and one way of running them serves all."""

import pkgutil
import tomllib
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import pytest
import torch

from elboscope import reproductions
from elboscope.core import InputError
from elboscope.reproductions import EXPERIMENTS, SCALES, listed
from elboscope.reproductions.frame.claims import Claim
from elboscope.reproductions.frame.experiment import (
    Experiment,
    SeparateRuns,
    Sets,
    find_experiment,
    no_data,
    reproduce,
    reproduce_run,
)
from elboscope.reproductions.frame.result import Row
from elboscope.reproductions.frame.sitting import Options

PAPERS = sorted({entry.paper for entry in EXPERIMENTS})


@pytest.mark.parametrize("entry", EXPERIMENTS, ids=lambda entry: entry.name)
def test_what_is_listed_is_there_and_is_called_so(entry):
    found = find_experiment(entry.name)
    assert found.name == entry.name
    assert tuple(found.plans) == SCALES
    assert len({type(plan) for plan in found.plans.values()}) == 1
    assert (found.separate is not None) == ("--workers" in entry.takes)
    assert listed(entry.name) is entry


def test_names_and_places_are_not_used_twice():
    assert len({entry.name for entry in EXPERIMENTS}) == len(EXPERIMENTS)
    assert len({entry.where for entry in EXPERIMENTS}) == len(EXPERIMENTS)


def test_every_experiment_of_every_paper_is_listed():
    package = Path(reproductions.__file__).parent
    folders = [path.name for path in package.iterdir() if (path / "__init__.py").is_file()]
    assert sorted(folders) == sorted([*PAPERS, "frame"])
    places = {entry.where for entry in EXPERIMENTS}
    for paper in PAPERS:
        for module in pkgutil.iter_modules([str(package / paper)]):
            values = vars(import_module(f"{reproductions.__name__}.{paper}.{module.name}"))
            own = {name for name, value in values.items() if isinstance(value, Experiment)}
            assert {f"{paper}.{module.name}:{name}" for name in own} <= places


def test_the_import_contracts_know_every_paper():
    text = (Path(__file__).parents[3] / "pyproject.toml").read_text()
    contracts = {c["name"]: c for c in tomllib.loads(text)["tool"]["importlinter"]["contracts"]}
    names = [f"{reproductions.__name__}.{paper}" for paper in PAPERS]
    assert contracts["papers do not import each other"]["modules"] == names
    assert contracts["what papers share imports no paper"]["forbidden_modules"] == names


def test_every_file_of_references_belongs_to_an_experiment():
    for path in Path(reproductions.__file__).parent.rglob("*.json"):
        assert listed(path.stem).paper == path.parent.name


class Numbers(tuple):
    """Data: numbers, and a checksum."""

    @property
    def checksum(self):
        return f"sum {sum(self)}"


def work(number, run):
    run.now.keep(f"run-{number}", str(run.plan))


TOY = Experiment(
    name="toy",
    title="A toy",
    plans={"smoke": 2, "cpu": 3, "paper": 4},
    load=lambda request: Numbers(range(request.plan)),
    run=lambda run: [number + seed for number in run.data for seed in run.seeds(2)],
    provenance=lambda run, found: run.provenance(epochs=None, data={}, settings={"n": run.plan}),
    rows=lambda run, found: (Row("toy", "sum", float(sum(found)), 0.0) for _ in range(1)),
    claims=lambda run, found: (Claim("It is", "a paper", "reproduced", "+1 ± 0") for _ in found),
    notes=lambda run, found: iter([f"of {run.data.checksum}"]),
)


def test_a_toy_is_run_judged_and_saved(tmp_path):
    outcome = reproduce(TOY, "cpu", out=tmp_path / "run", seed=5)
    assert (outcome.name, outcome.title, outcome.scale) == ("toy", "A toy", "cpu")
    assert [row.value for row in outcome.rows] == [2 * 3 + 3 * 11]
    assert {claim.verdict for claim in outcome.claims} == {"reproduced"}
    assert outcome.notes == ("of sum 3",)
    assert (outcome.figures, outcome.failed) == ({}, ())
    assert outcome.provenance["seed"] == 5
    assert outcome.provenance["settings"] == {"n": 3}
    assert (tmp_path / "run/result.json").is_file()
    asked = (tmp_path / "run/state/asked.json").read_text()
    assert asked == ('{\n "name": "toy",\n "scale": "cpu",\n "seed": 5,\n "sha256": "sum 3"\n}')


def test_smoke_decides_nothing(tmp_path):
    outcome = reproduce(TOY, "smoke", out=tmp_path / "run")
    assert {claim.verdict for claim in outcome.claims} == {"undecided"}
    assert "the smoke scale decides nothing" in outcome.claims[0].evidence


def test_other_data_are_not_gone_on_with(tmp_path):
    reproduce(TOY, "cpu", out=tmp_path / "run")
    other = replace(TOY, load=lambda request: Numbers((1,)))
    with pytest.raises(InputError, match="sha256: expected 'sum 3'"):
        reproduce(other, "cpu", out=tmp_path / "run", options=Options(resume=True))


def test_without_data_nothing_is_asked_of_them(tmp_path):
    drawn = replace(
        TOY, load=no_data, run=lambda run: [run.plan], notes=lambda run, found: (),
        device=lambda scale: torch.device("cpu"),
    )  # fmt: skip
    assert reproduce(drawn, "paper", out=tmp_path / "run").rows[0].value == 4
    assert "sha256" not in (tmp_path / "run/state/asked.json").read_text()


def test_a_separate_run_works_in_the_folder_of_the_whole(tmp_path):
    separate = SeparateRuns(
        name=lambda number, plan: f"it-{number}", work=work, failed=lambda found: ("it-1",)
    )
    toy = replace(TOY, separate=separate)
    with pytest.raises(InputError, match="the folder of a reproduction that was begun"):
        reproduce_run(toy, 1, "cpu", out=tmp_path / "run")
    assert reproduce(toy, "cpu", out=tmp_path / "run").failed == ("it-1",)
    reproduce_run(toy, 1, "cpu", out=tmp_path / "run")
    assert (tmp_path / "run/state/run-1").read_text() == "3"
    assert (tmp_path / "run/state/it-1/seconds.json").is_file()


def test_sets_have_the_checksums_of_all():
    sets = Sets({"a": Numbers((1,)), "b": Numbers((2, 3))})
    assert sets.checksum == {"a": "sum 1", "b": "sum 5"}
