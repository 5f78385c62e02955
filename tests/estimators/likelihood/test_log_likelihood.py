"""The combined estimate and its certificate, against models whose log p(x) is known."""

import math
import re
from dataclasses import replace

import pytest
import torch
from torch.distributions import Distribution

from elboscope.core import Estimate, InputError, paired_difference
from elboscope.estimators import LogLikelihood, log_likelihood
from elboscope.estimators.likelihood.certificate import Strata, certify
from elboscope.estimators.likelihood.log_likelihood import combine
from elboscope.models import Bimodal, LinearGaussian, mlp_vae

QUICK = {"num_chains": 8, "num_leapfrog": 4}


@pytest.fixture(scope="module")
def first() -> tuple[LinearGaussian, torch.Tensor, LogLikelihood]:
    model = LinearGaussian.instance_1()
    x, _ = model.sample(40, seed=0)
    found = log_likelihood(
        model, x, 1000, num_temperatures=30, num_simulated=40, seed=1, num_chains=16, num_leapfrog=5
    )
    return model, x, found


def simulated_error(model: object, found: LogLikelihood) -> float:
    truth = model.log_likelihood(found.sandwich.x)
    return abs(found.simulated.mean - truth.mean().item())


def test_every_part_agrees_with_the_truth_within_its_own_error(first) -> None:
    model, x, found = first
    truth = model.log_likelihood(x).mean().item()
    for part in (found.log_px, found.importance, found.widened, found.annealed):
        assert abs(part.mean - truth) < 4 * part.mc_error_of_mean + 0.01, part.method
        assert part.side == "lower"
    assert found.log_px.settings["combined"] == "each half weighted by what the other half says"
    assert found.annealed.settings["path"] == "posterior"


def test_instance_1_is_certified_within_a_c_that_holds(first) -> None:
    model, _, found = first
    certificate = found.certificate
    assert certificate.certified
    assert certificate.within < 0.05
    assert simulated_error(model, found) <= certificate.within
    upwards = math.ceil(1000 * certificate.within) / 1000
    expected = f"certified to ±{upwards:.3f} nats on model-like data"
    assert str(certificate).startswith(expected)
    assert "that the real data are as easy is assumed" in str(certificate)
    assert certificate.reasons == ()
    assert certificate.more == ""


def test_both_parts_k_hat_and_both_ess_stand_beside_each_datapoint(first) -> None:
    _, _, found = first
    d = found.log_px.diagnostics
    assert torch.equal(d["importance"], found.widened.values)
    assert torch.equal(d["annealed"], found.annealed.values)
    assert torch.equal(d["khat"], found.widened.diagnostics["khat"])
    assert torch.equal(d["chains_ess"], found.annealed.diagnostics["ess"])


@pytest.mark.parametrize("by", [0.3, 1e3])
@pytest.mark.parametrize("fails", ["importance", "annealed"])
def test_where_one_part_fails_the_other_stands_nearly_alone(first, fails, by) -> None:
    """Half of both lost log 2 at most: 0.15 nats of 0.3, and 0.69 of a thousand."""
    _, _, found = first
    good = {"importance": found.annealed, "annealed": found.widened}[fails]
    bad = shifted({"importance": found.widened, "annealed": found.annealed}[fails], -by)
    parts = (bad, good) if fails == "importance" else (good, bad)
    merged = combine(*parts)
    assert merged.mean > good.mean - 0.02
    assert merged.mean < good.mean + 0.02
    if by == 1e3:
        expected = math.log(0.995 if fails == "annealed" else 1 - 0.005)
        assert (merged.values - good.values - expected).abs().max() < 0.03


def test_the_weight_of_a_half_does_not_look_at_it(first) -> None:
    """Otherwise the average would be no longer unbiased for p(x)."""
    _, _, found = first
    before = combine(found.widened, found.annealed).diagnostics["share_of_importance"]
    halves = {k: v for k, v in found.widened.diagnostics.items() if k.startswith("half")}
    far = {**found.widened.diagnostics, "half": halves["half"] - 50.0}
    after = combine(replace(found.widened, diagnostics=far), found.annealed)
    apart = after.diagnostics["share_of_importance"] - before
    assert apart.max() < 0
    assert apart.min() > -0.5  # the weight of the spoilt half itself has stayed


