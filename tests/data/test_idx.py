"""Every valid IDX file is read exactly; every damaged one is refused by name."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from elboscope.core import InputError
from elboscope.data import read_idx
from elboscope.data.official import parse_idx

from .conftest import idx_bytes

arrays = hnp.arrays(np.uint8, hnp.array_shapes(min_dims=1, max_dims=4, max_side=5))


@pytest.mark.parametrize("compress", [bytes, gzip.compress], ids=["plain", "gzip"])
def test_a_valid_file_gives_the_array_back(tmp_path: Path, compress):
    array = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    path = tmp_path / "images"
    path.write_bytes(compress(idx_bytes(array)))
    np.testing.assert_array_equal(read_idx(path), array)


@given(arrays, st.data())
@settings(max_examples=100, deadline=None)
def test_truncation_at_any_byte_is_refused_and_the_whole_is_read(array, data):
    whole = idx_bytes(array)
    cut = data.draw(st.integers(0, len(whole) - 1))
    with pytest.raises(InputError, match=r"^file: expected .*truncated"):
        parse_idx(whole[:cut], "file")
    np.testing.assert_array_equal(parse_idx(whole, "file"), array)


@given(arrays, st.binary(min_size=1, max_size=9))
@settings(max_examples=50, deadline=None)
def test_bytes_after_the_end_are_refused(array, tail):
    with pytest.raises(InputError, match="too long"):
        parse_idx(idx_bytes(array) + tail, "file")


@given(st.binary(min_size=4, max_size=40))
@settings(max_examples=100, deadline=None)
def test_random_bytes_never_give_anything_but_an_array_or_an_input_error(data):
    try:
        array = parse_idx(data, "file")
    except InputError as error:
        message = str(error)
    else:
        message, data_again = "", idx_bytes(array)
    assert message.startswith("file: expected ") if message else data_again == data


def test_truncated_gzip_at_any_byte_is_refused(tmp_path: Path):
    whole = gzip.compress(idx_bytes(np.arange(6)))
    path = tmp_path / "labels.gz"
    for cut in range(2, len(whole)):
        path.write_bytes(whole[:cut])
        with pytest.raises(InputError, match=r"labels\.gz: .*truncated or damaged"):
            read_idx(path)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"PK\x03\x04" + bytes(9), "expected the IDX magic number 00 00 08 .*; got 50 4b 03 04"),
        (bytes([0, 0, 8, 0]), "1 to 4 axes; got 00 00 08 00"),
        (bytes([0, 0, 13, 1, 0, 0, 0, 1, 0]), r"type 08 \(unsigned byte\); got type 0d"),
        (bytes([0, 0, 8, 1, 0, 0, 0, 0]), r"at least one value; got an empty array of shape \(0,"),
        (b"", r"an IDX header; got 0 bytes \(truncated\)"),
    ],
)
def test_each_fault_is_named(tmp_path: Path, data: bytes, words: str):
    path = tmp_path / "broken"
    path.write_bytes(data)
    with pytest.raises(InputError, match=words) as caught:
        read_idx(path)
    assert caught.value.what == str(path)


def test_a_missing_file_and_a_folder_are_named(tmp_path: Path):
    with pytest.raises(InputError, match="expected a readable file; got No such file"):
        read_idx(tmp_path / "none")
    with pytest.raises(InputError, match="expected a readable file; got Is a directory"):
        read_idx(tmp_path)
