"""Evidence written by hand: numbers with chosen means and errors."""

import math
from dataclasses import replace

import torch
from torch.distributions import Independent, Normal

from elboscope.core import Capabilities, Estimate
from elboscope.diagnostics import Evidence, ImpliedScale
from elboscope.estimators import (
    Certificate,
    Convergence,
    ElboSurgery,
    FittedPriorModel,
    InferenceGap,
    LatentSamples,
    LogLikelihood,
    LowPosteriorSamples,
    LowSampleAnalysis,
    MarginalKLComparison,
    OptimalPosterior,
    SampleQuality,
    SampleQualityGap,
    Sandwich,
    Separation,
)
from elboscope.estimators.inference.convergence import Trial
from elboscope.models import LinearGaussian

LOG_N = math.log(1000)
CAPABILITIES = Capabilities(
    latent_shape=(4,),
    data_shape=(8,),
    posterior="Normal",
    likelihood="Bernoulli",
    reparameterised=True,
    has_encoder=True,
    has_posterior_density=True,
    has_likelihood=True,
    analytic_kl=True,
    in_support=True,
    problems=(),
)


def estimate(mean, stderr=0.01, *, n=100, name="x", axis="datapoint", data_id="a", **diagnostics):
    """Values whose mean and standard error are exactly these."""
    pattern = torch.linspace(-1, 1, n, dtype=torch.float64)
    spread = pattern / pattern.std() * stderr * math.sqrt(n)
    full = {
        k: torch.as_tensor(v, dtype=torch.float64).expand(n).clone() for k, v in diagnostics.items()
    }
    return Estimate(
        name, "by hand", mean + spread, torch.zeros(n, dtype=torch.float64), "none", stderr,
        axis=axis, diagnostics=full, num_samples=5000, data_id=data_id,
    )  # fmt: skip


def units(values, mc_stderr=0.0):
    values = torch.tensor(values, dtype=torch.float64)
    error = torch.full_like(values, mc_stderr)
    return Estimate("unit", "by hand", values, error, "none", 0.0, axis="unit")


def surgery(kl, information, marginal, held_out, *, log_n=LOG_N, error=0.05):
    return ElboSurgery(
        reconstruction=estimate(-5.0),
        kl=estimate(kl, error),
        mutual_information=estimate(information, error),
        marginal_kl=estimate(marginal, error),
        marginal_kl_plain=estimate(marginal, error),
        marginal_kl_held_out=None if held_out is None else estimate(held_out, error),
        total_correlation=None,
        dimensionwise_kl=None,
        log_n=log_n,
        unavailable={} if held_out is not None else {"marginal_kl_held_out": "19 datapoints"},
    )


def scale(ratio, error=0.01, *, D=64):
    return ImpliedScale(0.05 * ratio, 0.05 * error, 0.05, ratio, error, D)


ANNEALING = {"num_leapfrog": 10, "path": "posterior"}


def log_likelihood(annealed=-4.0, error=0.01, *, certified=True, n=40, alone=False):
    """Importance sampling at −4 nats, AIS beside it, a width of 0.02 ± 0.01 on simulated data."""

    def run(mean, stderr=0.01):
        counts = {"num_samples": None, "num_temperatures": 50, "num_chains": 10}
        return replace(estimate(mean, stderr, n=n), settings=ANNEALING, **counts)

    proposals = None if alone else estimate(-4.0, 0.0, n=n, khat=0.3, ess=2500.0)
    sandwich = Sandwich(torch.zeros(n, 8), torch.zeros(n, 4), run(-5.02), run(-4.98),
                        run(-5.01), run(-4.99))  # fmt: skip
    reasons = () if certified else ("on simulated data …",)
    more = "" if certified else "es.log_likelihood(model, x, num_temperatures=100)"
    width = estimate(0.02, 0.01, n=n)
    return LogLikelihood(
        log_px=proposals or run(annealed, error),
        importance=proposals,
        widened=proposals,
        annealed=run(annealed, error),
        pairs=None,
        sandwich=sandwich,
        simulated=estimate(-5.01, n=n),
        simulated_importance=proposals and estimate(-5.01, n=n),
        certificate=Certificate(
            certified, 0.1, 0.04, 0.02, 0.01, width, None, 0.0, 5000, reasons, more
        ),
    )


def split(
    approximation=0.05,
    amortisation=0.05,
    error=0.01,
    *,
    within=0.01,
    diverged=(),
    n=30,
    khat=0.3,
    train=None,
    richer=None,
    family="diagonal",
    data_id="a",
):
    """log p̂ at −4 nats; both parts and their sum and difference have this error."""
    spread = estimate(0.0, error, n=n).values
    swapped = spread.reshape(2, -1).flip(0).flatten()  # nearly uncorrelated with the first
    elbo = estimate(-4.0 - approximation - amortisation, 0.0, n=n).values - spread - swapped
    best = replace(estimate(-4.0 - approximation, n=n), values=elbo + amortisation + swapped)
    log_px = estimate(-4.0, 0.0, n=n, khat=khat, ess=1000.0)

    def gap(name, values):
        return Estimate.per_datapoint(name, "by hand", values, values * 0, "none", data_id=data_id)

    trial = Trial({"encoder": -4.1, "prior": -4.2}, "encoder", n, 0.0, 0.0)
    certificate = Convergence(within <= 0.02, 0.02, within, trial, 0.0, 0.0, 0.003, (),
                              diverged, (), ())  # fmt: skip
    optimal = OptimalPosterior(
        elbo=best,
        posterior=Normal(0.0, 1.0),
        certificate=certificate,
        index=torch.arange(n),
        family=family,
        log_px=log_px,
    )
    optimal_elbo = {"diagonal": best, family: best}
    found = None
    if richer is not None:
        optimal_elbo["flow"] = replace(best, values=best.values + richer)
        found = gap("L[q*_flow] − L[q*_diagonal]", best.values * 0 + richer)
    return InferenceGap(
        log_px=log_px,
        optimal=dict.fromkeys(optimal_elbo, optimal),
        optimal_elbo=optimal_elbo,
        elbo=replace(best, values=elbo),
        family=family,
        approximation=gap("approximation gap", log_px.values - best.values),
        amortisation=gap("amortisation gap", best.values - elbo),
        inference=gap("inference gap", log_px.values - elbo),
        richer=found,
        index=torch.arange(n),
        diverged=diverged,
        below=(),
        optimal_posterior_certified=certificate.certified and not diverged,
        reasons=(),
        settings={"num_samples": 5000, "chosen": "importance sampling from q", "split_by": ""},
        train=train,
    )


