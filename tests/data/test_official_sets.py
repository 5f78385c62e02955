"""Official sets are found in every layout, checked to the byte, and never half-downloaded."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import elboscope.data.locations as locations
from elboscope.core import InputError
from elboscope.data import available, cifar10, data_directory, fashion_mnist, load, mnist
from elboscope.data.availability import _row
from elboscope.data.named import collect
from elboscope.data.official import CIFAR10, MNIST, OFFICIAL

from .conftest import idx_bytes, small_set, tar_bytes

NOWHERE = ("http://127.0.0.1:9/",)


def all_files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


@pytest.mark.parametrize("folder", ["Small/raw", "small", "."])
@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_every_layout_is_found(tmp_path, contents, folder, suffix):
    (tmp_path / folder).mkdir(parents=True, exist_ok=True)
    for name, data in contents.items():
        (tmp_path / folder / (name + suffix)).write_bytes(gzip.compress(data) if suffix else data)
    found, source = collect(small_set(contents, NOWHERE), tmp_path, download=False)
    assert found == contents
    assert source == str(tmp_path / folder)


def test_an_archive_is_read_without_unpacking(tmp_path, contents):
    (tmp_path / "small.tar.gz").write_bytes(tar_bytes(contents))
    official = small_set(contents, NOWHERE, archive="small.tar.gz")
    assert collect(official, tmp_path, download=False)[0] == contents
    assert [path.name for path in all_files(tmp_path)] == ["small.tar.gz"]


def test_the_same_name_of_another_set_is_not_ours(tmp_path, contents, monkeypatch):
    """MNIST and Fashion-MNIST share their file names; the flat layout is told by checksum."""
    for name, data in contents.items():
        (tmp_path / name).write_bytes(data)
    owner = small_set(contents, NOWHERE)
    other = small_set({name: data + b"\1" for name, data in contents.items()}, NOWHERE)
    object.__setattr__(other, "name", "other")
    monkeypatch.setattr(locations, "OFFICIAL", (owner, other))
    assert collect(owner, tmp_path, download=False)[0] == contents
    with pytest.raises(InputError, match=r"other: expected a-images .*; got 2 of 2 files missing"):
        collect(other, tmp_path, download=False)


@given(st.data())
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_any_damage_is_refused_by_name_and_the_repaired_set_is_read(tmp_path, contents, data):
    official = small_set(contents, NOWHERE)
    for name, whole in contents.items():
        (tmp_path / name).write_bytes(whole)
    name = data.draw(st.sampled_from(sorted(contents)))
    whole = contents[name]
    position = data.draw(st.integers(0, len(whole) - 1))
    if data.draw(st.booleans()):
        damaged, words = whole[:position], rf"expected {len(whole)} bytes .*\(truncated\)"
    else:
        flipped = bytes([whole[position] ^ data.draw(st.integers(1, 255))])
        damaged, words = whole[:position] + flipped + whole[position + 1 :], "with SHA-256"
    (tmp_path / name).write_bytes(damaged)
    with pytest.raises(InputError, match=words) as caught:
        collect(official, tmp_path, download=True)
    assert caught.value.what == str(tmp_path / name)
    (tmp_path / name).write_bytes(whole)
    assert collect(official, tmp_path, download=False)[0] == contents


@pytest.mark.parametrize("archive", [None, "small.tar.gz"])
def test_a_download_is_put_in_place_and_used_again(tmp_path, contents, mirror, archive):
    home = tmp_path / "home" / "sets"
    official = small_set(contents, (NOWHERE[0], mirror), archive)
    assert collect(official, home, download=True)[0] == contents
    assert {path.parent for path in all_files(home)} == {home / "Small/raw"}
    assert len(all_files(home)) == 2
    offline = small_set(contents, NOWHERE, archive)
    assert collect(offline, home, download=True)[0] == contents


def test_only_what_is_missing_is_fetched(tmp_path, contents, mirror):
    kept = tmp_path / "home" / "small" / "a-labels"
    kept.parent.mkdir(parents=True)
    kept.write_bytes(contents["a-labels"])
    assert collect(small_set(contents, (mirror,)), tmp_path / "home", True)[0] == contents
    assert sorted(path.name for path in all_files(tmp_path / "home")) == ["a-images.gz", "a-labels"]


@pytest.mark.parametrize("archive", [None, "small.tar.gz"])
@pytest.mark.parametrize("damage", ["truncated", "other bytes", "not there", "not gzip"])
def test_a_failed_download_leaves_no_file(tmp_path, contents, mirror, archive, damage):
    for path in all_files(tmp_path / "mirror"):
        match damage:
            case "truncated":
                path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
            case "other bytes":
                other = {name: data[:-1] + b"\xff" for name, data in contents.items()}
                whole = tar_bytes(other) if archive else gzip.compress(other["a-images"])
                path.write_bytes(whole)
            case "not there":
                path.unlink()
            case "not gzip":
                path.write_text("<html>Log in to this network</html>")
    home = tmp_path / "home"
    official = small_set(contents, (*NOWHERE, mirror), archive)
    with pytest.raises(InputError, match=r"^download of small: expected .* from one of 2 mirrors"):
        collect(official, home, download=True)
    assert all_files(home) == []
    assert list(home.iterdir()) == []


def test_an_unwritable_directory_is_named(tmp_path, contents, mirror):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="expected a data directory that can be written"):
        collect(small_set(contents, (mirror,)), tmp_path / "file" / "below", download=True)
    with pytest.raises(InputError, match="expected a data directory; got a file"):
        data_directory(tmp_path / "file")


def test_missing_files_are_told_and_a_pickled_copy_is_not_read(tmp_path, contents):
    (tmp_path / "small-py").mkdir()
    with pytest.raises(InputError, match=r"2 of 2 files missing .*pickles execute code") as caught:
        collect(small_set(contents, NOWHERE), tmp_path, download=False)
    assert str(tmp_path / "Small/raw") in str(caught.value)
    assert "1 MB (download=True)" in str(caught.value)


def test_an_archive_without_a_member_is_named(tmp_path, contents):
    (tmp_path / "small.tar.gz").write_bytes(tar_bytes({"a-images": contents["a-images"]}))
    with pytest.raises(InputError, match="expected the member a-labels; got an archive without it"):
        collect(small_set(contents, NOWHERE, "small.tar.gz"), tmp_path, download=False)


def test_the_environment_names_the_directory_and_the_argument_wins(tmp_path, monkeypatch):
    monkeypatch.setenv("ELBOSCOPE_DATA", str(tmp_path / "env"))
    assert data_directory() == tmp_path / "env"
    assert data_directory(tmp_path / "arg") == tmp_path / "arg"
    monkeypatch.delenv("ELBOSCOPE_DATA")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert data_directory().parts[-1] == "elboscope"


def test_a_wrong_file_in_a_named_folder_is_refused_by_the_public_loader(tmp_path):
    (tmp_path / "MNIST/raw").mkdir(parents=True)
    for name in MNIST.files:
        (tmp_path / "MNIST/raw" / name).write_bytes(idx_bytes(np.zeros((2, 2))))
    with pytest.raises(
        InputError, match=r"expected 47040016 bytes of mnist's train-images.*got 16"
    ):
        mnist(tmp_path)


def test_the_table_tells_the_three_cases_apart(tmp_path, contents):
    official = small_set(contents, NOWHERE)
    row = _row(official, tmp_path)
    assert (row.here, row.checksum_ok, row.problem) == (False, None, "")
    assert row.where.startswith("not here: elboscope.data.small() fetches it (1 MB)")
    for name, data in contents.items():
        (tmp_path / name).write_bytes(data)
    row = _row(official, tmp_path)
    assert (row.here, row.checksum_ok, row.where) == (True, True, str(tmp_path))
    (tmp_path / "a-images").write_bytes(b"")
    row = _row(official, tmp_path)
    assert (row.here, row.checksum_ok) == (True, False)
    assert "a-images: expected" in row.problem


def test_names_are_forgiving_and_unknown_ones_get_the_nearest(tmp_path):
    for name in ("Fashion-MNIST", "FashionMNIST", "fashion_mnist"):
        with pytest.raises(InputError, match=r"^fashion_mnist: .*files missing"):
            load(name, tmp_path, download=False)
    with pytest.raises(InputError, match=r"^cifar10: .*files missing"):
        load("CIFAR-10", tmp_path, download=False)
    with pytest.raises(InputError, match="Did you mean 'cifar10'"):
        load("cifra10")
    with pytest.raises(InputError, match="nothing there"):
        load(tmp_path / "x.npy")


def test_the_table_of_checksums_is_well_formed():
    digests = [file.sha256 for official in OFFICIAL for file in official.files.values()]
    assert all(len(digest) == 64 and int(digest, 16) for digest in digests)
    assert len(set(digests)) == len(digests) == 14
    assert all(file.num_bytes == 10_000 * 3073 for file in CIFAR10.files.values())


# ---------------------------------------------------------------- the full sets


@pytest.mark.full_data
def test_mnist_has_the_published_statistics(full_data):
    images = mnist(full_data, download=False)
    train, test = images.train.flatten(1).double(), images.test.flatten(1).double()
    assert (len(train), len(test)) == (60_000, 10_000)
    assert abs(train.mean() - 0.1306605) < 5e-8
    assert abs((train > 0.5).double().mean() - 0.132258) < 5e-7
    assert abs((test > 0.5).double().mean() - 0.134229) < 5e-7
    for x_train, x, nll in (
        (train, test, 205.967),
        ((train > 0.5).double(), (test > 0.5).double(), 206.010),
    ):
        p = x_train.mean(0).clamp(0.001, 0.999)
        cross_entropy = -(x * p.log() + (1 - x) * (1 - p).log()).sum(1).mean()
        assert abs(cross_entropy - nll) < 6e-4
    assert images.train_labels is not None
    assert images.train_labels[:5].tolist() == [5, 0, 4, 1, 9]


@pytest.mark.full_data
def test_fashion_mnist_is_another_set_of_the_same_form(full_data):
    images = fashion_mnist(full_data, download=False)
    assert images.data_shape == (1, 28, 28)
    assert abs(float(images.train.double().mean()) - 0.2860) < 5e-5  # as published with the set
    assert images.train_labels is not None
    assert images.train_labels.bincount().tolist() == [6000] * 10


@pytest.mark.full_data
def test_cifar_has_the_published_channel_statistics(full_data):
    images = cifar10(full_data, download=False)
    moments = [
        torch.stack([(channel.double() ** power).mean() for channel in images.train.unbind(1)])
        for power in (1, 2)
    ]
    means, deviations = moments[0], (moments[1] - moments[0] ** 2).sqrt()
    np.testing.assert_allclose(means, (0.49139968, 0.48215841, 0.44653091), atol=2e-8)
    np.testing.assert_allclose(deviations, (0.24703223, 0.24348513, 0.26158784), atol=2e-8)
    assert images.train_labels is not None
    assert images.train_labels[:10].tolist() == [6, 9, 9, 4, 1, 1, 2, 7, 8, 3]


@pytest.mark.full_data
def test_the_table_finds_the_full_sets(full_data):
    rows = available(full_data)
    assert [(row.name, row.checksum_ok) for row in rows[1:4]] == [
        ("mnist", True), ("fashion_mnist", True), ("cifar10", True)
    ]  # fmt: skip
