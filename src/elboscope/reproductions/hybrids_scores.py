r"""What is measured of one run: scores of prior samples and of reconstructions, and pictures.

Both kinds are compared with the same held-out images, in the same order, by critics from the same
starts, so that runs of one seed are compared in pairs. No number of them is a likelihood or a
bound: for a model that learned from the ratios of an adversary there is none to report here.

Scores are kept one file a part, and a sitting may end between two of them.
"""

from __future__ import annotations

__all__ = ["DATA", "KINDS", "Measured", "Scores", "kept_scores", "measured_run", "scores_of_data"]

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
from jaxtyping import Float
from safetensors.torch import load_file, save_file
from torch import Tensor

from elboscope.core import evaluating, seeded
from elboscope.estimators import reconstructions_of, sampler_of
from elboscope.estimators.diversity import ms_ssim_diversity
from elboscope.estimators.independent_critic import Sampler, wasserstein_critic
from elboscope.estimators.sample_images import drawn_images
from elboscope.estimators.sample_scores import scored
from elboscope.models import Hybrid
from elboscope.training.atomic import replace_file

from .hybrids_data import HybridImages
from .hybrids_networks import Trained
from .hybrids_plan import HybridsPlan
from .sitting import Sitting
from .training import derived_seed

KINDS = ("samples", "reconstructions")
DATA = "data"
PICTURES, NUM_PICTURES = "pictures.safetensors", 10
OF_VIEWS = ("inception_score", "modes_covered", "mode_kl", "ms_ssim_diversity", "precision",
            "recall", "coverage", "frechet_distance")  # fmt: skip


class Measured(NamedTuple):
    """A value and its own error, without the spread of runs."""

    value: float
    error: float


Scores = Mapping[str, Measured]
"""By ``"samples: modes_covered"``, and so on for every kind and score."""


def measured_run(
    name: str,
    model: Trained,
    images: HybridImages,
    plan: HybridsPlan,
    seed: int,
    now: Sitting,
    *,
    kinds: tuple[str, ...] = KINDS,
) -> tuple[Scores, Mapping[str, Tensor]]:
    """Returns the scores of a trained model, and pictures; what is kept is only read.

    Args:
        name: Of the run's folder in the state.
        model: On the device of the images.
        images: To compare with, and to reconstruct.
        plan: How many, and the critic.
        seed: Of all draws.
        now: The sitting.
        kinds: What is scored: samples, and reconstructions where there is an encoder.

    Raises:
        Unfinished: The slice of time ended between two parts.
    """
    found: dict[str, Measured] = {}
    for kind, make in _makers(model, images).items():
        if kind in kinds:
            found |= _scores(f"{name}/{kind}", kind, make, images, plan, seed, now)
    return found, _pictures(now.folder / name / PICTURES, model, images, seed)


def scores_of_data(images: HybridImages, plan: HybridsPlan, seed: int, now: Sitting) -> Scores:
    """Returns the scores of held-out data as if they were samples: what no model can surpass."""

    def make() -> Sampler:
        return _in_random_order(images.reconstructed)

    (now.folder / DATA).mkdir(exist_ok=True)
    return _scores(f"{DATA}/samples", "samples", make, images, plan, seed, now)


def _in_random_order(x: Tensor) -> Sampler:
    """Without replacement, and from the beginning after the last."""
    order: list[int] = []

    def sampler(n: int) -> Tensor:
        while len(order) < n:
            order.extend(torch.randperm(len(x)).tolist())
        rows, order[:n] = order[:n], []
        return x[rows]

    return sampler


def _makers(model: Trained, images: HybridImages) -> dict[str, Callable[[], Sampler]]:
    """A sampler knows what it drew: each part makes its own, so that slices change no number."""
    found: dict[str, Callable[[], Sampler]] = {"samples": partial(sampler_of, model)}
    if isinstance(model, Hybrid):
        found["reconstructions"] = partial(reconstructions_of, model, images.reconstructed)
    return found


