"""Rules of the package as a whole: what an import costs, touches and needs."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest


def python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_import_is_lazy():
    heavy = ["torch", "numpy", "scipy", "sklearn", "matplotlib", "bokeh", "xarray"]
    loaded = python(f"import elboscope, sys; print([m for m in {heavy} if m in sys.modules])")
    assert loaded == "[]"


def test_an_unknown_name_is_an_attribute_error():
    import elboscope as es

    with pytest.raises(AttributeError, match="no attribute 'elbo_surgary'"):
        es.elbo_surgary  # noqa: B018


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("unit_kl", "es.latents.unit_kl"),
        ("ContractError", "es.core.ContractError"),
        ("TrainingSettings", "es.training.TrainingSettings"),
        ("DiagonalPosteriors", "es.estimators.DiagonalPosteriors"),
        ("marginal_kl_by_ratio", "es.marginal_kl(..., method='classifier')"),
    ],
)
def test_the_error_says_where_a_name_lives(name, place):
    import elboscope as es

    with pytest.raises(AttributeError, match=re.escape(f"{name!r}; use {place}") + "$"):
        getattr(es, name)


def test_a_missing_name_imports_nothing():
    """``from elboscope import sweeps`` asks for the attribute before it looks for the module."""
    code = "import elboscope, sys; print(hasattr(elboscope, 'unit_kl'), 'torch' in sys.modules)"
    assert python(code) == "False False"


def test_missing_names_are_cheap(monkeypatch):
    """jsonargparse asks the package for every parameter's origin: files are read once."""
    import elboscope as es

    hasattr(es, "first")
    monkeypatch.setattr(es.ast, "parse", None)
    assert not hasattr(es, "second")


def test_every_public_name_resolves_and_is_documented():
    import elboscope as es

    undocumented = [n for n in es.__all__ if not (getattr(es, n).__doc__ or n == "__version__")]
    assert undocumented == []


def test_a_type_checker_accepts_what_can_be_imported_and_nothing_else():
    """In a stub only ``import name as name`` is public; there is no other kind of line here."""
    import elboscope as es

    stub = ast.parse(Path(es.__file__).with_suffix(".pyi").read_text(encoding="utf-8"))
    *imports, version = stub.body
    assert ast.unparse(version) == "__version__: str"
    assert all(isinstance(node, ast.ImportFrom) and node.level == 1 for node in imports)
    aliases = [alias for node in imports for alias in node.names]
    assert [a.name for a in aliases if a.asname != a.name] == []
    assert sorted([a.name for a in aliases] + ["__version__"]) == dir(es) == sorted(set(es.__all__))


@pytest.mark.parametrize("room", ["gradients", "inference", "latents", "likelihood", "samples"])
def test_every_name_of_a_room_resolves_and_is_documented(room):
    import elboscope as es

    names = getattr(es, room).__all__
    assert [n for n in names if not getattr(getattr(es, room), n).__doc__] == []
    assert set(names) <= set(es.estimators.__all__)


@pytest.mark.slow
def test_a_type_checker_agrees(tmp_path):
    """What mypy accepts runs, and what left the flat list is refused by both."""
    mypy = pytest.importorskip("mypy.api")
    import elboscope as es

    file = tmp_path / "names.py"
    accepted = [f"es.{name}" for name in dir(es)]
    refused = ["es.ElboSurgery", "es.unit_kl", "es.log_weights", "es.latents.no_such_name"]
    file.write_text("\n".join(["import elboscope as es", *accepted, *refused]) + "\n")
    options = ["--ignore-missing-imports", "--follow-imports=silent", f"--cache-dir={tmp_path}"]
    told = mypy.run([*options, str(file)])[0].splitlines()
    lines = {int(line.split(":")[1]) for line in told if "[attr-defined]" in line}
    assert lines == {len(accepted) + 2 + i for i in range(len(refused))}, told


def test_core_runs_without_any_optional_extra():
    """Optional packages are hidden from the importer, as if they had never been installed."""
    optional = "tensorboard playwright hypothesis pytest beartype pythae lightning ruff mypy"
    code = f"""
import sys
class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name.partition('.')[0] in {optional.split()!r}:
            raise ModuleNotFoundError(f'No module named {{name!r}}', name=name)
sys.meta_path.insert(0, Hidden())
import elboscope as es
for name in es.__all__:
    getattr(es, name)
model = es.models.LinearGaussian.instance_1()
x, _ = model.sample(64, seed=0)
print(es.importance_sampling(model, x, num_samples=100, seed=0).mean < 0)
"""
    assert python(code) == "True"


def test_importing_everything_edits_no_global_of_torch():
    code = """
import torch
def state():
    return (torch.get_default_dtype(), torch.is_grad_enabled(), torch.get_rng_state().sum().item(),
            torch.distributions.Distribution._validate_args, torch.get_num_threads(),
            torch.are_deterministic_algorithms_enabled())
before = state()
import elboscope as es
for name in es.__all__:
    getattr(es, name)
print(before == state())
"""
    assert python(code) == "True"
