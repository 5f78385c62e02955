r"""An independent critic between data and samples: how far apart, and whether data were memorised.

.. math:: \hat W(\text{data}) = \mathbb{E}_\text{data} f - \mathbb{E}_\text{samples} f

After the generator is frozen, a fresh critic f is trained with the gradient penalty of WGAN-GP
between *validation* data and samples. The same f is then applied to test data and to the data the
generator was trained on. A sampler that repeats its training data has Ŵ(train) ≈ 0, and
Ŵ(test) above: **Ŵ(train) < Ŵ(test) is the signal of overfitting**, in which f's imperfection
cancels.

Ŵ is not the distance of Wasserstein. A critic of few steps understates it. A trained one
overstates it, since the penalty λ(s − 1)² lets slopes exceed one: the best slope of a linear
critic is s = 1 + W/(2λ), so that

.. math:: \hat W = s W = W + \frac{W^2}{2 \lambda}

for N(0, I) against N(δ, I), where W = ‖δ‖: 2.2 instead of 2 at λ = 10. It compares models under
equal settings only.

References:
    | Comparison of Maximum Likelihood and GAN-based training of Real NVPs (Danihelka et al., 2017),
      https://arxiv.org/abs/1705.05263
    | Improved Training of Wasserstein GANs (Gulrajani et al., 2017),
      https://arxiv.org/abs/1704.00028
"""

from __future__ import annotations

__all__ = ["CriticTraining", "WassersteinCritic", "critic_network", "wasserstein_critic"]

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import torch
from jaxtyping import Float, Float64
from torch import Tensor, nn

from elboscope.core import Estimate, InputError, seeded
from elboscope.objectives import gradient_penalty, wasserstein_critic_loss

from ..inputs import blocks

SCORED_AT_ONCE = 500
NAMES = {
    "validation": "Ŵ(validation)",
    "test": "Ŵ(test)",
    "train": "Ŵ(train)",
    "overfitting": "Ŵ(test) − Ŵ(train)",
}

Sampler = Callable[[int], Tensor]
"""From n to n samples, drawn with torch's global random state or without."""


