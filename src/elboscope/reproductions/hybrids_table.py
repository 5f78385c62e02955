"""Rows of hybrids: models × scores, means and spread over seeds, and over the published sweep."""

from __future__ import annotations

__all__ = ["LABELS", "Found", "data_rows", "model_rows", "primary", "sweep_rows", "values"]

import math
from collections.abc import Iterator, Mapping

import torch
from jaxtyping import Float64
from torch import Tensor

from .hybrids_plan import MODELS, HybridsPlan, Setting
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


def values(found: Found, setting: Setting, key: str) -> Float64[Tensor, "S 1"]:
    """Returns a score of each run of a setting, in the order of the seeds."""
    runs = sorted((s, scores) for (of, s), scores in found.items() if of == setting)
    return torch.tensor([[scores[key].value] for _, scores in runs], dtype=torch.float64)


def data_rows(scores: Scores, plan: HybridsPlan) -> Iterator[Row]:
    """Yields what held-out data score in the place of samples."""
    for key, found in scores.items():
        quantity, unit = LABELS[key.partition(": ")[2]]
        label = "data in the place of samples"
        yield _row(label, quantity, unit, [found], plan, f"{OWN_ERROR}")


def model_rows(found: Found, plan: HybridsPlan) -> Iterator[Row]:
    """Yields each model's scores of samples, of reconstructions, and their difference."""
    for model in MODELS:
        runs = [found[plan.own(model), s] for s in range(plan.seeds)]
        for kind in (*KINDS, "gap"):
            for score, (quantity, unit) in LABELS.items():
                parts = [part for run in runs if (part := _part(run, kind, score)) is not None]
                if parts:
                    yield _row(f"{model}, {kind}", quantity, unit, parts, plan)


def sweep_rows(found: Found, plan: HybridsPlan) -> Iterator[Row]:
    """Yields the spread of each swept model over its settings, one run each."""
    for model in plan.swept:
        settings = plan.settings(model)
        for score in filter(None, ("critic_test", primary(plan.data))):
            quantity, unit = LABELS[score]
            parts = [found[s, 0][f"samples: {score}"].value for s in settings]
            spread = torch.tensor(parts, dtype=torch.float64)
            if len(parts) > 1:
                yield Row(
                    f"{model}, samples, {len(parts)} settings", quantity,
                    spread.mean().item(), spread.std().item(), "sd over settings, one run each",
                    None, None, plan.num_samples, None, unit, tuple(parts),
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
