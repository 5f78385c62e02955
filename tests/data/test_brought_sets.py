"""CelebA and OMNIGLOT from files that the user brings: the split, the crop, the averaging."""

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.io import savemat

from elboscope.core import InputError
from elboscope.data import available, celeba, load, omniglot
from elboscope.data.brought import _area_weights

TRAIN, VALIDATION, TEST = 162_770, 182_637, 182_638


def picture(path, pixels):
    Image.fromarray(pixels.astype(np.uint8)).save(path)


@pytest.fixture
def faces(tmp_path):
    """Aligned pictures of 178 × 218 around the official borders, as PNG so that no bit is lost."""
    folder = tmp_path / "celeba" / "img_align_celeba"
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    shown = {n: rng.integers(0, 256, (218, 178, 3)) for n in (1, TRAIN, TRAIN + 1, VALIDATION,
                                                             TEST, TEST + 1)}  # fmt: skip
    for n, pixels in shown.items():
        picture(folder / f"{n:06d}.png", pixels)
    return tmp_path, shown


def test_the_official_split_goes_by_number(faces):
    data_dir, shown = faces
    images = load("celeba", data_dir)
    assert (len(images.train), len(images.test), images.data_shape) == (2, 2, (3, 64, 64))
    centre = [shown[n][39:179, 19:159].mean() / 255 for n in (1, TRAIN, TEST, TEST + 1)]
    found = torch.cat([images.train, images.test]).flatten(1).mean(1)
    assert found.tolist() == pytest.approx(centre, abs=1e-5)


def test_the_crop_is_recorded_and_a_whole_factor_averages_blocks(faces):
    data_dir, shown = faces
    images = celeba(data_dir=data_dir, crop=128, num_train=1)
    assert "centre 128 × 128 reduced to 64 × 64 by area" in images.treatment
    assert len(images.train) == 1
    square = shown[1][45:173, 25:153].reshape(64, 2, 64, 2, 3).mean((1, 3)) / 255
    assert np.allclose(images.train[0].permute(1, 2, 0).numpy(), square, atol=1e-6)
    assert celeba(data_dir=data_dir).checksum != images.checksum


def colours(shown, numbers):
    return [shown[n][39:179, 19:159].mean() / 255 for n in numbers]


def means(images):
    return images.flatten(1).mean(1).tolist()


def test_the_validation_part_of_faces_goes_by_number_without_the_list(faces):
    data_dir, shown = faces
    images = celeba(data_dir=data_dir)
    assert means(images.validation) == pytest.approx(colours(shown, (TRAIN + 1, VALIDATION)))
    assert images.source.endswith("official split by number")
    assert celeba(data_dir=data_dir, num_validation=0).validation is None


def test_the_list_of_parts_decides_where_it_is_there(faces):
    data_dir, shown = faces
    parts = dict(zip(shown, (0, 1, 2, 0, 1, 0), strict=True))
    lines = "".join(f"{n:06d}.jpg {part}\n" for n, part in parts.items())
    file = data_dir / "celeba" / "list_eval_partition.txt"
    file.write_text(lines)
    images = celeba(data_dir=data_dir)
    assert images.source.endswith("official split of list_eval_partition.txt")
    for part, found in enumerate((images.train, images.validation, images.test)):
        mine = [n for n in sorted(shown) if parts[n] == part]
        assert means(found) == pytest.approx(colours(shown, mine))
    file.write_text("000001.jpg 0\n")
    with pytest.raises(InputError, match=r"expected a line for 162770.png; got none"):
        celeba(data_dir=data_dir)
    file.write_text("000001.jpg train\n")
    with pytest.raises(InputError, match=r"list_eval_partition.txt: expected lines such as"):
        celeba(data_dir=data_dir)


@pytest.mark.parametrize(("crop", "side"), [(140, 64), (108, 64), (7, 3), (5, 5), (3, 4)])
def test_every_source_pixel_counts_equally(crop, side):
    W = _area_weights(crop, side).double()
    assert (W.sum(1) - 1).abs().max() < 1e-6
    assert (W.sum(0) - side / crop).abs().max() < 1e-6


