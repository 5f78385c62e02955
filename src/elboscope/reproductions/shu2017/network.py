r"""A network on copies of one bit: Shu's settings, and its bound by quadrature.

Training: an MLP with three hidden layers of 10 ELU units on each side, the variance a softplus,
Adam at a rate that falls exponentially from 5e-3 to 1e-4 over 5000 full-batch steps, one sample
for each of 1000 rows. 500 of the rows are 0…0 and 500 are 1…1: one row of each kind with 500
samples has the same gradient in distribution, and is what is computed here.

z has one dimension, so that nothing about the trained network needs to be sampled:

.. math:: \mathbb{E}_{q(z|x)}[f(z)] = \int \mathcal N(u; 0, 1) f(\mu_x + \sigma_x u)\, du

is a sum over equidistant nodes, for the reconstruction, for the mutual information
:math:`\tfrac12 \sum_x \mathrm{KL}(q(z|x) \| q(z))` and for the marginal KL alike. The two that are
not the KL add up to it; each is computed by itself.

A file of its own because its bound is computed by quadrature, not sampled.
"""

from __future__ import annotations

__all__ = [
    "Bit",
    "BitSchedule",
    "Variance",
    "bit_network",
    "evaluate",
    "new_model",
    "softplus_variance",
    "train_bits",
]

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float, Float64
from torch import Tensor
from torch.distributions import Distribution, Normal
from torch.nn.functional import softplus

from elboscope.core import Bound, InputError, LatentVariableModel, evaluating, seeded
from elboscope.data import Binarisation
from elboscope.distributions import BernoulliLikelihood, diagonal_gaussian
from elboscope.models import VAE, SingleBit, member, stack
from elboscope.models.exact.quadrature import line
from elboscope.nn import mlp
from elboscope.objectives import elbo_analytic_kl
from elboscope.training.slices import train_in_slices

from ..frame.sitting import Sitting
from ..frame.training import derived_seed, file_name

HIDDEN = (10, 10, 10)
SAMPLES = 500
NODES, REACH = 4001, 12.0
Variance = Literal["softplus", "exponential"]


@dataclass(frozen=True)
class BitSchedule:
    """How long, and at which rates.

    Attributes:
        steps: Full-batch steps.
        first: Adam's rate at the first step.
        last: Its rate at the last; between them it falls exponentially.
        num_samples: K of each of the two rows.
    """

    steps: int
    first: float = 5e-3
    last: float = 1e-4
    num_samples: int = SAMPLES

    def factor(self, step: float) -> float:
        """Returns the rate at a step, in units of the first.

        Example:
            >>> [round(BitSchedule(100).factor(t), 4) for t in (0.0, 50.0, 100.0)]
            [1.0, 0.1414, 0.02]
        """
        return float((self.last / self.first) ** (step / self.steps))

    def record(self) -> dict[str, object]:
        """Returns what is saved beside a number."""
        return asdict(self)


class Bit(NamedTuple):
    """Values of a model of copies of one bit, in nats, for all copies together; by quadrature.

    Attributes:
        elbo: The bound.
        reconstruction: E_q log p(x|z).
        kl: KL(q(z|x)‖p(z)).
        mutual_information: Mutual information of x and z under q; at most ln 2.
        marginal_kl: KL(q(z)‖p(z)).
    """

    elbo: float
    reconstruction: float
    kl: float
    mutual_information: float
    marginal_kl: float


def bit_network(num_copies: int, variance: Variance = "softplus") -> VAE:
    """Returns an untrained network, drawn from the ambient random state.

    Args:
        num_copies: D.
        variance: What makes the encoder's second output a variance; Shu's is the softplus.

    Example:
        >>> bit_network(5).encode(torch.zeros(3, 5)).event_shape
        torch.Size([1])
    """
    return VAE(
        mlp(num_copies, HIDDEN, 2, "elu"),
        mlp(1, HIDDEN, num_copies, "elu"),
        BernoulliLikelihood((num_copies,)),
        latent_shape=(1,),
        data_shape=(num_copies,),
        encoder_output=softplus_variance if variance == "softplus" else "mu_logvar",
    )


