r"""Networks, training and evaluation of the models of a table entry: a stack of seeds.

The schedule is that of Burda et al. or its first epochs: Adam with ε = 10⁻⁴, minibatches of 20,
3^i epochs at the rate :math:`10^{-3} \cdot 10^{-i/7}`, i = 0 … 7: 3280 epochs. The seeds are
trained at once, as one stack (:func:`elboscope.models.stacked.stack`), in slices of time
(:func:`elboscope.training.slices.train_in_slices`); every scale takes this one path.

The file is long because what is trained, how, and how it is evaluated are one path.
"""

from __future__ import annotations

__all__ = [
    "LATENTS_2",
    "PUBLISHED_EPOCHS",
    "Build",
    "Measured",
    "Schedule",
    "burda_hierarchical_vae",
    "burda_vae",
    "count_error",
    "derived_seed",
    "file_name",
    "measure_members",
    "train_members",
    "train_to",
]

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import NamedTuple, TypeVar, cast

import torch
from jaxtyping import Float, Float64, Shaped
from safetensors import safe_open
from safetensors.torch import save as to_bytes
from torch import Tensor, nn

from elboscope.core import (
    InputError,
    LatentVariableModel,
    effective_sample_size,
    evaluating,
    log_mean_exp,
    log_weights,
    pareto_smoothed,
    seeded,
)
from elboscope.data import Binarisation
from elboscope.estimators import active_units
from elboscope.models import VAE
from elboscope.models.from_modules import make_likelihood
from elboscope.models.hierarchical import HierarchicalVAE, hierarchical_vae
from elboscope.models.stacked import member, stack
from elboscope.nn import mlp
from elboscope.training import Objective
from elboscope.training.slices import train_in_slices

from .images import BINARISATION, Images
from .sitting import Sitting

Build = Callable[[Tensor], VAE] | Callable[[Tensor], HierarchicalVAE]
"""From the training data to an untrained model, drawn from the ambient random state."""

PUBLISHED_EPOCHS = 3280


@dataclass(frozen=True)
class Schedule:
    """How long, and in which steps.

    Attributes:
        epochs: Passes over the training data; 3280 is the published schedule.
        batch_size: B.
        rate: Learning rate of the first stage.
        eps: Adam's ε.
    """

    epochs: int
    batch_size: int = 20
    rate: float = 1e-3
    eps: float = 1e-4

    def record(self) -> dict[str, object]:
        """Returns what is saved beside a number."""
        return asdict(self)

    @property
    def is_published(self) -> bool:
        """Whether it is as long as the published one."""
        return self.epochs == PUBLISHED_EPOCHS

    def remarks(self, num_seeds: int) -> tuple[str, ...]:
        """Returns what a reader must know of few seeds, and of fewer epochs than published."""
        notes = []
        if num_seeds == 1:
            notes.append("One seed: errors hold for these models and say nothing of another run.")
        if not self.is_published:
            done = f"{self.epochs} of the {PUBLISHED_EPOCHS} published epochs"
            notes.append(f"Trained for {done}: compare signs, not values.")
        return tuple(notes)


def train_members(
    name: str,
    build: Build,
    objective: Objective,
    images: Images,
    schedule: Schedule,
    seeds: Sequence[int],
    now: Sitting,
    device: torch.device,
) -> list[VAE | HierarchicalVAE]:
    """Returns one trained model a seed; what was trained in a sitting before is only read.

    Args:
        name: Name of the entry; its folder in the state is called after it.
        build: Makes a model of the training data.
        objective: Its loss is followed.
        images: Training data.
        schedule: How long.
        seeds: Consecutive; each gives initial weights, order of the data, and all draws.
        now: The sitting; its end is kept within a step.
        device: Where to train.

    Raises:
        Unfinished: The slice of time ended; the state is saved.
        TrainingInterrupted: Ctrl-C or SIGTERM; the state is saved.
        InputError: The training diverged.
    """
    untrained = [_untrained(build, name, seed, images.train) for seed in seeds]
    models = stack(cast(Sequence[VAE], untrained)).to(device)  # or of the other kind, all alike

    train_to(
        schedule.epochs, name, models, objective, images.train, schedule, seeds[0], now, device
    )
    return [member(models, s) for s in range(len(seeds))]


