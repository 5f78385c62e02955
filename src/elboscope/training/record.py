"""``run.json``: what was run, on what, with which versions."""

from __future__ import annotations

__all__ = ["run_record"]

import platform
from collections.abc import Mapping
from importlib.metadata import version

import torch
from torch import Tensor

from elboscope.core import Sampled, check_model, evaluating
from elboscope.data import Binarisation

from .games import Game
from .objective import KLWeight, Objective
from .settings import TrainingSettings

FORMAT = 1
PACKAGES = ("elboscope", "numpy", "safetensors")


def run_record(
    model: Sampled,
    x: Tensor,
    settings: TrainingSettings,
    objective: Objective | Game,
    binarisation: Binarisation,
    *,
    condition: Tensor | None,
    data: Mapping[str, object],
) -> dict[str, object]:
    """Checks the model against the contract and returns what its numbers must be read with.

    Raises:
        ContractError: The model breaks a clause.
    """
    with evaluating(model):
        found = check_model(model, x, condition=condition)
    record: dict[str, object] = {
        "format": FORMAT,
        "versions": {"python": platform.python_version(), "torch": torch.__version__}
        | {p: version(p) for p in PACKAGES},
        "seed": settings.seed,
        "settings": settings.record(),
        "objective": repr(objective),
        "data": dict(data),
        "binarisation": str(binarisation),
        "likelihood": found.likelihood,
        "posterior": found.posterior,
        "latent_shape": list(found.latent_shape),
        "in_support": found.in_support,
        "has_bound": found.has_likelihood
        and (found.has_posterior_density or found.scores_own_draws),
        "device": str(x.device),
        "dtype": str(x.dtype),
        "threads": torch.get_num_threads(),
    }
    if isinstance(objective, KLWeight):
        record["implied_decoder_variance"] = objective.implied_variance(x[0].numel())
    return record