def fitted(gain, error=0.05):
    """Another prior than the model's own, and what it gained."""
    model = LinearGaussian.instance_1()
    measured = replace(estimate(gain, error), settings={"density": "a mixture of 10 Gaussians"})
    return FittedPriorModel(model, Independent(Normal(torch.zeros(4), torch.ones(4)), 1), measured)


def comparison(*, mixture=0.1, ratio=0.05, error=0.01, **bounds):
    """The mixture, the classifier, and these lower bounds, all with this error."""
    estimates = {"mixture": estimate(mixture, error), "ratio": estimate(ratio, error)}
    estimates["mixture"] = replace(estimates["mixture"], mixture_size=1000)
    estimates |= {name: replace(estimate(v, error), side="lower") for name, v in bounds.items()}
    return MarginalKLComparison(estimates, estimate(3.0), estimate(2.9), LOG_N, {})


def scores(coverage=0.95, density=1.0, error=0.03, *, counts=(40,) * 10, of_data=(40,) * 10):
    """Scores of as many samples as there are data; the counts are of classes met."""

    def met(numbers):
        numbers = torch.tensor(numbers, dtype=torch.float64)
        met, none = (numbers > 0).double(), 0 * numbers
        return Estimate("modes covered", "by hand", met, none, "none", 0.0, axis="unit",
                        diagnostics={"count": numbers})  # fmt: skip

    def near(value):
        made = estimate(value, error, n=10, axis="group")
        return replace(made, expected=0.97)

    one = estimate(1.0, n=10, axis="split")
    return SampleQuality(
        one, met(counts), one, one, near(0.9), near(0.8), near(density), near(coverage), one,
        num_samples=400, classifier="digits classifier", classifier_error=0.0084,
        of_data={"modes_covered": met(of_data)},
    )  # fmt: skip


def scores_gap(samples, reconstructions, error=0.03):
    """Both, and their differences with this error."""
    pairs = {n: (samples.estimates[n], reconstructions.estimates[n]) for n in samples.estimates}
    gap = {
        name: estimate(a.mean - b.mean, error, n=10, axis="group") for name, (a, b) in pairs.items()
    }
    return SampleQualityGap(samples, reconstructions, gap)


def low(uncovered=0.01, auroc=0.9, error=0.03, *, n=2000, typical=1.0):
    """A share of the prior below one percent of q(z), and how well the ELBO tells them apart."""
    below = round(uncovered * n)
    prior = torch.cat([torch.full((below,), -9.0), torch.zeros(n - below)]).double()
    q = torch.cat([torch.full((n // 50,), -8.0), torch.full((n - n // 50,), typical)]).double()
    some = torch.zeros(5, dtype=torch.float64)
    kept = LatentSamples(torch.arange(5), torch.zeros(5, 4), some, some,
                         torch.zeros(5, 8), torch.zeros(5, 8))  # fmt: skip
    samples = LowPosteriorSamples(kept, kept, kept, some, some, q, prior, uncovered,
                                  4000, {"mixture_size": 4000}, "a")  # fmt: skip
    sets = dict.fromkeys(("data", "neighbours", "low", "ordinary"), some)
    separation = Separation(auroc, error, auroc - 2 * error, auroc + 2 * error)
    return LowSampleAnalysis(samples, kept, torch.zeros(5, 8), some, {}, some, {}, sets,
                             separation, {}, "", {})  # fmt: skip


def evidence(**fields):
    """A healthy model's evidence on 200 binary datapoints, with these fields replaced."""
    x = (torch.arange(200 * 8).reshape(200, 8) % 3 == 0).float()
    khat = torch.linspace(0.1, 0.45, 100, dtype=torch.float64)
    healthy = Evidence(
        capabilities=CAPABILITIES,
        settings={"num_samples": 5000},
        x=x,
    ).replace(
        log_px=estimate(-4.0, khat=khat, ess=2500.0, half=-4.0),
        elbo=estimate(-4.1, kl=3.0),
        kl=estimate(3.0),
        bound_gap=estimate(0.1, 0.01),
        surgery=surgery(3.0, 2.9, 0.1, 0.05),
        unit_kl=units([1.0, 1.0, 0.9, 0.1]),
        active_units=units([0.9, 0.8, 0.7, 0.2]),
        zeroing=units([1.0, 0.9, 0.8, 0.1]),
        log_likelihood=log_likelihood(),
        inference_gap=split(),
        marginal_kl_comparison=comparison(gmm=0.05, maf=0.05, nwj=0.02),
        fitted_prior=fitted(0.05),
        low_posterior=low(),
        sample_quality=scores(),
        sample_quality_gap=scores_gap(scores(), scores()),
        train_elbo=estimate(-4.0, 0.01, data_id="b", kl=3.0),
    )
    return healthy.replace(**fields)
