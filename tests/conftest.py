"""Shapes are checked while the tests run: jaxtyping with beartype, on every function of src."""

from jaxtyping import install_import_hook

hook = install_import_hook("elboscope", "beartype.beartype")
