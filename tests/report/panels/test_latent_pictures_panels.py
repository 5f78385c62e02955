"""The latent pictures on the page: what they say they show, and why one is missing."""

from dataclasses import replace

import pytest
import torch

import elboscope as es
from elboscope.diagnostics import gather_evidence
from elboscope.models import LinearGaussian
from elboscope.report.panels import panels_of
from elboscope.report.panels.kinds import Drawing, Missing
from elboscope.report.panels.latents import interpolations_panel, manifold_panel, traversals_panel

BUDGET = replace(es.diagnostics.QUICK, num_samples=20, num_temperatures=0, num_optimised=0)


def evidence(model, **more):
    return gather_evidence(model, model.sample(60, seed=0)[0], budget=BUDGET, seed=3, **more)


@pytest.fixture(scope="module")
def plane():
    return evidence(LinearGaussian.instance_1())


def test_the_pictures_are_those_of_the_public_functions(plane):
    model = LinearGaussian.instance_1()
    x, _ = model.sample(60, seed=0)
    alone = es.latents.latent_traversals(model, x, seed=3)
    assert torch.equal(plane["traversals"].mean, alone.mean)
    assert torch.equal(plane["manifold"].z, es.latents.latent_manifold(model, x).z)
    paths = plane["interpolations"]
    again = es.latents.latent_interpolations(model, x, [tuple(p) for p in paths.pairs.tolist()])
    assert torch.equal(paths.log_ratio, again.log_ratio)


def test_paths_lead_between_evaluation_data_over_the_training_datas_q():
    model = LinearGaussian.instance_1()
    found = evidence(model, x_train=model.sample(90, seed=1)[0])
    assert found["interpolations"].settings["mixture_size"] == 90
    a = found["interpolations"].pairs[0, 0]
    assert torch.equal(found["interpolations"].ends[0, 0], found.x[a])


@pytest.mark.slow
def test_captions_say_how_units_nodes_and_ways_were_chosen(plane):
    first, ways, grid = (
        make(plane) for make in (traversals_panel, interpolations_panel, manifold_panel)
    )
    assert all(isinstance(panel, Drawing) for panel in (first, ways, grid))
    assert "the most informative first (I(n; z_j))" in first.caption
    assert "all others stay at the posterior mean of x[0]" in first.caption
    assert ways.caption.startswith("A linear path from the code of one datapoint")
    assert "1/225 of the prior's mass (inverse CDF of each coordinate" in grid.caption
    share = (plane["manifold"].log_ratio < -3).double().mean().item()
    assert f"less than 5% of the prior's density, {share:.0%} of the tiles" in grid.caption
    titles = [panel.title for panel in panels_of("latents", plane)]
    assert titles[3:6] == ["What each unit shows", "Between two codes", "The latent manifold"]


def test_more_latents_have_no_plane_and_say_why():
    found = evidence(LinearGaussian.perfect(3, 6, sigma2=0.1))
    panel = manifold_panel(found)
    assert isinstance(panel, Missing)
    assert panel.caption.startswith("there are more than two latents")
    assert isinstance(traversals_panel(found), Drawing)


def test_a_decoder_that_gives_nan_has_no_pictures():
    model = LinearGaussian.instance_1()
    x, _ = model.sample(60, seed=0)
    with torch.no_grad():
        model.b[0] = torch.nan
    found = gather_evidence(model, x, budget=BUDGET)
    assert "traversals" not in found
    assert isinstance(traversals_panel(found), Missing)


def test_a_missing_density_is_said_below_the_ways(plane):
    bare = replace(plane["interpolations"], log_ratio=None, why_no_ratio="no density")
    caption = interpolations_panel(plane.replace(interpolations=bare)).caption
    assert "It is missing: no density." in caption
