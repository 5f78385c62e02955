"""What a result must be read with: machine, versions, seed, training, time, data."""

from __future__ import annotations

__all__ = ["device_name", "provenance", "training_device"]

import platform
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import torch

from .result import Scale


def training_device(scale: Scale) -> torch.device:
    """Returns the accelerator for the paper's scale, if there is one; else the CPU.

    Example:
        >>> training_device("smoke")
        device(type='cpu')
    """
    use = scale == "paper" and torch.cuda.is_available()
    return torch.device("cuda" if use else "cpu")


def device_name(device: torch.device) -> str:
    """Returns the name of the processor behind a device."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"CPU, {_processor()}, {torch.get_num_threads()} threads"


def _processor() -> str:
    listed = Path("/proc/cpuinfo")
    lines = listed.read_text().splitlines() if listed.is_file() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())


def provenance(
    *,
    seed: int,
    device: torch.device,
    wall_seconds: float,
    epochs: int | None,
    data: Mapping[str, object],
    settings: Mapping[str, object],
) -> dict[str, object]:
    """Returns the record that is saved beside every number.

    Args:
        seed: From which all randomness of the run comes.
        device: Where it ran.
        wall_seconds: How long, all sittings together.
        epochs: Passes over the training data; ``None`` where nothing was trained.
        data: Name, checksum, number of images, binarisation.
        settings: What else the numbers depend on.

    Example:
        >>> record = provenance(seed=0, device=torch.device("cpu"), wall_seconds=1.0, epochs=None,
        ...                     data={}, settings={})
        >>> sorted(record)[:4]
        ['data', 'device', 'epochs', 'finished']
    """
    versions = {name: version(name) for name in ("elboscope", "torch", "numpy")}
    return {
        "device": device_name(device),
        "versions": {"python": platform.python_version(), **versions},
        "seed": seed,
        "epochs": epochs,
        "wall_seconds": round(wall_seconds, 1),
        "finished": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "data": dict(data),
        "settings": dict(settings),
    }