def test_mistakes_with_celeba_are_named(faces, tmp_path):
    data_dir, _ = faces
    with pytest.raises(InputError, match=r"000001.png: expected at least 200 × 200 pixels"):
        celeba(data_dir=data_dir, crop=200)
    with pytest.raises(InputError, match="crop: expected a positive number of pixels; got 0"):
        celeba(data_dir=data_dir, crop=0)
    (data_dir / "empty").mkdir()
    with pytest.raises(InputError, match=r"celeba: expected a folder of pict.*no such pictures"):
        celeba(data_dir / "empty")
    lone = data_dir / "lone"
    lone.mkdir()
    picture(lone / "000001.png", np.zeros((150, 150, 3)))
    with pytest.raises(InputError, match="got 1 training and 0 test pictures"):
        celeba(lone)
    with pytest.raises(InputError, match=r"num_train: expected how many of the first.*got -1"):
        celeba(data_dir=data_dir, num_train=-1)
    (data_dir / "celeba" / "list_eval_partition.txt").write_text("")
    with pytest.raises(InputError, match=r"list_eval_partition.txt: expected a line for 000001"):
        celeba(data_dir=data_dir)  # an empty list is none that the pictures could go by


@pytest.fixture
def characters(tmp_path):
    rng = np.random.default_rng(0)
    train, test = rng.random((5, 28, 28)), rng.random((3, 28, 28))
    columns = {
        key: np.stack([x.flatten(order="F") for x in part], 1)
        for key, part in (("data", train), ("testdata", test))
    }
    (tmp_path / "OMNIGLOT").mkdir()
    savemat(tmp_path / "OMNIGLOT" / "chardata.mat", columns)
    return tmp_path, train, test


def test_omniglot_is_found_and_the_right_way_up(characters):
    data_dir, train, test = characters
    images = load("omniglot", data_dir)
    assert np.allclose(images.train[:, 0].numpy(), train)
    assert np.allclose(images.test[:, 0].numpy(), test)
    assert images.value_range == (0.0, 1.0)
    assert omniglot(data_dir / "OMNIGLOT" / "chardata.mat").checksum == images.checksum
    assert images.validation is None


CELLS = np.empty((784, 1), dtype=object)
CELLS.fill(np.zeros((2, 2)))


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (CELLS, "testdata: expected real grey values.*; got cells"),
        (np.full((784, 2), 1j), "testdata: expected real grey values.*; got complex128 values"),
        (np.zeros((784, 0)), r"testdata: expected an array of 784 rows.*; got shape \(784, 0\)"),
        (np.full((784, 2), 1e300), r"testdata: expected grey values in .*got 1e\+300 to 1e\+300"),
        (np.full((784, 2), np.nan), "testdata: expected grey values in .*; got nan to nan"),
    ],
)
def test_omniglot_of_other_values_is_refused(array, message, tmp_path):
    savemat(tmp_path / "chardata.mat", {"data": np.zeros((784, 3)), "testdata": array})
    with pytest.raises(InputError, match=message):
        omniglot(tmp_path / "chardata.mat")


def test_omniglots_validation_part_is_the_last_after_the_shuffle(characters):
    data_dir, train, _ = characters
    images = omniglot(data_dir=data_dir, num_validation=2)
    order = np.random.RandomState(123).permutation(5)
    assert np.allclose(images.validation[:, 0].numpy(), train[order[-2:]])
    assert np.allclose(images.train[:, 0].numpy(), train[np.sort(order[:-2])])
    assert "validation: the last 2 after RandomState(123).permutation" in images.treatment
    with pytest.raises(InputError, match="num_validation: expected 0 to 4; got 5"):
        omniglot(data_dir=data_dir, num_validation=5)


def test_omniglot_that_is_not_there_says_where_to_put_it(tmp_path):
    with pytest.raises(InputError, match=r"omniglot: expected chardata.mat .*not downloaded"):
        load("omniglot", tmp_path)


def test_the_table_says_what_has_to_be_brought(characters, tmp_path):
    data_dir, _, _ = characters
    rows = {row.name: row for row in available(data_dir)}
    assert (rows["omniglot"].here, rows["celeba"].here) == (True, False)
    assert "not downloaded: put it at" in rows["celeba"].where
    assert rows["color_mnist"].where == "not here: it is made of mnist"
    assert rows["color_digits"].here