def test_of_equal_parts_both_are_used(first) -> None:
    """The mean of two independent halves of the same error has a smaller one than either."""
    _, _, found = first
    twin = replace(
        found.annealed,
        values=found.widened.values,
        diagnostics={**found.annealed.diagnostics, **found.widened.diagnostics},
    )
    merged = combine(found.widened, twin)
    assert merged.diagnostics["share_of_importance"].mean().item() == pytest.approx(0.5, abs=0.01)
    assert (merged.mc_stderr < 0.8 * found.widened.mc_stderr).double().mean() > 0.9


def test_the_combined_weight_is_unbiased_for_p_of_x() -> None:
    model = LinearGaussian.instance_2()
    x = torch.tensor([[1.0, -1.0, 0.5]], dtype=torch.float64).expand(1500, 3)
    found = log_likelihood(
        model, x, 4, num_temperatures=3, num_simulated=1, num_chains=2, num_leapfrog=2, seed=0
    )
    truth = model.log_likelihood(x[:1]).item()
    p = found.log_px.values.exp()
    assert abs(p.mean() - math.exp(truth)) < 3.5 * p.std() / math.sqrt(len(p))
    assert found.log_px.mean < truth - 3 * found.log_px.stderr  # and its logarithm lies below


@pytest.mark.slow
def test_two_temperatures_from_the_prior_are_not_enough_and_it_says_what_would_be() -> None:
    model = LinearGaussian.instance_1()
    x, _ = model.sample(10, seed=0)
    found = log_likelihood(
        model, x, 20, num_temperatures=2, num_simulated=30, path="prior", seed=0, **QUICK
    )
    text = str(found.certificate)
    assert not found.certificate.certified
    assert text.startswith("not certified, because on simulated data (n=30) upper bound at 2T")
    assert "nats, hence within ±" in text
    assert "and not ±0.1; spend this much more: es.log_likelihood(model, x, num_temp" in text
    namespace = {"es": __import__("elboscope"), "model": model, "x": x}
    more = found.certificate.more.replace(")", ", num_chains=8, num_leapfrog=4, seed=1)")
    again = eval(more, namespace)
    assert again.certificate.within < found.certificate.within


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "path"),
    [
        (LinearGaussian.instance_1(), "prior"),
        (LinearGaussian.instance_1(), "posterior"),
        (Bimodal(0.25), "posterior"),
    ],
    ids=["prior", "posterior", "one of two modes"],
)
def test_it_never_certifies_what_the_truth_contradicts(model, path) -> None:
    """Tiny settings, wide tolerance: many certificates, each compared with the truth."""
    with torch.no_grad():
        x = model.decode(model.prior().sample((4,))).sample()
    errors, certified = [], 0
    for seed in range(40):
        found = log_likelihood(
            model, x, 20, num_temperatures=2, num_simulated=20, num_chains=2, num_leapfrog=1,
            tolerance=5.0, path=path, seed=seed,
        )  # fmt: skip
        if found.certificate.certified:
            certified += 1
            errors.append(simulated_error(model, found) - found.certificate.within)
    assert max(errors, default=-1.0) <= 0
    assert certified >= 30 or isinstance(model, Bimodal)


def test_a_posterior_that_knows_one_of_two_modes_is_found_out() -> None:
    model = Bimodal(0.25)
    x = torch.ones(4, 1, dtype=torch.float64)
    found = log_likelihood(model, x, 500, num_temperatures=20, num_simulated=30, seed=0, **QUICK)
    truth = model.log_likelihood(x[:1]).item()
    assert found.log_px.mean < truth
    assert not found.certificate.certified
    assert "path='prior'" in found.certificate.more


