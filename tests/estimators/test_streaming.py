"""Blocks cover all samples and datapoints, counts are checked, and a bar is drawn on request."""

import pytest
import torch

from elboscope.core import InputError
from elboscope.estimators.inputs import prepared
from elboscope.estimators.likelihood import importance_sampling
from elboscope.estimators.streaming import SharedProgress, Streaming, reporting
from elboscope.models import LinearGaussian


@pytest.mark.parametrize("name", ["num_samples", "sample_chunk", "batch_size"])
def test_counts_below_one_are_refused_by_name(name):
    with pytest.raises(InputError, match=f"{name}: expected at least 1; got 0"):
        Streaming(**{"num_samples": 5, name: 0})


def test_the_sizes_of_blocks_are_decided_for_the_data():
    model = LinearGaussian.instance_1()
    inputs = prepared(model, torch.zeros(10, 3), None)
    fitted = Streaming(7, batch_size=4, sample_chunk=3).fitted(model, inputs)
    assert [(r.start, r.stop) for r in fitted.rows(inputs)] == [(0, 4), (4, 8), (8, 10)]
    assert [(s.start, s.stop) for s in fitted.samples()] == [(0, 3), (3, 6), (6, 7)]
    assert fitted.blocks == {"sample_chunk": 3, "batch_size": 4}
    default = Streaming(7).fitted(model, inputs)
    assert default.blocks == {"sample_chunk": 7, "batch_size": 10}


def test_true_draws_a_bar_that_ends_with_a_newline(capsys):
    model = LinearGaussian.instance_1()
    x, _ = model.sample(4, seed=0)
    importance_sampling(model, x, 10, seed=0, sample_chunk=5, progress=True)
    out, err = capsys.readouterr()
    assert out == ""
    assert " 50%" in err
    assert " 100%" in err
    assert err.endswith("s\n")


def test_a_callable_is_called_as_it_is_and_nothing_is_drawn_unasked(capsys):
    told = []
    progress = reporting(lambda done, total: told.append((done, total)))
    assert progress is not None
    progress(1, 2)
    assert told == [(1, 2)]
    assert reporting(None) is None
    assert SharedProgress(False).part(1.0) is None
    assert capsys.readouterr() == ("", "")