@dataclass(frozen=True)
class CriticTraining:
    """The critic and its training, all of which Ŵ depends on.

    Args:
        steps: Steps of Adam.
        maps: Feature maps of the strided convolutions, for images.
        hidden: Widths of the MLP, for vectors.
        batch_size: Data, and samples, a step.
        learning_rate: Adam's, with β = (0.5, 0.9).
        penalty: Weight of (‖∇f‖ − 1)².
        num_seeds: Critics, each from its own start.
        num_evaluated: Data and samples that are scored at most, each time.
        evaluations: Spread over the last fifth of the steps and averaged.

    Example:
        >>> CriticTraining.published().steps
        100000
    """

    steps: int = 300
    maps: tuple[int, ...] = (16, 32, 64)
    hidden: tuple[int, ...] = (128, 128)
    batch_size: int = 64
    learning_rate: float = 5e-4
    penalty: float = 10.0
    num_seeds: int = 3
    num_evaluated: int = 1000
    evaluations: int = 5

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "num_seeds", "num_evaluated", "evaluations"):
            if getattr(self, name) < 1:
                raise InputError(name, expected="at least 1", got=str(getattr(self, name)))
        if not 0 < self.learning_rate < math.inf or not 0 <= self.penalty < math.inf:
            got = f"learning_rate={self.learning_rate}, penalty={self.penalty}"
            raise InputError("critic", expected="finite numbers, > 0 and ≥ 0", got=got)

    @classmethod
    def published(cls) -> CriticTraining:
        """The scale at which papers compare models: hours on a CPU."""
        return cls(
            100_000, (64, 128, 256), learning_rate=1e-4, num_evaluated=10_000, evaluations=10
        )

    @property
    def evaluated_after(self) -> frozenset[int]:
        """The steps after which the critic is evaluated; the last is one of them."""
        tail = max(1, self.steps // 5)
        every = max(1, tail // self.evaluations)
        return frozenset(
            self.steps - every * i for i in range(self.evaluations) if self.steps > every * i
        )


@dataclass(frozen=True, eq=False, repr=False)
class WassersteinCritic:
    """What an independent critic says; each Estimate has one value a seed.

    Attributes:
        validation: Ŵ on the data it was trained with: too high by what it has learned by heart.
        test: Ŵ on fresh data: the number that compares samplers, lower is better.
        train: Ŵ on the generator's training data, if given.
        overfitting: Ŵ(test) − Ŵ(train); above zero beyond its error, the sampler lies closer to
            its training data than to others.
    """

    validation: Estimate
    test: Estimate
    train: Estimate | None
    overfitting: Estimate | None

    def parts(self) -> tuple[Estimate | None, ...]:
        """Returns all estimates, in the order of the attributes."""
        return self.validation, self.test, self.train, self.overfitting

    def __repr__(self) -> str:
        known = [estimate for estimate in self.parts() if estimate is not None]
        return f"<WassersteinCritic: {'; '.join(map(str, known))}>"


def wasserstein_critic(
    sampler: Sampler,
    validation: Float[Tensor, "N *X"],
    test: Float[Tensor, "M *X"],
    *,
    train: Float[Tensor, "T *X"] | None = None,
    training: CriticTraining | None = None,
    seed: int | None = None,
) -> WassersteinCritic:
    """Trains critics between validation data and samples, and scores test and training data.

    Args:
        sampler: From n to n samples; called afresh for each batch, so that no critic can learn
            its samples by heart.
        validation: Data to train the critics with, which the sampler was not trained on.
        test: Other data that the sampler was not trained on.
        train: The sampler's training data, in which overfitting shows.
        training: The critics' settings.
        seed: Random seed; None picks one and records it.

    Returns:
        Ŵ on each set, in units of the data's Euclidean distance.

    Raises:
        InputError: Samples of another shape than the data.

    Example:
        >>> with seeded(0):
        ...     data = torch.randn(600, 2)
        >>> far = wasserstein_critic(lambda n: torch.randn(n, 2) + 3.0, data[:300], data[300:],
        ...                          training=CriticTraining(150, num_seeds=2), seed=0)
        >>> far.test.mean > 2
        True
    """
    training = training or CriticTraining()
    sets = {"validation": validation, "test": test, **({} if train is None else {"train": train})}
    for name, x in sets.items():
        if len(x) < 2:  # the error is computed from their spread
            raise InputError(name, expected="at least two datapoints", got=str(len(x)))
    with seeded(seed) as used:
        scored = [_one_critic(sampler, sets, training) for _ in range(training.num_seeds)]
    settings = {**vars(training), "seed": used}
    estimates = {
        name: _estimate(NAMES[name], [s[name] for s in scored], training, settings)
        for name in scored[0]
    }
    return WassersteinCritic(
        estimates["validation"],
        estimates["test"],
        estimates.get("train"),
        estimates.get("overfitting"),
    )


class _Scored(NamedTuple):
    """A value and its error from scoring finitely many."""

    value: float
    stderr: float


def _one_critic(
    sampler: Sampler, sets: Mapping[str, Tensor], training: CriticTraining
) -> dict[str, _Scored]:
    data = sets["validation"]
    critic = critic_network(tuple(data.shape[1:]), training).to(data)
    adam = torch.optim.Adam(critic.parameters(), lr=training.learning_rate, betas=(0.5, 0.9))
    scores: list[dict[str, Tensor]] = []
    for step in range(1, training.steps + 1):
        rows = torch.randint(len(data), (training.batch_size,), device=data.device)
        fake = _samples(sampler, training.batch_size, data)
        _step(critic, adam, data[rows], fake, training.penalty)
        if step in training.evaluated_after:
            parts = {name: _some(x, training.num_evaluated) for name, x in sets.items()}
            parts["samples"] = _samples(sampler, training.num_evaluated, data)
            scores.append({name: _scores(critic, x) for name, x in parts.items()})
    return _average(scores)


def _step(
    critic: nn.Module, adam: torch.optim.Adam, real: Tensor, fake: Tensor, weight: float
) -> None:
    with torch.enable_grad():
        loss = wasserstein_critic_loss(critic(real), critic(fake))
        loss = loss + weight * gradient_penalty(critic, real, fake)
        adam.zero_grad(set_to_none=True)
        loss.backward()
        adam.step()


def _average(scores: list[dict[str, Tensor]]) -> dict[str, _Scored]:
    """Means over the evaluations; errors as of one of them, since critics change little."""
    means = {name: sum(s[name].mean().item() for s in scores) / len(scores) for name in scores[0]}
    errors = {name: s.std().item() / math.sqrt(len(s)) for name, s in scores[-1].items()}

    def minus(a: str, b: str) -> _Scored:
        return _Scored(means[a] - means[b], math.hypot(errors[a], errors[b]))

    found = {name: minus(name, "samples") for name in means if name != "samples"}
    return found | ({"overfitting": minus("test", "train")} if "train" in means else {})


def _estimate(
    name: str, scored: list[_Scored], training: CriticTraining, settings: Mapping[str, object]
) -> Estimate:
    """The seeds share the data, whose part of the error does not shrink with their number."""
    values = torch.tensor([s.value for s in scored], dtype=torch.float64)
    mc_stderr = torch.tensor([s.stderr for s in scored], dtype=torch.float64)
    between = values.var().item() / len(values) if len(values) > 1 else math.nan
    return Estimate(
        name,
        f"WGAN-GP critics of {training.steps} steps",
        values,
        mc_stderr,
        "none",
        math.sqrt(between + mc_stderr.square().mean().item()),
        axis="seed",
        settings=settings,
        measured_in="(units of x)",
    )


def critic_network(shape: tuple[int, ...], training: CriticTraining) -> nn.Sequential:
    """Returns f, without normalisation: strided convolutions for images, an MLP for vectors.

    Example:
        >>> critic_network((1, 28, 28), CriticTraining())(torch.zeros(2, 1, 28, 28)).shape
        torch.Size([2])
    """
    layers: list[nn.Module] = []
    if len(shape) != 3:
        widths = (math.prod(shape), *training.hidden)
        layers.append(nn.Flatten())
        for before, after in pairwise(widths):
            layers += [nn.Linear(before, after), nn.LeakyReLU(0.2)]
        return nn.Sequential(*layers, nn.Linear(widths[-1], 1), nn.Flatten(0))
    channels, height, width = shape
    for maps in training.maps:
        if min(height, width) < 4:
            break
        layers += [nn.Conv2d(channels, maps, 4, 2, 1), nn.LeakyReLU(0.2)]
        channels, height, width = maps, height // 2, width // 2
    last = nn.Linear(channels * height * width, 1)
    return nn.Sequential(*layers, nn.Flatten(), last, nn.Flatten(0))


def _samples(sampler: Sampler, n: int, like: Tensor) -> Tensor:
    with torch.no_grad():
        parts = [sampler(len(range(n)[rows])) for rows in blocks(n, SCORED_AT_ONCE)]
    samples = torch.cat(parts).to(like)
    if samples.shape != (n, *like.shape[1:]):
        raise InputError(
            "sampler",
            expected=f"n → samples (n, {', '.join(map(str, like.shape[1:]))}), as the data",
            got=f"shape {tuple(samples.shape)} for n = {n}",
        )
    if not bool(samples.isfinite().all()):
        raise InputError("sampler", expected="finite samples", got="NaN or infinite ones")
    return samples


def _some(x: Tensor, most: int) -> Tensor:
    return x if len(x) <= most else x[torch.randperm(len(x))[:most].to(x.device)]


def _scores(critic: nn.Module, x: Tensor) -> Float64[Tensor, " n"]:
    with torch.no_grad():
        return torch.cat([critic(x[rows]) for rows in blocks(len(x), SCORED_AT_ONCE)]).double()
