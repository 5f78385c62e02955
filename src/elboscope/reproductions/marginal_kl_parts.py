"""The estimates of one model's marginal KL, one after the other, each kept as soon as it is there.

Everything that learns is given the same split of the same datapoints and the same held-out draws,
since each part begins at the same seed: their differences are of pairs. What a sitting before
estimated is only read.
"""

from __future__ import annotations

__all__ = ["Estimated", "Target", "estimates_of"]

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor

from elboscope.core import Estimate, LatentVariableModel, evaluating, seeded, standard_error
from elboscope.estimators import RatioClassifier
from elboscope.estimators.aggregate_draws import averages, draw_aggregate
from elboscope.estimators.aggregate_parts import Parts, split_aggregate
from elboscope.estimators.density_kl import DensityFamily, density_kl_of
from elboscope.estimators.evaluation import prepared
from elboscope.estimators.gaussian_mixture import fitted_mixture, one_thread
from elboscope.estimators.marginal_kl import marginal_kl_of
from elboscope.estimators.mutual_information import information_of
from elboscope.estimators.ratio_kl import ratio_kl_of
from elboscope.estimators.surgery import average_kl_of

from .sitting import Sitting
from .training import file_name

NETWORKS: tuple[DensityFamily, ...] = ("maf", "lstm")
# A mixture needs that many draws a component to be tried at all.
FEWEST_DRAWS = 4


class Target(NamedTuple):
    """A model whose marginal KL is estimated.

    Attributes:
        label: In the tables.
        model: The model.
        x: Its data.
        truth: KL(q‖p) of the population in closed form, in nats, where there is one.
    """

    label: str
    model: LatentVariableModel
    x: Float[Tensor, "N *X"]
    truth: float | None


class Estimated(NamedTuple):
    """A number of the table, in nats.

    Attributes:
        mean: The estimate.
        error: Its standard error over the population.
        side: "lower", "none", or what its Estimate says.
        values: By datapoint, of those held out where something was learned.
        score: Mean log-density of the part that chooses, of a density; else 0.
        settled: Whether its training ended because it improved no more, or there was none.
    """

    mean: float
    error: float
    side: str
    values: tuple[float, ...]
    score: float = 0.0
    settled: bool = True


def estimates_of(
    target: Target,
    classifiers: Mapping[str, RatioClassifier],
    components: Sequence[int],
    max_steps: int,
    seed: int,
    now: Sitting,
) -> dict[str, Estimated]:
    """Returns every estimate by name.

    Args:
        target: The model and its data.
        classifiers: By what the rows are to be called; each gives "ratio, …" and two bounds.
        components: K of the diagonal mixtures.
        max_steps: Of each density network.
        seed: Of the draws and of every fit.
        now: The sitting.

    Raises:
        Unfinished: The slice of time ended between two parts.
    """
    makers: dict[str, Callable[[], Mapping[str, Estimated]]] = {
        "mixture": partial(_mixture, target, seed),
        **{f"classifier {n}": partial(_ratio, target, n, c, seed) for n, c in classifiers.items()},
        **{f"gmm {K}": partial(_gaussians, target, K, seed) for K in components},
        **{name: partial(_network, target, name, max_steps, seed) for name in NETWORKS},
    }
    found: dict[str, Estimated] = {}
    for done, (name, make) in enumerate(makers.items()):
        file = now.folder / f"{file_name(f'{target.label}, {name}')}.json"
        if not file.is_file():
            now.pause_before(f"{name} of {target.label}", f"{file.stem}-begun")
            now.say(f"{target.label}: {name}", done, len(makers))
            now.keep(file.name, json.dumps(make()))
        found |= {key: Estimated(*entry) for key, entry in json.loads(file.read_text()).items()}
    return found


def _of(estimate: Estimate) -> Estimated:
    values = tuple(estimate.values.double().tolist())
    return Estimated(estimate.mean, estimate.stderr, estimate.side, values)


def _mixture(target: Target, seed: int) -> dict[str, Estimated]:
    with evaluating(target.model), seeded(seed) as used:
        draws = draw_aggregate(target.model, prepared(target.model, target.x, None), None, used)
    rate = average_kl_of(draws)
    return {
        "mixture": _of(marginal_kl_of(draws)),
        "average KL": _of(rate),
        "information": _of(information_of(draws)),
    }


@contextmanager
def _parts(target: Target, seed: int) -> Iterator[Parts]:
    """The same split and draws, inside the model's evaluation and the seed."""
    with evaluating(target.model), seeded(seed):
        yield split_aggregate(target.model, target.x)


def _ratio(
    target: Target, name: str, classifier: RatioClassifier, seed: int
) -> dict[str, Estimated]:
    with _parts(target, seed) as parts:
        found = ratio_kl_of(parts, seed, classifier)
    return {f"{key}, {name}": _of(estimate) for key, estimate in found._asdict().items()}


def _network(target: Target, name: DensityFamily, steps: int, seed: int) -> dict[str, Estimated]:
    with _parts(target, seed) as parts:
        found = density_kl_of(parts, name, seed, max_steps=steps)
    return {name: _of(found)._replace(settled=bool(found.settings["stopped"]))}


def _gaussians(target: Target, K: int, seed: int) -> dict[str, Estimated]:
    with _parts(target, seed) as parts:
        if len(parts.fit.z) < FEWEST_DRAWS * K:
            return {}
        with one_thread():
            log_r = fitted_mixture(parts.fit.z, K, "diag")
            score = log_r(parts.choose.z).mean().item()
            evaluate = parts.evaluate
            log_ratio = log_r(evaluate.z) - evaluate.log_p
    values = averages(log_ratio, evaluate.which, evaluate.size).values
    error = standard_error(values)
    listed = tuple(values.tolist())
    return {f"gmm {K}": Estimated(values.mean().item(), error, "lower", listed, score)}
