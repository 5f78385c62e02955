"""Classifiers of images for sample metrics: packaged weights, and the recipes behind them."""

from .packaged import (
    Classifier,
    Extracted,
    Extractor,
    PerChannel,
    cifar10_classifier,
    classifier_for,
    digits_classifier,
    load_classifier,
    mnist_classifier,
    packaged_names,
    save_classifier,
)
from .training import RECIPES, Recipe, error_rate, trained

__all__ = [
    "RECIPES",
    "Classifier",
    "Extracted",
    "Extractor",
    "PerChannel",
    "Recipe",
    "cifar10_classifier",
    "classifier_for",
    "digits_classifier",
    "error_rate",
    "load_classifier",
    "mnist_classifier",
    "packaged_names",
    "save_classifier",
    "trained",
]
