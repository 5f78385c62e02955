"""Every check with both verdicts, and undecided where its threshold lies within the error."""

import inspect
import math
import re
import shlex
from dataclasses import replace

import pytest
import torch
from handmade import (
    CAPABILITIES,
    comparison,
    estimate,
    evidence,
    fitted,
    log_likelihood,
    low,
    scale,
    split,
    surgery,
    units,
)

import elboscope as es
from elboscope.cli import config, parser
from elboscope.core import Capabilities
from elboscope.diagnostics import (
    CHECKS,
    bound_tightness,
    divergence,
    inference_gap,
    likelihood_certificate,
    likelihood_scale,
    likelihood_trust,
    low_posterior,
    overfitting,
    posterior_collapse,
    prior_hole,
)
from elboscope.diagnostics.checks.prior_hole import population_bound


def khat(values, **more):
    values = torch.tensor(values, dtype=torch.float64)
    return estimate(-4.0, n=len(values), **({"khat": values, "ess": 2000.0, "half": -4.0} | more))


def gaussian(**fields):
    return evidence(capabilities=replace(CAPABILITIES, likelihood="Normal"), **fields)


def test_a_healthy_model_is_ok_by_every_check():
    verdicts = {check.name: check(evidence()) for check in CHECKS}
    absent = [f.evidence["missing"] for f in verdicts.values() if f.severity == "unavailable"]
    assert not set(absent) & set(evidence().values)
    assert [f.severity for f in verdicts.values()].count("ok") == len(CHECKS) - len(absent) >= 11
    assert [f.check for f in verdicts.values() if f.severity == "ok" and f.action] == []


@pytest.mark.parametrize(
    ("log_px", "severity"),
    [
        (khat([0.2] * 95 + [0.6] * 5), "ok"),
        (khat([0.2] * 72 + [0.6] * 28), "undecided"),
        (khat([0.2] * 50 + [0.6] * 50), "warning"),
        (khat([0.2] * 60 + [0.8] * 40), "problem"),
        (khat([0.2] * 82 + [0.8] * 18), "undecided"),
        (khat([0.2] * 100, ess=5.0), "warning"),
    ],
)
def test_likelihood_trust(log_px, severity):
    assert likelihood_trust(evidence(log_px=log_px)).severity == severity


def test_trust_asks_for_more_samples_where_doubling_k_still_adds_nats():
    log_px = estimate(-4.0, 0.1, khat=0.2, ess=2000.0)
    moved = replace(log_px, diagnostics={**log_px.diagnostics, "half": log_px.values - 0.5})
    finding = likelihood_trust(evidence(log_px=moved))
    assert finding.severity == "warning"
    assert "num_samples=20000" in finding.action
    assert finding.evidence["half_step"] == pytest.approx(0.5)


def test_trust_uses_the_threshold_of_small_k():
    log_px = khat([0.55] * 100)
    few = replace(log_px, num_samples=100)
    assert likelihood_trust(evidence(log_px=few)).severity == "problem"  # 1 − 1/log₁₀ 100 = 0.5
    assert likelihood_trust(evidence(log_px=log_px)).severity == "warning"


def test_trust_is_unavailable_without_khat():
    finding = likelihood_trust(evidence(log_px=khat([math.nan] * 10)))
    assert (finding.severity, "30 samples" in finding.summary) == ("unavailable", True)


@pytest.mark.parametrize(
    ("gap", "stderr", "kl", "severity"),
    [
        (0.1, 0.01, 3.0, "ok"),
        (0.45, 0.05, 3.0, "undecided"),  # 15 % of 3 nats
        (0.9, 0.05, 3.0, "warning"),
        (2.5, 0.05, 3.0, "problem"),
        (1.5, 0.05, 25.0, "ok"),
        (3.0, 0.05, 25.0, "warning"),  # 2 nats, whatever the rate
        (0.1, 0.01, 0.0, "ok"),
    ],
)
def test_bound_tightness(gap, stderr, kl, severity):
    given = evidence(bound_gap=estimate(gap, stderr), kl=estimate(kl))
    assert bound_tightness(given).severity == severity


