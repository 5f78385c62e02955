"""Evidence written by hand: numbers with chosen means and errors."""

import math
from dataclasses import replace

import torch

from elboscope.core import Capabilities, Estimate
from elboscope.diagnostics import Evidence, ImpliedScale
from elboscope.estimators import Certificate, ElboSurgery, LogLikelihood, Sandwich

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
        axis=axis, diagnostics=full, settings={"num_samples": 5000}, data_id=data_id,
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


ANNEALING = {"num_temperatures": 50, "num_chains": 10, "num_leapfrog": 10, "path": "posterior"}


def log_likelihood(annealed=-4.0, error=0.01, *, certified=True, n=40, alone=False):
    """Importance sampling at −4 nats, AIS beside it, a width of 0.02 ± 0.01 on simulated data."""

    def run(mean, stderr=0.01):
        return replace(estimate(mean, stderr, n=n), settings=ANNEALING)

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
        sandwich=sandwich,
        simulated=estimate(-5.01, n=n),
        simulated_importance=proposals and estimate(-5.01, n=n),
        certificate=Certificate(certified, 0.1, 0.04, width, reasons, more),
    )


def evidence(**fields):
    """A healthy model's evidence on 200 binary datapoints, with these fields replaced."""
    x = (torch.arange(200 * 8).reshape(200, 8) % 3 == 0).float()
    khat = torch.linspace(0.1, 0.45, 100, dtype=torch.float64)
    healthy = Evidence(
        capabilities=CAPABILITIES,
        settings={"num_samples": 5000},
        x=x,
        log_px=estimate(-4.0, khat=khat, ess=2500.0, half=-4.0),
        elbo=estimate(-4.1, kl=3.0),
        kl=estimate(3.0),
        bound_gap=estimate(0.1, 0.01),
        surgery=surgery(3.0, 2.9, 0.1, 0.05),
        unit_kl=units([1.0, 1.0, 0.9, 0.1]),
        active_units=units([0.9, 0.8, 0.7, 0.2]),
        zeroing=units([1.0, 0.9, 0.8, 0.1]),
        log_likelihood=log_likelihood(),
        train_elbo=estimate(-4.0, 0.01, data_id="b", kl=3.0),
    )
    return replace(healthy, **fields)
