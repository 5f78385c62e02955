"""The recipes of CONTRIBUTING.md are followed to the letter, in a copy of the sources.

A recipe is a heading ``### A thing (N files and a test)`` with steps below it: ``New file `PATH`:``
or ``In `PATH`, below `LINE`:`` (or ``above``), each with a code block. The last is the test.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
RECIPE = re.compile(r"^### (.+?) \((\d+) files? and a test\)\n(.*?)(?=^##|\Z)", re.M | re.S)
STEP = re.compile(
    r"^(?:New file `(?P<new>[^`]+)`"
    r"|In `(?P<old>[^`]+)`, (?P<side>below|above) `(?P<line>[^`]+)`):\n+"
    r"```\w*\n(?P<text>.*?)^```",
    re.M | re.S,
)


@dataclass(frozen=True)
class Recipe:
    """What a heading promises, and the steps below it."""

    thing: str
    promised: int
    steps: tuple[re.Match[str], ...]

    @property
    def paths(self) -> list[str]:
        return [step["new"] or step["old"] for step in self.steps]


def recipes(text: str) -> Iterator[Recipe]:
    for thing, promised, body in RECIPE.findall(text):
        yield Recipe(thing, int(promised), tuple(STEP.finditer(body)))


def follow(step: re.Match[str], root: Path) -> None:
    """Does in ``root`` what a step says."""
    path = root / (step["new"] or step["old"])
    if step["new"]:
        assert not path.exists(), f"{path} is there already"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(step["text"])
        return
    lines = path.read_text().splitlines(keepends=True)
    places = [i for i, line in enumerate(lines) if line.strip() == step["line"]]
    assert len(places) == 1, f"{step['line']!r} stands {len(places)} times in {path}"
    at = places[0] + (step["side"] == "below")
    path.write_text("".join([*lines[:at], step["text"], *lines[at:]]))


ALL = tuple(recipes((ROOT / "CONTRIBUTING.md").read_text()))


@pytest.mark.parametrize("recipe", ALL, ids=lambda recipe: recipe.thing)
def test_a_recipe_touches_as_many_files_as_it_promises(recipe):
    assert len(set(recipe.paths)) == recipe.promised + 1, recipe.paths
    assert [path for path in recipe.paths if path.startswith("tests/")] == recipe.paths[-1:]


def test_each_recipe_works(tmp_path):
    assert len(ALL) >= 5
    shutil.copytree(ROOT / "src", tmp_path / "src", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "tests/conftest.py", "docs/reproductions.md"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    for recipe in ALL:
        for step in recipe.steps:
            follow(step, tmp_path)
    tests = sorted({recipe.paths[-1] for recipe in ALL})
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path / "src")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:]


def test_a_step_that_does_not_fit_is_told(tmp_path):
    (tmp_path / "a.py").write_text("x = 1\n")
    step = STEP.match("In `a.py`, below `y = 1`:\n```python\nz = 2\n```")
    with pytest.raises(AssertionError, match="stands 0 times"):
        follow(step, tmp_path)
