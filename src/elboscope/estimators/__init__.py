"""Estimators: functions from a model and data to numbers that carry their doubt.

A room answers a question; what a room offers is said in its own ``__init__``.
"""

from . import gradients, inference, latents, likelihood, samples
from .gradients import *
from .inference import *
from .latents import *
from .likelihood import *
from .posteriors import (
    DiagonalPosteriors,
    FullPosteriors,
    OtherPosteriors,
    Posteriors,
    encode_posteriors,
)
from .samples import *

__all__ = [
    "DiagonalPosteriors",
    "FullPosteriors",
    "OtherPosteriors",
    "Posteriors",
    "encode_posteriors",
]
__all__ += gradients.__all__
__all__ += inference.__all__
__all__ += latents.__all__
__all__ += likelihood.__all__
__all__ += samples.__all__
