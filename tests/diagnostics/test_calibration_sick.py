"""Models made sick by mistakes that people make are found, each by the check it was made for.

Half of docs/calibration.md; the other half runs beside it, in a file of its own.
"""

import pytest
import zoo

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def verdicts():
    return tuple(zoo.verdicts(zoo.SECOND))


@pytest.mark.parametrize("check", zoo.SECOND_SICK)
def test_sick_models_are_found(verdicts, check):
    sick = [v for v in verdicts if v.check == check and v.sick]
    assert len({v.subject for v in sick}) >= 5
    missed = [v for v in sick if not v.flagged]
    assert len(missed) <= 1, [*map(str, missed)]
    assert not any(v.finding.severity == "ok" for v in missed), "missed, not merely undecided"


def test_what_is_healthy_about_a_sick_model_gets_no_warning(verdicts):
    false = [v for v in verdicts if not v.sick and v.flagged]
    assert not false, [*map(str, false)]


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
