"""Sphinx: the pages of this folder, and the reference from the docstrings."""

import re
import sys
from pathlib import Path
from typing import Any

from elboscope import __version__

sys.path.insert(0, str(Path(__file__).parent))

project = "elboscope"
author = "The elboscope developers"
release = __version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.mathjax"]
extensions += ["schema_names"]
html_theme = "furo"
exclude_patterns = ["_build", "reproductions/*"]
autodoc_default_options = {"members": True}
autodoc_member_order = "bysource"
autodoc_typehints = "none"
napoleon_use_ivar = True  # else the fields of a NamedTuple are described twice
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3


def escape_shapes(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Escapes the star of a shape, ``Float[Tensor, "n *X"]``, which begins emphasis in RST."""
    lines[:] = [
        re.sub(r"(?<!\\)\*", r"\\*", line) if re.match(r"\s*:vartype ", line) else line
        for line in lines
    ]


def skip_fields(app: Any, what: str, name: str, obj: Any, skip: bool, options: Any) -> bool | None:
    """Leaves out "Alias for field number 0": the class's docstring describes its fields."""
    return True if type(obj).__name__ == "_tuplegetter" else None


def setup(app: Any) -> None:
    """Connects the two; priority 600 is after napoleon (500), which writes the fields' types."""
    app.connect("autodoc-process-docstring", escape_shapes, priority=600)
    app.connect("autodoc-skip-member", skip_fields)