def test_a_tight_bound_is_not_believed_where_the_weights_are_not():
    finding = bound_tightness(evidence(log_px=khat([0.9] * 50)))
    assert finding.severity == "undecided"
    assert "at least 0.100" in finding.summary


@pytest.mark.parametrize(
    ("fields", "severity"),
    [
        ({"active_units": units([1e-4] * 4)}, "problem"),
        ({"surgery": surgery(0.05, 0.02, 0.03, 0.0, error=0.01)}, "problem"),
        ({"surgery": surgery(0.2, 0.1, 0.1, 0.0, error=0.02)}, "undecided"),
        ({"active_units": units([0.9] * 2 + [1e-4] * 18)}, "warning"),
        ({"active_units": units([0.9] * 4 + [0.0101] + [1e-4] * 15)}, "undecided"),
        ({"active_units": units([0.9] * 20 + [1e-4] * 980)}, "ok"),
        ({"zeroing": units([1.0, 0.0, 0.0, 0.0])}, "warning"),
    ],
)
def test_posterior_collapse(fields, severity):
    assert posterior_collapse(evidence(**fields)).severity == severity


def test_collapse_shows_the_histogram_of_variances():
    histogram = posterior_collapse(evidence()).evidence["histogram"]
    assert histogram["≥1e-1"] == 4
    assert sum(histogram.values()) == 4


@pytest.mark.parametrize(
    ("parts", "severity"),
    [
        (surgery(39.0, 6.9, 32.1, 0.0), "undecided"),  # the perfect 20-d model: never a problem
        (surgery(39.0, 6.9, 32.1, 2.0), "warning"),
        (surgery(39.0, 6.9, 32.1, 12.0), "problem"),
        (surgery(39.0, 6.9, 32.1, 1.0), "undecided"),
        (surgery(39.0, 6.9, 32.1, None), "undecided"),
        (surgery(3.0, 2.9, 0.1, 0.05), "ok"),
        (surgery(6.0, 4.0, 2.0, 0.2), "undecided"),  # a mixture overstates: it only rules out
        (surgery(0.5, 0.4, 0.1, None), "ok"),  # the rate leaves no room
    ],
)
def test_prior_hole(parts, severity):
    assert prior_hole(evidence(surgery=parts)).severity == severity


@pytest.mark.parametrize(
    ("bounds", "severity"),
    [
        ({"gmm": 0.0, "maf": 1.5}, "warning"),  # a richer density proves more
        ({"gmm": 0.0, "maf": 4.0}, "problem"),
        ({"gmm": 0.0, "maf": 1.023}, "undecided"),  # 2.3 errors are enough for one bound, not six
        ({"gmm": 0.0, "maf": 1.03}, "warning"),
    ],
)
def test_prior_hole_takes_the_best_of_several_bounds_and_pays_for_the_choice(bounds, severity):
    found = comparison(donsker_varadhan=0.0, nwj=0.0, **bounds)  # errors of 0.01
    parts = surgery(39.0, 6.9, 32.1, 0.0)
    finding = prior_hole(evidence(surgery=parts, marginal_kl_comparison=found))
    assert finding.severity == severity, str(finding)
    assert finding.evidence["best_bound_by"] == "maf"
    assert finding.evidence["best_bound_stderr"] == pytest.approx(0.01 * 2.669 / 2, rel=1e-3)
    assert "the best of 6, ± widened for that" in finding.summary


@pytest.mark.parametrize(
    ("gain", "severity"), [(0.0, "undecided"), (2.0, "warning"), (5.0, "problem")]
)
def test_without_a_mixture_bounds_assert_a_hole_and_never_rule_one_out(gain, severity):
    """A posterior without a density has no mixture; what was fitted to its draws still bounds."""
    reason = {"surgery": "the posterior has no density"}
    alone = evidence(
        surgery=None, marginal_kl_comparison=None, fitted_prior=fitted(gain), skipped=reason,
        kl=estimate(9.0),
    )  # fmt: skip
    finding = prior_hole(alone)
    assert finding.severity == severity
    assert finding.evidence["best_bound_by"] == "fitted_prior"
    assert f"KL(q‖p) ≥ {gain:.2f} ± 0.05 nats" in finding.summary
    assert "no mixture of the posteriors: the posterior has no density" in finding.summary
    nothing = alone.replace(fitted_prior=None)
    assert prior_hole(nothing).severity == "unavailable"
    assert "the posterior has no density" in prior_hole(nothing).summary