class Generator:
    """A prior and a decoder, no encoder."""

    def __init__(self, model: LinearGaussian) -> None:
        self.prior, self.decode = model.prior, model.decode


class Implicit(Generator):
    """A posterior that can only be sampled."""

    def __init__(self, model: LinearGaussian) -> None:
        super().__init__(model)
        self.model = model

    def encode(self, x: torch.Tensor) -> Distribution:
        q = self.model.encode(x)
        q.log_prob = _no_density
        return q


def _no_density(value: torch.Tensor) -> torch.Tensor:
    raise NotImplementedError


@pytest.mark.parametrize("wrap", [Generator, pytest.param(Implicit, marks=pytest.mark.slow)])
def test_without_a_density_of_q_ais_stands_alone_and_says_so(wrap) -> None:
    model = LinearGaussian.instance_1()
    x, _ = model.sample(20, seed=0)
    found = log_likelihood(wrap(model), x, 10, num_temperatures=40, num_simulated=20, seed=0)
    assert found.importance is None
    assert found.widened is None
    assert found.log_px.settings["combined"].startswith("AIS alone")
    assert found.annealed.settings["path"] == "prior"
    gap = found.log_px.mean - model.log_likelihood(x).mean().item()
    assert abs(gap) < 4 * found.log_px.mc_error_of_mean + 0.02
    assert "num_samples" not in found.certificate.more


def test_grey_values_under_a_bernoulli_and_wrong_settings_are_named() -> None:
    model, grey = mlp_vae((8,), 2, hidden=(4,)), torch.rand(5, 8)
    with pytest.raises(InputError, match="x: expected values in the support of the likelihood"):
        log_likelihood(model, grey, 10)
    with pytest.raises(InputError, match=r"tolerance: expected a positive number of nats; got 0\."):
        log_likelihood(model, grey.round(), 10, tolerance=0.0)
    for name in ("num_samples", "num_temperatures", "num_chains", "num_leapfrog", "num_simulated"):
        with pytest.raises(InputError, match=f"{name}: expected at least 1; got 0"):
            log_likelihood(model, grey.round(), **{name: 0})


@pytest.mark.slow
def test_conditions_go_with_their_datapoints_and_progress_reaches_its_end() -> None:
    from .test_importance import Shifted

    c, calls = torch.arange(7.0).double()[:, None] * 10, []
    found = log_likelihood(
        Shifted(), c + 0.3, 50, num_temperatures=10, num_simulated=20, condition=c, seed=0,
        progress=lambda *call: calls.append(call), **QUICK,
    )  # fmt: skip
    e = found.log_px
    error = (e.mc_stderr.square() + e.mc_stderr[0].square()).sqrt()
    assert ((e.values - e.values[0]).abs() < 4 * error + 1e-9).all()
    assert error.max() < 0.1
    assert calls[-1] == (1000, 1000)
    assert [a for a, _ in calls] == sorted(a for a, _ in calls)


def judged(first, **changes: object):
    """The certificate of instance 1 with parts of it spoilt."""
    _, _, found = first
    parts = {
        "log_px": found.log_px,
        "proposals": found.widened,
        "annealed": found.annealed,
        "strata": gaps(first, 0.0),
        "sandwich": found.sandwich,
        "tolerance": 0.1,
    }
    return certify(**{**parts, **changes})


def shifted(estimate: Estimate, by: float) -> Estimate:
    halves = {k: estimate.diagnostics[k] + by for k in ("half", "other_half")}
    diagnostics = {**estimate.diagnostics, **halves}
    return replace(estimate, values=estimate.values + by, diagnostics=diagnostics)


def gaps(first, by: float) -> Strata:
    """The strata of instance 1, all gaps moved."""
    _, _, found = first
    others, far = found.certificate.others, found.certificate.far
    moved = [replace(e, values=e.values + by) for e in (others, far)]
    apart = paired_difference(found.annealed, found.widened, "like the real data")
    return Strata(*moved, found.pairs, apart)


