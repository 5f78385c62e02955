"""Find out what is wrong with your VAE, in nats.

elboscope trains latent-variable models and diagnoses any of them: its own, your ``nn.Module``s,
and those of other libraries. ``import elboscope as es`` is lazy: names are imported on first use.

The names a user types weekly are flat, ``es.importance_sampling``; the rest live in rooms,
``es.latents.unit_kl``, ``es.samples.neighbour_metrics``. The table of both is ``__init__.pyi``:
type checkers read it, and so does this module, so that they cannot disagree.
"""

from __future__ import annotations

import ast
import importlib
from pathlib import Path
from typing import Any


def _read_table() -> dict[str, str]:
    """Returns the module that holds each public name; that of a package is its parent."""
    stub = ast.parse(Path(__file__).with_suffix(".pyi").read_text(encoding="utf-8"))
    imports = [node for node in stub.body if isinstance(node, ast.ImportFrom)]
    return {alias.name: node.module or "" for node in imports for alias in node.names}


_HOME = _read_table()

__all__ = [*sorted(_HOME), "__version__"]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version(__name__)
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if not _HOME[name]:
        return importlib.import_module(f".{name}", __name__)
    return getattr(importlib.import_module(f".{_HOME[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted(__all__)