def test_one_bound_is_not_widened():
    alone = evidence(
        surgery=surgery(39.0, 6.9, 32.1, 1.11), marginal_kl_comparison=None, fitted_prior=None
    )
    finding = prior_hole(alone)
    assert (finding.severity, finding.evidence["best_bound_stderr"]) == ("warning", 0.05)
    assert "the best of" not in finding.summary


@pytest.mark.slow
def test_the_largest_of_bounds_on_a_perfect_model_asserts_nothing_more_often_than_one():
    """Six independent bounds at zero, a thousand times: the widened ± keeps the 2.3 % of one."""
    generator = torch.Generator().manual_seed(0)
    draws = torch.randn(2000, 6, generator=generator, dtype=torch.float64)
    base = replace(estimate(0.0, 1.0, n=2), side="lower")
    above = 0
    for row in draws.tolist():
        best = population_bound({str(i): replace(base, values=base.values + v)
                                 for i, v in enumerate(row)})  # fmt: skip
        above += best.mean - 2 * best.stderr > 0
    assert above / 2000 < 0.0228 + 3 * math.sqrt(0.0228 / 2000)
    assert (draws.max(1).values > 2).double().mean() > 0.1, "without widening it would"


def test_prior_hole_tells_what_disagrees_and_what_a_fitted_prior_gains():
    found = comparison(mixture=32.1, ratio=5.0, gmm=12.0)
    finding = prior_hole(
        evidence(surgery=surgery(39.0, 6.9, 32.1, 12.0), marginal_kl_comparison=found,
                 fitted_prior=fitted(1.8, 0.1))
    )  # fmt: skip
    assert "es.fit_prior(model, x) gains 1.8 ± 0.1 nats on held-out data" in finding.action
    assert any("a lower bound proves more" in d for d in finding.evidence["disagreements"])
    assert finding.evidence["fitted_prior_gain"] == pytest.approx(1.8)


@pytest.mark.parametrize(
    ("uncovered", "auroc", "severity"),
    [
        (0.01, 0.4, "ok"),  # covered: what the likelihood thinks does not matter
        (0.06, 0.4, "ok"),
        (0.1, 0.4, "undecided"),
        (0.3, 0.95, "ok"),  # uncovered, and known
        (0.3, 0.75, "undecided"),
        (0.3, 0.6, "warning"),
        (0.3, 0.4, "problem"),
    ],
)
def test_low_posterior(uncovered, auroc, severity):
    finding = low_posterior(evidence(low_posterior=low(uncovered, auroc)))
    assert finding.severity == severity, str(finding)
    assert finding.evidence["uncovered"] == pytest.approx(uncovered)


def test_low_posterior_of_posteriors_too_narrow_for_their_number_is_undecided():
    finding = low_posterior(evidence(low_posterior=low(0.01, 0.4, typical=-5.0)))
    assert finding.severity == "undecided"
    assert "too narrow for 4000 datapoints" in finding.summary


def test_prior_hole_shows_that_the_swapped_bound_exceeds_log_px():
    parts = replace(surgery(3.0, 2.9, 0.1, 0.05), reconstruction=estimate(-1.0))
    finding = prior_hole(evidence(surgery=parts))
    assert "-1.10 nats is not a bound on log p(x): it exceeds log p̂ = -4.00" in finding.summary
    assert finding.evidence["interval"] == pytest.approx((0.0, 3.0))  # 3 − log 1000 is below zero


@pytest.mark.parametrize(
    ("ratio", "error", "severity"),
    [
        (1.05, 0.02, "ok"),
        (2.0, 0.1, "undecided"),
        (0.5, 0.05, "undecided"),
        (3.0, 0.1, "warning"),
        (0.3, 0.01, "warning"),
        (0.03, 0.001, "problem"),
        (30.0, 1.0, "problem"),
    ],
)
def test_likelihood_scale(ratio, error, severity):
    assert likelihood_scale(gaussian(scale=scale(ratio, error))).severity == severity


