"""Find out what is wrong with your VAE, in nats.

elboscope trains latent-variable models and diagnoses any of them: its own, your ``nn.Module``s,
and those of other libraries. ``import elboscope as es`` is lazy: names are imported on first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOME = {
    "check_model": "core",
    "Bound": "core",
    "Capabilities": "core",
    "ContractError": "core",
    "Estimate": "core",
    "Finding": "core",
    "GenerativeModel": "core",
    "InputError": "core",
    "LatentVariableModel": "core",
    "from_modules": "models",
    "log_weights": "core",
    "paired_difference": "core",
    "sample_posterior": "core",
    "seeded": "core",
    "split_parameters": "core",
}
_PACKAGES = (
    "core",
    "data",
    "diagnostics",
    "distributions",
    "estimators",
    "models",
    "nn",
    "objectives",
    "plots",
    "report",
    "training",
)

__all__ = [*_HOME, *_PACKAGES, "__version__"]

if TYPE_CHECKING:
    from . import (
        core,
        data,
        diagnostics,
        distributions,
        estimators,
        models,
        nn,
        objectives,
        plots,
        report,
        training,
    )
    from .core import *


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(f".{_HOME[name]}", __name__), name)
    if name in _PACKAGES:
        return importlib.import_module(f".{name}", __name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
