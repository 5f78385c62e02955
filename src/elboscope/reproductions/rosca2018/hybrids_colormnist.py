"""Hybrids on ColorMNIST, whose 1000 modes can be counted; see :mod:`.hybrids`.

smoke: small digits, tiny networks; cpu: 600 steps of narrow networks, 5 seeds; paper: 100 000
steps, 5 seeds, the whole sweep.
"""

from __future__ import annotations

__all__ = ["reproduce", "reproduce_run"]

from collections.abc import Mapping
from functools import partial

from elboscope.estimators.samples.critic import CriticTraining

from ..frame.result import Scale
from .hybrid_plan import RATES, WEIGHT_PAIRS, HybridsPlan
from .hybrids import reproduce_hybrids, reproduce_one_hybrid

NAME = "hybrids-colormnist"
PLANS: Mapping[Scale, HybridsPlan] = {
    "smoke": HybridsPlan(
        "ColorMNIST", 200, 40, 40, 3, 2, 1e-3, (2e-3,), ((1.0, 1.0),), (4, 4),
        CriticTraining(2, (4, 8), num_seeds=2, num_evaluated=40, evaluations=1, batch_size=16),
        crossed=False, swept=("VGH++", "DCGAN"), discriminator_maps=(4, 4),
        joint_maps=(4, 4), code_hidden=(8,), latents=4, batch_size=16, critic_steps=2,
        stand_in="color digits",
    ),
    "cpu": HybridsPlan(
        "ColorMNIST", 6400, 1000, 1000, 600, 5, 2e-3, (1e-3, 4e-3), ((1.0, 1.0), (50.0, 50.0)),
        (8, 16),
        CriticTraining(100, (8, 16), num_seeds=1, num_evaluated=500, evaluations=2,
                       batch_size=32),
        crossed=False, swept=("VGH++", "DCGAN"), discriminator_maps=(8, 16, 16, 16, 16),
        joint_maps=(8, 16), code_hidden=(64, 64), latents=20, batch_size=32, critic_steps=2,
    ),
    "paper": HybridsPlan(
        "ColorMNIST", None, 10_000, 26_000, 100_000, 5, 3e-4, RATES,
        WEIGHT_PAIRS, (32, 64), CriticTraining.published(),
    ),
}  # fmt: skip

reproduce = partial(reproduce_hybrids, NAME, PLANS)
reproduce_run = partial(reproduce_one_hybrid, NAME, PLANS)
