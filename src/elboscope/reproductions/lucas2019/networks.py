r"""The convolutional VAE of a blog on posterior collapse, and its training.

Encoder: two convolutions 3×3 of stride 2 without padding (1 → 32 → 64 channels), a linear layer
from 2304 to μ and log σ. Decoder: a linear layer to 32×8×8, transposed convolutions 3×3 of stride
2 to 64×15×15 and 32×29×29, one of 2×2 to 1×28×28, a sigmoid. Leaky ReLUs of slope 0.2 between.
Batches of 100, Adam at 1e-3, one sample. Images of 8×8 pixels get two small convolutions instead.

The autoencoder has the same networks, its code is μ, and its loss is the squared error alone.

A file of its own because the networks and their two optimisers are those of a blog.
"""

from __future__ import annotations

__all__ = [
    "Setting",
    "SweepSchedule",
    "autoencoder_network",
    "distance_of_two_optimisers",
    "sweep_network",
    "sweep_task",
    "train_sweep",
]

from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributions import Distribution

from elboscope.core import Bound, InputError, LatentVariableModel, seeded, split_parameters
from elboscope.data import Binarisation
from elboscope.distributions import GaussianLikelihood, diagonal_gaussian
from elboscope.models import VAE
from elboscope.nn import conv_decoder, conv_encoder
from elboscope.objectives import Reduction, implied_variance, kl_weighted
from elboscope.training.settings import constant
from elboscope.training.slices import train_in_slices

from ..frame.sitting import Sitting
from ..frame.training import derived_seed, file_name

LATENTS = 2
SMALL = (8, 16)
SLOPE = 0.2
Objective = Callable[[LatentVariableModel, Tensor, float], Bound]


class Setting(NamedTuple):
    """A weight of the KL with the reduction of the squared error, without which it says nothing."""

    kl_weight: float
    reduction: Reduction

    def __str__(self) -> str:
        return f"{self.reduction}, weight {self.kl_weight:g}"

    def variance(self, num_pixels: int) -> float:
        """Returns the σ² of the Gaussian decoder that it implies."""
        return implied_variance(self.kl_weight, self.reduction, num_pixels)


@dataclass(frozen=True)
class SweepSchedule:
    """How long, and in which steps."""

    epochs: int
    batch_size: int = 100
    rate: float = 1e-3

    def record(self) -> dict[str, object]:
        """Returns what is saved beside a number."""
        return asdict(self)


def sweep_network(data_shape: tuple[int, ...], sigma2: float) -> VAE:
    """Returns the untrained VAE, drawn from the ambient random state.

    Args:
        data_shape: (1, 28, 28) for the published networks; sides of 8 for small ones.
        sigma2: Variance of its Gaussian likelihood, which the training does not look at.

    Example:
        >>> vae = sweep_network((1, 28, 28), 0.5)
        >>> vae.decode(torch.zeros(3, 2)).mean.shape, vae.encoder[-1].in_features
        (torch.Size([3, 1, 28, 28]), 2304)
    """
    return _vae(data_shape, sigma2, 2 * LATENTS, mu_and_log_sigma)


def mu_and_log_sigma(output: Float[Tensor, "B n"]) -> Distribution:
    """Returns N(μ, diag σ²) of the encoder's μ and log σ."""
    mu, log_sigma = output.chunk(2, dim=1)
    return diagonal_gaussian(mu, 2 * log_sigma)


def autoencoder_network(data_shape: tuple[int, ...]) -> VAE:
    """Returns the untrained autoencoder; its posterior is as narrow as the library has them.

    Example:
        >>> autoencoder_network((1, 8, 8)).encode(torch.zeros(3, 1, 8, 8)).mean.shape
        torch.Size([3, 2])
    """
    return _vae(data_shape, 0.5, LATENTS, _point)


def _point(mu: Tensor) -> Distribution:
    return diagonal_gaussian(mu, torch.full_like(mu, -14.0))


def _vae(
    data_shape: tuple[int, ...],
    sigma2: float,
    outputs: int,
    head: Callable[[Tensor], Distribution],
) -> VAE:
    build = _small if data_shape[-1] < 28 else _published
    encoder, decoder = build(data_shape, outputs)
    return VAE(
        encoder,
        decoder,
        GaussianLikelihood(data_shape, sigma2**0.5),
        latent_shape=(LATENTS,),
        data_shape=data_shape,
        encoder_output=head,
    )


def _published(data_shape: tuple[int, ...], outputs: int) -> tuple[nn.Module, nn.Module]:
    encoder = nn.Sequential(
        nn.Conv2d(1, 32, 3, stride=2),
        nn.LeakyReLU(SLOPE),
        nn.Conv2d(32, 64, 3, stride=2),
        nn.LeakyReLU(SLOPE),
        nn.Flatten(),
        nn.Linear(2304, outputs),
    )
    decoder = nn.Sequential(
        nn.Linear(LATENTS, 2048),
        nn.LeakyReLU(SLOPE),
        nn.Unflatten(1, (32, 8, 8)),
        nn.ConvTranspose2d(32, 64, 3, stride=2, padding=1),
        nn.LeakyReLU(SLOPE),
        nn.ConvTranspose2d(64, 32, 3, stride=2, padding=1),
        nn.LeakyReLU(SLOPE),
        nn.ConvTranspose2d(32, 1, 2, stride=1, padding=1),
        nn.Sigmoid(),
    )
    return encoder, decoder


