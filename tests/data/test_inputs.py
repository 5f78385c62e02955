"""Whatever comes in, the tensor holds the same values or values/255, and the treatment says so."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

from elboscope.core import InputError
from elboscope.data import as_tensor

IMAGES = (np.arange(60, dtype=np.uint8) * 4).reshape(5, 3, 2, 2)
LABELS = torch.arange(5)
BINARY = "8-bit values 0 and 1 taken as binary, not scaled"


class Stream(IterableDataset):
    def __iter__(self):
        return iter(torch.from_numpy(IMAGES))


class Endless(Dataset):
    def __getitem__(self, index):
        return torch.zeros(2)


class Ragged(Dataset):
    def __len__(self):
        return 2

    def __getitem__(self, index):
        return torch.zeros(2 + index)


class Words(Ragged):
    def __getitem__(self, index):
        return "a picture"


class Empty(Ragged):
    def __len__(self):
        return 0


@pytest.mark.parametrize(
    ("data", "ignored"),
    [
        (IMAGES, ""),
        (torch.from_numpy(IMAGES), ""),
        (TensorDataset(torch.from_numpy(IMAGES)), ""),
        (TensorDataset(torch.from_numpy(IMAGES), LABELS), ", labels ignored"),
        (DataLoader(TensorDataset(torch.from_numpy(IMAGES), LABELS), 2), ", labels ignored"),
        (Stream(), ""),
        (IMAGES[::-1][::-1], ""),
    ],
)
def test_every_container_gives_the_same_batch(data, ignored):
    x, treatment = as_tensor(data)
    assert treatment == "8-bit values scaled by 1/255" + ignored
    np.testing.assert_array_equal(x.numpy(), IMAGES.astype(np.float32) / 255)


def test_a_shuffled_loader_is_read_in_a_fixed_order_and_draws_nothing_from_the_caller():
    loader = DataLoader(TensorDataset(torch.arange(20.0)[:, None]), 3, shuffle=True)
    before = torch.get_rng_state()
    first, second = as_tensor(loader).x, as_tensor(loader).x
    assert torch.equal(before, torch.get_rng_state())
    assert torch.equal(first, second)
    assert first.flatten().sort().values.tolist() == list(range(20))


@pytest.mark.parametrize(
    ("array", "expected", "treatment"),
    [
        (np.array([[1, 0]], np.uint8), [[1, 0]], BINARY),
        (np.array([[True, False]]), [[1, 0]], "booleans as 0 and 1"),
        (np.array([[-3, 255]], np.int16), [[-3, 255]], "integers cast to float32, not scaled"),
        (np.array([[60_000]], np.uint16), [[60_000]], "integers cast to float32, not scaled"),
        (np.array([[0.5, 2]], np.float16), [[0.5, 2]], "float16 cast to float32"),
        (np.array([[0.5, 2]], ">f4"), [[0.5, 2]], "float32 as given"),
        (np.array([[0.5, 2]]), [[0.5, 2]], "float64 as given"),
    ],
)  # fmt: skip
def test_the_treatment_of_each_type(array, expected, treatment):
    x, said = as_tensor(array)
    assert (x.tolist(), said) == (expected, treatment)


def test_a_read_only_array_is_copied_and_a_graph_is_cut():
    array = np.ones((2, 2))
    array.flags.writeable = False
    x = as_tensor(array).x
    x += 1
    assert array.sum() == 4
    assert not as_tensor(torch.ones(2, 2, requires_grad=True)).x.requires_grad


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ([[1.0]], "x: expected a Tensor, a NumPy array, a Dataset or a DataLoader; got a list"),
        (np.array([[None]]), "x: expected real numbers .*; got dtype object"),
        (np.array([["a"]]), "got dtype <U1"),
        (np.array([[1j]]), "got dtype complex128"),
        (torch.ones(2, 2).to_sparse(), "got float32, sparse_coo"),
        (np.ma.masked_less(np.ones((2, 2)), 2), "expected an array without a mask"),
        (torch.ones(3), r"at least two axes; got shape \(3,\). Add the batch axis"),
        (torch.ones(0, 3), r"expected at least one datapoint; got an empty array, \(0, 3\)"),
        (Endless(), "a data set with a length; got a Endless without __len__"),
        (Ragged(), r"x\[1\]: expected shape \(2,\) like the first; got \(3,\)"),
        (Words(), r"x\[0\]: expected a Tensor or NumPy array, .*; got a str"),
        (Empty(), "x: expected at least one datapoint; got an empty data set"),
    ],
)
def test_each_fault_is_named(data, words):
    with pytest.raises(InputError, match=words):
        as_tensor(data)


@given(
    hnp.arrays(np.float64, hnp.array_shapes(min_dims=2, max_dims=4, max_side=4),
               elements=st.floats(-1e6, 1e6)),
    st.sampled_from([np.nan, np.inf, -np.inf]),
    st.data(),
)  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_one_bad_value_is_found_where_it_is_and_without_it_all_is_well(array, bad, data):
    np.testing.assert_array_equal(as_tensor(array).x.numpy(), array)
    index = tuple(data.draw(st.integers(0, size - 1)) for size in array.shape)
    array[index] = bad
    with pytest.raises(InputError, match="my data: expected finite values; got 1 NaN") as caught:
        as_tensor(array, name="my data")
    assert f"the first at {list(index)}" in str(caught.value)
