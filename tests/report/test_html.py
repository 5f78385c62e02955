"""The page: what it says, that it escapes, that it needs nothing else."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest
import torch
from hand_made_evidence import complete_diagnosis, complete_evidence, page_of, some_findings

from elboscope.core import Finding
from elboscope.report import Diagnosis, estimates_of
from elboscope.report.html import QUESTIONS, notebook_table
from elboscope.report.tables import number, row_of

EVIL = "<script>alert('x')</script><img src=x onerror=alert(1)>&\"'"


class Tags(HTMLParser):
    """Collects the elements and the text of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data


@pytest.fixture(scope="module")
def complete() -> str:
    return page_of(complete_diagnosis())


def test_verdicts_come_first_the_worst_before_all(complete):
    head = complete[: complete.index('class="question"')]
    order = re.findall(r'<article class="verdict (\w+)">', head)
    assert order == ["problem", "warning", "warning", "undecided", "unavailable", *["ok"] * 6]
    assert "KL(q ‖ p) lies between 2.7 and 8.0 nats" in head
    assert "<code>elboscope train config.yaml --model.prior vamp</code>" in head


def test_every_question_is_a_section_with_its_verdict(complete):
    for question in QUESTIONS:
        section = complete[complete.index(f'id="{question.key}"') :]
        section = section[: section.index("</section>")]
        assert question.title.replace("'", "&#39;") in section
        assert 'class="badge ' in section


def test_numbers_carry_error_side_samples_count_and_trust(complete):
    estimate = complete_evidence()["log_px"]
    row = row_of("log_px", estimate)
    assert row.value == f"≥ {number(estimate.mean, estimate.stderr)} nats"
    assert (row.side, row.samples, row.count) == ("lower bound", "5000", "200 datapoints")
    assert row.mc_error == f"{0.05 / 200**0.5:.2g}"
    assert row.trust.startswith(f"k̂ at most {estimate.diagnostics['khat'].max():.2f}")
    for text in (row.value, row.trust, row.is_not, row.mc_error):
        assert text.replace("'", "&#39;") in complete


def test_ceiling_and_interval_stand_beside_the_surgery(complete):
    surgery = complete_evidence()["surgery"]
    assert f"ceiling log N = {number(surgery.log_n)}" in complete
    low, high = surgery.interval
    assert f"within [{number(low)}, {number(high)}]" in complete


def test_the_parts_of_the_inference_gap_stand_with_their_certificates(complete):
    section = complete[complete.index('id="inference"') :]
    section = section[: section.index("</section>")]
    gap = complete_evidence()["inference_gap"]
    for part in (gap.approximation, gap.amortisation, gap.train.amortisation, gap.richer):
        assert number(part.mean, part.stderr) in section
    assert "certified to ±0.012 nats" in section
    assert "<dt>flow, training data</dt>" in section
    assert "not certified, because within ±0.05" in section
    assert "q*_flow: within ±0.05" not in section  # said by its certificate
    assert "2 datapoints lie below L[q]" in section
    assert "importance sampling from q*_flow" in section


def test_page_needs_nothing_else_and_stays_small(complete):
    for tag, attributes in Tags(complete).tags:
        for name in ("src", "href", "data", "action", "xlink:href"):
            value = attributes.get(name) or ""
            assert value.startswith(("data:", "#")) or not value, (tag, name, value[:80])
    assert "default-src 'none'" in complete
    assert len(complete.encode()) < 4_000_000


def test_every_string_is_escaped():
    finding = Finding(EVIL, "problem", EVIL, {EVIL: EVIL}, EVIL)
    second = replace(some_findings()[0], summary=EVIL, action=f"`{EVIL}`", evidence={EVIL: [EVIL]})
    evidence = complete_evidence(
        settings={"data": EVIL, "model": EVIL, EVIL: {EVIL: EVIL}},
        skipped={EVIL: EVIL, "surgery": EVIL},
        surgery=None,
    )
    capabilities = replace(evidence.capabilities, likelihood=EVIL, posterior=EVIL, problems=(EVIL,))
    log_px = replace(evidence["log_px"], name=EVIL, method=EVIL, settings={EVIL: EVIL})
    evidence = evidence.replace(capabilities=capabilities, log_px=log_px)
    diagnosis = Diagnosis((finding, second), estimates_of(evidence), evidence)
    for text in (page_of(diagnosis), notebook_table(diagnosis.findings)):
        parsed = Tags(text)
        assert not any("onerror" in attributes for _, attributes in parsed.tags)
        assert "<script>alert" not in text
        assert "alert('x')" not in re.sub(r"<script.*?</script>", "", text, flags=re.DOTALL)
        assert EVIL in parsed.text


def test_nothing_computed_still_makes_a_page_that_says_why():
    names = ("log_px", "elbo", "unit_kl", "active_units", "surgery", "posterior_means")
    nothing = dict.fromkeys(
        [*names, "reconstruction", "kl", "prior_sampling", "bound_gap", "zeroing", "train_elbo"]
    )
    pictures = dict.fromkeys(["train_log_px", "scale", "reconstructions", "prior_samples"])
    reasons = {name: f"the model diverged ({name})" for name in names}
    reasons["inference_gap"] = "the clock"
    evidence = complete_evidence(
        **nothing, **pictures, inference_gap=None, history=(), skipped=reasons
    )
    text = page_of(Diagnosis((), estimates_of(evidence), evidence))
    for name in names:
        assert f"the model diverged ({name})" in text
    assert "<b>log p(x)</b> unavailable: the model diverged (log_px)" in text
    assert "no training history was given" in text
    assert "<b>log p(x), the best estimate; L[q], of the encoder; approximation gap" in text
    assert "Bokeh" not in text


@pytest.mark.slow
def test_data_that_are_no_images_are_listed_by_feature():
    x = torch.zeros(30, 5)
    x[:, 3] = torch.arange(30.0)
    evidence = complete_evidence(x)
    text = page_of(Diagnosis((), estimates_of(evidence), evidence))
    worst = int(evidence["log_px"].values.argmin())
    assert f"datapoint {worst}</dt>" in text
    assert f"x[3] = {float(worst):.3g}" in text
    assert "the data do not look like images" in text


@pytest.mark.slow
def test_the_numbers_behind_a_verdict_are_words_where_they_are_not_numbers():
    sentences = ["The first is larger.", "The second is smaller."]
    numbers = {"reasons": [], "where": ["a", "b"], "disagreements": sentences * 5}
    finding = Finding("likelihood trust", "ok", "Fine.", numbers)
    evidence = complete_evidence()
    html = page_of(Diagnosis((finding,), estimates_of(evidence), evidence))
    shown = dict(re.findall(r"<dt>(\w+)</dt><dd>(.*?)</dd>", html))
    assert shown["reasons"] == "none"
    assert shown["where"] == "a, b"
    assert shown["disagreements"] == " ".join(sentences * 5)
    assert re.findall(r'<div class="long"><dt>(\w+)', html) == ["disagreements"]


def test_a_number_below_zero_within_its_error_reads_as_zero():
    assert number(-0.1, 0.2, nonnegative=True) == "0 within the error (−0.10 ± 0.20)"
    assert number(-0.5, 0.2, nonnegative=True) == "−0.50 ± 0.20"
    assert number(float("-inf"), 0.1) == "−∞"


def test_notebook_table_shows_every_verdict():
    diagnosis = complete_diagnosis()
    text = diagnosis._repr_html_()
    for finding in diagnosis.findings:
        assert finding.check in text
        assert finding.severity in text
