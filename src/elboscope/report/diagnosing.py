"""The whole way from a model and data to verdicts: convert, compute once, check."""

from __future__ import annotations

__all__ = ["diagnose", "provenance"]

import platform
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from elboscope import __version__
from elboscope.core import InputError, Sampled, data_id
from elboscope.data import as_tensor
from elboscope.diagnostics import CHECKS, gather_evidence
from elboscope.diagnostics.attempts import Progress
from elboscope.diagnostics.budget import Budget

from .diagnosis import Diagnosis
from .quantities import estimates_of


def diagnose(
    model: Sampled,
    x: object,
    *,
    x_train: object | None = None,
    history: Sequence[Mapping[str, float]] | None = None,
    budget: Budget | str = "standard",
    seed: int = 0,
    condition: Tensor | None = None,
    condition_train: Tensor | None = None,
    images: object | None = None,
    settings: Mapping[str, object] | None = None,
    progress: Progress | None = None,
) -> Diagnosis:
    """Finds out what is wrong with a model on held-out data.

    Every number is computed once, at β = 1; every check is a function of those numbers. What
    cannot be computed is *unavailable* with its reason, and no other method takes its place.

    Args:
        model: Any object with ``prior()``, ``decode(z)`` and, for most checks, ``encode(x)``; or a
            generator with ``generate(z)`` in the place of both, of which little can be measured.
        x: Held-out data: Tensor, array, Dataset, DataLoader or 8-bit images.
        x_train: The data the model was fitted to, for the overfitting check.
        history: Rows of the training's metrics, for the divergence check.
        budget: How much to spend: "quick", "standard" or "thorough".
        seed: Seed of everything that is drawn; the caller's random state is left alone.
        condition: One row per row of x, for a conditional model.
        condition_train: The same for ``x_train``.
        images: What x shows, in [0, 1], where x is a binary draw of grey images: samples are then
            scored against these. By default x itself.
        settings: What is known about the run (data's name, binarisation, KL weight), to be
            printed with the numbers.
        progress: Called as ``progress(stage, done, total)``; nothing is printed.

    Returns:
        Verdicts, estimates and evidence.

    Raises:
        InputError: x or x_train cannot be used as data, or the budget has another name.
        ContractError: A structural breach of the model's contract.

    Example:
        >>> import elboscope as es
        >>> model = es.models.LinearGaussian.instance_1()
        >>> x, _ = model.sample(40, seed=0)
        >>> diagnosis = diagnose(model, x, budget="quick")
        >>> [finding.check for finding in diagnosis.findings][:2]
        ['divergence', 'likelihood scale']
    """
    batch = as_tensor(x)
    train = None if x_train is None else as_tensor(x_train, name="x_train").x
    if train is not None and train.shape[1:] != batch.x.shape[1:]:
        raise InputError(
            "x_train",
            expected=f"datapoints of shape {tuple(batch.x.shape[1:])}, like those of x",
            got=str(tuple(train.shape[1:])),
        )
    known = {"data_id": data_id(batch.x), "conversion": batch.treatment, **dict(settings or {})}
    evidence = gather_evidence(
        model,
        batch.x,
        x_train=train,
        history=history or (),
        budget=budget,
        seed=seed,
        condition=condition,
        condition_train=condition_train,
        images=None if images is None else as_tensor(images, name="images").x,
        settings={**known, **provenance()},
        progress=progress,
    )
    findings = tuple(check(evidence) for check in CHECKS)
    return Diagnosis(findings, estimates_of(evidence), evidence)


def provenance() -> dict[str, str]:
    """Returns the versions that made a number.

    Example:
        >>> sorted(provenance())
        ['elboscope', 'python', 'system', 'torch']
    """
    return {
        "elboscope": __version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
    }
