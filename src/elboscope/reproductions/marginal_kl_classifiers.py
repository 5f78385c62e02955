"""The classifiers of Rosca et al. between q(z) and p(z), as far as the paper's text tells them."""

from __future__ import annotations

__all__ = ["PUBLISHED", "classifiers"]

from collections.abc import Mapping

from elboscope.estimators import RatioClassifier

# By the classifier's name in our table; the paper counts its layers otherwise.
PUBLISHED: Mapping[str, str] = {
    "2 layers": "ColorMNIST, plain",
    "3 layers": "ColorMNIST, one more layer",
    "3 layers, activation noise": "ColorMNIST, activation noise",
    "3 layers, gradient penalty": "ColorMNIST, gradient penalty",
    "2 layers, activation noise": "second set, rate 5e-4, activation noise",
    "2 layers, rate 1e-4": "second set, rate 1e-4",
    "2 layers, dropout": "second set, rate 5e-4, dropout",
}


def classifiers(width: int, steps: int) -> dict[str, RatioClassifier]:
    """Returns the classifiers by name; the first alone is stopped early.

    Args:
        width: Of each hidden layer.
        steps: Gradient steps of each.

    Example:
        >>> tried = classifiers(256, 1000)
        >>> tried["3 layers, activation noise"].activation_noise, tried["3 layers"].hidden
        (1.0, (256, 256, 256))
        >>> set(PUBLISHED) < set(tried)
        True
    """
    two, three = (width,) * 2, (width,) * 3

    def trained(
        hidden: tuple[int, ...],
        rate: float = 5e-4,
        noise: float = 0.0,
        penalty: float = 0.0,
        dropout: float = 0.0,
    ) -> RatioClassifier:
        return RatioClassifier(hidden, rate, steps, penalty, noise, dropout, early_stopping=False)

    return {
        "2 layers, early stopping": RatioClassifier(two, max_steps=steps),
        "2 layers": trained(two),
        "3 layers": trained(three),
        "2 layers, activation noise": trained(two, noise=1.0),
        "3 layers, activation noise": trained(three, noise=1.0),
        "3 layers, gradient penalty": trained(three, penalty=10.0),
        "2 layers, rate 1e-4": trained(two, rate=1e-4),
        "2 layers, dropout": trained(two, dropout=0.5),
    }
