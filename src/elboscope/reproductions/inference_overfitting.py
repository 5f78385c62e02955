r"""Cremer et al. (2018): does inference overfit more than the model of the data?

.. math:: \log \hat p(x) - L[q] = (\log \hat p(x) - L[q^*]) + (L[q^*] - L[q])

on training and on held-out images of Fashion-MNIST, at checkpoints of the training. The encoder
sees training images only: held out, its part of the gap, L[q*] − L[q], grows with training and
with the encoder's size, while q* of a held-out image is as good as that of any other. What the
decoder overfits shows in log p̂ instead.
"""

from __future__ import annotations

__all__ = ["reproduce"]

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import torch

from elboscope.core import seeded
from elboscope.data import Binarisation
from elboscope.models import VAE, AuxiliaryRealNVP
from elboscope.training import AnnealedEntropy

from .binary_images import BinaryImages, load_binary_images
from .claims import without_verdict
from .cremer_networks import FLOW, cremer_vae
from .gaps import Gaps, measured_gaps
from .options import Options, Progress
from .overfitting_claims import overfitting_claims
from .overfitting_figure import plot_gaps_over_training
from .provenance import provenance, training_device
from .result import Reproduction, Row, Scale
from .sitting import Sitting, sitting
from .suboptimality_columns import ANNEALED_SHARE
from .training import PUBLISHED_EPOCHS, Schedule, derived_seed, train_to

NAME = "inference-overfitting"
MODELS = ("Regular", "Large encoder", "Large decoder", "Flow")


class Plan(NamedTuple):
    """What a scale means: data, models, checkpoints, images of either split, sizes."""

    data: str
    num_train: int
    models: tuple[str, ...]
    epochs: tuple[int, ...]
    num_images: int
    num_samples: int = 5000
    max_steps: int = 400
    num_temperatures: int | None = None
    hidden: tuple[int, ...] = (200, 200)
    large: tuple[int, ...] = (500, 500, 500)
    latent_dim: int = 50
    flow: AuxiliaryRealNVP = FLOW

    @property
    def schedule(self) -> Schedule:
        """Training ends at the last checkpoint."""
        return Schedule(self.epochs[-1], batch_size=100)


SMALL_FLOW = AuxiliaryRealNVP(num_steps=1, hidden=6, context=3)
PLANS: Mapping[Scale, Plan] = {
    "smoke": Plan(
        "digits", 1000, ("Regular", "Flow"), (1, 2), 3, 100, 20, None, (16,), (24, 24), 3,
        SMALL_FLOW,
    ),
    "cpu": Plan("Fashion", 5_000, MODELS[:2], (10, 30, 100), 40, 1000, 200),
    "paper": Plan(
        "Fashion", 50_000, MODELS, (100, 400, 1000, 2000, PUBLISHED_EPOCHS), 100,
        num_temperatures=1000,
    ),
}  # fmt: skip

Found = Mapping[str, Mapping[int, Mapping[str, Gaps]]]


def reproduce(
    scale: Scale,
    *,
    out: Path,
    seed: int = 0,
    options: Options | None = None,
    progress: Progress | None = None,
) -> Reproduction:
    """Trains the models, splits their gaps at every checkpoint, and judges the claims.

    Args:
        scale: smoke: digits, 2 epochs; cpu: two models, 5000 images of Fashion-MNIST, 100
            epochs, 40 and 40 images; paper: four models, 50 000 images, 3280 epochs, 100 and 100.
        out: Folder of the state; the result is saved there by ``Reproduction.save``.
        seed: Of weights, order of the data, and all draws.
        options: Where Fashion-MNIST is; slices and resuming.
        progress: Told what is being done.

    Raises:
        InputError: Fashion-MNIST is not to be had, or the folder is in use.
        Unfinished: The slice of time is over.
    """
    options = options or Options()
    plan, device = PLANS[scale], training_device(scale)
    images = load_binary_images(plan.data, options, num_train=plan.num_train)
    asked = {"name": NAME, "scale": scale, "seed": seed, "sha256": images.checksum}
    with sitting(out, asked, options, progress) as now:
        found = {name: _over_training(name, images, plan, seed, now, device)
                 for name in plan.models}  # fmt: skip
        record = provenance(
            seed=seed,
            device=device,
            wall_seconds=now.seconds,
            epochs=plan.epochs[-1],
            data=images.record(),
            settings=plan.schedule.record()
            | {"checkpoints": list(plan.epochs), "max_steps": plan.max_steps},
        )
    claims = tuple(overfitting_claims(found))
    return Reproduction(
        NAME,
        "Inference Suboptimality in Variational Autoencoders: overfitting of inference",
        scale,
        rows=tuple(_rows(found, plan)),
        claims=without_verdict(claims) if scale == "smoke" else claims,
        notes=tuple(_notes(found, plan)),
        provenance=record,
        figures={"gaps": plot_gaps_over_training(found)},
    )


