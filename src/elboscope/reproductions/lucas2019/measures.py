"""What is measured of each model of the sweep: collapse, rate and distortion, the latent space.

All numbers are of grey test images. Distortion is the squared error of an image, summed over its
pixels whatever the reduction of the training; the ELBO is that of the Gaussian decoder whose σ²
the weight implies, with all constants: a density, and comparable between settings as one.

A file of its own because what is measured of a model does not depend on the table.
"""

from __future__ import annotations

__all__ = [
    "Coverage",
    "Latents",
    "LinearCollapse",
    "Measured",
    "SweepMeasure",
    "coverage",
    "fitted_draws",
    "latent_space",
    "linear_collapse",
    "measure",
    "pixel_eigenvalues",
    "squared_errors",
]

import math
from dataclasses import asdict, dataclass
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Float64
from torch import Tensor
from torch.distributions import MultivariateNormal

from elboscope.core import Estimate, InputError, evaluating, seeded
from elboscope.estimators import (
    active_units,
    low_posterior_samples,
    marginal_kl,
    mutual_information,
    reconstruction,
    unit_kl,
)
from elboscope.models import VAE, completeness, continuity
from elboscope.models.exact.affine_encoder import principal_components

from ..frame.training import count_error

CODES = 1024
Value = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class SweepMeasure:
    """How much is measured.

    Attributes:
        num_decoded: Test images that are decoded; all are encoded.
        num_samples: K of each decoded image.
        num_draws: Draws of q(z), and of the prior.
    """

    num_decoded: int
    num_samples: int
    num_draws: int

    def record(self) -> dict[str, object]:
        """Returns what is saved beside a number."""
        return asdict(self)


class Measured(NamedTuple):
    """What is measured on one VAE, each value with its error.

    Attributes:
        variance: Var_x E_q[z_j|x] of each unit.
        variance_stderr: Its error.
        units: Active units.
        rate: KL(q(z|x)‖p(z)), in nats.
        information: I(n; z), in nats.
        marginal: KL(q(z)‖p(z)), in nats.
        error: Squared error of an image.
        elbo: The ELBO with the implied Gaussian decoder, in nats.
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
    """What is measured on one latent space.

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


