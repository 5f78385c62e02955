"""The version that is stored beside every number, from the package's metadata.

A module of its own: whoever records it would otherwise import the whole package's front door.
"""

from __future__ import annotations

__all__ = ["VERSION"]

from importlib.metadata import PackageNotFoundError, version

try:
    VERSION = version("elboscope")
except PackageNotFoundError:  # a source tree on the path, which no one installed
    VERSION = "0+source"
