"""A complete, plausible piece of evidence written by hand: no model, no sampling."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor
from torch.distributions import Normal

from elboscope.core import Capabilities, Estimate, Finding, data_id, paired_difference
from elboscope.data import digits
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
    Sandwich,
    Separation,
)
from elboscope.estimators.inference.convergence import Trial
from elboscope.estimators.likelihood.simulated_pairs import ScoredPairs
from elboscope.models import LinearGaussian
from elboscope.report import Diagnosis, estimates_of
from elboscope.report.html import page

N, D = 200, 6


def normal(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def datapoints(name: str, values: Tensor, side: str, method: str = "sampled", **rest) -> Estimate:
    error = torch.full_like(values, 0.05)
    return Estimate.per_datapoint(name, method, values, error, side, **rest)


def units(name: str, values: Tensor) -> Estimate:
    return Estimate(name, "closed form", values, values * 0, "unbiased", 0.03, "unit")


def capabilities(data_shape: tuple[int, ...], latent: int = D) -> Capabilities:
    return Capabilities(
        latent_shape=(latent,),
        data_shape=data_shape,
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


def surgery(kl: Estimate, n: int) -> ElboSurgery:
    information = replace(kl, name="mutual information I(n; z)", values=kl.values * 0 + 4.2)
    marginal = replace(kl, name="marginal KL(q_N ‖ p)", values=kl.values - 4.2, nonnegative=True)
    fields = {
        "reconstruction": replace(kl, name="reconstruction", values=kl.values - 30),
        "kl": kl,
        "mutual_information": information,
        "marginal_kl": marginal,
        "marginal_kl_plain": replace(marginal, values=marginal.values + 0.1),
        "marginal_kl_held_out": replace(marginal, values=marginal.values - 2, side="lower"),
        "total_correlation": replace(marginal, name="total correlation", side="none"),
        "dimensionwise_kl": units("dimension-wise KL", torch.full((D,), 0.2)),
    }
    return ElboSurgery(**fields, log_n=math.log(n), unavailable={})


def certified(log_px: Estimate, rows: Tensor) -> LogLikelihood:
    """AIS of some rows of x, and a sandwich of twenty simulated datapoints."""
    how = {"path": "posterior"}
    values, n = log_px.values[rows], len(rows)
    trust = {"khat": values * 0 + 0.3, "ess": values * 0 + 800}
    chains = {"ess": values * 0 + 9.0, "acceptance": values * 0 + 0.65, "divergent": values * 0}
    where = {"num_samples": 5000, "data_id": "some rows", "diagnostics": trust}
    importance = datapoints("log p(x)", values, "lower", "importance sampling", **where)
    annealed = datapoints("log p(x)", values + 0.02, "lower", "annealed importance sampling",
                          settings=how, data_id="some rows", diagnostics=chains,
                          num_temperatures=50, num_chains=10)  # fmt: skip
    simulated = -24 + 3 * normal(7, n)

    def bound(by: float, side: str, T: int) -> Estimate:
        counts = {"num_temperatures": T, "num_chains": 10}
        values = simulated + by
        return datapoints("log p(x)", values, side, "AIS", settings=how, data_id="s", **counts)

    runs = (bound(-0.04, "lower", 50), bound(0.05, "upper", 50))
    doubled = (bound(-0.02, "lower", 100), bound(0.02, "upper", 100))
    sandwich = Sandwich(torch.zeros(n, 8, 8), torch.zeros(n, D), *runs, *doubled)
    estimate = bound(-0.01, "lower", 50)
    width = paired_difference(doubled[1], estimate, "upper bound − estimate")
    certificate = Certificate(
        True, 0.1, 0.042, 0.03, 0.006, width, width, 0.004, 5000, path="posterior"
    )
    pairs = ScoredPairs(doubled[1], runs[0], simulated * 0, torch.arange(3), 0)
    return LogLikelihood(
        importance, importance, importance, annealed, pairs, sandwich, estimate, estimate,
        certificate,
    )  # fmt: skip


def gap_in_two_parts(log_px: Estimate, rows: Tensor, seed: int = 8) -> InferenceGap:
    """The diagonal family loses 0.5 nats, of which a flow wins 0.3; the encoder loses 0.6."""
    values, n, where = log_px.values[rows], len(rows), f"searched {seed}"

    def bound(name: str, below: float, noise: int) -> Estimate:
        lost = below * (0.6 + 0.4 * 2 * normal(noise, n).abs())
        return datapoints(name, values - lost, "lower", data_id=where, num_samples=5000)

    best = {"diagonal": bound("L[q*_diagonal]", 0.5, seed), "flow": bound("L[q*_flow]", 0.2, seed)}
    elbo = bound("L[q]", 1.1, seed)
    trial = Trial({"encoder": -22.6, "prior": -22.7}, "encoder", n, 0.001, 0.001)
    sure = Convergence(True, 0.02, 0.012, trial, 0.001, 0.001, 0.003, (), (), (), ())
    unsure = replace(sure, certified=False, within=0.05, reasons=("within ±0.05 …",))
    trusted = replace(log_px, values=values, mc_stderr=log_px.mc_stderr[rows], data_id=where,
                      diagnostics={"khat": values * 0 + 0.4})  # fmt: skip
    optimal = {
        family: OptimalPosterior(
            elbo=best[family],
            posterior=Normal(0.0, 1.0),
            certificate=certificate,
            index=torch.arange(n),
            family=family,
            log_px=trusted,
        )
        for family, certificate in (("diagonal", sure), ("flow", unsure))
    }
    return InferenceGap(
        log_px=trusted,
        optimal=optimal,
        optimal_elbo=best,
        elbo=elbo,
        family="diagonal",
        approximation=paired_difference(trusted, best["diagonal"], "approximation gap"),
        amortisation=paired_difference(best["diagonal"], elbo, "amortisation gap"),
        inference=paired_difference(trusted, elbo, "inference gap"),
        richer=paired_difference(best["flow"], best["diagonal"], "L[q*_flow] − L[q*_diagonal]"),
        index=torch.arange(n),
        diverged=(),
        below=(),
        optimal_posterior_certified=False,
        reasons=("q*_flow: within ±0.05 …", "2 datapoints lie below L[q]"),
        settings={"num_samples": 5000, "chosen": "importance sampling from q*_flow"},
    )


def compared(kl: Estimate, n: int) -> MarginalKLComparison:
    """The mixture above the bounds, of which the flow says most; a classifier that sees little."""
    parts = surgery(kl, n)
    mixture = replace(parts.marginal_kl, settings={"mixture_size": n}, mixture_size=n)
    record = {"evaluated_on": n}
    bound = replace(parts.marginal_kl_held_out, settings=record, held_out=True)
    estimates = {"mixture": mixture, "mixture_plain": replace(mixture, method="plain Monte Carlo")}
    estimates["ratio"] = replace(bound, values=bound.values - 1, side="none", method="ratio")
    for name, less in (("donsker_varadhan", 0.5), ("nwj", 0.6), ("gmm", 0.0), ("maf", -0.4)):
        estimates[name] = replace(bound, values=bound.values - less, method=name)
    reason = {"lstm": "it was not asked for"}
    return MarginalKLComparison(estimates, kl, parts.mutual_information, math.log(n), reason)


def with_fitted_prior(elbo: Estimate) -> tuple[FittedPriorModel, tuple[Estimate, Estimate]]:
    """A prior that gains 1.8 nats of every datapoint."""
    values = elbo.values * 0 + 1.8 + 0.3 * normal(11, len(elbo.values))
    density = {"density": "a mixture of 10 Gaussians, full covariance"}
    gain = datapoints("gain of the fitted prior", values, "unbiased", settings=density)
    after = replace(elbo, name="ELBO with the fitted prior", values=elbo.values + values)
    model = LinearGaussian.instance_1()
    return FittedPriorModel(model, model.prior(), gain), (elbo, after)


def low_samples(x: Tensor, latent: int = D) -> LowSampleAnalysis:
    """Twenty of 500 prior draws; the ELBO of these a little below that of data."""
    k, few = 20, x[:20]
    z, log_q = normal(12, k, latent), -14 - normal(13, k).abs().double()
    kept = LatentSamples(torch.arange(k), z, log_q, log_q + 5, few * 0.9, few)
    names = ("data", "neighbours", "low", "ordinary")
    scores = {name: -22 - i + 3 * normal(14 + i, 40).double() for i, name in enumerate(names)}
    samples = LowPosteriorSamples(kept, kept, kept, normal(18, 500).double(),
                                  normal(19, 500).double(), normal(20, 100).double(),
                                  normal(21, 100).double(), 0.18, 200,
                                  {"num_prior": 500, "mixture_size": 200}, "mixture")  # fmt: skip
    pixels = {name: torch.ones(1, 256, dtype=torch.float64) for name in names}
    points = {name: normal(22, 30, 2).double() for name in ("prior", "aggregate posterior", "low")}
    edges = torch.linspace(0, 1, 257, dtype=torch.float64)
    return LowSampleAnalysis(samples, kept, few, torch.ones(k, dtype=torch.float64), pixels, edges,
                             {name: v + 40 for name, v in scores.items()}, scores,
                             Separation(0.62, 0.04, 0.54, 0.7), points, "t-SNE", {})  # fmt: skip


def complete_evidence(x: Tensor | None = None, **changes: object) -> Evidence:
    """Numbers of a healthy model of digits; ``changes`` replace fields."""
    x = (digits().test[:N] > 0.5).float() if x is None else x
    n = len(x)
    where = {"data_id": data_id(x), "settings": {"binarisation": "fixed(0)"}, "num_samples": 5000}
    z = normal(1, n, D) * torch.tensor([1.0, 0.95, 0.9, 0.8, 0.02, 0.01])
    values = -22 + 3 * normal(2, n)
    trust = {
        "khat": 0.25 + 0.15 * normal(3, n),
        "ess": 900 + 200 * normal(4, n),
        "psis": values + 0.01,
        "half": values - 0.02,
    }
    log_px = datapoints(
        "log p(x)", values, "lower", "importance sampling", **where, diagnostics=trust
    )
    elbo = datapoints("ELBO", values - 1 - 0.1 * normal(5, n).abs(), "lower", **where)
    rows = torch.arange(0, n, max(1, n // 20))[:20]
    weighted = {"data_id": data_id(x), "method": "importance-weighted bound"}
    bounds = {
        K: datapoints("log p(x)", values - 2 / K, "lower", num_samples=K, **weighted)
        for K in (1, 5, 50, 500)
    }
    kl = datapoints("KL(q(z|x) ‖ p(z))", 8 + normal(6, n), "unbiased", "closed form", **where)
    facts = {
        "capabilities": capabilities(tuple(x.shape[1:])),
        "settings": {
            "data": "digits",
            "budget": "standard",
            "seed": 0,
            "num_samples": 5000,
            "n": n,
        },
        "x": x,
    }
    quantities: dict[str, object] = {
        "log_px": log_px,
        "elbo": elbo,
        "reconstruction": datapoints("E log p(x|z)", values + 7, "unbiased", **where),
        "kl": kl,
        "prior_sampling": datapoints("log p(x), prior", values - 9, "lower", **where),
        "bounds_by_samples": {**bounds, 5000: log_px},
        "log_likelihood": certified(log_px, rows),
        "rows": {"log_likelihood": rows, "inference_gap": rows},
        "inference_gap": replace(
            gap_in_two_parts(log_px, rows), train=gap_in_two_parts(log_px, rows + 1, 9)
        ),
        "bound_gap": paired_difference(log_px, elbo, "log p(x) − ELBO"),
        "surgery": surgery(kl, n),
        "unit_kl": units("KL per unit", torch.tensor([2.6, 2.1, 1.9, 1.4, 0.004, 0.001])),
        "active_units": units("variance", z.var(0)),
        "zeroing": units("zeroing effect", torch.tensor([9.1, 6.0, 5.2, 3.1, 0.0, 0.0])),
        "implied_kl_weight": datapoints(
            "implied KL weight",
            1 + 0.3 * normal(11, n),
            "none",
            "stationarity of the posterior's widths",
            measured_in="nats of reconstruction per nat of KL",
        ),
        "posterior_means": z,
        "train_elbo": datapoints("ELBO, training data", values - 0.9, "lower", **where),
        "train_log_px": datapoints("log p(x), training data", values + 0.1, "lower", **where),
        "scale": ImpliedScale(0.051, 0.0012, 0.05, 1.02, 0.02, x[0].numel()),
        "reconstructions": (x[:16] * 0.8 + 0.1),
        "prior_samples": x.flip(0)[:16] * 0.7 + 0.1,
        "marginal_kl_comparison": compared(kl, n),
        "fitted_prior": with_fitted_prior(elbo)[0],
        "fitted_prior_elbo": with_fitted_prior(elbo)[1],
        "fitted_prior_samples": x[:16] * 0.6 + 0.2,
        "low_posterior": low_samples(x),
        "history": [
            {
                "epoch": float(i),
                "train_bound": -40 + 17 * (1 - 0.8**i),
                "validation_elbo": -41 + 17 * (1 - 0.8**i),
            }
            for i in range(1, 25)
        ],
    }
    return Evidence(**facts).replace(**quantities).replace(**changes)


def some_findings() -> tuple[Finding, ...]:
    return (
        Finding(
            "likelihood trust",
            "ok",
            "log p(x) ≥ −22.1 ± 0.2 nats; k̂ < 0.7 everywhere.",
            {"max khat": 0.62, "share": 0.0},
        ),
        Finding(
            "likelihood certificate",
            "ok",
            "The combined log p̂(x) is certified to ±0.042 nats on model-like data.",
            {"within": 0.042},
        ),
        Finding(
            "bound tightness",
            "warning",
            "The ELBO falls 1.08 ± 0.01 nats short of log p(x), 4.9 % of it.",
            {"gap": 1.08},
            "Train with more samples: `elboscope train config.yaml --objective iwae`.",
        ),
        Finding(
            "inference gap",
            "ok",
            "Inference loses 1.10 ± 0.02 nats: 0.50 ± 0.01 by its family, 0.60 ± 0.01 by its "
            "encoder.",
            {"approximation": 0.5, "amortisation": 0.6},
        ),
        Finding(
            "posterior collapse",
            "ok",
            "4 of 6 units are active; zeroing each of them costs at least 3.1 nats.",
        ),
        Finding(
            "prior hole",
            "problem",
            "KL(q ‖ p) lies between 2.7 and 8.0 nats; the held-out lower bound is 1.8 ± 0.1.",
            {"interval": (2.7, 8.0)},
            "Try another prior: `elboscope train config.yaml --model.prior vamp`.",
        ),
        Finding(
            "low-posterior samples",
            "warning",
            "18.0% of the prior lies where q(z) hardly goes; AUROC 0.620 [0.540, 0.700].",
            {"uncovered": 0.18, "auroc": 0.62},
            "Close the holes: es.fit_prior(model, x_train).",
        ),
        Finding(
            "sample quality",
            "ok",
            "Samples are near to what other data would score: 0.93 ± 0.03 of the data are covered.",
            {"cause": "none"},
        ),
        Finding(
            "likelihood scale",
            "unavailable",
            "The likelihood is Bernoulli and has no scale; every x is 0 or 1.",
        ),
        Finding(
            "overfitting",
            "undecided",
            "Train − test = 0.1 ± 0.3 nats: the threshold of 0.2 lies within the error.",
        ),
        Finding("divergence", "ok", "All values are finite in the history and in the model."),
    )


def complete_diagnosis(**changes: object) -> Diagnosis:
    evidence = complete_evidence(**changes)
    return Diagnosis(some_findings(), estimates_of(evidence), evidence)


def page_of(diagnosis: Diagnosis) -> str:
    return page(diagnosis.findings, diagnosis.estimates, diagnosis.evidence)
