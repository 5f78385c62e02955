"""Rules of the package as a whole: what an import costs, touches and needs."""

import subprocess
import sys

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


def test_every_public_name_resolves_and_is_documented():
    import elboscope as es

    undocumented = [n for n in es.__all__ if not (getattr(es, n).__doc__ or n == "__version__")]
    assert undocumented == []


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
