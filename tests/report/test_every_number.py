"""Every number of the lists is on the page, in the JSON, in the frame and in the tree."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from fnmatch import fnmatch
from pathlib import Path
from types import SimpleNamespace

import pytest
from hand_made_evidence import complete_evidence, datapoints, page_of, some_findings

from elboscope.diagnostics import CHECKS, NUMBERS, QUANTITIES, Quantity
from elboscope.diagnostics.quantities.samples import SCORES
from elboscope.estimators import DiscriminatorKL
from elboscope.estimators.likelihood.bounds import LADDER
from elboscope.report import Diagnosis, estimates_of

DOCS = Path(__file__).parents[2] / "docs"
SOME = datapoints("some number", complete_evidence()["elbo"].values, "lower")


def full_evidence():
    """Each quantity whose number is itself has one, whether this file knows of it or not."""
    evidence = complete_evidence()
    itself = {q.name: SOME for q in QUANTITIES if q.shown_as is None and q not in evidence}
    return evidence.replace(**itself, rows={})  # those that stand in are of all of x


@pytest.fixture(scope="module")
def diagnosis() -> Diagnosis:
    evidence = full_evidence()
    estimates = dict.fromkeys(NUMBERS, SOME) | estimates_of(evidence)
    return Diagnosis(some_findings(), estimates, evidence)


@pytest.fixture(scope="module")
def page(diagnosis) -> str:
    return page_of(diagnosis)


def lacking(present) -> list[str]:
    return [name for name in NUMBERS if name not in present]


def test_every_number_is_read_off_its_quantity():
    evidence = full_evidence()
    gap, compared = evidence["inference_gap"], evidence["marginal_kl_comparison"]
    all_scores = dict.fromkeys(SCORES, SOME)
    scores = SimpleNamespace(estimates=all_scores, of_data=all_scores)
    learned = {**compared.estimates, "lstm": SOME}
    found = estimates_of(
        evidence.replace(
            bounds_by_samples=dict.fromkeys((*LADDER, 10**6), SOME),
            inference_gap=replace(gap, optimal_elbo={**gap.optimal_elbo, "full": SOME}),
            marginal_kl_comparison=replace(compared, estimates=learned),
            sample_quality=scores,
            sample_quality_gap=SimpleNamespace(reconstructions=scores, gap=all_scores),
            discriminator_kl=DiscriminatorKL(SOME, SOME),
        )
    )
    assert lacking(found) == [], "give tests/report/hand_made_evidence.py a value of the quantity"


def test_every_number_is_in_the_json_the_frame_and_the_tree(diagnosis):
    written = json.loads(diagnosis.to_json())["estimates"]
    assert lacking(written) == []
    assert [name for name in NUMBERS if written[name]["is_not"] != NUMBERS[name].is_not] == []
    assert lacking(diagnosis.to_dataframe().index) == []
    assert lacking(diagnosis.to_datatree()["estimates"].children) == []


def test_every_number_has_a_row_on_the_page_or_a_panel(page):
    rows = re.findall(r'<th scope="row">(.*?)(?:, total)?<', page)
    titles = {name: n.title.replace("'", "&#39;") for name, n in NUMBERS.items() if not n.in_panel}
    assert [name for name, title in titles.items() if title not in rows] == []


@pytest.mark.slow
def test_a_number_without_a_question_stands_among_the_others(diagnosis):
    estimates = {**diagnosis.estimates, "my_own": replace(SOME, name="a number of my own")}
    text = page_of(replace(diagnosis, estimates=estimates))
    others = text[text.index('id="others"') :]
    assert "a number of my own" in others[: others.index("</section>")]


def test_every_quantity_that_is_missing_is_said_in_its_section():
    names = dict.fromkeys(q.name for q in QUANTITIES)
    reasons = {q.reported_as: f"why no {q.reported_as}!" for q in QUANTITIES}
    evidence = complete_evidence().replace(**names, rows={}, skipped=reasons)
    text = page_of(Diagnosis((), {}, evidence))
    sections = text[: text.index('id="settings"')]
    assert [q.name for q in QUANTITIES if not any(r in sections for r in said_by(q))] == []


def said_by(quantity: Quantity) -> list[str]:
    """Its own reason, or that of what it needs."""
    needed = [need for need in quantity.needs if isinstance(need, Quantity)]
    return [f"why no {q.reported_as}!" for q in (quantity, *needed)]


def test_the_page_of_the_schema_names_every_number_and_check(monkeypatch):
    monkeypatch.syspath_prepend(str(DOCS))
    source = (DOCS / "schema_names.py").read_text()
    source = source.replace("from sphinx.application import Sphinx", "Sphinx = object")
    space: dict[str, object] = {"__name__": "schema_names"}
    exec(compile(source, "schema_names.py", "exec"), space)
    table = space["names"]()
    assert [name for name in NUMBERS if f"| `{name}` |" not in table] == []
    assert [one.name for one in CHECKS if f"`{one.name}`" not in table] == []
    assert "{include} _build/names.md" in (DOCS / "findings_schema.md").read_text()


def test_the_names_in_the_text_of_the_schema_exist():
    text = (DOCS / "findings_schema.md").read_text()
    paragraph = text[text.index("Names beside the obvious") :].split("\n\n")[0]
    patterns = [p.replace("_K", "_*") for p in re.findall(r"`([a-z_*K]+)`", paragraph)]
    assert [p for p in patterns if p != "method" and not any(fnmatch(n, p) for n in NUMBERS)] == []
