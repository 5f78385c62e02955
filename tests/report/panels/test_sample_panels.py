"""Samples on the page and in the files: scores with errors and units, and what a GAN leaves out."""

import json
import re

import pytest
from hand_made_evidence import complete_evidence, page_of

import elboscope as es
from elboscope.core import seeded
from elboscope.estimators import discriminator_kl
from elboscope.report import Diagnosis, estimates_of
from elboscope.report.panels import panels_of
from elboscope.report.panels.samples import discriminator_panel, scores_panel
from elboscope.report.tables import number

DIGITS = es.data.digits().test


@pytest.fixture(scope="module")
def scored():
    """Complete evidence, with the scores and the discriminator of an untrained hybrid."""
    with seeded(0):
        model = es.models.mlp_hybrid(
            (1, 8, 8), 2, (8,), code_hidden=(8,), likelihood="gaussian", scale=0.3
        )
    gap = es.samples.sample_quality_gap(model, DIGITS[:200], seed=0)
    return complete_evidence(
        sample_quality=gap.samples,
        sample_quality_gap=gap,
        discriminator_kl=discriminator_kl(model, DIGITS[:100], seed=0),
    )


def test_scores_stand_beside_those_of_reconstructions_and_of_data(scored):
    panel = scores_panel(scored)
    head = ("samples", "reconstructions", "samples − reconstructions", "data", "better")
    assert panel.head == head
    rows = dict(panel.lines)
    assert rows["coverage"][3:] == ("0.97 expected", "higher")
    assert all(re.fullmatch(r"−?\d+(\.\d+)? ± \d+(\.\d+)?", cell) for cell in rows["recall"][:3])
    assert "100 images of each; digits classifier" in panel.caption


def test_without_an_encoder_samples_stand_alone(scored):
    alone = complete_evidence(sample_quality=scored["sample_quality"])
    assert scores_panel(alone).head == ("samples", "data", "better")
    reason = {"sample_quality": "no classifier is packaged for celeba"}
    missing = scores_panel(complete_evidence(skipped=reason))
    assert (missing.kind, missing.caption) == ("missing", reason["sample_quality"])


def test_every_score_has_its_unit_and_says_what_it_is_not(scored):
    diagnosis = Diagnosis((), estimates_of(scored), scored)
    document = json.loads(diagnosis.to_json())["estimates"]
    scores = {k: v for k, v in document.items() if re.match("sample_|reconstruction_|data_", k)}
    assert len(scores) == 9 + 9 + 9 + 4
    assert all(v["is_not"] for v in scores.values())
    assert scores["sample_coverage"]["unit"] == "of data"
    assert scores["sample_mode_kl"]["unit"] == "nats"
    assert scores["sample_gap_coverage"]["mean"] == pytest.approx(
        scores["sample_coverage"]["mean"] - scores["reconstruction_coverage"]["mean"]
    )
    table = diagnosis.to_dataframe()
    assert table.loc["sample_inception_score", "unit"] == "of 10 classes"
    assert (
        table.loc["sample_modes_covered", "value"] == scored["sample_quality"].modes_covered.total
    )
    tree = diagnosis.to_datatree()
    assert tree["/estimates/sample_recall"].attrs["unit"] == "of data"


@pytest.mark.slow
def test_the_discriminators_kl_stands_beside_the_mixture_and_is_no_bound(scored):
    own, mixture = scored["discriminator_kl"], scored["surgery"].marginal_kl
    lines = dict(discriminator_panel(scored).lines)
    assert lines["its own discriminator"].endswith("nats, no bound")
    assert lines["mixture"].startswith(number(mixture.mean, mixture.stderr))
    assert set(lines) == {"its own discriminator", "its accuracy", "mixture", "held-out bound"}
    assert discriminator_panel(complete_evidence()) is None
    text = page_of(Diagnosis((), estimates_of(scored), scored))
    assert "by its own discriminator (no bound)" in text
    assert own.kl.side == "none"
    titles = [panel.title for panel in panels_of("prior", scored)]
    assert titles.count("What its own discriminator says") == 1


def test_of_a_gan_each_question_is_answered_by_one_reason():
    with seeded(0):
        gan = es.models.mlp_gan((1, 8, 8), 2, (8,), (8,))
    diagnosis = es.diagnose(gan, DIGITS, budget="quick", settings={"data": "digits"})
    text = page_of(diagnosis)
    section = text[text.index('id="inference"') :]
    section = section[: section.index("</section>")]
    assert section.count("a GAN has no encoder q(z|x), and its p(x|z) has no density") == 1
    assert "panel" not in section
    assert "Fix the cause" not in text
    assert "a generator without a likelihood" in text
    assert "<h3>Samples</h3>" in text
    assert diagnosis["sample quality"].severity == "problem"
    others = {f.severity for f in diagnosis.findings if f.check != "sample quality"}
    assert others == {"unavailable"}
