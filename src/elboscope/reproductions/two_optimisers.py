"""One Adam over both networks, or an Adam for each: the same steps.

Adam scales every parameter by its own moments and looks at no other, so that how parameters are
dealt out to optimisers cannot matter, as long as all of them step on the gradients of one
backward pass. (Two optimisers that alternate, each on a loss of its own, are another algorithm.)
"""

from __future__ import annotations

__all__ = ["distance_of_two_optimisers"]

import torch
from jaxtyping import Float
from torch import Tensor

from elboscope.core import seeded, split_parameters
from elboscope.models import VAE

from .kl_weight_networks import Setting, SweepSchedule, sweep_task


def distance_of_two_optimisers(
    setting: Setting, x: Float[Tensor, "N *X"], steps: int, schedule: SweepSchedule, seed: int
) -> float:
    """Returns how far one Adam over both networks and an Adam for each have parted.

    Both take the same steps on the same batches with the same noise. Adam treats every parameter
    by itself, so that nothing but rounding can part them.

    Args:
        setting: Weight and reduction.
        x: Images.
        steps: How many; batches are taken in turn.
        schedule: Batch size and rate.
        seed: Of weights and noise.

    Returns:
        The largest difference of a parameter.
    """
    ends = [_ended(setting, x, steps, schedule, seed, apart=apart) for apart in (False, True)]
    pairs = zip(ends[0].parameters(), ends[1].parameters(), strict=True)
    return max((p - q).abs().max().item() for p, q in pairs)


def _ended(
    setting: Setting,
    x: Tensor,
    steps: int,
    schedule: SweepSchedule,
    seed: int,
    *,
    apart: bool,
) -> VAE:
    model, objective = sweep_task(setting, tuple(x.shape[1:]), seed)
    parts = split_parameters(model, x[:1])
    groups = parts if apart else ([*parts[0], *parts[1]],)
    optimisers = [torch.optim.Adam(group, schedule.rate) for group in groups]
    batches = x.split(schedule.batch_size)
    with seeded(seed):
        for step in range(steps):
            loss = objective(model, batches[step % len(batches)], 0.0).loss
            for optimiser in optimisers:
                optimiser.zero_grad()
            loss.backward()
            for optimiser in optimisers:
                optimiser.step()
    return model
