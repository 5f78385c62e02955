"""The house rules that a machine can check: few files, few in a folder, no circle, short bodies.

An exception says why in the first lines of its module: ``The file is long because …`` or
``A file of its own because …``. The rules and their reasons are in ``docs/design_principles.md``.
"""

import ast
from collections import defaultdict
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from statistics import median

import pytest

from elboscope.reproductions import EXPERIMENTS

SRC = Path(__file__).parents[1] / "src"
MOST_FILES, MOST_IN_FOLDER, MOST_LINES = 280, 30, 400
MOST_BODY, MEDIAN_BODY = 70, 6


def modules(root: Path) -> dict[str, ast.Module]:
    """Returns the parsed modules of a source tree by dotted name, packages without ``__init__``."""
    parsed = {}
    for path in sorted(root.rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        parsed[".".join(parts)] = ast.parse(path.read_text())
    return parsed


@pytest.fixture(scope="module")
def parsed():
    return modules(SRC)


def imports(name: str, tree: ast.Module, known: set[str]) -> Iterator[str]:
    """Yields the modules of the tree that a module imports, wherever the import stands."""
    package = name.split(".")[:-1]
    for node in ast.walk(tree):
        if not isinstance(node, ast.ImportFrom):
            continue
        base = package[: len(package) - node.level + 1] if node.level else []
        source = ".".join([*base, *([node.module] if node.module else [])])
        for alias in node.names:
            found = next((m for m in (f"{source}.{alias.name}", source) if m in known), None)
            if found and found != name:
                yield found


def arrows(parsed: dict[str, ast.Module]) -> dict[str, set[str]]:
    """Returns who imports whom, packages' ``__init__`` left out: they only pass names on."""
    own = {n for n in parsed if not n.endswith("__init__")}
    return {name: set(imports(name, parsed[name], own)) for name in own}


def exported(parsed: dict[str, ast.Module]) -> set[str]:
    """Returns what others reach by name: through a package, as a command, as an experiment."""
    known = set(parsed)
    packages = [n for n in parsed if n.endswith("__init__")]
    found = {m for name in packages for m in imports(name, parsed[name], known)}
    commands = {n for n in parsed if n.startswith("elboscope.cli.") and n.endswith("_command")}
    listed = {f"elboscope.reproductions.{e.where.partition(':')[0]}" for e in EXPERIMENTS}
    return (
        commands
        | listed
        | found
        | {lazy for name in packages for lazy in _lazy(name, parsed[name])}
    )


def _lazy(name: str, tree: ast.Module) -> Iterator[str]:
    """Yields what a package loads on first use, from the strings of its table."""
    package = name.removesuffix(".__init__")
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield f"{package}.{node.value}"


def says(tree: ast.Module, words: str) -> bool:
    """Returns whether the module's docstring gives a reason that begins with these words."""
    return words in " ".join((ast.get_docstring(tree) or "").split())


def bodies(tree: ast.Module) -> Iterator[tuple[str, int]]:
    """Yields the lines of every function's body, its docstring left out."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            body = node.body[1:] if ast.get_docstring(node) is not None else node.body
            yield node.name, (body[-1].end_lineno - body[0].lineno + 1) if body else 0


def test_the_house_has_few_files(parsed):
    assert len(parsed) <= MOST_FILES


def test_no_folder_is_crowded(parsed):
    counts = defaultdict(int)
    for name in parsed:
        counts[name.rpartition(".")[0]] += 1
    assert {k: n for k, n in counts.items() if n > MOST_IN_FOLDER} == {}


def test_a_long_module_says_why(parsed):
    silent = {
        name: lines
        for name, tree in parsed.items()
        if (lines := len((SRC / f"{name.replace('.', '/')}.py").read_text().splitlines()))
        > MOST_LINES
        and not says(tree, "is long because")
    }
    assert silent == {}


def test_a_file_for_one_sibling_says_why(parsed):
    clients = defaultdict(set)
    for name, used in arrows(parsed).items():
        for other in used:
            clients[other].add(name)
    public = exported(parsed)
    silent = {
        name: users
        for name, users in sorted(clients.items())
        if len(users) == 1
        and name not in public
        and {u.rpartition(".")[0] for u in users} == {name.rpartition(".")[0]}
        and not says(parsed[name], "A file of its own because")
    }
    assert silent == {}


def test_no_circle(parsed):
    try:
        TopologicalSorter(arrows(parsed)).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


def test_a_circle_is_found():
    circle = {"p.a": ast.parse("from .b import x"), "p.b": ast.parse("def f():\n from .a import y")}
    with pytest.raises(CycleError):
        TopologicalSorter(arrows(circle)).prepare()


def test_bodies_are_short(parsed):
    lines = {(m, f): n for m, tree in parsed.items() for f, n in bodies(tree)}
    assert median(lines.values()) <= MEDIAN_BODY
    assert {key: n for key, n in lines.items() if n > MOST_BODY} == {}
