"""Healthy models give no false problem; sick ones are found (docs/calibration.md)."""

from pathlib import Path

import pytest
import zoo

pytestmark = pytest.mark.slow
FLAGS = ("warning", "problem")


@pytest.fixture(scope="session")
def verdicts():
    return zoo.verdicts()[0]


def test_each_check_is_calibrated_on_five_healthy_and_five_sick_models(verdicts):
    for check in zoo.NAMES:
        for sick in (False, True):
            names = {v.subject for v in verdicts if v.check == check and v.sick is sick}
            assert len(names) >= 5, (check, sick, names)


def test_a_healthy_model_gets_no_problem(verdicts):
    false = [v for v in verdicts if not v.sick and v.finding.severity == "problem"]
    assert not false, [(v.subject, str(v.finding)) for v in false]


def test_at_most_one_in_fifty_healthy_verdicts_is_a_warning(verdicts):
    healthy = [v for v in verdicts if not v.sick]
    false = [v for v in healthy if v.finding.severity == "warning"]
    assert len(false) <= len(healthy) / 50, [(v.subject, str(v.finding)) for v in false]


@pytest.mark.parametrize("check", zoo.NAMES)
def test_sick_models_are_found(verdicts, check):
    sick = [v for v in verdicts if v.check == check and v.sick]
    missed = [v for v in sick if v.finding.severity not in FLAGS]
    assert len(missed) <= 1, [(v.subject, str(v.finding)) for v in missed]
    assert not any(v.finding.severity == "ok" for v in missed), "missed, not merely undecided"


def test_the_perfect_20_dimensional_model_gets_no_hole(verdicts):
    mine = [v for v in verdicts if v.subject == "perfect 20-d" and v.check == zoo.HOLE]
    assert [v.finding.severity for v in mine] == ["undecided"]


@pytest.mark.parametrize(
    ("subject", "larger"),
    [
        ("instance 2, mean-field encoder", "approximation"),
        ("stronger correlation", "approximation"),
        ("encoder of another run", "amortisation"),
        ("encoder sees half of x", "amortisation"),
        ("codes shifted by 2", "amortisation"),
        ("perfect 20-d, narrow encoder", "amortisation"),
    ],
)
def test_the_larger_part_of_the_inference_gap_is_the_one_that_was_made_sick(
    verdicts, subject, larger
):
    mine = [v for v in verdicts if (v.subject, v.check) == (subject, zoo.INFERENCE)]
    assert [v.finding.evidence["larger"] for v in mine] == [larger]


def test_the_page_lists_every_model_and_check():
    page = (Path(__file__).parents[2] / "docs" / "calibration.md").read_text(encoding="utf-8")
    assert all(f"| {check} | sick |" in page for check in zoo.NAMES)
    assert "python tests/diagnostics/zoo.py --write" in page
