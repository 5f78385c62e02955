"""Training and held-out data, on the device and binarised, each as one tensor."""

from __future__ import annotations

__all__ = [
    "Minibatch",
    "TrainingData",
    "minibatches",
    "permutation",
    "prepare_data",
    "steps_per_epoch",
]

import hashlib
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import torch
from jaxtyping import Int64, Shaped
from torch import Tensor

from elboscope.core import InputError, Sampled, data_id, placed_like, seeded
from elboscope.core.errors import require
from elboscope.data import Binarisation, as_tensor
from elboscope.data.inputs import require_range

from .settings import TrainingSettings

# Streams of the fixed binarisation draw; 0 belongs to test data.
TRAIN_STREAM, VALIDATION_STREAM = 1, 2
# The permutation that splits; epochs have the numbers from 0 on.
HOLD_OUT = -1


class TrainingData(NamedTuple):
    """What the loop sees.

    Attributes:
        x_train: Training data; grey under dynamic binarisation, which is drawn batch by batch.
        condition_train: Their conditions.
        x: Held-out data, one fixed draw; ``None`` without any.
        condition: Their conditions.
        record: Sizes, checksum and treatment for ``run.json``.
    """

    x_train: Tensor
    condition_train: Tensor | None
    x: Tensor | None
    condition: Tensor | None
    record: Mapping[str, object]


def prepare_data(
    model: Sampled,
    x_train: object,
    settings: TrainingSettings,
    binarisation: Binarisation,
    *,
    x: object = None,
    condition_train: Tensor | None = None,
    condition: Tensor | None = None,
) -> TrainingData:
    """Holds out a part, places everything like the model, and makes the fixed draws.

    Raises:
        InputError: No data are left to train on, values are out of range, or conditions and
            data do not pair up.
    """
    train, treatment = as_tensor(x_train, name="x_train")
    valid: Tensor | None
    _require_pairs(train, condition_train, "condition_train")
    if x is None and condition is not None:
        rows = isinstance(condition, Tensor) and condition.ndim > 0
        require("condition", rows, "a Tensor of rows, or None", condition)
        raise InputError(
            "condition",
            expected="none without held-out data x, whose conditions they are",
            got=f"{len(condition)} rows",
            do="Conditions of the training data are condition_train=.",
        )
    if binarisation.mode == "dynamic":
        do = "Rescale x_train or use binarisation 'none'."
        require_range(train, 0.0, 1.0, name="x_train", do=do)
    record: dict[str, object] = {
        "checksum": data_id(train),
        "shape": list(train.shape),
        "treatment": treatment,
    }
    if x is not None:
        valid = as_tensor(x, name="x").x
        _require_pairs(valid, condition, "condition")
        record["validation_checksum"] = data_id(valid)
    else:
        train, valid, condition_train, condition = _hold_out(train, condition_train, settings)
    if valid is None and settings.patience is not None:
        raise InputError(
            "patience",
            expected="held-out data, whose bound tells when to stop",
            got=f"patience {settings.patience} and none held out",
            do="Raise validation_fraction, pass held-out data x, or leave patience out.",
        )
    if binarisation.mode != "dynamic":
        train = binarisation.fixed_draw(train, stream=TRAIN_STREAM)
    if valid is not None:
        valid = binarisation.fixed_draw(valid, stream=VALIDATION_STREAM)
    record |= {"num_train": len(train), "num_validation": 0 if valid is None else len(valid)}
    with seeded(0):
        train = placed_like(train, model)
        valid = None if valid is None else placed_like(valid, model)
    return TrainingData(
        train,
        None if condition_train is None else condition_train.to(train.device),
        valid,
        None if condition is None else condition.to(train.device),
        record,
    )


def _require_pairs(x: Tensor, condition: Tensor | None, name: str) -> None:
    rows = condition is None or (isinstance(condition, Tensor) and condition.ndim > 0)
    require(name, rows, f"a Tensor of {len(x)} rows, or None", condition)
    if condition is not None and len(condition) != len(x):
        raise InputError(
            name,
            expected=f"{len(x)} rows, one a datapoint",
            got=f"{len(condition)} rows",
            do="Pass conditions in the order of the data.",
        )