def softplus_variance(output: Float[Tensor, "B two"]) -> Distribution:
    """Returns N(μ, softplus(r)) of the encoder's μ and r.

    Example:
        >>> round(softplus_variance(torch.zeros(1, 2)).variance.item(), 6)  # softplus(0) = ln 2
        0.693147
    """
    mu, r = output.chunk(2, dim=1)
    return diagonal_gaussian(mu, softplus(r).log())


def train_bits(
    name: str,
    num_copies: int,
    schedule: BitSchedule,
    seeds: Sequence[int],
    now: Sitting,
    variance: Variance = "softplus",
) -> list[VAE]:
    """Returns a trained network a seed; what was trained in a sitting before is only read.

    Args:
        name: Name of the entry; its folder in the state is called after it.
        num_copies: D.
        schedule: How long.
        seeds: Consecutive; each gives the initial weights and the noise.
        now: The sitting; its end is kept within a step.
        variance: As in :func:`bit_network`.

    Raises:
        Unfinished: The slice of time ended; the state is saved.
        TrainingInterrupted: Ctrl-C or SIGTERM; the state is saved.
        InputError: The training diverged.
    """
    models = stack([new_model(name, num_copies, seed, variance) for seed in seeds])
    x = SingleBit(0.0, 1.0, num_copies).data().float()
    now.say(f"{name}: training", 0, schedule.steps)
    run = train_in_slices(
        models,
        partial(_objective, num_samples=schedule.num_samples),
        x,
        now.folder / file_name(name),
        epochs=schedule.steps,
        batch_size=len(x),
        seed=seeds[0],
        learning_rate=schedule.first,
        schedule=schedule.factor,
        eps=1e-8,
        binarisation=Binarisation("none"),
        slice_seconds=max(now.left, 0.0),
    )
    if run.diverged:
        raise InputError(name, expected="a training that stays finite", got=run.status)
    if not run.finished:
        raise now.unfinished(f"{name}, step {run.step} of {schedule.steps}")
    return [member(models, s) for s in range(len(seeds))]


def new_model(name: str, num_copies: int, seed: int, variance: Variance = "softplus") -> VAE:
    """Returns the network with which a seed's training begins."""
    with seeded(derived_seed(name, seed)):
        return bit_network(num_copies, variance)


def _objective(model: LatentVariableModel, x: Tensor, epoch: float, *, num_samples: int) -> Bound:
    return elbo_analytic_kl(model, x, num_samples)


@torch.no_grad()
def evaluate(model: LatentVariableModel, x: Float[Tensor, "two n"]) -> Bit:
    """Returns the parts of the average bound of the two rows, by quadrature.

    Args:
        model: With one latent, a Gaussian posterior and the prior N(0, 1).
        x: All zeros and all ones, in the model's dtype.

    Example:
        >>> best = SingleBit.optimal(2)
        >>> round(evaluate(best, best.data()).elbo, 6)
        -0.907558
    """
    with evaluating(model):
        q = model.encode(x)
        mu, sigma = q.mean.double()[:, 0], q.variance.double()[:, 0].sqrt()
        u, weight = _nodes()
        z = mu + sigma * u[:, None]
        log_p = model.decode(z[..., None].to(x)).log_prob(x).double()
    reconstruction = (weight @ log_p).mean().item()
    information, marginal = _of_the_mixture(mu, sigma, z, weight)
    kl = (0.5 * (mu**2 + sigma**2 - 1) - sigma.log()).mean().item()
    return Bit(reconstruction - kl, reconstruction, kl, information, marginal)


def _nodes() -> tuple[Float64[Tensor, " P"], Float64[Tensor, " P"]]:
    """Nodes and weights of an expectation under N(0, 1)."""
    u, _ = line(REACH, NODES)
    return u, torch.softmax(-0.5 * u**2, 0)


def _of_the_mixture(
    mu: Float64[Tensor, " two"],
    sigma: Float64[Tensor, " two"],
    z: Float64[Tensor, "P two"],
    weight: Float64[Tensor, " P"],
) -> tuple[float, float]:
    """E log q(z|x)/q(z) and E log q(z)/p(z)."""
    own = Normal(mu, sigma).log_prob(z)
    log_q = torch.logsumexp(Normal(mu, sigma).log_prob(z[..., None]), -1) - math.log(2)
    log_prior = Normal(0.0, 1.0).log_prob(z)
    return (weight @ (own - log_q)).mean().item(), (weight @ (log_q - log_prior)).mean().item()
