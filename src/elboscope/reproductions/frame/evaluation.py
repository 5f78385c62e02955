r"""What is measured of a trained model: both bounds, the gap between them, ESS, active units.

.. math:: \log \hat p(x) = \log \frac1K \sum_k w_k, \qquad
          L_{64}(x) = \text{mean over groups of 64 samples of } \log \frac1{64} \sum_k w_k

All of it comes from the same K weights of each test image. −KL(Q‖P) = L_64 − log p̂ is the
divergence between the 64-sample proposal and its target on the extended space, as in Rainforth
et al.; it is a difference of two lower bounds, and no bound. Every model sees the same images.
"""

from __future__ import annotations

__all__ = ["Measured", "count_error", "measure_members"]

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float, Float64
from safetensors import safe_open
from safetensors.torch import save as to_bytes
from torch import Tensor

from elboscope.core import (
    LatentVariableModel,
    effective_sample_size,
    evaluating,
    log_mean_exp,
    log_weights,
    pareto_smoothed,
    seeded,
)
from elboscope.estimators import active_units
from elboscope.estimators.streaming import default_chunk

from .sitting import Sitting
from .training import derived_seed, file_name

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
        name: Of the entry.
        models: One a seed.
        x: Test images, binary.
        num_samples: K, at least 64.
        seeds: Of the models, in the same order.
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
    chunk = min(K, default_chunk(len(x), x[0].numel()) * (64 if x.is_cuda else 1))
    return log_weights(model, x, K, sample_chunk=chunk).double()


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
