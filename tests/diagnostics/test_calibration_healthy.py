"""Healthy models give no false problem; overfitted and diverged ones are found.

Half of docs/calibration.md; the other half runs beside it, in a file of its own.
"""

from pathlib import Path

import pytest
import zoo

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def verdicts():
    return tuple(zoo.verdicts(zoo.FIRST))


@pytest.mark.parametrize("check", zoo.NAMES)
def test_a_check_is_calibrated_on_five_healthy_models(verdicts, check):
    assert len({v.subject for v in verdicts if v.check == check and not v.sick}) >= 5


def test_a_healthy_model_gets_no_problem(verdicts):
    false = [v for v in verdicts if not v.sick and v.finding.severity == "problem"]
    assert not false, [*map(str, false)]


def test_at_most_one_in_fifty_healthy_verdicts_is_a_warning(verdicts):
    healthy = [v for v in verdicts if not v.sick]
    false = [v for v in healthy if v.flagged]
    assert len(false) <= len(healthy) / 50, [*map(str, false)]


@pytest.mark.parametrize("check", zoo.FIRST_SICK)
def test_sick_models_are_found(verdicts, check):
    sick = [v for v in verdicts if v.check == check and v.sick]
    assert len({v.subject for v in sick}) >= 5
    missed = [v for v in sick if not v.flagged]
    assert len(missed) <= 1, [*map(str, missed)]
    assert not any(v.finding.severity == "ok" for v in missed), "missed, not merely undecided"


def test_the_perfect_20_dimensional_model_gets_no_hole(verdicts):
    mine = [v for v in verdicts if v.subject == "perfect 20-d" and v.check == zoo.HOLE]
    assert [v.finding.severity for v in mine] == ["undecided"]


def test_the_page_lists_every_check():
    page = (Path(__file__).parents[2] / "docs" / "calibration.md").read_text(encoding="utf-8")
    assert all(f"| {check} | sick |" in page for check in zoo.NAMES)
    assert "python tests/diagnostics/zoo.py --write" in page
