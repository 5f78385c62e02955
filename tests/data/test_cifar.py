"""Planes, rows and labels land where the format says; anything else is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from elboscope.core import InputError
from elboscope.data import read_cifar_batch
from elboscope.data.official import parse_cifar_batch

from .conftest import cifar_bytes

rng = np.random.default_rng(1)
IMAGES = rng.integers(0, 256, (3, 3, 32, 32), dtype=np.uint8)
LABELS = np.array([0, 9, 4], dtype=np.uint8)
WHOLE = cifar_bytes(IMAGES, LABELS)


def test_images_and_labels_come_back(tmp_path: Path):
    path = tmp_path / "data_batch_1.bin"
    path.write_bytes(WHOLE)
    batch = read_cifar_batch(path)
    np.testing.assert_array_equal(batch.images, IMAGES)
    np.testing.assert_array_equal(batch.labels, LABELS)
    # byte 1 + 1024 + 32 of the second record: green, second row, first column
    assert batch.images[1, 1, 1, 0] == WHOLE[3073 + 1 + 1024 + 32]


@given(st.integers(0, len(WHOLE) - 1))
@settings(max_examples=60, deadline=None)
def test_a_cut_between_records_is_a_shorter_file_and_any_other_is_refused(cut):
    if cut and cut % 3073 == 0:
        assert len(parse_cifar_batch(WHOLE[:cut], "file").labels) == cut // 3073
    else:
        with pytest.raises(InputError, match=r"^file: expected whole CIFAR-10 records of 3073"):
            parse_cifar_batch(WHOLE[:cut], "file")


def test_an_empty_file_and_a_label_above_nine_are_named():
    with pytest.raises(InputError, match="got an empty file"):
        parse_cifar_batch(b"", "file")
    with pytest.raises(InputError, match="labels from 0 to 9; got 77 in record 1"):
        parse_cifar_batch(cifar_bytes(IMAGES, np.array([0, 77, 200])), "file")
