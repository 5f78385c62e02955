"""The waterfall: its steps are the paired differences, and only families on the way are drawn."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from elboscope import plots

sys.path.append(str(Path(__file__).parent.parent / "report"))
from hand_made_evidence import complete_evidence


@pytest.fixture(scope="module")
def gap():
    return complete_evidence()["inference_gap"]


def test_the_steps_are_the_paired_parts_and_add_up(gap):
    data = plots.waterfall_data(gap)
    assert data.labels == ("log p̂(x)", "L[q*], flow", "L[q*], diagonal", "L[q], encoder")
    assert data.parts == ("approximation", "approximation", "amortisation")
    first, second, third = data.evaluation.drops
    assert first + second == pytest.approx(gap.approximation.mean)
    assert second == pytest.approx(gap.richer.mean)
    assert third == pytest.approx(gap.amortisation.mean)
    assert data.evaluation.errors[1:].tolist() == pytest.approx(
        [gap.richer.stderr, gap.amortisation.stderr]
    )
    assert data.evaluation.levels[0] == pytest.approx(gap.log_px.mean)
    assert data.train.drops[2] == pytest.approx(gap.train.amortisation.mean)
    assert (data.evaluation.num_data, data.train.num_data) == (20, 20)


def test_a_family_that_does_not_contain_the_encoders_is_not_on_the_way(gap):
    trained = replace(gap, family="flow", train=None)
    data = plots.waterfall_data(trained)
    assert data.labels == ("log p̂(x)", "L[q*], flow", "L[q], encoder")
    assert data.train is None


def test_nothing_is_drawn_without_a_gap(gap):
    assert plots.waterfall_data(None) is None
    assert plots.waterfall_data(replace(gap, index=torch.arange(0))) is None


def test_each_bar_begins_where_the_one_above_ended_and_its_nats_are_written(gap):
    data = plots.waterfall_data(replace(gap, train=None))
    axes = plots.plot_waterfall(data).axes[0]
    bars = [(bar.get_x(), bar.get_x() + bar.get_width()) for bar in axes.patches[:3]]
    ends = (data.evaluation.levels - data.evaluation.levels[0]).tolist()
    assert [start for start, _ in bars] == pytest.approx(ends[:-1])
    assert [end for _, end in bars] == pytest.approx(ends[1:])
    written = [text.get_text() for text in axes.texts]
    drops, errors = data.evaluation.drops, data.evaluation.errors
    assert written[1:4] == [f"{d:.2f} ± {e:.2f}" for d, e in zip(drops, errors, strict=True)]


def test_training_data_are_drawn_pale_beside_the_others(gap):
    axes = plots.plot_waterfall(plots.waterfall_data(gap)).axes[0]
    drawn = [bar for bar in axes.patches if bar.get_width()]
    assert [bar.get_alpha() for bar in drawn] == [1.0] * 3 + [0.45] * 3
    assert "pale: training data, n=20" in axes.texts[-1].get_text()
