"""Smoke runs, once for all tests that look at them."""

from itertools import count
from types import SimpleNamespace

import pytest

from elboscope.reproductions.burda2016 import posteriors as iwae_posteriors
from elboscope.reproductions.burda2016 import table1 as iwae_table1
from elboscope.reproductions.cremer2018 import latent_2d
from elboscope.reproductions.cremer2018 import overfitting as inference_overfitting
from elboscope.reproductions.cremer2018 import table1 as inference_suboptimality_table1
from elboscope.reproductions.frame import sitting as sitting_module
from elboscope.reproductions.rainforth2018 import tighter_bounds as tighter_bounds_table1
from elboscope.reproductions.rosca2018 import hybrids_colormnist
from elboscope.training import slices
from elboscope.training import slices as slice_loop

MODULES = {
    "iwae-table1": iwae_table1,
    "tighter-bounds-table1": tighter_bounds_table1,
    "iwae-posteriors": iwae_posteriors,
    "latent-2d": latent_2d,
    "inference-overfitting": inference_overfitting,
    "inference-suboptimality-table1": inference_suboptimality_table1,
}


@pytest.fixture(scope="session")
def smoke(tmp_path_factory):
    """Runs a reproduction at the smoke scale; the second time it is only remembered."""
    made = {}

    def run(name):
        if name not in made:
            out = tmp_path_factory.mktemp(name)
            made[name] = MODULES[name].reproduce("smoke", out=out)
        return made[name]

    return run


@pytest.fixture(scope="session")
def hybrids_run(tmp_path_factory):
    """Returns hybrids-colormnist at the smoke scale, made in one process, and its folder."""
    out = tmp_path_factory.mktemp("hybrids") / "run"
    return hybrids_colormnist.reproduce("smoke", out=out), out


@pytest.fixture
def ticking(monkeypatch):
    """A clock that moves by one second whenever it is read, about once a training step.

    With the true clock a slice holds more or less than a test expects, by how busy the machine is.
    """
    clock = SimpleNamespace(monotonic=count(1.0).__next__)
    for module in (sitting_module, slice_loop, slices):
        monkeypatch.setattr(module, "time", clock)
