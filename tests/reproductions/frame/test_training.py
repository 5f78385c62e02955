"""Members of a stack: each its own seed, and a training that diverges says so."""

import pytest
import torch

from elboscope.core import InputError
from elboscope.reproductions.frame.images import load_images
from elboscope.reproductions.frame.sitting import Options, sitting
from elboscope.reproductions.frame.training import Schedule, burda_vae, train_members
from elboscope.training import IWAE, MIWAE

CPU = torch.device("cpu")
IMAGES = load_images("smoke", Options())


def build(x):
    return burda_vae(x, 2, (8,))


def train_model(folder, objective, seeds, schedule=Schedule(2)):  # noqa: B008
    with sitting(folder, {}, Options(resume=True), None) as now:
        return train_members("entry", build, objective, IMAGES, schedule, seeds, now, CPU)


def test_seeds_differ_and_repeat(tmp_path):
    a, b = train_model(tmp_path / "a", IWAE(5), [0, 1])
    again, _ = train_model(tmp_path / "b", IWAE(5), [0, 1])
    weight = [model.decoder[-1].weight for model in (a, b, again)]
    assert not torch.equal(weight[0], weight[1])
    assert torch.equal(weight[0], weight[2])


def test_a_finished_training_is_read_and_not_repeated(tmp_path):
    (a,) = train_model(tmp_path / "a", MIWAE(5, 1), [3])
    stamp = (tmp_path / "a/state/entry/checkpoint.safetensors").stat().st_mtime_ns
    (b,) = train_model(tmp_path / "a", MIWAE(5, 1), [3])
    assert (tmp_path / "a/state/entry/checkpoint.safetensors").stat().st_mtime_ns == stamp
    assert all(torch.equal(p, q) for p, q in zip(a.parameters(), b.parameters(), strict=True))


def test_the_decoder_begins_at_the_mean_image():
    model = build(IMAGES.train)
    mean = IMAGES.train.mean(0).clamp(0.001, 0.999)
    assert torch.allclose(model.decoder[-1].bias.sigmoid(), mean.flatten(), atol=1e-5)


def test_a_divergence_is_said_by_name(tmp_path):
    with pytest.raises(InputError, match="entry: expected a training that stays finite; got div"):
        train_model(tmp_path / "a", IWAE(5), [0], Schedule(3, rate=1e38))