def train_to(
    epoch: int,
    name: str,
    model: LatentVariableModel,
    objective: Objective,
    x: Shaped[Tensor, "N *X"],
    schedule: Schedule,
    seed: int,
    now: Sitting,
    device: torch.device,
    *,
    binarisation: Binarisation = BINARISATION,
) -> None:
    """Trains a model, or a stack, on the device up to the end of an epoch, or reads its weights.

    Ask for earlier epochs first: what has been trained further is not taken back.

    Args:
        epoch: The epoch at whose end to stop.
        name: Name of the model; its folder in the state is called after it.
        model: The model, on the device; its weights are replaced.
        objective: Its loss is followed.
        x: Training data.
        schedule: Its steps.
        seed: Random seed of the order of the data and of all draws.
        now: The sitting; its end is kept within a step.
        device: Where to train.
        binarisation: How each minibatch is binarised; "none" for data that are binary.

    Raises:
        Unfinished: The slice of time ended; the state is saved.
        TrainingInterrupted: Ctrl-C or SIGTERM; the state is saved.
        InputError: The training diverged.
    """

    def tell(done: int, bounds: list[float]) -> None:
        now.say(f"{name}: training, bound {sum(bounds) / len(bounds):.2f}", done, schedule.epochs)

    now.say(f"{name}: training", 0, schedule.epochs)
    run = train_in_slices(
        model,
        objective,
        x.to(device),
        now.folder / file_name(name),
        epochs=epoch,
        batch_size=schedule.batch_size,
        seed=seed,
        learning_rate=schedule.rate,
        eps=schedule.eps,
        binarisation=binarisation,
        slice_seconds=max(now.left, 0.0),
        progress=tell,
    )
    if run.diverged:
        do = "Another --seed, and a report of this one, would help."
        raise InputError(name, expected="a training that stays finite", got=run.status, do=do)
    if not run.finished:
        raise now.unfinished(f"{name}, epoch {run.epoch:.2f} of {schedule.epochs}")


def _untrained(build: Build, name: str, seed: int, x: Tensor) -> VAE | HierarchicalVAE:
    with seeded(derived_seed(name, seed)):
        return build(x)


def file_name(name: str) -> str:
    """Returns a name that is a file's on any system.

    Example:
        >>> file_name("mnist, 1 layer, CIWAE β=0.5")
        'mnist-1-layer-CIWAE-b0.5'
    """
    latin = name.replace("β=", "b").replace("=", "")
    kept = (c if c.isascii() and (c.isalnum() or c in ".-") else " " for c in latin)
    return "-".join("".join(kept).split())


def derived_seed(name: str, seed: int) -> int:
    """Returns a seed for one purpose, so that no two entries share their draws.

    Example:
        >>> derived_seed("VAE", 0) == derived_seed("IWAE", 0)
        False
    """
    digest = hashlib.sha256(f"{name} {seed}".encode()).digest()
    return int.from_bytes(digest[:7], "big")


# What is measured of a trained model: both bounds, the gap between them, ESS, active units.
#
# .. math:: \log \hat p(x) = \log \frac1K \sum_k w_k, \qquad
#           L_{64}(x) = \text{mean over groups of 64 samples of } \log \frac1{64} \sum_k w_k
#
# All of it comes from the same K weights of each test image. −KL(Q‖P) = L_64 − log p̂ is the
# divergence between the 64-sample proposal and its target on the extended space, as in Rainforth
# et al.; it is a difference of two lower bounds, and no bound. Every model sees the same images.

GROUP = 64
BLOCK = 100


class Measured(NamedTuple):
    """Values of each seed and test image, in nats; and of each seed and latent unit.

    Attributes:
        log_px: log p̂ with K samples.
        bound_64: L_64.
        ess: Effective sample size of the K weights.
        khat: Their Pareto index.
        unit_variance: Var_x E_q[z_j|x].
        unit_stderr: Its standard error over the images.
    """

    log_px: Float64[Tensor, "S n"]
    bound_64: Float64[Tensor, "S n"]
    ess: Float64[Tensor, "S n"]
    khat: Float64[Tensor, "S n"]
    unit_variance: Float64[Tensor, "S d"]
    unit_stderr: Float64[Tensor, "S d"]

    @property
    def unreliable(self) -> float:
        """The share of images whose weights have no variance (k̂ ≥ 0.7): ± means little there."""
        return (self.khat >= 0.7).double().mean().item()


def measure_members(
    name: str,
    models: Sequence[LatentVariableModel],
    x: Float[Tensor, "n *X"],
    num_samples: int,
    seeds: Sequence[int],
    now: Sitting,
    device: torch.device,
) -> Measured:
    """Returns the values of all members; those of a sitting before are only read.

    Args:
        name: Name of the entry.
        models: One a seed.
        x: Test images, binary.
        num_samples: K, at least 64.
        seeds: Random seeds of the models, in the same order.
        now: The sitting.
        device: Where the models are.

    Raises:
        Unfinished: The slice of time ended between two models.
    """
    parts = []
    for done, (model, seed) in enumerate(zip(models, seeds, strict=True)):
        file = f"{file_name(name)}-{seed}-values.safetensors"
        if not (now.folder / file).is_file():
            now.require_time(f"the evaluation of {name}, seed {seed}")
            now.say(f"{name}, seed {seed}: evaluating", done, len(models))
            with evaluating(model), seeded(derived_seed(f"evaluation of {name}", seed)):
                now.keep(file, to_bytes(_values(model, x.to(device), num_samples)))
        with safe_open(now.folder / file, framework="pt") as kept:
            parts.append({field: kept.get_tensor(field) for field in Measured._fields})
    return Measured(*(torch.stack([part[field] for part in parts]) for field in Measured._fields))


