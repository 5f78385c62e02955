"""Whatever the user has, as one batch tensor ``(N, *X)``, and a sentence on what was done to it.

Every number elboscope prints is about this tensor, so the conversion never guesses silently:
8-bit images become x/255, other values keep their scale, and ``treatment`` says which. Values that
no likelihood can take (NaN, infinity) are refused here, because further in they would only look
like a diverged model.
"""

from __future__ import annotations

__all__ = ["Batch", "as_tensor", "nearest", "require_range"]

import difflib
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset

from elboscope.core import InputError, seeded
from elboscope.core.errors import blamed_on


class Batch(NamedTuple):
    """Data ``(N, *X)`` and what was done to make them."""

    x: Float[Tensor, "N *X"]
    treatment: str


def as_tensor(x: object, *, name: str = "x") -> Batch:
    """Returns data as one floating-point tensor ``(N, *X)`` with a record of the conversion.

    8-bit values are divided by 255, unless all are 0 or 1 (binary data). Booleans become 0 and 1.
    Other integers are cast and not scaled. float32 and float64 stay what they are, half precision
    becomes float32. A Dataset or DataLoader is read once, to its end; of a tuple the first entry
    is the data, and labels are ignored. A shuffling loader is read under a fixed seed, and the
    caller's random state is left alone.

    Args:
        x: A Tensor, a NumPy array, a Dataset or a DataLoader.
        name: What error messages call it.

    Returns:
        The tensor, on the device where it was, and the treatment in words.

    Raises:
        InputError: Another type; objects, text or complex numbers; fewer than two axes; nothing in
            it; NaN or infinity; datapoints of different shapes.

    Example:
        >>> x, treatment = as_tensor(np.array([[0, 51, 255]], dtype=np.uint8))
        >>> x.tolist(), treatment
        ([[0.0, 0.2..., 1.0]], '8-bit values scaled by 1/255')
        >>> as_tensor(np.array([[1.0, float("nan")]]))
        Traceback (most recent call last):
        elboscope.core.errors.InputError: x: expected finite values; got 1 NaN or infinite of 2, the first at [0, 1]. ...
    """  # noqa: E501
    match x:
        case Tensor():
            return _floating(x.detach(), name)
        case np.ndarray():
            return _floating(_from_numpy(x, name), name)
        case DataLoader() | Dataset():
            do = "Read a few of its items yourself: x[0], or next(iter(loader))."
            with blamed_on(name, "data that can be read", do):
                stacked, labelled = _collected(x, name)
            batch = _floating(stacked, name)
            ignored = ", labels ignored" if labelled else ""
            return Batch(batch.x, batch.treatment + ignored)
    raise InputError(
        name,
        expected="a Tensor, a NumPy array, a Dataset or a DataLoader",
        got=f"a {type(x).__name__}",
        do="Try numpy.asarray on it.",
    )


def require_range(x: Tensor, low: float, high: float, *, name: str, do: str) -> None:
    """Raises an InputError unless every value of x lies in [low, high].

    Example:
        >>> require_range(torch.tensor([2.0]), 0.0, 1.0, name="x", do="Divide by 2.")
        Traceback (most recent call last):
        elboscope.core.errors.InputError: x: expected values in [0, 1]; got values in [2, 2]. Divide by 2.
    """  # noqa: E501
    if x.numel() and not bool(((x >= low) & (x <= high)).all()):
        raise InputError(
            name,
            expected=f"values in [{low:g}, {high:g}]",
            got=f"values in [{float(x.min()):g}, {float(x.max()):g}]",
            do=do,
        )


def nearest(word: object, choices: Iterable[str]) -> str:
    """Returns the sentence that proposes the nearest valid choice, or nothing.

    Example:
        >>> nearest("mnits", ["digits", "mnist"])
        "Did you mean 'mnist'?"
    """
    close = difflib.get_close_matches(str(word).lower(), list(choices), n=1, cutoff=0.5)
    return f"Did you mean '{close[0]}'?" if close else ""