def test_scale_names_the_gain_and_the_convention_of_the_kl_weight():
    weight = {"kl_weight": 0.01, "reduction": "mean"}
    finding = likelihood_scale(gaussian(scale=scale(0.03, 0.001), settings=weight))
    assert finding.evidence["gain"] == pytest.approx(32 * (0.03 - 1 - math.log(0.03)))
    assert "means σ² = 0.04" in finding.summary  # 0.01/2 · 8 values
    assert "--model.scale learned" in finding.action


def test_bernoulli_on_grey_values_is_no_likelihood():
    outside = replace(CAPABILITIES, in_support=False, problems=("x lies outside the support",))
    finding = likelihood_scale(evidence(capabilities=outside, x=torch.rand(10, 8)))
    assert finding.severity == "problem"
    assert "cross-entropy, not a likelihood" in finding.summary


@pytest.mark.parametrize(
    ("family", "units", "bits"),
    [
        ("ContinuousBernoulli", "nats of a density", False),
        ("Laplace", "its scale is not judged here; nats of a density", False),
        ("CategoricalLevels", "nats of a probability", True),
        ("DiscretisedLogistic", "hide the errors); nats of a probability", True),
        ("DequantizedNormal", "a lower bound on nats of a probability", True),
    ],
)
def test_the_units_of_a_likelihood_are_told(family, units, bits):
    grey = replace(CAPABILITIES, likelihood=family)
    elbo = estimate(-8 * 8 * math.log(2))  # 8 values of 8 bits
    finding = likelihood_scale(evidence(capabilities=grey, x=torch.rand(10, 8), elbo=elbo))
    assert finding.severity == "ok"
    assert units in finding.summary
    assert ("8 bits per value" in finding.summary) == bits


@pytest.mark.parametrize(
    ("train", "stderr", "severity"),
    [
        (-4.0, 0.05, "ok"),
        (-3.1, 0.1, "undecided"),
        (-2.6, 0.1, "warning"),
        (1.0, 0.1, "problem"),
        (-9.0, 0.1, "ok"),
    ],
)
def test_overfitting(train, stderr, severity):
    train_elbo = estimate(train, stderr, data_id="b", kl=3.0)
    assert overfitting(evidence(train_elbo=train_elbo)).severity == severity


def test_overfitting_adds_independent_errors_and_names_the_best_epoch():
    history = [
        {"epoch": e, "validation_elbo": v} for e, v in ((1.0, -9.0), (2.0, -5.0), (3.0, -7.0))
    ]
    train_elbo = estimate(1.0, 0.03, data_id="b", kl=3.0)
    given = evidence(train_elbo=train_elbo, elbo=estimate(-4.1, 0.04), history=history)
    finding = overfitting(given)
    assert finding.evidence["stderr"] == pytest.approx(0.05)
    assert "best at epoch 2" in finding.action


def test_overfitting_refuses_the_same_data_twice():
    finding = overfitting(evidence(train_elbo=estimate(-4.0, kl=3.0)))
    assert (finding.severity, "are the same" in finding.summary) == ("unavailable", True)


def rows(*bounds):
    return [{"step": 10.0 * i, "train_bound": b} for i, b in enumerate(bounds)]


BROKEN = replace(CAPABILITIES, problems=("log p(x|z) is NaN for 3 of 32 values",))


@pytest.mark.parametrize(
    ("fields", "severity", "words"),
    [
        ({"history": rows(-6.0, -5.0, -4.5)}, "ok", "3 rows"),
        ({"history": rows(-6.0, -5.0, math.nan)}, "problem", "from step 20"),
        ({"history": rows(-6.0, -5.0, -500.0, -5.0)}, "warning", "at step 20"),
        ({"nonfinite": {"elbo": 3}, "elbo": None}, "problem", "3 values of elbo"),
        ({"capabilities": BROKEN}, "problem", "NaN for 3 of 32"),
        ({"elbo": estimate(-9.0), "train_elbo": None}, "problem", "knows nothing"),
        ({"elbo": estimate(-9.0)}, "ok", "plausible"),  # memorised: the training ELBO is fine
        ({"kl": estimate(1e6)}, "problem", "the KL is 1e+06"),
        ({"elbo": None, "skipped": {"elbo": "no encoder"}}, "unavailable", "no encoder"),
    ],
)
def test_divergence(fields, severity, words):
    finding = divergence(evidence(**fields))
    assert (finding.severity, words in finding.summary) == (severity, True), finding.summary