def measure(
    model: VAE, x: Float[Tensor, "N *X"], sigma2: float, plan: SweepMeasure, seed: int
) -> Measured:
    """Returns the numbers of one VAE.

    Args:
        model: Trained, with the implied σ² in its likelihood.
        x: Test images.
        sigma2: The implied σ².
        plan: How much.
        seed: Random seed of all draws.
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
        (active.diagnostics["active"].sum().item(), count_error(active.values, stderr)),
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
        num_draws: Draws that are decoded to new data.
        seed: Random seed of all draws.
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


# Is a latent space complete? The share of draws that lie farther from any code than codes do.
#
# A decoder has been asked about the codes of its training data and about nothing else. A latent
# space has holes as far as draws, with which new data are to be made, lie apart from all codes:
#
# .. math:: \text{uncovered} = P\bigl(d(z, \text{codes}) > t\bigr), \qquad
#           P\bigl(d(\text{further code}, \text{codes}) > t\bigr) = 0.01,
#
# d the distance to the nearest code, in units of the codes' own covariance, which makes it the
# same for any affine change of the latents. It is 0.01 if draws are distributed like codes. It
# asks for no density, and so can be asked of an autoencoder, which has none; for a model with a
# posterior density :func:`elboscope.estimators.low_posterior_samples` asks the same of
# log q(z) − log p(z).
#
# It says nothing of what the decoder makes of a hole: see :func:`elboscope.models.completeness`,
# which compares images.

QUANTILE = 0.99


class Coverage(NamedTuple):
    """What a set of codes covers.

    Attributes:
        uncovered: The share of draws beyond 99 % of further codes; 0.01 without holes.
        stderr: Error of that share: from the draws, and from the further codes behind the
            threshold.
        outside: Which draws they are.
    """

    uncovered: float
    stderr: float
    outside: Bool[Tensor, " n"]


def coverage(
    codes: Float[Tensor, "N d"], further: Float[Tensor, "M d"], drawn: Float[Tensor, "n d"]
) -> Coverage:
    """Returns the share of draws that lie where no code is.

    Args:
        codes: Codes of some of the data; for a VAE one draw of q(z|x) each.
        further: Codes of other data, made alike: they say how far a code may be from others.
        drawn: Draws that new data are made from: of the prior, or of a Gaussian fitted to the
            codes.

    Raises:
        InputError: Fewer codes than dimensions plus one, or codes without a spread.

    Example:
        >>> from elboscope.core import seeded
        >>> with seeded(0):
        ...     z = torch.randn(4, 2000, 2)
        >>> round(coverage(z[0], z[1], z[2]).uncovered, 2)
        0.01
        >>> coverage(z[0], z[1], z[2] + 10).uncovered
        1.0
    """
    whiten = _whitening(codes)
    near = [torch.cdist(z @ whiten, codes @ whiten).amin(1) for z in (further, drawn)]
    outside = near[1] > near[0].quantile(QUANTILE)
    share = outside.double().mean().item()
    error = share * (1 - share) / len(drawn) + QUANTILE * (1 - QUANTILE) / len(further)
    return Coverage(share, math.sqrt(error), outside)


def _whitening(codes: Float[Tensor, "N d"]) -> Float[Tensor, "d d"]:
    covariance = torch.atleast_2d(torch.cov(codes.T))
    factor, failed = torch.linalg.cholesky_ex(covariance)
    if len(codes) <= codes.shape[1] or int(failed):
        raise InputError(
            "codes",
            expected="more codes than dimensions, spread in each of them",
            got=f"{len(codes)} codes of {codes.shape[1]} dimensions",
            do="A collapsed code covers nothing: ask about another model.",
        )
    identity = torch.eye(len(factor)).to(factor)
    inverse: Tensor = torch.linalg.solve_triangular(factor, identity, upper=False)
    return inverse.T


def fitted_draws(codes: Float[Tensor, "N d"], n: int) -> Float[Tensor, "n d"]:
    """Returns draws of the Gaussian with the codes' mean and covariance, from the ambient state.

    Example:
        >>> fitted_draws(torch.eye(3)[:, :2], 5).shape
        torch.Size([5, 2])
    """
    law = MultivariateNormal(codes.mean(0), torch.atleast_2d(torch.cov(codes.T)))
    return law.sample(torch.Size((n,)))


# Which units a linear VAE keeps at a given σ², and what they hold: the exact account of collapse.
#
# With λ_1 ≥ λ_2 ≥ … the eigenvalues of the pixels' covariance, the best linear decoder of fixed
# variance σ² keeps unit j if and only if λ_j > σ². Such a unit holds ½ ln(λ_j/σ²) nats, which is
# its rate too, and its component is then wrong by σ² on average; a component that is not kept is
# wrong by λ_j. The squared error of an image is therefore the reverse water-filling
#
# .. math:: \sum_{j \le d} \min(\lambda_j, \sigma^2) + \sum_{j > d} \lambda_j .
#
# It predicts, and does not bound, what a network does: a decoder with curves can keep a unit that
# a straight one drops. What no decoder can do is gain more reconstruction than the collapsed one
# leaves to be gained, :math:`\sum_j \lambda_j / (2\sigma^2)` nats; where that is far below a nat,
# collapse is forced.
#
# References:
#     | Don't Blame the ELBO! (Lucas et al., 2019), https://arxiv.org/abs/1911.02469


class LinearCollapse(NamedTuple):
    """What the best linear VAE of a fixed σ² does.

    Attributes:
        kept: Units that do not collapse, of d.
        kept_of_all: The same with as many units as pixels.
        information: Mutual information with d units, in nats; equal to the rate.
        information_of_all: The same with as many units as pixels.
        error: Squared error of an image with d units, summed over pixels.
        most_gain: What reconstruction any decoder can gain over the collapsed one, in nats.
    """

    kept: int
    kept_of_all: int
    information: float
    information_of_all: float
    error: float
    most_gain: float


def pixel_eigenvalues(x: Float[Tensor, "N *X"]) -> Float64[Tensor, " D"]:
    """Returns the eigenvalues of the covariance of all pixels, the largest first.

    Example:
        >>> import torch
        >>> x = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 2.0], [0.0, -2.0]])
        >>> [round(v, 6) for v in pixel_eigenvalues(x).tolist()]
        [2.0, 0.5]
    """
    return principal_components(x.flatten(1)).eigenvalues


def linear_collapse(
    eigenvalues: Float64[Tensor, " D"], sigma2: float, latent_dim: int
) -> LinearCollapse:
    """Returns what a linear VAE with d units does at this σ².

    Args:
        eigenvalues: Eigenvalues of the pixels' covariance, the largest first.
        sigma2: The decoder's variance, declared or implied.
        latent_dim: d, at most D.

    Raises:
        InputError: σ² is not positive, or d is not in 1 … D.

    Example:
        >>> import torch
        >>> at = linear_collapse(torch.tensor([4.0, 2.0, 1.0]).double(), 2.0, 2)
        >>> at.kept, round(at.information, 4), at.error, at.most_gain
        (1, 0.3466, 5.0, 1.75)
    """
    if not sigma2 > 0:
        raise InputError("sigma2", expected="a number > 0", got=str(sigma2))
    if not 1 <= latent_dim <= len(eigenvalues):
        raise InputError("latent_dim", expected=f"1 to {len(eigenvalues)}", got=str(latent_dim))
    nats = 0.5 * (eigenvalues / sigma2).clamp(min=1).log()
    left = eigenvalues.clone()
    left[:latent_dim] = left[:latent_dim].clamp(max=sigma2)
    kept = eigenvalues > sigma2
    return LinearCollapse(
        int(kept[:latent_dim].sum()),
        int(kept.sum()),
        nats[:latent_dim].sum().item(),
        nats.sum().item(),
        left.sum().item(),
        eigenvalues.sum().item() / (2 * sigma2),
    )
