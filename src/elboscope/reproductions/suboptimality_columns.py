r"""The twelve columns of the table: data, network and objective, family of q.

.. math:: \max_{\theta, \phi}\; \mathbb{E}_q[\log p(x, z) - \lambda \log q(z|x)], \qquad
          \lambda = \min(1, \text{epoch} / 400)

over 3280 epochs of the schedule of Burda et al., in minibatches of 100; a shorter training has its
warm-up in proportion. "No annealing" has λ = 1 from the start, "Large" an encoder of 500-500 units.
"""

from __future__ import annotations

__all__ = ["COLUMNS", "Column", "Networks", "trained_column"]

from typing import Literal, NamedTuple

import torch

from elboscope.core import seeded
from elboscope.data import Binarisation
from elboscope.models import VAE, AuxiliaryRealNVP
from elboscope.training import ELBO, AnnealedEntropy
from elboscope.training.objective import Objective

from .binary_images import BinaryImages
from .cremer_networks import FLOW, cremer_vae
from .gaps import FamilyName
from .sitting import Sitting
from .training import PUBLISHED_EPOCHS, Schedule, derived_seed, train_to

Variant = Literal["Regular", "Large", "No annealing"]
ANNEALED_SHARE = 400 / PUBLISHED_EPOCHS


class Column(NamedTuple):
    """One model: of which data, how trained, with which q."""

    data: str
    variant: Variant
    q: Literal["FFG", "Flow"]

    def __str__(self) -> str:
        return f"{self.data}, {self.variant}, {self.q}"

    @property
    def family(self) -> FamilyName:
        """The family of q, as the estimators call it."""
        return "flow" if self.q == "Flow" else "diagonal"

    def objective(self, epochs: int) -> Objective:
        """What is followed in a training of so many epochs; everything in it is sampled."""
        if self.variant == "No annealing":
            return ELBO(analytic_kl=False)
        return AnnealedEntropy(epochs * ANNEALED_SHARE)


# In the order in which a GPU's time is best spent.
ORDER: tuple[tuple[Variant, str], ...] = (
    ("Regular", "MNIST"),
    ("Regular", "Fashion"),
    ("No annealing", "MNIST"),
    ("No annealing", "Fashion"),
    ("Large", "MNIST"),
    ("Large", "Fashion"),
)
QS: tuple[Literal["FFG", "Flow"], ...] = ("FFG", "Flow")
COLUMNS = tuple(Column(data, variant, q) for variant, data in ORDER for q in QS)


class Networks(NamedTuple):
    """Sizes."""

    hidden: tuple[int, ...] = (200, 200)
    large: tuple[int, ...] = (500, 500)
    latent_dim: int = 50
    flow: AuxiliaryRealNVP = FLOW


def trained_column(
    column: Column,
    images: BinaryImages,
    networks: Networks,
    schedule: Schedule,
    seed: int,
    now: Sitting,
    device: torch.device,
) -> VAE:
    """Returns the trained model of a column; what was trained in a sitting before is only read.

    Args:
        column: Which.
        images: Its data.
        networks: Their sizes.
        schedule: How long.
        seed: Of weights, order of the data, and all draws.
        now: The sitting.
        device: Where to train.

    Raises:
        Unfinished: The slice of time ended; the state is saved.
        TrainingInterrupted: Ctrl-C or SIGTERM; the state is saved.
        InputError: The training diverged.
    """
    name = str(column)
    with seeded(derived_seed(name, seed)):
        model = cremer_vae(
            images.train,
            networks.flow if column.q == "Flow" else None,
            encoder=networks.large if column.variant == "Large" else networks.hidden,
            decoder=networks.hidden[::-1],
            latent_dim=networks.latent_dim,
        )
    train_to(
        schedule.epochs, name, model.to(device), column.objective(schedule.epochs), images.train,
        schedule, seed, now, device, binarisation=Binarisation("none"),
    )  # fmt: skip
    return model