@pytest.mark.parametrize(
    ("check", "missing"),
    [
        (likelihood_trust, "log_px"),
        (likelihood_certificate, "log_likelihood"),
        (bound_tightness, "bound_gap"),
        (inference_gap, "inference_gap"),
        (posterior_collapse, "active_units"),
        (low_posterior, "low_posterior"),
        (overfitting, "train_elbo"),
    ],
)
def test_missing_evidence_is_unavailable_with_its_reason(check, missing):
    finding = check(evidence(**{missing: None}, skipped={missing: "would take about 9 min"}))
    assert finding.severity == "unavailable"
    assert "would take about 9 min" in finding.summary


SICK = (
    likelihood_trust(evidence(log_px=khat([0.9] * 50))),
    likelihood_trust(evidence(prior_sampling=estimate(-3.5, 0.05))),
    likelihood_certificate(evidence(log_likelihood=log_likelihood(-3.0))),
    likelihood_certificate(evidence(log_likelihood=log_likelihood(certified=False))),
    bound_tightness(evidence(bound_gap=estimate(9.0))),
    bound_tightness(evidence(bound_gap=estimate(9.0), inference_gap=None)),
    inference_gap(evidence(inference_gap=split(0.1, 2.0))),
    inference_gap(evidence(inference_gap=split(0.1, 2.0, train=split(0.1, 0.1)))),
    inference_gap(evidence(inference_gap=split(2.0, 0.1))),
    inference_gap(evidence(inference_gap=split(2.0, 0.1, family="flow"))),
    inference_gap(evidence(inference_gap=split(1.0, 1.0))),
    posterior_collapse(evidence(active_units=units([0.0] * 4))),
    posterior_collapse(evidence(zeroing=units([0.0] * 4))),
    posterior_collapse(evidence(active_units=units([0.0] * 4), scale=scale(0.05))),
    posterior_collapse(
        evidence(active_units=units([0.0] * 4), unit_kl=units([0.0] * 4), zeroing=units([-1.0] * 4))
    ),
    prior_hole(evidence(surgery=surgery(39.0, 6.9, 32.1, 12.0))),
    prior_hole(evidence(surgery=surgery(39.0, 6.9, 32.1, 12.0), fitted_prior=None)),
    low_posterior(evidence(low_posterior=low(0.3, 0.4))),
    likelihood_scale(gaussian(scale=scale(0.03, 0.001))),
    likelihood_scale(
        evidence(capabilities=replace(CAPABILITIES, in_support=False), x=torch.rand(10, 8))
    ),
    overfitting(evidence(train_elbo=estimate(5.0, data_id="b", kl=3.0))),
    divergence(evidence(capabilities=BROKEN)),
)


@pytest.mark.parametrize("finding", SICK, ids=lambda finding: finding.check)
def test_every_option_of_an_action_exists(finding):
    """Actions run today: their options are those of the command line and of its sections."""
    options = re.findall(r"--([\w.]+)(?: ('[^']*'|[\w./]+))?", finding.action)
    assert options or "es." in finding.action
    for key, value in options:
        if key in ("data", "budget"):
            continue
        assert key.split(".")[0] in config.SECTIONS
        assert not key.startswith("training.") or hasattr_settings(key)
        assert key != "objective" or hasattr_objective(value)
    commands = re.findall(
        r"elboscope train CONFIG\.yaml((?: --[\w.]+ (?:'[^']*'|[\w./]+))+)", finding.action
    )
    for command in commands:
        parser.parse(["train", "CONFIG.yaml", *shlex.split(command)])


