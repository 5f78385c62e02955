r"""A VAE, an adversarial autoencoder and VEEGAN of the same networks, trained step by step.

All three are :class:`~elboscope.models.Hybrid` models with an explicit encoder and decoder; what
differs is what they are trained by, and which adversary they carry. A step takes a minibatch of
images drawn with replacement from the ambient random state, so that a training that was stopped
goes on as if it had not been. A Bernoulli likelihood is one of binary images: VAE and AAE see
each minibatch drawn afresh from its grey values. VEEGAN, whose adversary would tell binary data
from grey means at a glance, sees the grey values themselves.
"""

from __future__ import annotations

__all__ = ["BATCH_SIZE", "BETAS", "Kind", "Pace", "evaluation_draw", "hybrid_course", "untrained"]

from collections.abc import Callable, Mapping, Sequence
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from elboscope.data import Binarisation
from elboscope.models import Hybrid, start_at_mean
from elboscope.models.hybrids import Adversary, color_mnist_hybrid, dcgan_hybrid
from elboscope.nn import conv_joint_discriminator
from elboscope.training import AAE, ELBO, VEEGAN, adversarial_step, game_optimizer
from elboscope.training.minibatches import Minibatch
from elboscope.training.steps import adam, objective_step

from .density_ratio_runs import Course

Kind = Literal["VAE", "AAE", "VEEGAN"]
ADVERSARIES: Mapping[Kind, tuple[Adversary, ...]] = {
    "VAE": (),
    "AAE": ("code",),
    "VEEGAN": ("joint",),
}
GAMES: Mapping[Kind, AAE | VEEGAN] = {"AAE": AAE(), "VEEGAN": VEEGAN()}
BATCH_SIZE = 64
BETAS = (0.5, 0.9)
LEVELS = 255
BINARISATION = Binarisation("dynamic", seed=0)
# Evaluated training images do not share the noise of test images.
TRAIN_STREAM = 1


class Pace(NamedTuple):
    """How a model is trained.

    Attributes:
        rate: Adam's, of every player.
        seed: Of weights and of all draws.
    """

    rate: float
    seed: int


def untrained(
    kind: Kind,
    x: UInt8[Tensor, "N 3 H W"],
    latents: int,
    maps: tuple[int, ...],
    code_hidden: tuple[int, ...],
    joint_maps: tuple[int, int] = (64, 128),
) -> Hybrid:
    """Returns a model, its weights drawn from the ambient random state.

    The bias of the decoder's last layer begins at the mean colours of the images.

    Args:
        kind: Says which adversary it carries.
        x: Grey values, 0 to 255.
        latents: d.
        maps: Two: the networks of ColorMNIST; more: those of the DCGAN.
        code_hidden: Widths of the code discriminator.
        joint_maps: Of VEEGAN's joint discriminator.

    Example:
        >>> x = torch.zeros(4, 3, 8, 8, dtype=torch.uint8)
        >>> model = untrained("AAE", x, 3, (4, 8), (16,))
        >>> model.latent_shape, list(model.adversaries)
        ((3,), ['code'])
    """
    shape = tuple(x.shape[1:])
    if len(maps) == 2:
        few, many = maps
        model = color_mnist_hybrid(
            shape, latents, (few, many), ADVERSARIES[kind], code_hidden=code_hidden
        )
    else:
        model = dcgan_hybrid(shape, latents, maps, ADVERSARIES[kind], code_hidden)
    if kind == "VEEGAN":
        model.adversaries["joint"] = conv_joint_discriminator(shape, latents, joint_maps)
    return start_at_mean(model, x.float() / LEVELS)


def hybrid_course(
    name: str,
    kind: Kind,
    model: Hybrid,
    x: UInt8[Tensor, "N 3 H W"],
    pace: Pace,
    measured: Sequence[int],
    look: Callable[[int], Mapping[str, float]],
    identity: Mapping[str, object],
) -> Course:
    """Returns the training of a model, to be run in sittings.

    Args:
        name: Of the model, for messages and files.
        kind: What trains it.
        model: On the device of x.
        x: Grey values, 0 to 255.
        pace: How.
        measured: Steps after which to look, ascending; the last ends the training.
        look: Called after them.
        identity: What must not change between two sittings.
    """
    step: Callable[[Minibatch], object]
    if kind == "VAE":
        optimizer = adam(model.parameters(), pace.rate, BETAS)
        step = objective_step(model, ELBO(), optimizer)
    else:
        optimizer = game_optimizer(GAMES[kind], model, pace.rate, BETAS)
        step = adversarial_step(model, GAMES[kind], optimizer)
    binary = kind != "VEEGAN"

    def take() -> None:
        step(Minibatch(_minibatch(x, binary=binary), 0.0))

    about = {"kind": kind, **pace._asdict(), **identity}
    return Course(name, model, optimizer, take, look, measured, pace.seed, about)


def _minibatch(x: UInt8[Tensor, "N 3 H W"], *, binary: bool) -> Float[Tensor, "B 3 H W"]:
    rows = torch.randint(len(x), (BATCH_SIZE,)).to(x.device)
    grey = x[rows].float() / LEVELS
    return BINARISATION.batch(grey) if binary else grey


def evaluation_draw(x: UInt8[Tensor, "n 3 H W"], *, of_training: bool) -> Float[Tensor, "n 3 H W"]:
    """Returns the one binary draw of images on which a model is evaluated.

    Args:
        x: Grey values, 0 to 255.
        of_training: Whether the images were trained on.

    Example:
        >>> x = torch.full((1, 3, 4, 4), 128, dtype=torch.uint8)
        >>> evaluation_draw(x, of_training=True).unique().tolist()
        [0.0, 1.0]
    """
    grey = x.float() / LEVELS
    if of_training:
        return BINARISATION.fixed_draw(grey, stream=TRAIN_STREAM)
    return BINARISATION.fixed_draw(grey)
