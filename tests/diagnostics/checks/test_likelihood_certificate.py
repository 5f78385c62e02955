"""The certificate's verdict on real models: one whose q misses a mode, and one that is exact."""

import torch

from elboscope.diagnostics import likelihood_certificate
from elboscope.estimators import log_likelihood
from elboscope.models import LinearGaussian

from ...estimators.likelihood.test_simulated_pairs import SETTINGS, Fold
from ..handmade import evidence


def judged(model, x):
    found = log_likelihood(model, x, 500, seed=1, **{**SETTINGS, "num_temperatures": 20})
    return likelihood_certificate(evidence(log_likelihood=found))


def test_a_mode_that_q_never_visits_is_no_ok_and_says_where_it_lies():
    with torch.random.fork_rng():
        torch.manual_seed(5)
        x = Fold(0.02).sample(10)
    finding = judged(Fold(0.02), x)
    assert finding.severity == "undecided"
    assert "of model-like data lie where q hardly goes" in finding.summary
    assert "path='prior'" in finding.action
    assert finding.evidence["far_share"] > 0.01


def test_an_exact_model_is_certified_and_says_what_that_does_not_cover():
    model = LinearGaussian.instance_1()
    finding = judged(model, model.sample(20, seed=0)[0])
    assert finding.severity == "ok"
    assert "nothing is said of a share of up to 0.06% of model-like data" in finding.summary
