"""The panels of q(z) against the prior: what is drawn, told, and missing with its reason."""

import json

import pytest
import torch
from hand_made_evidence import complete_diagnosis, complete_evidence

from elboscope.diagnostics import reasons_of
from elboscope.plots.surgery import marginal_kl_data, plot_marginal_kl
from elboscope.report import estimates_of
from elboscope.report.panels.kinds import Drawing, Listing, Missing, Pictures
from elboscope.report.panels.prior import (
    disagreements_panel,
    fitted_prior_panel,
    low_gallery_panel,
    low_places_panel,
    low_scores_panel,
    marginal_kl_panel,
)

SKIPPED = {
    name: f"no {name}"
    for name in ("marginal_kl_comparison", "fitted_prior", "fitted_prior_elbo", "low_posterior")
}


@pytest.fixture(scope="module")
def evidence():
    return complete_evidence()


def bare(evidence):
    return evidence.replace(**dict.fromkeys(SKIPPED), skipped=SKIPPED)


def test_each_estimate_is_drawn_as_what_it_is(evidence):
    data = marginal_kl_data(evidence["marginal_kl_comparison"], evidence["surgery"])
    kinds = {row.label: row.kind for row in data.rows}
    assert kinds == {
        "mixture of N": "mixture", "classifier": "no bound", "Donsker–Varadhan": "lower bound",
        "NWJ": "lower bound", "Gaussian mixture": "lower bound", "flow": "lower bound",
    }  # fmt: skip
    assert data.interval == evidence["marginal_kl_comparison"].interval
    axes = plot_marginal_kl(data).axes[0]
    assert len(axes.texts) == 4, "an arrow for each lower bound"
    assert axes.get_xlim()[1] > max(row.mean for row in data.rows)


def test_without_a_comparison_the_surgery_is_drawn_and_the_reason_told(evidence):
    panel = marginal_kl_panel(bare(evidence))
    assert isinstance(panel, Drawing)
    assert "density networks are missing: no marginal_kl_comparison." in panel.caption
    assert "held-out density" in panel.svg
    nothing = marginal_kl_panel(bare(evidence).replace(surgery=None))
    assert isinstance(nothing, Missing)


def test_disagreements_are_grouped_by_what_they_mean(evidence):
    panel = disagreements_panel(evidence)
    assert isinstance(panel, Listing)
    told = dict(panel.lines)
    assert "a lower bound proves more" in told["flow > classifier"]
    assert told["LSTM"] == "it was not asked for"
    mixture = next(
        text for label, text in panel.lines if label.startswith("mixture of N > Donsker")
    )
    assert mixture.count("±") == 4, "four bounds, one meaning"
    assert disagreements_panel(bare(evidence)).caption == "no marginal_kl_comparison"


def test_before_and_after_of_the_fitted_prior(evidence):
    panel = fitted_prior_panel(evidence)
    assert isinstance(panel, Pictures)
    assert [label for label, _ in panel.rows] == ["samples of the prior",
                                                  "samples of the fitted prior"]  # fmt: skip
    before, after = (e.mean for e in evidence["fitted_prior_elbo"])
    assert f"ELBO before: ≥ −{-before:.2f}" in panel.caption
    assert f"ELBO after: ≥ −{-after:.2f}" in panel.caption
    assert fitted_prior_panel(bare(evidence)).caption == "no fitted_prior"


def test_data_that_are_no_images_are_told_in_words():
    vectors = complete_evidence((torch.rand(200, 10) < 0.5).float())
    prior, gallery = fitted_prior_panel(vectors), low_gallery_panel(vectors)
    assert isinstance(prior, Listing)
    assert dict(prior.lines)["the fitted prior"] == "a mixture of 10 Gaussians, full covariance"
    assert isinstance(gallery, Listing)
    assert "18.0% of the prior" in dict(gallery.lines)["all draws"]


def test_the_gallery_and_the_two_drawings(evidence):
    gallery = low_gallery_panel(evidence)
    assert [label for label, _ in gallery.rows] == [
        "samples where q(z) is low", "their nearest datapoints", "ordinary samples",
    ]  # fmt: skip
    assert "of 500 prior draws" in gallery.caption
    scores, places = low_scores_panel(evidence), low_places_panel(evidence)
    assert "AUROC 0.620 [0.540, 0.700]" in scores.svg
    assert "t-SNE" in places.svg
    for panel in (low_gallery_panel, low_scores_panel, low_places_panel):
        assert panel(bare(evidence)).caption == "no low_posterior"


def test_every_number_has_a_name_and_says_what_it_is_not():
    diagnosis = complete_diagnosis()
    for name in ("ratio", "donsker_varadhan", "nwj", "gmm", "maf"):
        assert f"marginal_kl_{name}" in diagnosis.estimates
    document = json.loads(diagnosis.to_json())
    assert document["estimates"]["marginal_kl_ratio"]["is_not"].startswith("Not a bound")
    assert document["estimates"]["fitted_prior_gain"]["unit"] == "nats"
    space = document["latent_space"]
    assert space["low_posterior"]["auroc"] == 0.62
    assert space["fitted_prior"] == "a mixture of 10 Gaussians, full covariance"
    assert {"higher", "lower", "difference", "stderr", "meaning"} == set(space["disagreements"][0])
    tree = diagnosis.to_datatree()
    assert tree["low_posterior"]["log_q"].shape == (500,)
    assert tree["low_posterior"].attrs["uncovered"] == 0.18


def test_what_is_missing_is_told_number_by_number(evidence):
    reasons = reasons_of(bare(evidence))
    assert reasons["marginal_kl_maf"] == "no marginal_kl_comparison"
    assert reasons["fitted_prior_elbo_before"] == "no fitted_prior_elbo"
    assert reasons_of(evidence)["marginal_kl_lstm"] == "it was not asked for"
    assert "marginal_kl_maf" not in estimates_of(bare(evidence))
