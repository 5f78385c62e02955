"""The evidence answers by name, and a slip of the pen is told."""

import pytest

from elboscope.diagnostics import Missing

from .handmade import evidence


def test_a_mistyped_quantity_is_told_and_one_that_is_missing_is_not():
    with pytest.raises(Missing, match="it was not computed; did you mean 'log_px'"):
        evidence()["lgo_px"]
    with pytest.raises(Missing, match=r"prior sampling is missing: it was not computed\.$"):
        evidence(prior_sampling=None)["prior_sampling"]