def _floating(x: Tensor, name: str) -> Batch:
    if x.is_nested or x.is_meta:
        raise _wrong_type(name, "a nested tensor" if x.is_nested else "a tensor without values")
    if x.layout != torch.strided or x.is_quantized or x.is_complex():
        raise _wrong_type(name, f"{x.dtype}, {x.layout}".replace("torch.", ""))
    if x.ndim < 2:
        raise InputError(
            name,
            expected="data of shape (N, ...) with at least two axes",
            got=f"shape {tuple(x.shape)}",
            do="Add the batch axis, x[None], or the data axis, x[:, None].",
        )
    if x.numel() == 0:
        raise InputError(
            name, expected="at least one datapoint", got=f"an empty array, {tuple(x.shape)}"
        )
    if not x.is_floating_point():
        return _from_integers(x)
    _require_finite(x, name)
    if x.dtype in (torch.float32, torch.float64):
        return Batch(x, f"{_dtype(x)} as given")
    return Batch(x.float(), f"{_dtype(x)} cast to float32")


def _from_integers(x: Tensor) -> Batch:
    if x.dtype == torch.bool:
        return Batch(x.float(), "booleans as 0 and 1")
    if x.dtype == torch.uint8:
        if int(x.max()) <= 1:
            return Batch(x.float(), "8-bit values 0 and 1 taken as binary, not scaled")
        return Batch(x.float().div_(255), "8-bit values scaled by 1/255")
    return Batch(x.float(), "integers cast to float32, not scaled")


def _require_finite(x: Tensor, name: str) -> None:
    bad = ~torch.isfinite(x)
    count = int(bad.sum())
    if count:
        raise InputError(
            name,
            expected="finite values",
            got=f"{count} NaN or infinite of {x.numel()}, the first at {bad.nonzero()[0].tolist()}",
            do="Remove or repair these datapoints.",
        )


def _from_numpy(x: NDArray[Any], name: str) -> Tensor:
    if isinstance(x, np.ma.MaskedArray):
        raise InputError(
            name,
            expected="an array without a mask",
            got="a masked array",
            do="Missing values need a likelihood of their own; fill them or drop the datapoints.",
        )
    if x.dtype.kind not in "biuf":
        raise _wrong_type(name, f"dtype {x.dtype}")
    if x.dtype.kind in "iu" and x.dtype != np.uint8:
        native: np.dtype[Any] = np.dtype(np.int64)  # torch has few operations on the other integers
    elif x.dtype.kind == "f" and x.dtype.itemsize > 8:
        native = np.dtype(np.float64)
    else:
        native = x.dtype.newbyteorder("=")
    array = np.ascontiguousarray(x, dtype=native).reshape(x.shape)
    return torch.from_numpy(array if array.flags.writeable else array.copy())


def _collected(data: DataLoader[Any] | Dataset[Any], name: str) -> tuple[Tensor, bool]:
    batched, labelled = isinstance(data, DataLoader), False
    parts: list[Tensor] = []
    with seeded(0):
        for item in _items(data, name):
            several = isinstance(item, tuple | list) and len(item) > 0
            part = _part(item[0] if several else item, f"{name}[{len(parts)}]")
            labelled |= several and len(item) > 1
            _require_shape(part, parts[0] if parts else part, batched, f"{name}[{len(parts)}]")
            parts.append(part)
    if not parts:
        raise InputError(name, expected="at least one datapoint", got="an empty data set")
    return (torch.cat if batched and parts[0].ndim else torch.stack)(parts), labelled


def _items(data: DataLoader[Any] | Dataset[Any], name: str) -> Iterable[Any]:
    if isinstance(data, DataLoader | IterableDataset):
        return data
    if hasattr(data, "__len__"):
        return (data[index] for index in range(len(data)))
    raise InputError(
        name,
        expected="a data set with a length",
        got=f"a {type(data).__name__} without __len__",
        do="Pass a DataLoader over it.",
    )


def _require_shape(part: Tensor, first: Tensor, batched: bool, name: str) -> None:
    start = 1 if batched else 0
    if part.shape[start:] != first.shape[start:]:
        raise InputError(
            name,
            expected=f"shape {tuple(first.shape[start:])} like the first",
            got=f"{tuple(part.shape[start:])}",
            do="Crop or resize the data to one shape.",
        )


def _part(item: object, name: str) -> Tensor:
    if isinstance(item, Tensor):
        return item.detach()
    if isinstance(item, np.ndarray):
        return _from_numpy(item, name)
    raise InputError(
        name,
        expected="a Tensor or NumPy array, alone or first in a tuple",
        got=f"a {type(item).__name__}",
        do="Let the data set's transform return tensors.",
    )


def _wrong_type(name: str, got: str) -> InputError:
    return InputError(
        name,
        expected="real numbers (floating point, integers or booleans) in a dense array",
        got=got,
        do="Convert the values to float32.",
    )


def _dtype(x: Tensor) -> str:
    return str(x.dtype).removeprefix("torch.")
