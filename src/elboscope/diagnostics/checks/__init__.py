"""Checks: each a pure function from the shared evidence to a finding, in a file of its own.

Every check in a file of this folder is found; none has to be listed.
"""

from __future__ import annotations

__all__ = ["CHECKS"]

import pkgutil
from importlib import import_module

from ..decision import Check

# What makes later numbers meaningless is read first; checks that are not named here follow.
READ_FIRST = (
    "divergence",
    "likelihood scale",
    "likelihood trust",
    "likelihood certificate",
    "bound tightness",
    "inference gap",
    "posterior collapse",
    "prior hole",
    "low-posterior samples",
    "sample quality",
    "overfitting",
)


def _found() -> dict[str, Check]:
    modules = [import_module(f"{__name__}.{info.name}") for info in pkgutil.iter_modules(__path__)]
    entries = [entry for module in modules for entry in vars(module).values()]
    return {entry.name: entry for entry in entries if isinstance(entry, Check)}


def _in_reading_order(found: dict[str, Check]) -> tuple[Check, ...]:
    others = sorted(set(found) - set(READ_FIRST))
    return tuple(found[name] for name in (*READ_FIRST, *others))


CHECKS: tuple[Check, ...] = _in_reading_order(_found())
