"""What is measured of each model of the sweep: collapse, rate and distortion, the latent space.

All numbers are of grey test images. Distortion is the squared error of an image, summed over its
pixels whatever the reduction of the training; the ELBO is that of the Gaussian decoder whose σ²
the weight implies, with all constants: a density, and comparable between settings as one.
"""

from __future__ import annotations

__all__ = [
    "Latents",
    "Measured",
    "SweepMeasure",
    "latent_space",
    "measured",
    "squared_errors",
]

import math
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Float64
from torch import Tensor

from elboscope.core import Estimate, evaluating, seeded
from elboscope.estimators import (
    active_units,
    low_posterior_samples,
    marginal_kl,
    mutual_information,
    reconstruction,
    unit_kl,
)
from elboscope.models import VAE, completeness, continuity

from .evaluation import count_error
from .latent_coverage import coverage, fitted_draws

CODES = 1024
Value = tuple[float, float]


class SweepMeasure(NamedTuple):
    """How much is measured.

    Attributes:
        num_decoded: Test images that are decoded; all are encoded.
        num_samples: K of each of them.
        num_draws: Of q(z), and of the prior.
    """

    num_decoded: int
    num_samples: int
    num_draws: int

    def record(self) -> dict[str, object]:
        """Returns what is saved beside a number."""
        return dict(self._asdict())


class Measured(NamedTuple):
    """Of one VAE, each with its error.

    Attributes:
        variance: Var_x E_q[z_j|x] of each unit.
        variance_stderr: Its error.
        units: Active units.
        rate: KL(q(z|x)‖p(z)), in nats.
        information: I(n; z), in nats.
        marginal: KL(q(z)‖p(z)), in nats.
        error: Squared error of an image.
        elbo: Of the implied Gaussian decoder, in nats.
    """

    variance: list[float]
    variance_stderr: list[float]
    units: Value
    rate: Value
    information: Value
    marginal: Value
    error: Value
    elbo: Value


class Latents(NamedTuple):
    """Of one latent space.

    Attributes:
        completeness: Distance of decoded draws to the data, in units of the data's own.
        continuity: Squared change of the image for a step of a tenth of the codes' distance, in
            units of the squared distance of two images.
        uncovered: Share of draws that lie where no code is.
        by_density: Share where log q(z) − log p(z) is below all but 1 % of q's own draws; ``None``
            without a density.
        codes: Some codes.
        drawn: As many draws.
        outside: Which of the draws are uncovered.
    """

    completeness: Value
    continuity: Value
    uncovered: Value
    by_density: Value | None
    codes: Float[Tensor, "m d"]
    drawn: Float[Tensor, "n d"]
    outside: Bool[Tensor, " n"]


def measured(
    model: VAE, x: Float[Tensor, "N *X"], sigma2: float, plan: SweepMeasure, seed: int
) -> Measured:
    """Returns the numbers of one VAE.

    Args:
        model: Trained, with the implied σ² in its likelihood.
        x: Test images.
        sigma2: The implied σ².
        plan: How much.
        seed: Of all draws.
    """
    active, decoded = active_units(model, x), x[: plan.num_decoded]
    stderr = active.diagnostics["stderr"]
    likelihood = reconstruction(model, decoded, plan.num_samples, seed=seed)
    kl, pixels = unit_kl(model, x), x[0].numel()
    own = likelihood.values.double() - _rate(model, decoded)
    constant = 0.5 * pixels * math.log(2 * math.pi * sigma2)
    return Measured(
        active.values.tolist(),
        stderr.tolist(),
        (float(str(active.settings["active"])), count_error(active.values, stderr)),
        (kl.total, kl.stderr),
        _value(mutual_information(model, x, num_draws=plan.num_draws, seed=seed)),
        _value(marginal_kl(model, x, num_draws=plan.num_draws, seed=seed)),
        (-2 * sigma2 * (likelihood.mean + constant), 2 * sigma2 * likelihood.stderr),
        (own.mean().item(), (own.std() / math.sqrt(len(own))).item()),
    )


@torch.no_grad()
def _rate(model: VAE, x: Tensor) -> Float[Tensor, " n"]:
    with evaluating(model):
        kl: Tensor = torch.distributions.kl_divergence(model.encode(x), model.prior())
    return kl.double()


def _value(estimate: Estimate) -> Value:
    return estimate.mean, estimate.stderr


def _by_density(model: VAE, x: Tensor, num_draws: int, seed: int) -> Value:
    found = low_posterior_samples(model, x, 1, num_prior=num_draws, seed=seed)
    share, counts = found.uncovered, (len(found.prior_reference), len(found.reference))
    variance = share * (1 - share) / counts[0] + 0.01 * 0.99 / counts[1]
    return share, math.sqrt(variance)


@torch.no_grad()
def squared_errors(
    model: VAE, x: Float[Tensor, "n *X"], num_samples: int, seed: int
) -> Float64[Tensor, " n"]:
    """Returns the squared error of each image, over K draws of q; an autoencoder's do not vary."""
    with evaluating(model), seeded(seed):
        means = model.decode(model.encode(x).sample(torch.Size((num_samples,)))).mean
    return (means - x).square().flatten(2).sum(-1).double().mean(0)


@torch.no_grad()
def latent_space(
    model: VAE, x: Float[Tensor, "N *X"], num_draws: int, seed: int, *, has_prior: bool
) -> Latents:
    """Returns how complete and how continuous a latent space is.

    New data are made of draws of the prior, or, for an autoencoder, which has none, of the
    Gaussian fitted to its codes.

    Args:
        model: A trained VAE, or an autoencoder's networks.
        x: Test images; one half gives the codes, the other says how far a code may be.
        num_draws: Of what new data are made of.
        seed: Of all draws.
        has_prior: False for an autoencoder.
    """
    half = len(x) // 2
    with evaluating(model), seeded(seed):
        q = model.encode(x)
        codes = q.sample() if has_prior else q.mean
        n = torch.Size((num_draws,))
        drawn = model.prior().sample(n) if has_prior else fitted_draws(codes, num_draws)
        found = coverage(codes[:half], codes[half:], drawn)
        pictures = x[: min(half, num_draws)]
        images = completeness(
            lambda z: model.decode(z).mean,
            pictures,
            model.prior() if has_prior else None,
            z=codes[: len(pictures)],
            num_samples=min(CODES, num_draws),
            seed=seed,
        )
        steps = continuity(lambda z: model.decode(z).mean, q.mean, num_samples=CODES, seed=seed)
    return Latents(
        (images.value, images.stderr),
        (steps.value, steps.stderr),
        (found.uncovered, found.stderr),
        _by_density(model, x, num_draws, seed) if has_prior else None,
        codes[:num_draws],
        drawn,
        found.outside,
    )