def _values(model: LatentVariableModel, x: Tensor, K: int) -> dict[str, Tensor]:
    columns = [_of_weights(_weights(model, rows, K)) for rows in x.split(BLOCK)]
    names = ("log_px", "bound_64", "ess", "khat")
    values = {n: torch.cat(c).cpu() for n, c in zip(names, zip(*columns, strict=True), strict=True)}
    units = active_units(model, x, seed=0)
    units_of = {"unit_variance": units.values, "unit_stderr": units.diagnostics["stderr"]}
    return values | {name: value.double().cpu() for name, value in units_of.items()}


def _weights(model: LatentVariableModel, x: Tensor, K: int) -> Float64[Tensor, "K B"]:
    return log_weights(model, x, K).double()


def _of_weights(log_w: Float64[Tensor, "K B"]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    K, B = log_w.shape
    groups = log_w[: K // GROUP * GROUP].reshape(-1, GROUP, B)
    bound = (groups.logsumexp(1) - math.log(GROUP)).mean(0)
    return log_mean_exp(log_w), bound, effective_sample_size(log_w), pareto_smoothed(log_w)[0]


def count_error(
    variance: Float[Tensor, " d"], stderr: Float[Tensor, " d"], threshold: float = 0.01
) -> float:
    r"""Returns the error of a number of active units: of which units is it unsure?

    .. math:: \sqrt{\sum_j p_j (1 - p_j)}, \qquad p_j = \Phi((v_j - 0.01) / \mathrm{se}_j)

    Example:
        >>> round(count_error(torch.tensor([0.01, 1.0]), torch.tensor([0.001, 0.1])), 6)
        0.5
    """
    p = torch.special.ndtr((variance.double() - threshold) / stderr.double().clamp(min=1e-12))
    return math.sqrt((p * (1 - p)).sum().item())


# The networks of Burda et al.: two tanh layers, 50 latents, σ = exp(linear), Glorot weights.
#
# .. math:: p(z) = \mathcal N(0, I), \quad p(x|z) = \mathrm{Bernoulli}(\mathrm{sigmoid}(g(z))),
#           \quad q(z|x) = \mathcal N(\mu(x), \mathrm{diag}\, e^{2 s(x)})
#
# With two stochastic layers, 100 and 50 latents with networks of 200-200 and 100-100 units. The
# bias of the last layer begins at the logit of the mean image.

LATENTS_2 = (100, 50)
MEAN_RANGE = (0.001, 0.999)
M = TypeVar("M", VAE, HierarchicalVAE)


def burda_vae(
    x: Float[Tensor, "N *X"], latent_dim: int = 50, hidden: tuple[int, ...] = (200, 200)
) -> VAE:
    """Returns an untrained model, its weights drawn from the ambient random state.

    Args:
        x: Training data, whose mean image the decoder begins at.
        latent_dim: d.
        hidden: Widths of the hidden layers of either network.

    Example:
        >>> import torch
        >>> model = burda_vae(torch.rand(5, 1, 8, 8), latent_dim=2, hidden=(16,))
        >>> model.encode(torch.zeros(3, 1, 8, 8)).event_shape
        torch.Size([2])
    """
    shape = tuple(x.shape[1:])
    pixels = math.prod(shape)
    model = VAE(
        mlp(pixels, hidden, 2 * latent_dim, "tanh"),
        mlp(latent_dim, hidden[::-1], pixels, "tanh"),
        make_likelihood("bernoulli", shape),
        latent_shape=(latent_dim,),
        data_shape=shape,
        encoder_output="mu_logsigma",
        input_shape=(pixels,),
    )
    return _started(model, x)


def burda_hierarchical_vae(x: Float[Tensor, "N *X"]) -> HierarchicalVAE:
    """Returns an untrained model with two stochastic layers.

    Args:
        x: Training data, whose mean image the decoder begins at.

    Example:
        >>> burda_hierarchical_vae(torch.rand(5, 1, 8, 8)).prior().event_shape
        torch.Size([150])
    """
    return _started(hierarchical_vae(tuple(x.shape[1:]), LATENTS_2), x)


@torch.no_grad()
def _started(model: M, x: Tensor) -> M:
    """Draws Glorot's weights, and puts the mean image into the last bias."""
    layers = [layer for layer in model.modules() if isinstance(layer, nn.Linear)]
    for layer in layers:
        nn.init.xavier_uniform_(layer.weight)
        nn.init.zeros_(layer.bias)
    last = [layer for layer in model.decoder.modules() if isinstance(layer, nn.Linear)][-1]
    last.bias.copy_(x.mean(0).clamp(*MEAN_RANGE).logit().flatten())
    return model