def _small(data_shape: tuple[int, ...], outputs: int) -> tuple[nn.Module, nn.Module]:
    decoder = conv_decoder(LATENTS, data_shape, SMALL)
    return conv_encoder(data_shape, outputs, SMALL), nn.Sequential(*decoder, nn.Sigmoid())


def train_sweep(
    name: str,
    setting: Setting | None,
    x: Float[Tensor, "N *X"],
    schedule: SweepSchedule,
    seed: int,
    now: Sitting,
    device: torch.device,
) -> VAE:
    """Returns a trained VAE, or autoencoder; one trained in a sitting before is only read.

    Args:
        name: Its folder in the state is called after it.
        setting: Weight and reduction; ``None`` trains the autoencoder.
        x: Grey images.
        schedule: How long.
        seed: Random seed of weights, order and noise; the same for all settings, which are paired.
        now: The sitting; its end is kept within a step.
        device: Where to train.

    Raises:
        Unfinished: The slice of time ended; the state is saved.
        InputError: The training diverged.
    """
    model, objective = sweep_task(setting, tuple(x.shape[1:]), seed)
    now.say(f"{name}: training", 0, schedule.epochs)
    run = train_in_slices(
        model.to(device),
        objective,
        x.to(device),
        now.folder / file_name(name),
        epochs=schedule.epochs,
        batch_size=schedule.batch_size,
        seed=seed,
        learning_rate=schedule.rate,
        schedule=constant,
        eps=1e-8,
        binarisation=Binarisation("none"),
        slice_seconds=max(now.left, 0.0),
    )
    if run.diverged:
        raise InputError(name, expected="a training that stays finite", got=run.status)
    if not run.finished:
        raise now.unfinished(f"{name}, epoch {run.epoch:.2f} of {schedule.epochs}")
    return model


def sweep_task(setting: Setting | None, shape: tuple[int, ...], seed: int) -> tuple[VAE, Objective]:
    """Returns the untrained model and what it minimises; ``None`` is the autoencoder."""
    with seeded(derived_seed("kl-weight-sweep", seed)):
        if setting is None:
            return autoencoder_network(shape), _squared_error
        model = sweep_network(shape, setting.variance(shape[0] * shape[1] * shape[2]))
    return model, partial(_weighted, kl_weight=setting.kl_weight, reduction=setting.reduction)


def _weighted(
    model: LatentVariableModel, x: Tensor, epoch: float, *, kl_weight: float, reduction: Reduction
) -> Bound:
    return kl_weighted(model, x, kl_weight, reduction)


def _squared_error(model: LatentVariableModel, x: Tensor, epoch: float) -> Bound:
    error = (x - model.decode(model.encode(x).mean).mean).square().flatten(1).sum(1)
    return Bound(-error.detach(), error.mean())


# One Adam over both networks, or an Adam for each: the same steps.
#
# Adam scales every parameter by its own moments and looks at no other, so that how parameters are
# dealt out to optimisers cannot matter, as long as all of them step on the gradients of one
# backward pass. (Two optimisers that alternate, each on a loss of its own, are another
# algorithm.)


def distance_of_two_optimisers(
    setting: Setting, x: Float[Tensor, "N *X"], steps: int, schedule: SweepSchedule, seed: int
) -> float:
    """Returns how far one Adam over both networks and an Adam for each have parted.

    Both take the same steps on the same batches with the same noise. Adam treats every parameter
    by itself, so that nothing but rounding can part them.

    Args:
        setting: Weight and reduction.
        x: Images.
        steps: How many; batches are taken in turn.
        schedule: Batch size and rate.
        seed: Random seed of weights and noise.

    Returns:
        The largest difference of a parameter.
    """
    ends = [_ended(setting, x, steps, schedule, seed, apart=apart) for apart in (False, True)]
    pairs = zip(ends[0].parameters(), ends[1].parameters(), strict=True)
    return max((p - q).abs().max().item() for p, q in pairs)


def _ended(
    setting: Setting,
    x: Tensor,
    steps: int,
    schedule: SweepSchedule,
    seed: int,
    *,
    apart: bool,
) -> VAE:
    model, objective = sweep_task(setting, tuple(x.shape[1:]), seed)
    parts = split_parameters(model, x[:1])
    groups = parts if apart else ([*parts[0], *parts[1]],)
    optimisers = [torch.optim.Adam(group, schedule.rate) for group in groups]
    batches = x.split(schedule.batch_size)
    with seeded(seed):
        for step in range(steps):
            loss = objective(model, batches[step % len(batches)], 0.0).loss
            for optimiser in optimisers:
                optimiser.zero_grad()
            loss.backward()
            for optimiser in optimisers:
                optimiser.step()
    return model