def _hold_out(
    x: Tensor, condition: Tensor | None, settings: TrainingSettings
) -> tuple[Tensor, Tensor | None, Tensor | None, Tensor | None]:
    """Splits by a permutation of the seed: (train, held out, and their conditions)."""
    num_valid = round(settings.validation_fraction * len(x))
    if num_valid == 0:
        return x, None, condition, None
    if num_valid >= len(x):
        raise InputError(
            "x_train",
            expected="enough datapoints to train on",
            got=f"{len(x)}, all of them held out",
            do="Lower validation_fraction.",
        )
    order = permutation(len(x), settings.seed, HOLD_OUT).to(x.device)
    kept, held = order[num_valid:], order[:num_valid]
    if condition is None:
        return x[kept], x[held], None, None
    order = order.to(condition.device)
    return x[kept], x[held], condition[order[num_valid:]], condition[order[:num_valid]]


# Minibatches: index selections from data that already lie on the device.
#
# The order of epoch e is a permutation drawn from the pair (seed, e) alone, so a run that stopped
# within an epoch finds its place again from the number of its next step. Every datapoint is used
# once an epoch; the last, smaller minibatch is not dropped. There are no worker processes.


class Minibatch(NamedTuple):
    """What one step sees.

    Attributes:
        x: Datapoints ``(B, *X)``, binarised.
        epoch: Training time at the end of this step, in epochs.
        condition: One row per datapoint, or ``None``.
    """

    x: Tensor
    epoch: float
    condition: Tensor | None = None


def steps_per_epoch(num_data: int, batch_size: int) -> int:
    """Returns ⌈N/B⌉; one datapoint left over joins the minibatch before it.

    Batch normalisation cannot normalise a minibatch of one.

    Example:
        >>> steps_per_epoch(102, 100), steps_per_epoch(101, 100), steps_per_epoch(1, 100)
        (2, 1, 1)
    """
    if batch_size == 1:
        return num_data
    return max(1, -(-(num_data - 1) // batch_size))


def permutation(num_data: int, seed: int, epoch: int) -> Int64[Tensor, " N"]:
    """Returns the order of an epoch, a function of the seed and the epoch's number alone.

    Example:
        >>> permutation(4, seed=0, epoch=3).sort().values.tolist()
        [0, 1, 2, 3]
        >>> torch.equal(permutation(99, seed=0, epoch=3), permutation(99, seed=0, epoch=3))
        True
    """
    digest = hashlib.sha256(f"permutation {seed} {epoch}".encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))
    return torch.randperm(num_data, generator=generator)


def minibatches(
    x: Shaped[Tensor, "N *X"],
    batch_size: int,
    seed: int,
    *,
    condition: Shaped[Tensor, "N *C"] | None = None,
    binarisation: Binarisation | None = None,
    start: int = 0,
) -> Iterator[Minibatch]:
    """Yields minibatches without end, from any step on.

    Args:
        x: Data ``(N, *X)``, on the device where they are used.
        batch_size: B.
        seed: Seed of the permutations.
        condition: One row per datapoint.
        binarisation: Applied to each minibatch, from the ambient random state.
        start: Number of the first step; 0 is the beginning of training.

    Example:
        >>> batches = minibatches(torch.arange(5.0).reshape(5, 1), 2, seed=0)
        >>> [len(next(batches).x) for _ in range(4)]
        [2, 3, 2, 3]
    """
    T = steps_per_epoch(len(x), batch_size)
    epoch, first = divmod(start, T)
    while True:
        order = permutation(len(x), seed, epoch).to(x.device)
        for t in range(first, T):
            rows = order[t * batch_size : (t + 1) * batch_size if t < T - 1 else None]
            batch = x.index_select(0, rows)
            yield Minibatch(
                batch if binarisation is None else binarisation.batch(batch),
                epoch + (t + 1) / T,
                None if condition is None else condition.index_select(0, rows),
            )
        epoch, first = epoch + 1, 0