def with_diagnostic(estimate: Estimate, **values: float) -> Estimate:
    spoilt = {k: torch.full_like(estimate.values, v) for k, v in values.items()}
    return replace(estimate, diagnostics={**estimate.diagnostics, **spoilt})


def test_what_is_seen_on_the_real_data_can_take_the_certificate_away(first) -> None:
    _, _, found = first
    assert judged(first).certified
    low = shifted(found.widened, -3.0)
    apart = judged(first, proposals=low, log_px=combine(low, found.annealed))
    assert "on these data AIS finds 3" in apart.reasons[0]
    assert "nats more than importance sampling, and on simulated ones they are" in apart.reasons[0]
    like = paired_difference(found.annealed, low, "as far apart")
    assert judged(first, proposals=low, strata=gaps(first, 0.0)._replace(apart=like)).certified
    stuck = judged(first, annealed=with_diagnostic(found.annealed, acceptance=0.1))
    assert stuck.reasons == ("acceptance collapsed to 10% of the HMC proposals",)
    wild = judged(first, annealed=with_diagnostic(found.annealed, divergent=29.0))
    assert wild.reasons == ("6.25% of the transitions diverged and were rejected",)
    lone = judged(first, annealed=with_diagnostic(found.annealed, ess=1.1))
    assert "one chain carries the weight: ESS 1.1 of 16 chains" in lone.reasons[0]


def test_crossed_bounds_and_too_few_data_are_refused(first) -> None:
    crossed = judged(first, strata=gaps(first, -1.0 - first[2].certificate.width))
    assert "the bounds cross: upper bound − estimate is −1.000" in crossed.reasons[0]
    model, x, _ = first
    few = log_likelihood(model, x[:3], 50, num_temperatures=5, num_simulated=5, seed=0, **QUICK)
    assert "n=5 simulated datapoints are too few" in str(few.certificate)
    assert int(re.search(r"num_simulated=(\d+)", few.certificate.more)[1]) >= 20


def test_a_width_at_the_edge_counts_its_error(first) -> None:
    wide = gaps(first, 0.099 - first[2].certificate.width)
    assert judged(first, strata=wide).width == pytest.approx(0.099)
    assert not judged(first, strata=wide).certified
    assert judged(first, strata=wide, tolerance=0.15).certified


def test_c_is_the_stratified_mean_and_its_error_and_is_never_printed_as_zero(first) -> None:
    _, _, found = first
    c, s = found.certificate, found.pairs.share
    assert s == len(found.pairs.outlying) / 5000
    expected = (1 - s) * c.others.mean + s * c.far.mean
    error = math.hypot((1 - s) * c.others.stderr, s * c.far.stderr)
    assert (c.width, c.width_stderr) == (pytest.approx(expected), pytest.approx(error))
    assert c.within == pytest.approx(max(c.width, 0) + 2.0227 * c.width_stderr, rel=1e-4)
    assert "nothing is said of a share of up to 0.06% of model-like data" in str(c)
    assert str(replace(c, within=1e-9)).startswith("certified to ±0.001 nats")
    alone = judged(first, strata=Strata(c.others, None, None))
    assert "nothing is said of a share of up to 7.50% of model-like data" in str(alone)


@pytest.mark.slow
def test_data_are_read_once_so_that_a_shuffling_loader_keeps_its_pairs() -> None:
    """Read twice, the two parts would be of the datapoints in two orders."""
    model = LinearGaussian.instance_1()
    x, _ = model.sample(30, seed=0)
    loader = torch.utils.data.DataLoader(x, batch_size=7, shuffle=True)
    found = log_likelihood(
        model, loader, 500, num_temperatures=20, num_leapfrog=5, num_simulated=20, seed=0
    )
    parts = found.log_px.diagnostics
    apart = (parts["importance"] - parts["annealed"]).abs().mean()
    assert apart < 0.1 * x.new_tensor(found.log_px.values.std().item())
    assert found.annealed.data_id == found.log_px.data_id
    assert "float64" in str(found.log_px.settings["data"])