def kept_scores(kinds: tuple[str, ...], plan: HybridsPlan) -> list[str]:
    """Returns the names of the files that hold the scores of a run, without its pictures.

    Example:
        >>> plan = HybridsPlan("ColorMNIST", 9, 9, 9, 1, 1, 1e-3, (), (), (4, 8))
        >>> kept_scores(("samples",), plan)[:2]
        ['samples-views.json', 'samples-critic-0.json']
    """
    parts = ("views", *(f"critic-{c}" for c in range(plan.critic.num_seeds)))
    return [f"{kind}-{part}.json" for kind in kinds for part in parts]


def _scores(
    name: str, kind: str, make: Callable[[], Sampler], images: HybridImages, plan: HybridsPlan,
    seed: int, now: Sitting,
) -> dict[str, Measured]:  # fmt: skip
    views = _kept(f"{name}-views", seed, now, partial(_views, make, images, plan))
    starts = [derived_seed(f"critic {c}", seed) for c in range(plan.critic.num_seeds)]
    critics = [
        _kept(f"{name}-critic-{c}", seed, now, partial(_critic, make, images, plan, start))
        for c, start in enumerate(starts)
    ]
    found = views | {key: _mean([critic[key] for critic in critics]) for key in critics[0]}
    return {f"{kind}: {key}": value for key, value in found.items()}


def _kept(
    name: str, seed: int, now: Sitting, compute: Callable[[], dict[str, Measured]]
) -> dict[str, Measured]:
    path = now.folder / f"{name}.json"
    if not path.is_file():
        now.pause_before(name, f"{name}.paused")
        now.say(f"scores, {name}", 0, 1)
        with seeded(derived_seed(name, seed)):
            now.keep(f"{name}.json", json.dumps(compute()))
    content = json.loads(path.read_text(encoding="utf-8"))
    return {key: Measured(*pair) for key, pair in content.items()}


def _views(
    make: Callable[[], Sampler], images: HybridImages, plan: HybridsPlan
) -> dict[str, Measured]:
    """Without a classifier there is only the diversity of the pixels."""
    sampler = make()
    if images.reference is None:
        drawn = drawn_images(sampler, plan.num_samples, images.compared)
        diversity = ms_ssim_diversity(drawn, num_pairs=max(1, plan.num_samples // 2))
        return {"ms_ssim_diversity": Measured(diversity.mean, diversity.stderr)}
    estimates = scored(sampler, plan.num_samples, images.reference).estimates
    totals = {n: e.total if e.axis == "unit" else e.mean for n, e in estimates.items()}
    return {name: Measured(totals[name], estimates[name].stderr) for name in OF_VIEWS}


def _critic(
    make: Callable[[], Sampler], images: HybridImages, plan: HybridsPlan, seed: int
) -> dict[str, Measured]:
    sampler = make()
    half = len(images.compared) // 2
    found = wasserstein_critic(
        lambda n: drawn_images(sampler, n, images.compared),
        images.compared[:half],
        images.compared[half:],
        train=images.train,
        training=replace(plan.critic, num_seeds=1),
        seed=seed,
    )
    assert found.overfitting is not None
    pairs = {"critic_test": found.test, "overfitting": found.overfitting}
    return {name: Measured(e.mean, e.mc_stderr.item()) for name, e in pairs.items()}


def _mean(parts: list[Measured]) -> Measured:
    """The mean over critics, which share their data; their spread joins the error."""
    values = torch.tensor([part.value for part in parts], dtype=torch.float64)
    own = torch.tensor([part.error for part in parts], dtype=torch.float64).square().mean().item()
    spread = values.var().item() / len(parts) if len(parts) > 1 else 0.0
    return Measured(values.mean().item(), math.sqrt(own + spread))


def _pictures(
    path: Path, model: Trained, images: HybridImages, seed: int
) -> dict[str, Float[Tensor, "n C H W"]]:
    """A few samples; and data with their reconstructions."""
    if not path.is_file():
        data = images.reconstructed[:NUM_PICTURES]
        with evaluating(model), seeded(derived_seed("pictures", seed)):
            found = {"samples": sampler_of(model)(NUM_PICTURES)}
            if isinstance(model, Hybrid):
                z = model.encode(data).sample()
                found |= {"data": data, "reconstructions": model.decode(z).mean.clamp(0, 1)}
        kept = {name: x.cpu().contiguous() for name, x in found.items()}
        replace_file(path, lambda aside: save_file(kept, aside))
    return load_file(path)
