"""Training and held-out data, on the device and binarised, each as one tensor."""

from __future__ import annotations

__all__ = ["TrainingData", "prepare_data"]

from collections.abc import Mapping
from typing import NamedTuple

from torch import Tensor

from elboscope.core import InputError, Sampled, data_id, placed_like, seeded
from elboscope.data import Binarisation, as_tensor
from elboscope.data.inputs import require_range

from .minibatches import permutation
from .settings import TrainingSettings

# Streams of the fixed binarisation draw; 0 belongs to test data.
TRAIN_STREAM, VALIDATION_STREAM = 1, 2
# The permutation that splits; epochs have the numbers from 0 on.
HOLD_OUT = -1


class TrainingData(NamedTuple):
    """What the loop sees.

    Attributes:
        x: Training data; grey under dynamic binarisation, which is drawn batch by batch.
        condition: Their conditions.
        x_valid: Held-out data, one fixed draw; ``None`` without any.
        condition_valid: Their conditions.
        record: Sizes, checksum and treatment for ``run.json``.
    """

    x: Tensor
    condition: Tensor | None
    x_valid: Tensor | None
    condition_valid: Tensor | None
    record: Mapping[str, object]


def prepare_data(
    model: Sampled,
    x: object,
    settings: TrainingSettings,
    binarisation: Binarisation,
    *,
    x_valid: object = None,
    condition: Tensor | None = None,
    condition_valid: Tensor | None = None,
) -> TrainingData:
    """Holds out a part, places everything like the model, and makes the fixed draws.

    Raises:
        InputError: No data are left to train on, values are out of range, or conditions and
            data do not pair up.
    """
    train, treatment = as_tensor(x)
    valid: Tensor | None
    _require_pairs(train, condition, "condition")
    if binarisation.mode == "dynamic":
        require_range(train, 0.0, 1.0, name="x", do="Rescale x or use binarisation 'none'.")
    record: dict[str, object] = {
        "checksum": data_id(train),
        "shape": list(train.shape),
        "treatment": treatment,
    }
    if x_valid is not None:
        valid = as_tensor(x_valid, name="x_valid").x
        _require_pairs(valid, condition_valid, "condition_valid")
        record["validation_checksum"] = data_id(valid)
    else:
        train, valid, condition, condition_valid = _hold_out(train, condition, settings)
    if valid is None and settings.patience is not None:
        raise InputError(
            "patience",
            expected="held-out data, whose bound tells when to stop",
            got=f"patience {settings.patience} and none held out",
            do="Raise validation_fraction, pass x_valid, or leave patience out.",
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
        None if condition is None else condition.to(train.device),
        valid,
        None if condition_valid is None else condition_valid.to(train.device),
        record,
    )


def _require_pairs(x: Tensor, condition: Tensor | None, name: str) -> None:
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
            "x",
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
