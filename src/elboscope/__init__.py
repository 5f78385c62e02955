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
from functools import cache
from pathlib import Path
from typing import Any


def _read_table() -> dict[str, str]:
    """Returns the module that holds each public name; that of a package is its parent."""
    stub = ast.parse(Path(__file__).with_suffix(".pyi").read_text(encoding="utf-8"))
    imports = [node for node in stub.body if isinstance(node, ast.ImportFrom)]
    return {alias.name: node.module or "" for node in imports for alias in node.names}


_HOME = _read_table()

# Names that are no longer said anywhere, and what says the same.
_BECAME = {
    "marginal_kl_by_ratio": "es.marginal_kl(..., method='classifier')",
    "marginal_kl_by_density": "es.marginal_kl(..., method='density')",
}

__all__ = [*sorted(_HOME), "__version__"]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version(__name__)
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}{_where(name)}")
    if not _HOME[name]:
        return importlib.import_module(f".{name}", __name__)
    return getattr(importlib.import_module(f".{_HOME[name]}", __name__), name)


def _where(name: str) -> str:
    """Where a name that is not flat lives. Nothing is imported: an error is raised at once."""
    if name.startswith("_"):
        return ""
    holders = (f"es.{room}.{name}" for room, names in _read_rooms() if name in names)
    place = _BECAME.get(name) or next(holders, "")
    return place and f"; use {place}"


@cache  # jsonargparse asks for hundreds of names that are not here
def _read_rooms() -> list[tuple[str, list[str]]]:
    """Returns the public names of each package that is flat, the rooms of estimators first."""
    rooms = []
    for room, home in sorted(_HOME.items(), key=lambda entry: not entry[1]):
        file = Path(__file__).parent / home.replace(".", "/") / room / "__init__.py"
        if file.is_file():
            rooms.append((room, _literal_names(file)))
    return rooms


def _literal_names(file: Path) -> list[str]:
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            names: list[str] = ast.literal_eval(node.value)
            return names
    return []


def __dir__() -> list[str]:
    return sorted(__all__)