@pytest.mark.parametrize("finding", SICK, ids=lambda finding: finding.check)
def test_every_function_of_an_action_exists_with_its_arguments(finding):
    for name, arguments in re.findall(r"es\.(\w+)\(([^()]*)\)", finding.action):
        signature = inspect.signature(getattr(es, name))
        keywords = re.findall(r"(\w+)=", arguments)
        assert set(keywords) <= set(signature.parameters), finding.action


@pytest.mark.parametrize(
    ("annealed", "error", "certified", "severity"),
    [
        (-4.0, 0.01, True, "ok"),
        (-4.0, 0.01, False, "undecided"),
        (-6.0, 0.01, True, "ok"),  # AIS below: the combined estimate's own certificate decides
        (-3.5, 0.05, True, "warning"),
        (-3.7, 0.05, True, "ok"),  # 0.3 ± 0.05: not beyond 0.25 by two errors
        (-1.0, 0.1, True, "problem"),
        (-2.1, 0.2, False, "warning"),
    ],
)
def test_likelihood_certificate(annealed, error, certified, severity):
    found = log_likelihood(annealed, error, certified=certified)
    assert likelihood_certificate(evidence(log_likelihood=found)).severity == severity


def test_the_certificate_says_what_was_certified_and_what_to_spend():
    fine = likelihood_certificate(evidence())
    assert "The combined log p̂(x) is certified to ±0.040 nats on model-like data" in fine.summary
    assert "that the real data are as easy is assumed" in fine.summary
    assert "AIS − importance sampling is 0.000 ± 0.010 nats" in fine.summary
    undecided = likelihood_certificate(evidence(log_likelihood=log_likelihood(certified=False)))
    assert "not certified, because on simulated data …" in undecided.summary
    assert undecided.action == "es.log_likelihood(model, x, num_temperatures=100)"
    alone = likelihood_certificate(evidence(log_likelihood=log_likelihood(alone=True)))
    assert "log p̂(x) by AIS alone is certified" in alone.summary
    missed = likelihood_certificate(evidence(log_likelihood=log_likelihood(-3.0)))
    assert "AIS finds 1.00 ± 0.01 nats more than importance sampling" in missed.summary


@pytest.mark.parametrize(
    ("gap", "severity", "larger"),
    [
        (split(0.05, 0.05), "ok", "undecided"),
        (split(0.05, 0.35, 0.02), "ok", "amortisation"),  # a warning starts at 0.45
        (split(0.05, 0.4, 0.1), "undecided", "amortisation"),
        (split(0.1, 0.6), "warning", "amortisation"),
        (split(0.6, 0.1), "warning", "approximation"),
        (split(0.2, 2.5), "problem", "amortisation"),
        (split(2.5, 0.2), "problem", "approximation"),
        (split(0.5, 0.5), "undecided", "undecided"),
        (split(0.7, 0.6, within=0.2), "undecided", "undecided"),  # 0.1 could be −0.3
        (split(1.2, 0.6, within=0.2), "warning", "approximation"),
        (split(0.6, 0.7, within=0.2), "warning", "amortisation"),  # a better q* adds to it
        (split(0.05, 0.05, khat=0.9), "undecided", "undecided"),
        (split(0.1, 0.6, khat=0.9), "undecided", "undecided"),
        (split(0.6, 0.1, khat=0.9), "warning", "approximation"),  # a better log p̂ adds to it
        (split(0.9, -0.1), "undecided", "undecided"),  # no search ends below its start
    ],
)
def test_inference_gap(gap, severity, larger):
    finding = inference_gap(evidence(inference_gap=gap))
    assert (finding.severity, finding.evidence["larger"]) == (severity, larger), finding.summary


