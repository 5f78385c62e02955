"""Sphinx: the pages of this folder, and the reference from the docstrings."""

import sys
from pathlib import Path

from elboscope import __version__

sys.path.insert(0, str(Path(__file__).parent))

project = "elboscope"
author = "The elboscope developers"
release = __version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.mathjax"]
extensions += ["schema_names"]
html_theme = "furo"
exclude_patterns = ["_build", "reproductions/*"]
autodoc_member_order = "bysource"
autodoc_typehints = "none"
napoleon_use_ivar = True  # else the fields of a NamedTuple are described twice
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3
suppress_warnings = ["docutils", "ref"]
