"""Own arrays come back value by value; damaged files are named and nothing is unpickled."""

from __future__ import annotations

import io
import pickle
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from elboscope.core import InputError
from elboscope.data import from_file, read_array

X = np.random.default_rng(0).normal(size=(10, 3)).astype(np.float32)


def saved(path: Path, array: np.ndarray) -> Path:
    np.save(path, array, allow_pickle=True)
    return path


def test_an_array_is_split_and_nothing_is_lost(tmp_path: Path):
    images = from_file(saved(tmp_path / "x.npy", X))
    rows = torch.cat([images.train, images.test])
    assert sorted(map(tuple, rows.tolist())) == sorted(map(tuple, X.tolist()))
    assert images.value_range == (float(X.min()), float(X.max()))
    assert not images.in_unit_interval
    assert images.source.endswith("x.npy, split with seed 0")
    assert images.name == "x.npy"


def test_eight_bit_values_are_scaled_and_said_to_be(tmp_path: Path):
    images = from_file(saved(tmp_path / "x.npy", np.full((4, 2), 51, np.uint8)))
    assert torch.equal(images.train.unique(), torch.tensor([0.2]))
    assert (images.value_range, images.treatment) == ((0.0, 1.0), "8-bit values scaled by 1/255")


@pytest.mark.parametrize("keys", [("train", "test"), ("x_train", "x_test")])
def test_an_archive_with_two_parts_keeps_them(tmp_path: Path, keys):
    np.savez(tmp_path / "x.npz", **dict(zip(keys, (X[:7], X[7:]), strict=True)), y=np.arange(3))
    images = from_file(tmp_path / "x.npz")
    np.testing.assert_array_equal(images.train.numpy(), X[:7])
    np.testing.assert_array_equal(images.test.numpy(), X[7:])


@pytest.mark.parametrize("arrays", [{"mine": X}, {"x": X, "y": np.arange(10)}])
def test_an_archive_with_one_array_is_read_whole(tmp_path: Path, arrays):
    np.savez_compressed(tmp_path / "x.npz", **arrays)
    np.testing.assert_array_equal(read_array(tmp_path / "x.npz").x.numpy(), X)


class Trap:
    def __reduce__(self):
        return (pytest.fail, ("something was unpickled",))


def test_nothing_is_unpickled(tmp_path: Path):
    saved(tmp_path / "objects.npy", np.array([[Trap()]], dtype=object))
    (tmp_path / "pickled.npy").write_bytes(pickle.dumps(Trap()))
    np.savez(tmp_path / "objects.npz", x=np.array([[Trap()]], dtype=object))
    for name in ("objects.npy", "pickled.npy", "objects.npz"):
        with pytest.raises(
            InputError, match=rf"{name}: expected .* of numbers; .* never unpickled"
        ):
            read_array(tmp_path / name)


def _bytes(write, *args, **kwargs) -> bytes:
    stream = io.BytesIO()
    write(stream, *args, **kwargs)
    return stream.getvalue()