def test_the_inference_gap_names_the_larger_part_and_how_sure_it_is():
    finding = inference_gap(evidence(inference_gap=split(0.1, 0.6)))
    assert "0.10 ± 0.01 by its family, diagonal Gaussians (approximation)" in finding.summary
    assert "0.60 ± 0.01 by its encoder (amortisation)" in finding.summary
    assert "Amortisation is the larger by 0.50 ±" in finding.summary
    assert "q* certified to ±0.010" in finding.summary
    assert "es.refine(model, steps=20)" in finding.action
    richer = inference_gap(evidence(inference_gap=split(0.6, 0.1, richer=0.4)))
    assert "L[q*_flow] − L[q*_diagonal] is 0.40 ± 0.00 nats" in richer.summary
    assert "--model.posterior AuxiliaryRealNVP" in richer.action
    flow = inference_gap(evidence(inference_gap=split(0.6, 0.1, family="flow")))
    assert "--objective IWAE" in flow.action


def test_an_inference_gap_undecided_by_its_weights_asks_for_better_ones():
    weights = inference_gap(evidence(inference_gap=split(0.05, 0.05, khat=0.9)))
    assert "num_temperatures=500" in weights.action
    assert "max_steps" not in weights.action
    error = inference_gap(evidence(inference_gap=split(0.05, 0.4, 0.1, khat=0.9)))
    assert "max_steps=1600" in error.action


def test_diverged_datapoints_make_a_verdict_undecided_only_where_they_could_change_it():
    few = inference_gap(evidence(inference_gap=split(0.2, 0.12, 0.05, diverged=(3,))))
    assert few.severity == "ok"  # one of 31 would have to lose 4.35 nats
    many = split(0.2, 0.12, 0.03, diverged=(3, 5, 7, 9, 11, 13, 15, 17, 19, 21))
    finding = inference_gap(evidence(inference_gap=many))
    assert finding.severity == "undecided"
    assert (
        "10 of 40 datapoints diverged and are left out; if they lost 0.84 nats" in finding.summary
    )
    sure = inference_gap(evidence(inference_gap=split(0.1, 1.4, diverged=(3,))))
    assert (sure.severity, sure.evidence["diverged"]) == ("warning", 1)


def test_inference_overfits_where_amortisation_is_larger_on_new_data():
    found = inference_gap(evidence(inference_gap=split(0.1, 2.0, train=split(0.1, 0.1))))
    assert "amortisation loses 1.90 ± 0.01 nats less: inference overfits." in found.summary
    assert "--binarisation dynamic" in found.action
    assert found.evidence["amortisation_test_minus_train"] == pytest.approx(1.9)
    same = inference_gap(evidence(inference_gap=split(0.1, 2.0, train=split(0.1, 1.99))))
    assert "no sign that inference overfits" in same.summary
    assert "--model.hidden '[400, 400]'" in same.action


def test_bound_tightness_leaves_the_cause_to_the_inference_gap():
    loose = {"bound_gap": estimate(9.0)}
    assert "es.inference_gap(model, x)" in bound_tightness(evidence(**loose)).action
    alone = bound_tightness(evidence(**loose, inference_gap=None))
    assert "larger encoder" in alone.action


def hasattr_settings(key):
    from elboscope.training import TrainingSettings

    return key.removeprefix("training.") in TrainingSettings.__dataclass_fields__


def hasattr_objective(value):
    from elboscope import training

    return hasattr(training, value)


def test_capabilities_written_by_hand_are_those_of_core():
    assert set(vars(CAPABILITIES)) == set(Capabilities.__dataclass_fields__)


def test_overfitting_asks_for_the_training_data_it_lacks():
    finding = overfitting(evidence(train_elbo=None, x_train=None))
    assert finding.severity == "unavailable"
    assert "--train-data" in finding.action


def test_a_collapsed_model_is_told_of_the_kl_weight_before_its_ignored_units():
    few = evidence(
        active_units=units([0.5] * 2 + [0.0] * 48),
        unit_kl=units([0.06] * 2 + [0.001] * 48),
        zeroing=units([0.0] * 50),
    )
    finding = posterior_collapse(few)
    assert finding.severity in ("warning", "problem")
    assert "β > 1" in finding.action


def test_trust_fails_where_the_prior_finds_more_than_the_encoder():
    """Weights of a posterior with too small a support are harmless: only another sampler tells."""
    found = likelihood_trust(evidence(prior_sampling=estimate(-3.5, 0.05)))
    assert found.severity == "problem"
    assert "finds 0.50 ± 0.05 nats more than sampling the encoder" in found.summary
    assert "es.annealed_importance_sampling(model, x)" in found.action
    assert likelihood_trust(evidence(prior_sampling=estimate(-3.95, 0.05))).severity == "ok"
    assert likelihood_trust(evidence(prior_sampling=estimate(-9.0, 0.05))).severity == "ok"