def _over_training(
    name: str, images: BinaryImages, plan: Plan, seed: int, now: Sitting, device: torch.device
) -> Mapping[int, Mapping[str, Gaps]]:
    """The gaps at every checkpoint: each is measured before the training goes on."""
    model = _untrained(name, images, plan, seed).to(device)
    chosen = {
        "train": images.first_of_train(plan.num_images).to(device),
        "validation": images.held_out[: plan.num_images].to(device),
    }
    found: dict[int, Mapping[str, Gaps]] = {}
    for epoch in plan.epochs:
        _train(epoch, name, model, images, plan, seed, now, device)
        found[epoch] = {
            split: measured_gaps(
                f"{name}, epoch {epoch}, {split}",
                model,
                x,
                "flow" if name == "Flow" else "diagonal",
                now,
                num_samples=plan.num_samples,
                max_steps=plan.max_steps,
                seed=seed,
                flow=name == "Flow",
                num_temperatures=plan.num_temperatures,
            )
            for split, x in chosen.items()
        }
    return found


def _untrained(name: str, images: BinaryImages, plan: Plan, seed: int) -> VAE:
    with seeded(derived_seed(name, seed)):
        return cremer_vae(
            images.train,
            plan.flow if name == "Flow" else None,
            encoder=plan.large if name == "Large encoder" else plan.hidden,
            decoder=plan.large if name == "Large decoder" else plan.hidden,
            latent_dim=plan.latent_dim,
        )


def _train(
    epoch: int, name: str, model: VAE, images: BinaryImages, plan: Plan, seed: int, now: Sitting,
    device: torch.device,
) -> None:  # fmt: skip
    """Up to a checkpoint. Of one that lies behind the weights are gone, and its gaps are kept."""
    annealed = AnnealedEntropy(plan.epochs[-1] * ANNEALED_SHARE)
    train_to(epoch, name, model, annealed, images.train, plan.schedule, seed, now, device,
             binarisation=Binarisation("none"))  # fmt: skip


def _rows(found: Found, plan: Plan) -> Iterator[Row]:
    for name, epochs in found.items():
        for epoch, splits in epochs.items():
            for split, gaps in splits.items():
                yield from _of_split(f"{name} ({split})", epoch, gaps, plan)


def _of_split(label: str, epoch: int, gaps: Gaps, plan: Plan) -> Iterator[Row]:
    values = {
        "log p̂": gaps.log_px,
        "L[q*]": gaps.optimal,
        "L[q]": gaps.elbo,
        "approximation gap": gaps.approximation,
        "amortisation gap": gaps.amortisation,
    }
    for quantity, v in values.items():
        n = len(v)
        yield Row(label, quantity, v.mean().item(), (v.std() / n**0.5).item(), "se over images",
                  epoch, plan.num_samples, n)  # fmt: skip


def _notes(found: Found, plan: Plan) -> Iterator[str]:
    yield "The paper shows curves; no number of them is published."
    yield (
        f"Trained on the first {plan.num_train} training images; validation images are the first "
        "of the others. Both are binary once for all."
    )
    every = [gaps for epochs in found.values() for splits in epochs.values()
             for gaps in splits.values()]  # fmt: skip
    widest = max(gaps.within[gaps.family] for gaps in every)
    yield (
        f"Means of L[q*] are certain to ±{widest:.3f} nats or better; the claims' errors include "
        "it. log p̂ is a lower bound in expectation, from q or from q*, whichever is higher."
    )
    yield from plan.schedule.remarks(1)