NPY, NPZ = _bytes(np.save, X), _bytes(np.savez_compressed, x=X)
shared_folder = settings(
    max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.mark.parametrize("suffix", [".npy", ".npz"])
@given(data=st.data())
@shared_folder
def test_truncation_at_any_byte_is_refused_and_the_whole_is_read(tmp_path, suffix, data):
    whole = NPY if suffix == ".npy" else NPZ
    path = tmp_path / f"x{suffix}"
    path.write_bytes(whole[: data.draw(st.integers(0, len(whole) - 1))])
    with pytest.raises(InputError, match=rf"x\{suffix}: expected a .*{suffix} file"):
        read_array(path)
    path.write_bytes(whole)
    np.testing.assert_array_equal(read_array(path).x.numpy(), X)
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("suffix", [".npy", ".npz"])
@pytest.mark.filterwarnings("ignore")
@given(data=st.data())
@shared_folder
def test_damage_anywhere_gives_numbers_or_an_input_error(tmp_path, suffix, data):
    damaged = bytearray(NPY if suffix == ".npy" else NPZ)
    position = data.draw(st.integers(0, len(damaged) - 1))
    damaged[position] = data.draw(st.integers(0, 255))
    path = tmp_path / f"x{suffix}"
    path.write_bytes(damaged)
    message = ""
    try:
        x = read_array(path).x
    except InputError as error:
        message = str(error)
    if message:
        assert str(path) in message
        assert "\n" not in message
    else:
        assert bool(torch.isfinite(x).all())


@pytest.mark.parametrize(
    ("name", "make", "words"),
    [
        ("x.txt", lambda p: p.write_text("1 2"), "a .npz or a folder of images; got '.txt'"),
        ("x.npy", lambda p: p.write_bytes(NPZ), "a .npy file; got a .npz archive. Rename"),
        ("x.npz", lambda p: p.write_bytes(NPY), r"complete .npz file; got .*BadZipFile"),
        ("x.npy", lambda p: saved(p, np.ones((4, 2)) * np.nan), "finite values; got 8 NaN"),
        ("x.npy", lambda p: saved(p, np.ones((0, 2))), "expected at least one datapoint"),
        ("x.npy", lambda p: saved(p, np.ones(4)), "at least two axes"),
        ("x.npy", lambda p: saved(p, np.ones((1, 4))), "at least 2 datapoints"),
        ("x.npz", lambda p: np.savez(p, a=X, b=X), "one named x, .*; got arrays a, b"),
        ("x.npz", lambda p: np.savez(p, train=X, test=X[:, :2]), r"npz\[test\]: .*; got \(2,\), f"),
        ("x.npz", lambda p: np.savez(p, train=X, test=X.astype("u1")), r"float32 as given; got"),
        ("x.npz", lambda p: zipfile.ZipFile(p, "w").writestr("x", "hi"), r"\[x\]: expected an arr"),
    ],
)  # fmt: skip
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_each_fault_is_named(tmp_path: Path, name, make, words):
    make(tmp_path / name)
    with pytest.raises(InputError, match=words):
        from_file(tmp_path / name)


def test_a_missing_file_is_answered_with_the_nearest_name(tmp_path: Path):
    saved(tmp_path / "pixels.npy", X)
    with pytest.raises(InputError, match=r"nothing there. Did you mean 'pixels.npy'\?"):
        from_file(tmp_path / "pixel.npy")


# ---------------------------------------------------------------- folders of pictures


@pytest.fixture
def pillow():
    return pytest.importorskip("PIL.Image")


def picture(pillow, path: Path, array: np.ndarray, **options) -> Path:
    path.parent.mkdir(exist_ok=True)
    pillow.fromarray(array).save(path, **options)
    return path


def test_grey_pictures_in_the_order_of_their_paths(tmp_path, pillow):
    greys = np.random.default_rng(0).integers(0, 256, (3, 4, 5), dtype=np.uint8)
    for name, grey in zip(("b.png", "a.png", "c/d.png"), greys, strict=True):
        picture(pillow, tmp_path / name, grey)
    (tmp_path / "notes.txt").write_text("not a picture")
    x, treatment = read_array(tmp_path)
    assert treatment == "8-bit values scaled by 1/255"
    np.testing.assert_array_equal(x.numpy(), greys[[1, 0, 2], None].astype(np.float32) / 255)


def test_one_coloured_picture_makes_all_of_three_channels(tmp_path, pillow):
    colour = np.random.default_rng(0).integers(0, 256, (4, 5, 3), dtype=np.uint8)
    picture(pillow, tmp_path / "a.png", colour)
    picture(pillow, tmp_path / "b.png", np.full((4, 5), 255, np.uint8))
    opaque = np.concatenate([colour, np.full((4, 5, 1), 255, np.uint8)], 2)
    picture(pillow, tmp_path / "c.png", opaque)
    x = read_array(tmp_path).x
    expected = colour.transpose(2, 0, 1).astype(np.float32) / 255
    np.testing.assert_array_equal(x[0].numpy(), expected)
    np.testing.assert_array_equal(x[2].numpy(), expected)
    assert torch.equal(x[1], torch.ones(3, 4, 5))


def test_each_faulty_picture_is_named(tmp_path, pillow):
    good = np.random.default_rng(0).integers(0, 256, (9, 5), dtype=np.uint8)
    picture(pillow, tmp_path / "a.png", good)
    bad = tmp_path / "b.png"
    clear = np.zeros((9, 5, 4), np.uint8)
    for array, words in [
        (good[:4], "b.png: expected 5 × 9 pixels like a.png; got 5 × 4. Crop"),
        (good.astype(np.uint16), "b.png: .* 8 bits; got Pillow's mode I;16"),
        (clear, "b.png: expected an opaque picture"),
    ]:
        picture(pillow, bad, array)
        with pytest.raises(InputError, match=words):
            read_array(tmp_path)


@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_a_truncated_picture_is_refused_unless_every_pixel_is_there(tmp_path, pillow, suffix):
    grey = np.random.default_rng(0).integers(0, 256, (9, 5), dtype=np.uint8)
    path = picture(pillow, tmp_path / f"a.{suffix}", grey)
    whole, pixels = path.read_bytes(), read_array(tmp_path).x
    tail = 20  # a PNG ends in 20 bytes of checksums and end marks
    for cut in range(len(whole) - tail):
        path.write_bytes(whole[:cut])
        with pytest.raises(InputError, match=rf"a.{suffix}: expected a complete picture"):
            read_array(tmp_path)
    for cut in range(len(whole) - tail, len(whole)):
        path.write_bytes(whole[:cut])
        try:
            assert torch.equal(read_array(tmp_path).x, pixels)
        except InputError:
            continue


def test_a_folder_without_pictures_is_named(tmp_path: Path):
    with pytest.raises(InputError, match=r"expected pictures .*; got a folder without any"):
        from_file(tmp_path)


def test_without_pillow_the_message_says_what_to_install(tmp_path: Path, monkeypatch):
    (tmp_path / "a.png").write_bytes(b"")
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(InputError, match=r"expected Pillow, .*Install elboscope\[images\]"):
        read_array(tmp_path)
