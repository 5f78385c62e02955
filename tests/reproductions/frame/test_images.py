"""Burda's OMNIGLOT file: columns of images stored column by column; and what it must not be."""

import numpy as np
import pytest
import torch
from scipy.io import savemat

from elboscope.core import InputError
from elboscope.reproductions.frame.images import load_images, load_omniglot
from elboscope.reproductions.frame.sitting import Options


@pytest.fixture
def chardata(tmp_path):
    """A file of the published form: 784 rows, a column an image, images Fortran-ordered."""
    generator = np.random.default_rng(0)
    images = generator.random((300, 28, 28))
    columns = np.stack([image.reshape(-1, order="F") for image in images], axis=1)
    path = tmp_path / "chardata.mat"
    savemat(path, {"data": columns[:, :240], "testdata": columns[:, 240:], "target": [1.0]})
    return path, torch.from_numpy(images).float()


def test_columns_become_images_the_right_way_up(chardata):
    path, images = chardata
    found = load_omniglot(path, "paper")
    assert torch.equal(found.train, images[:240, None])
    assert found.test.shape == (60, 1, 28, 28)
    assert found.test.unique().tolist() == [0.0, 1.0]
    grey = images[240:, None]  # the draw is of these: as often on as their values say
    z = (found.test - grey).sum() / (grey * (1 - grey)).sum().sqrt()
    assert abs(z) < 4


def test_smoke_takes_few_of_it(chardata):
    found = load_omniglot(chardata[0], "smoke")
    assert (len(found.train), len(found.test), found.name) == (200, 50, "omniglot")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "No such file"),
        (b"not a MATLAB file at all, but some text of a certain length", "another kind of file"),
        (b"MATLAB 5.0 MAT-file, cut off", "a MATLAB 5 file; got"),
        ({"data": np.zeros((784, 3))}, "testdata: expected an array of 784 rows.*no such array"),
        ({"data": np.zeros((3, 784)), "testdata": np.zeros((784, 3))}, r"shape \(3, 784\)"),
        ({"data": np.full((784, 3), 255.0), "testdata": np.zeros((784, 3))}, r"in \[0, 1\]"),
    ],
)
def test_another_file_is_refused_by_name(tmp_path, content, words):
    path = tmp_path / "chardata.mat"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        savemat(path, content)
    with pytest.raises(InputError, match=words) as raised:
        load_omniglot(path, "smoke")
    assert str(path) in str(raised.value)


def test_every_number_is_of_one_draw():
    a, b = (load_images("smoke", Options()) for _ in range(2))
    assert torch.equal(a.test, b.test)
    assert a.checksum == b.checksum
    assert a.record()["sha256"] == a.checksum
