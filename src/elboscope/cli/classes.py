"""The classes that a configuration may name: elboscope's own by name, anybody's by place."""

from __future__ import annotations

__all__ = [
    "MODELS",
    "OBJECTIVES",
    "POSTERIORS",
    "PRIORS",
    "builder",
    "family",
    "objective",
    "posterior_family",
]

from typing import Any

from elboscope import models, training

from .errors import UsageError, did_you_mean
from .load import import_object, is_reference

MODELS = (
    *("mlp_vae", "conv_vae", "pixelcnn_vae"),
    *("mlp_gan", "color_mnist_gan", "dcgan"),
    *("mlp_hybrid", "color_mnist_hybrid", "dcgan_hybrid", "mlp_avb"),
)
POSTERIORS = (
    *("FullCovariance", "RealNVP", "MAF", "IAF", "Planar", "AuxiliaryRealNVP"),
    "CommittedGaussian",
)
PRIORS = ("MixturePrior", "VampPrior", "FlowPrior")
OBJECTIVES = (
    *("ELBO", "IWAE", "MIWAE", "PIWAE", "CIWAE", "DReG", "StickingTheLanding", "WakePhase"),
    *("ScoreFunction", "BetaELBO", "KLWeight", "FreeBits", "AnnealedEntropy"),
    "BetaTCVAE",
    *("GANGame", "WGANGP", "AAE", "WAEGAN", "WAEMMD", "VGH", "VGHPlusPlus"),
    *("AVB", "VEEGAN", "MatchedELBO"),
)


def builder(path: str) -> Any:
    """Returns the function, class or model that a ``class_path`` names."""
    if is_reference(path):
        return import_object(path)
    name = path.removeprefix("elboscope.models.")
    if name in MODELS:
        return getattr(models, name)
    raise _unknown("model.class_path", path, MODELS)


def objective(path: str) -> Any:
    """Returns the class of an objective or of a game."""
    if is_reference(path):
        return import_object(path)
    name = path.removeprefix("elboscope.training.")
    if name in OBJECTIVES:
        return getattr(training, name)
    raise _unknown("objective.class_path", path, OBJECTIVES)


def _unknown(what: str, path: str, known: tuple[str, ...]) -> UsageError:
    expected = f"one of {', '.join(known)}, or package.module:name, or FILE.py:name"
    return UsageError(what, expected=expected, got=repr(path), do=did_you_mean(path, known))


def family(path: str, what: str, known: tuple[str, ...] = POSTERIORS + PRIORS) -> Any:
    """Returns the class of a family of posteriors or priors.

    Args:
        path: Its name, or its place.
        what: The argument that names it.
        known: The names that are allowed.

    Raises:
        UsageError: None of the known ones.
    """
    if is_reference(path):
        return import_object(path)
    name = path.removeprefix("elboscope.models.")
    if name in known:
        return getattr(models, name)
    raise _unknown(f"{what}.class_path", path, known)


def posterior_family(path: str, what: str) -> Any:
    """Returns the class of a posterior family; ``what`` is the argument that names it."""
    return family(path, what, POSTERIORS)
