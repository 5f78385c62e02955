"""Rows of hybrids: models × scores, means and spread over seeds, and over the published sweep."""

from __future__ import annotations

__all__ = [
    "LABELS",
    "Found",
    "data_rows",
    "model_rows",
    "over_settings",
    "own_runs",
    "paired",
    "primary",
    "sweep_rows",
]

import math
from collections.abc import Iterator, Mapping

import torch
from jaxtyping import Float64
from torch import Tensor

from .hybrids_plan import MODELS, HybridsPlan, Model, Setting
from .hybrids_scores import KINDS, Measured, Scores
from .result import Row

Found = Mapping[tuple[Setting, int], Scores]
"""Scores by setting and number of the run."""

LABELS: Mapping[str, tuple[str, str]] = {
    "inception_score": ("Inception Score", "classes"),
    "modes_covered": ("modes covered", "modes"),
    "mode_kl": ("KL(modes ‖ uniform)", "nats"),
    "ms_ssim_diversity": ("MS-SSIM diversity", "1 − MS-SSIM"),
    "precision": ("precision", "share"),
    "recall": ("recall", "share"),
    "coverage": ("coverage", "share"),
    "frechet_distance": ("Fréchet distance of our features", "features²"),
    "critic_test": ("independent critic Ŵ(test)", "units of x"),
    "overfitting": ("Ŵ(test) − Ŵ(train)", "units of x"),
}
OWN_ERROR = "own error, one run"


def primary(data: str) -> str | None:
    """Returns the score by which samples of a data set are compared beside the critic.

    Faces have no classifier here, and no more diversity than they should.

    Example:
        >>> primary("ColorMNIST"), primary("CIFAR-10"), primary("CelebA")
        ('modes_covered', 'inception_score', None)
    """
    return {"ColorMNIST": "modes_covered", "CIFAR-10": "inception_score"}.get(data)


def paired(
    found: Found, a: Setting, b: Setting, key: str
) -> tuple[Float64[Tensor, "S 1"], Float64[Tensor, "S 1"]]:
    """Returns a score of two settings, of the seeds with which both are there, in their order."""
    seeds = sorted(s for (setting, s) in found if setting == a and (b, s) in found)
    first, second = ([[found[one, s][key].value] for s in seeds] for one in (a, b))
    return _column(first), _column(second)


def _column(values: list[list[float]]) -> Float64[Tensor, "S 1"]:
    return torch.tensor(values, dtype=torch.float64).reshape(-1, 1)


def own_runs(found: Found, plan: HybridsPlan, model: Model) -> list[Scores]:
    """Returns the scores of a model's runs in its own setting, in the order of the seeds."""
    own = plan.own(model)
    return [found[own, s] for s in range(plan.seeds) if (own, s) in found]


def over_settings(found: Found, plan: HybridsPlan, model: Model, key: str) -> Float64[Tensor, " n"]:
    """Returns a score of a model's samples in each setting of its sweep, one run each."""
    settings = [setting for setting in plan.settings(model) if (setting, 0) in found]
    scores = [found[setting, 0][f"samples: {key}"].value for setting in settings]
    return torch.tensor(scores, dtype=torch.float64)


def data_rows(scores: Scores, plan: HybridsPlan) -> Iterator[Row]:
    """Yields what held-out data score in the place of samples."""
    for key, found in scores.items():
        quantity, unit = LABELS[key.partition(": ")[2]]
        label = "data in the place of samples"
        yield _row(label, quantity, unit, [found], plan, f"{OWN_ERROR}")


def model_rows(found: Found, plan: HybridsPlan) -> Iterator[Row]:
    """Yields each model's scores of samples, of reconstructions, and their difference."""
    for model in MODELS:
        runs = own_runs(found, plan, model)
        for kind in (*KINDS, "gap"):
            for score, (quantity, unit) in LABELS.items():
                parts = [part for run in runs if (part := _part(run, kind, score)) is not None]
                if parts:
                    yield _row(f"{model}, {kind}", quantity, unit, parts, plan)


def sweep_rows(found: Found, plan: HybridsPlan) -> Iterator[Row]:
    """Yields the spread of each swept model over its settings, one run each."""
    for model in plan.swept:
        for score in filter(None, ("critic_test", primary(plan.data))):
            quantity, unit = LABELS[score]
            spread = over_settings(found, plan, model, score)
            if len(spread) > 1:
                yield Row(
                    f"{model}, samples, {len(spread)} settings", quantity,
                    spread.mean().item(), spread.std().item(), "sd over settings, one run each",
                    None, None, plan.num_samples, None, unit, tuple(spread.tolist()),
                )  # fmt: skip


def _part(scores: Scores, kind: str, score: str) -> Measured | None:
    if kind != "gap":
        return scores.get(f"{kind}: {score}")
    a, b = (scores.get(f"{one}: {score}") for one in KINDS)
    return None if a is None or b is None else _gap(a, b)


def _gap(a: Measured, b: Measured) -> Measured:
    return Measured(a.value - b.value, math.hypot(a.error, b.error))


def _row(
    label: str,
    quantity: str,
    unit: str,
    parts: list[Measured],
    plan: HybridsPlan,
    kind: str = "",
) -> Row:
    """The spread of runs where there are several, else the error of the one."""
    values = torch.tensor([part.value for part in parts], dtype=torch.float64)
    several = len(parts) > 1
    error = values.std().item() if several else parts[0].error
    words = kind or (f"sd over {len(parts)} seeds" if several else OWN_ERROR)
    per_seed = tuple(values.tolist()) if several else ()
    return Row(
        label, quantity, values.mean().item(), error, words, None, None, plan.num_samples, None,
        unit, per_seed,
    )  # fmt: skip