def test_an_untrained_model_is_told_from_an_absurd_one():
    fair_coins = -8 * math.log(2)
    for elbo, severity in ((fair_coins - 0.3, "warning"), (3 * fair_coins, "problem")):
        bound = estimate(elbo, 0.01, kl=3.0)
        found = divergence(evidence(elbo=bound, train_elbo=None))
        assert found.severity == severity
    assert "Untrained" in divergence(evidence(elbo=estimate(fair_coins - 0.3, kl=3.0),
                                              train_elbo=None)).summary  # fmt: skip


def test_a_large_code_is_judged_per_unit():
    large = replace(CAPABILITIES, latent_shape=(4, 64, 64))
    assert divergence(evidence(kl=estimate(2e4))).severity == "problem"
    assert divergence(evidence(kl=estimate(2e4), capabilities=large)).severity == "ok"


def test_a_gap_above_the_kl_term_is_not_given_as_a_share():
    found = bound_tightness(evidence(bound_gap=estimate(10.0, 0.1), kl=estimate(0.14)))
    assert found.severity == "problem"
    assert "more than the KL term of 0.14 nats" in found.summary
    assert "%" not in found.summary


def test_overfitting_says_which_of_the_two_is_the_larger():
    for train, words in ((-3.0, "exceeds that of evaluation data by 1.10"),
                         (-5.0, "lies below that of evaluation data by 0.90")):  # fmt: skip
        bound = estimate(train, 0.01, data_id="b", kl=3.0)
        assert words in overfitting(evidence(train_elbo=bound)).summary


def contradiction(finding, text: str) -> bool:
    """Undecided, with the breach first and what it would have concluded behind it."""
    assert finding.severity == "undecided"
    assert "elboscope train" not in finding.action
    assert "please report it with findings.json" in finding.action
    return finding.summary.startswith(f"Contradiction: {text}")


def test_what_cannot_be_is_a_contradiction_and_never_a_result():
    above = prior_hole(
        evidence(surgery=surgery(2.0, 1.0, 1.0, 5.0), marginal_kl_comparison=comparison(gmm=4.0))
    )
    assert contradiction(above, "a lower bound on KL(q‖p)")
    assert "exceeds the average KL by" in above.summary
    negative = inference_gap(evidence(inference_gap=split(0.5, -0.2, within=0.01)))
    assert contradiction(negative, "the amortisation gap is negative, by 0.2 ± 0.01 nats")
    loose = inference_gap(evidence(inference_gap=split(-0.3, 0.5, within=0.01)))
    assert contradiction(loose, "the approximation gap is negative, by 0.3 ± 0.01 nats")
    crossed = bound_tightness(evidence(bound_gap=estimate(-0.5, 0.1)))
    assert contradiction(crossed, "the ELBO exceeds log p̂ by 0.5 ±")


def test_what_lies_within_three_errors_is_none():
    for parts in (split(0.5, -0.02, within=0.01), split(-0.02, 0.5, within=0.01)):
        assert "Contradiction" not in inference_gap(evidence(inference_gap=parts)).summary
    close = comparison(gmm=2.02)
    found = prior_hole(evidence(surgery=surgery(2.0, 1.0, 1.0, 2.0), marginal_kl_comparison=close))
    assert "Contradiction" not in found.summary


def test_a_bound_on_other_data_than_the_mixtures_may_exceed_its_average_kl():
    """The mixture is that of training data, whose average KL is 2 nats; that of x is 3."""
    parts = {"surgery": surgery(2.0, 1.0, 1.0, 2.0), "marginal_kl_comparison": comparison(gmm=2.6)}
    assert "Contradiction" not in prior_hole(evidence(**parts)).summary
    assert contradiction(
        prior_hole(evidence(kl=estimate(1.0), **parts)), "a lower bound on KL(q‖p)"
    )
