"""Hybrids on CIFAR-10, by networks of the DCGAN; see :mod:`.hybrids`.

smoke: enlarged digits, tiny networks; cpu: some hundred steps of narrow networks, no sweep; paper:
200 000 steps, 5 seeds, the whole sweep.
"""

from __future__ import annotations

__all__ = ["reproduce", "reproduce_run"]

from collections.abc import Mapping
from functools import partial

from elboscope.estimators.samples.critic import CriticTraining

from ..frame.result import Scale
from .hybrid_plan import RATES, WEIGHT_PAIRS, HybridsPlan
from .hybrids import reproduce_hybrids, reproduce_one_hybrid

NAME = "hybrids-cifar10"
PLANS: Mapping[Scale, HybridsPlan] = {
    "smoke": HybridsPlan(
        "CIFAR-10", 100, 40, 40, 2, 1, 1e-3, (), ((1.0, 1.0),), (4, 4, 4),
        CriticTraining(2, (4, 8), num_seeds=1, num_evaluated=40, evaluations=1, batch_size=16),
        crossed=False, swept=("VGH++",), joint_maps=(4, 4), code_hidden=(8,), latents=4,
        batch_size=16, critic_steps=2, stand_in="large digits",
    ),
    "cpu": HybridsPlan(
        "CIFAR-10", 20_000, 2000, 2000, 300, 3, 1e-3, (), (), (16, 32, 64),
        CriticTraining(100, (8, 16), num_seeds=1, num_evaluated=500, evaluations=2,
                       batch_size=32),
        crossed=False, swept=(), joint_maps=(8, 16), code_hidden=(64, 64), batch_size=32,
        critic_steps=2,
    ),
    "paper": HybridsPlan(
        "CIFAR-10", None, 5000, 5000, 200_000, 5, 3e-4, RATES, WEIGHT_PAIRS,
        (64, 128, 256), CriticTraining.published(), latents=100,
    ),
}  # fmt: skip

reproduce = partial(reproduce_hybrids, NAME, PLANS)
reproduce_run = partial(reproduce_one_hybrid, NAME, PLANS)
