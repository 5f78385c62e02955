r"""The weight of the KL and the reduction of the error: which pairs collapse, and was it forced?

A blog trains a convolutional VAE with two latents on MNIST by ‖x − x̂‖² + w·KL and sees its
decoder return one image. Whether that is a failure depends on a number that the text does not
give: with the error *summed* over pixels w = 0.01 is a decoder of σ² = 0.005, with the *mean* one
of σ² = 3.92, beyond which only one direction of MNIST varies more than the noise that the model
assumes. Here all of {1, 0.1, 0.01, 0.001} × {sum, mean} are trained, beside what a linear VAE
does at the same σ² (:mod:`.linear_collapse`); one optimiser against two; and an autoencoder of
the same networks, whose latent space nothing holds together (:mod:`.latent_coverage`).
"""

from __future__ import annotations

__all__ = ["reproduce"]

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from elboscope.data import digits, mnist
from elboscope.data.images import Images, content_checksum
from elboscope.models import VAE

from .claims import without_verdict
from .kl_weight_figures import manifold, plot_latents, plot_manifolds, plot_rate_distortion
from .kl_weight_measures import (
    Latents,
    Measured,
    SweepMeasure,
    latent_space,
    measured,
    squared_errors,
)
from .kl_weight_networks import Setting, SweepSchedule, train_sweep
from .kl_weight_table import AUTOENCODER, sweep_claims, sweep_notes, sweep_rows
from .linear_collapse import pixel_eigenvalues
from .options import Options, Progress
from .provenance import provenance, training_device
from .result import Reproduction, Scale
from .sitting import Sitting, sitting
from .training import file_name
from .two_optimisers import distance_of_two_optimisers

NAME = "kl-weight-sweep"
WEIGHTS = (1.0, 0.1, 0.01, 0.001)
SETTINGS = tuple(Setting(w, reduction) for reduction in ("sum", "mean") for w in WEIGHTS)
COLLAPSED, HEALTHY = Setting(1.0, "mean"), Setting(1.0, "sum")


class Plan(NamedTuple):
    """What a scale means.

    Attributes:
        num_train: Training images; all if ``None``.
        num_test: Test images; all if ``None``.
        schedule: Of each training.
        measure: How much is measured.
        steps: Taken with one optimiser and with two.
    """

    num_train: int | None
    num_test: int | None
    schedule: SweepSchedule
    measure: SweepMeasure
    steps: int


PLANS: Mapping[Scale, Plan] = {
    "smoke": Plan(1000, 200, SweepSchedule(2, 50), SweepMeasure(100, 2, 200), 5),
    "cpu": Plan(None, None, SweepSchedule(1), SweepMeasure(1000, 4, 5000), 50),
    "paper": Plan(None, None, SweepSchedule(15), SweepMeasure(10_000, 4, 10_000), 200),
}


def reproduce(
    scale: Scale,
    *,
    out: Path,
    seed: int = 0,
    options: Options | None = None,
    progress: Progress | None = None,
) -> Reproduction:
    """Trains eight VAEs and an autoencoder, and measures which of them use their latents.

    Args:
        scale: smoke: digits of 8×8 pixels, small networks; cpu: MNIST, 1 epoch; paper: 15.
        out: Folder of the state; the result is saved there by ``Reproduction.save``.
        seed: Of weights, order and noise of every training.
        options: Where MNIST is; slices and resuming.
        progress: Told what is being done.

    Raises:
        InputError: MNIST is not to be had, or the folder is in use.
        Unfinished: The slice of time is over.
    """
    options = options or Options()
    plan, device = PLANS[scale], training_device(scale)
    images = digits() if scale == "smoke" else mnist(options.data_dir)
    train, test = images.train[: plan.num_train], images.test[: plan.num_test].to(device)
    checksum = content_checksum(train, test)
    asked = {"name": NAME, "scale": scale, "seed": seed, "sha256": checksum}
    with sitting(out, asked, options, progress) as now:
        models = {
            setting: train_sweep(_name(setting), setting, train, plan.schedule, seed, now, device)
            for setting in (*SETTINGS, None)
        }
        found = {
            setting: _remembered(models[setting], setting, test, plan, seed, now)
            for setting in SETTINGS
        }
        spaces = _spaces(models, test, plan, seed)
        shown, K = test[: plan.measure.num_decoded], plan.measure.num_samples
        errors = {
            _name(s): squared_errors(models[s], shown, K, seed).cpu() for s in (HEALTHY, None)
        }
        first = train[: 10 * plan.schedule.batch_size]
        parted = distance_of_two_optimisers(HEALTHY, first, plan.steps, plan.schedule, seed)
        record = provenance(
            seed=seed,
            device=device,
            wall_seconds=now.seconds,
            epochs=plan.schedule.epochs,
            data=_data_record(images, train, test, checksum),
            settings=plan.schedule.record() | plan.measure.record() | {"latents": 2},
        )
    eigenvalues, epochs = pixel_eigenvalues(train), plan.schedule.epochs
    claims = sweep_claims(found, spaces, errors, eigenvalues, parted)
    rows = sweep_rows(
        found, spaces, errors[AUTOENCODER], eigenvalues, epochs, (len(test), len(shown))
    )
    return Reproduction(
        NAME,
        "The weight of the KL and the reduction of the error: a convolutional VAE on MNIST",
        scale,
        rows=tuple(rows),
        claims=without_verdict(claims) if scale == "smoke" else claims,
        notes=sweep_notes(eigenvalues, spaces, math.log(len(test)), epochs),
        provenance=record,
        figures={
            "rate-distortion": plot_rate_distortion(found, eigenvalues),
            "manifolds": plot_manifolds(
                {
                    f"collapsed: {COLLAPSED}": manifold(models[COLLAPSED]),
                    f"healthy: {HEALTHY}": manifold(models[HEALTHY]),
                    AUTOENCODER: manifold(models[None], spaces[AUTOENCODER].codes),
                }
            ),
            "latents": plot_latents({k: spaces[k] for k in (str(HEALTHY), AUTOENCODER)}),
        },
    )


def _name(setting: Setting | None) -> str:
    return AUTOENCODER if setting is None else str(setting)


def _remembered(
    model: VAE, setting: Setting, x: Tensor, plan: Plan, seed: int, now: Sitting
) -> Measured:
    """Measures one VAE, or reads what a sitting before has measured."""
    name = f"{file_name(str(setting))}.json"
    path = now.folder / name
    if not path.is_file():
        now.say(f"{setting}: measuring", 0, 1)
        found = measured(model, x, setting.variance(x[0].numel()), plan.measure, seed)
        now.keep(name, json.dumps(found))
    fields = json.loads(path.read_text(encoding="utf-8"))
    return Measured(*fields[:2], *((value, error) for value, error in fields[2:]))


def _spaces(
    models: Mapping[Setting | None, VAE], x: Tensor, plan: Plan, seed: int
) -> dict[str, Latents]:
    """Latent spaces of the VAEs with a summed error, none of which is expected to collapse."""
    chosen = [s for s in SETTINGS if s.reduction == "sum"]
    n = plan.measure.num_draws
    spaces = {str(s): latent_space(models[s], x, n, seed, has_prior=True) for s in chosen}
    return spaces | {AUTOENCODER: latent_space(models[None], x, n, seed, has_prior=False)}


def _data_record(images: Images, train: Tensor, test: Tensor, sha: str) -> dict[str, object]:
    counts = {"num_train": len(train), "num_test": len(test)}
    return {"name": images.name, **counts, "binarisation": "none, grey values", "sha256": sha}
