"""Smoke runs, once for all tests that look at them."""

from itertools import count
from types import SimpleNamespace

import pytest

from elboscope.reproductions.frame import sitting as sitting_module
from elboscope.reproductions.frame.experiment import find_experiment, reproduce
from elboscope.training import slices
from elboscope.training import slices as slice_loop


@pytest.fixture(scope="session")
def smoke_run(tmp_path_factory):
    """Runs an experiment at the smoke scale, the first time; returns the outcome and its folder."""
    made = {}

    def run(name):
        if name not in made:
            out = tmp_path_factory.mktemp(name) / "run"
            made[name] = (reproduce(find_experiment(name), "smoke", out=out), out)
        return made[name]

    return run


@pytest.fixture(scope="session")
def smoke(smoke_run):
    """Returns the outcome of an experiment at the smoke scale."""
    return lambda name: smoke_run(name)[0]


@pytest.fixture(scope="session")
def hybrids_run(smoke_run):
    """Returns hybrids-colormnist at the smoke scale, made in one process, and its folder."""
    return smoke_run("hybrids-colormnist")


@pytest.fixture
def ticking(monkeypatch):
    """A clock that moves by one second whenever it is read, about once a training step.

    With the true clock a slice holds more or less than a test expects, by how busy the machine is.
    """
    clock = SimpleNamespace(monotonic=count(1.0).__next__)
    for module in (sitting_module, slice_loop, slices):
        monkeypatch.setattr(module, "time", clock)
