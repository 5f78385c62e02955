"""The lists of quantities and the folder of checks: nothing that is written is left out."""

from __future__ import annotations

import pkgutil
from collections import Counter
from importlib import import_module

import pytest
import torch
from handmade import estimate, evidence

from elboscope.core import Finding, check_model
from elboscope.diagnostics import (
    CHECKS,
    QUANTITIES,
    QUICK,
    Missing,
    Quantity,
    Subject,
    check,
    checks,
)
from elboscope.diagnostics import quantities as lists
from elboscope.diagnostics.gather import measure
from elboscope.diagnostics.plan import plan_for
from elboscope.diagnostics.quantities import reasons_of, title_of
from elboscope.models import LinearGaussian
from elboscope.report.html import QUESTIONS

MODULES = {
    info.name: import_module(f"{lists.__name__}.{info.name}")
    for info in pkgutil.iter_modules(lists.__path__)
}


@pytest.mark.parametrize("name", MODULES)
def test_every_quantity_of_a_file_is_in_its_list_and_gathered(name):
    module = MODULES[name]
    written = {q.name for q in vars(module).values() if isinstance(q, Quantity)}
    listed = {q.name for q in module.QUANTITIES}
    own = {q.name for q in written_here(module)}
    assert not own - listed, f"{name}.QUANTITIES lacks {own - listed}"
    assert listed <= written
    gathered = {q.name for q in QUANTITIES}
    assert not listed - gathered, f"quantities/__init__.py leaves out {name}: {listed - gathered}"


def written_here(module) -> list[Quantity]:
    """The quantities that no other list holds: the others are imported."""
    elsewhere = {q.name for m in MODULES.values() if m is not module for q in m.QUANTITIES}
    found = [q for q in vars(module).values() if isinstance(q, Quantity)]
    return [q for q in found if q.name not in elsewhere]


def test_names_are_unique_and_what_is_needed_is_listed():
    names = Counter(q.name for q in QUANTITIES)
    numbers = Counter(n.name for q in QUANTITIES for n in q.numbers)
    assert [name for name, count in (names + Counter()).items() if count > 1] == []
    assert [name for name, count in numbers.items() if count > 1] == []
    needed = {need.name for q in QUANTITIES for need in q.needs if isinstance(need, Quantity)}
    assert needed <= set(names)


def test_every_number_says_what_it_is_not_and_where_it_is_asked():
    keys = {question.key for question in QUESTIONS}
    for number in (n for q in QUANTITIES for n in q.numbers):
        assert number.is_not.startswith("Not "), number.name
        assert number.title, number.name
        assert set(number.asked_in) <= keys, number.name
    for quantity in QUANTITIES:
        assert quantity.title, quantity.name
    for one in CHECKS:
        assert {one.asked_in} <= {"", *keys}, one.name


def test_every_file_of_checks_holds_one_that_is_made():
    for info in pkgutil.iter_modules(checks.__path__):
        found = [c for c in vars(import_module(f"{checks.__name__}.{info.name}")).values()
                 if isinstance(c, type(CHECKS[0]))]  # fmt: skip
        assert found, info.name
        assert set(found) <= set(CHECKS), info.name


# What a list makes of a quantity: order, reasons, missing ones.


def subject() -> Subject:
    model, x = LinearGaussian.instance_1(), torch.zeros(20, 3, dtype=torch.float64)
    plan = plan_for(model, check_model(model, x), x, None, QUICK, 0)
    return Subject(model, plan, evidence(), model, x)


def test_what_a_quantity_needs_is_computed_before_it_whatever_the_order_of_the_list():
    first = Quantity("first", "the first", "Not the second.", lambda s: estimate(1.0))
    second = Quantity(
        "second", "the second", "Not the first.", lambda s: estimate(2 * s.evidence[first].mean),
        needs=(first,),
    )  # fmt: skip
    stages = []
    found = measure(subject(), (second, first), progress=lambda *stage: stages.append(stage))
    assert found[second].mean == pytest.approx(2.0)
    assert stages == [("first", 0, 2), ("second", 1, 2)]


def test_a_reason_is_handed_on_and_a_missing_quantity_makes_a_check_unavailable():
    no = Quantity("no", "what cannot be", "Not.", lambda s: estimate(0.0), needs=(lambda s: "why",))
    after = Quantity("after", "what follows", "Not.", lambda s: estimate(0.0), needs=(no,))
    inside = Quantity("inside", "what asks", "Not.", lambda s: s.evidence[no])
    found = measure(subject(), (after, inside))
    assert found.skipped == {"no": "why", "after": "why", "inside": "why"}
    with pytest.raises(Missing, match=r"what cannot be is missing: why\."):
        found[no]

    @check("toy")
    def toy(evidence):
        return Finding("toy", "ok", f"{evidence[no].mean}")

    finding = toy(found)
    assert (finding.check, finding.severity) == ("toy", "unavailable")
    assert finding.evidence == {"missing": "no", "reason": "why"}


def test_values_that_are_not_finite_are_counted_and_left_out():
    bad = Quantity("bad", "bad", "Not.", lambda s: torch.tensor([1.0, torch.nan, torch.inf]))
    found = measure(subject(), (bad,))
    assert "bad" not in found
    assert found.nonfinite == {"bad": 2}
    assert found.skipped == {"bad": "2 of its 3 values are NaN or infinite"}


def test_a_quantity_that_is_no_estimate_has_to_say_how_it_is_shown():
    picture = Quantity("picture", "a picture", "", lambda s: torch.zeros(3))
    with pytest.raises(TypeError, match="shown_as"):
        picture.numbers[0].read(torch.zeros(3))


def test_reasons_are_given_number_by_number_and_once():
    skipped = {"surgery": "no density", "sample_quality": "no classifier",
               "sample_quality_gap": "no classifier", "my_own": "the clock"}  # fmt: skip
    bare = evidence(surgery=None, sample_quality=None, sample_quality_gap=None, skipped=skipped)
    reasons = reasons_of(bare)
    assert reasons["mutual_information"] == reasons["mixture_kl"] == "no density"
    assert reasons["sample_quality"] == "no classifier"
    assert "sample_quality_gap" not in reasons
    assert reasons["my_own"] == "the clock"
    assert title_of("marginal_kl_plain") == "KL(q_N(z) ‖ p(z)), plain Monte Carlo"
