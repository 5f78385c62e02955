"""The unit table on the page: one line a unit, most expensive first, states in words."""

from dataclasses import replace

import torch

import elboscope as es
from elboscope.core import Estimate
from elboscope.diagnostics import gather_evidence
from elboscope.models import LinearGaussian
from elboscope.report.panels.kinds import Listing, Missing
from elboscope.report.panels.latents import units_panel


def evidence():
    base = LinearGaussian.perfect(2, 8, sigma2=0.1)
    W = torch.cat([base.W.detach(), torch.zeros(8, 1, dtype=torch.float64)], 1)
    model = LinearGaussian(W, base.b.detach(), 0.1)
    budget = replace(es.diagnostics.QUICK, num_samples=20, num_temperatures=0, num_optimised=0)
    return gather_evidence(model, model.sample(60, seed=0)[0], budget=budget)


def test_a_line_says_the_state_and_the_four_numbers():
    found = evidence()
    panel = units_panel(found)
    assert isinstance(panel, Listing)
    assert [label for label, _ in panel.lines][-1] == "unit 2"
    assert [text.split(":")[0] for _, text in panel.lines] == ["used", "used", "pruned"]
    kl = found["unit_kl"].values.max().item()
    assert f"used: KL {kl:.3f}, variance" in panel.lines[0][1]
    assert panel.lines[0][1].count(",") == 3


def test_of_many_units_the_cheap_ones_are_counted():
    many = torch.linspace(1, 0, 60).double()
    unit = Estimate("unit", "by hand", many, many * 0, "none", 0.0, axis="unit")
    few = evidence().replace(unit_kl=unit, active_units=unit, zeroing=unit, surgery=None)
    panel = units_panel(few)
    assert (len(panel.lines), panel.lines[-1]) == (51, ("besides", "10 cheaper units"))
    assert "information" not in panel.lines[0][1]


def test_a_missing_table_has_its_reason():
    bare = evidence().replace(active_units=None, skipped={"active_units": "no encoder"})
    panel = units_panel(bare)
    assert isinstance(panel, Missing)
    assert panel.caption == "no encoder"
