r"""What a trained VAE's marginal KL is made of, datapoint by datapoint, to be compared in pairs.

.. math:: \mathrm{KL}(q_N \| p) = \frac1N \sum_n \mathrm{kl}_n - \frac1S \sum_s i_s, \qquad
          i_s = \log q(z_s \mid x_{n_s}) - \log q_N(z_s) \le \log N

with :math:`\mathrm{kl}_n` in closed form, or over some draws of each datapoint for a flow, and S
draws of N/S datapoints each. Models of the same images take the draws' datapoints from the same
seed: their differences are of pairs, and their noise is the smaller for it.

The reconstruction is scored here and not by :func:`elboscope.reconstruction`, which refuses grey
values under a Bernoulli: no likelihood, but a cross-entropy, and named so where it is printed.
"""

from __future__ import annotations

__all__ = [
    "AggregateValues",
    "Estimated",
    "Target",
    "estimates_of",
    "kl_difference",
    "measure_aggregate",
]

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import NamedTuple

import torch
from jaxtyping import Float, Float64, Int64
from safetensors import safe_open
from safetensors.torch import save as to_bytes
from torch import Tensor

from elboscope.core import (
    Estimate,
    InputError,
    LatentVariableModel,
    closed_form_kl,
    evaluating,
    seeded,
    standard_error,
)
from elboscope.estimators import RatioClassifier, held_out_marginal_kl
from elboscope.estimators.inputs import blocks, prepared
from elboscope.estimators.latents.aggregate import averages, draw_aggregate
from elboscope.estimators.latents.aggregate_parts import Parts, split_aggregate
from elboscope.estimators.latents.density import DensityFamily, fit_density
from elboscope.estimators.latents.held_out import fitted_mixture, one_thread
from elboscope.estimators.latents.ratio import ratio_kl_of
from elboscope.estimators.latents.surgery import average_kl_of, information_of, marginal_kl_of

from ..frame.claims import Difference
from ..frame.sitting import Sitting
from ..frame.training import derived_seed, file_name

DECODED_AT_ONCE = 64
RATE_DRAWS = 10
PARTS = 2
IMAGES = "images of the mixture"


class AggregateValues(NamedTuple):
    """Values of one model, in nats.

    Attributes:
        kl: KL(q(z|x_n)‖p) of all N images.
        which: The image whose posterior each of the S draws is from.
        information: i of each draw.
        held_out: log r − log p of images that r was not fitted to.
        held_out_error: Standard error of its mean.
        reconstruction: E_q log p(x|z) of the first images, or minus a cross-entropy.
    """

    kl: Float64[Tensor, " N"]
    which: Int64[Tensor, " S"]
    information: Float64[Tensor, " S"]
    held_out: Float64[Tensor, " m"]
    held_out_error: Float64[Tensor, ""]
    reconstruction: Float64[Tensor, " n"]

    @property
    def log_n(self) -> float:
        """The ceiling of the information."""
        return math.log(len(self.kl))

    @property
    def marginal(self) -> Difference:
        """KL(q_N‖p) with its error over the population, the bias of a finite mixture apart."""
        return _marginal(self.which, self.kl, self.information)

    @property
    def interval(self) -> tuple[float, float]:
        """(average KL − log N, or 0, average KL), in which KL(q_N‖p) is."""
        rate = self.kl.mean().item()
        return max(0.0, rate - self.log_n), rate


def kl_difference(a: AggregateValues, b: AggregateValues) -> Difference:
    """Returns KL(q_N‖p) of a minus that of b, on the same images and draws' datapoints.

    Raises:
        InputError: The two are of different images.

    Example:
        >>> from elboscope.reproductions.rosca2018.aggregate import AggregateValues
        >>> kl, some = torch.tensor([3.0, 5.0]).double(), torch.zeros(1).double()
        >>> one = AggregateValues(kl, torch.arange(2), 0 * kl, some, some[0], some)
        >>> print(kl_difference(one._replace(kl=kl + 1), one))
        +1.000 ± 0.000 nats (1 seed, 2 images of the mixture)
    """
    if len(a.kl) != len(b.kl) or not torch.equal(a.which, b.which):
        raise InputError(
            "a difference of marginal KLs",
            expected="two models with draws of the same images",
            got=f"{len(a.kl)} and {len(b.kl)} images, or other draws",
        )
    return _marginal(a.which, a.kl - b.kl, a.information - b.information)


def _marginal(
    which: Int64[Tensor, " S"], kl: Float64[Tensor, " N"], i: Float64[Tensor, " S"]
) -> Difference:
    """avgKL − Î = mean_S(f·kl − i) + (1 − f)·mean_rest(kl), with f = S/N: two independent means."""
    S, N = len(i), len(kl)
    f = min(1.0, S / N)
    within = (f * kl[which] - i).var().item() / S
    rest = (1 - f) * kl.var().item() / N
    value = kl.mean().item() - i.mean().item()
    return Difference(value, math.sqrt(within + rest), 1, N, data=IMAGES)


def measure_aggregate(
    name: str,
    model: LatentVariableModel,
    x: Float[Tensor, "N *X"],
    num_draws: int,
    num_reconstructed: int,
    seed: int,
    now: Sitting,
) -> AggregateValues:
    """Returns the values of a trained model; what a sitting before measured is only read.

    Args:
        name: The model's name, for messages and files.
        model: The model, on the device of x.
        x: The images of the mixture.
        num_draws: S ≤ N.
        num_reconstructed: How many images are reconstructed.
        seed: Random seed of all draws; the same for all models that are to be compared.
        now: The sitting.

    Raises:
        Unfinished: The slice of time ended between two parts.
    """
    mixture, held_out = (f"{file_name(name)}-{part}.safetensors" for part in ("mixture", "bound"))
    if not (now.folder / mixture).is_file():
        now.pause_before(f"the mixture of {name}", f"{file_name(name)}-mixture-begun")
        now.say(f"{name}: mixture", 0, PARTS)
        values = _mixture(model, x, num_draws, num_reconstructed, seed)
        now.keep(mixture, to_bytes(values))
    if not (now.folder / held_out).is_file():
        now.pause_before(f"the held-out bound of {name}", f"{file_name(name)}-bound-begun")
        now.say(f"{name}: held-out bound", 1, PARTS)
        bound = held_out_marginal_kl(model, x, seed=seed)
        error = torch.tensor(bound.stderr, dtype=torch.float64)
        kept = {"held_out": bound.values.cpu(), "held_out_error": error}
        now.keep(held_out, to_bytes(kept))
    read: dict[str, Tensor] = {}
    for file in (mixture, held_out):
        with safe_open(now.folder / file, framework="pt") as kept_file:
            read |= {key: kept_file.get_tensor(key) for key in kept_file.keys()}  # noqa: SIM118
    return AggregateValues(**read)


def _mixture(
    model: LatentVariableModel, x: Tensor, S: int, num_reconstructed: int, seed: int
) -> dict[str, Tensor]:
    with evaluating(model), seeded(seed) as used:
        draws = draw_aggregate(model, prepared(model, x, None), S, used)
    with evaluating(model), seeded(derived_seed("rate and reconstruction", seed)):
        kl = draws.kl if draws.kl is not None else _rate(model, x)
        found = {
            "kl": kl,
            "which": draws.index,
            "information": draws.log_own - draws.log_mixture,
            "reconstruction": _reconstruction(model, x[:num_reconstructed]),
        }
    return {key: value.cpu().contiguous() for key, value in found.items()}


def _rate(model: LatentVariableModel, x: Tensor) -> Float64[Tensor, " N"]:
    """KL(q(z|x)‖p) of every image, over a few draws of each."""
    means = []
    for rows in blocks(len(x), DECODED_AT_ONCE):
        q, p = model.encode(x[rows]), model.prior()
        closed = closed_form_kl(q, p)
        if closed is None:
            z = q.sample(torch.Size((RATE_DRAWS,)))
            closed = (q.log_prob(z).double() - p.log_prob(z).double()).mean(0)
        means.append(closed.double())
    return torch.cat(means)


def _reconstruction(model: LatentVariableModel, x: Tensor) -> Float64[Tensor, " n"]:
    """One draw of log p(x|z) for each image, whatever its likelihood says to its values."""
    parts = [
        model.decode(model.encode(x[rows]).sample()).log_prob(x[rows])
        for rows in blocks(len(x), DECODED_AT_ONCE)
    ]
    return torch.cat(parts).double()


# The estimates of one model's marginal KL, one after the other, each kept as soon as it is there.
#
# Everything that learns is given the same split of the same datapoints and the same held-out
# draws, since each part begins at the same seed: their differences are of pairs. What a sitting
# before estimated is only read.

NETWORKS: tuple[DensityFamily, ...] = ("maf", "lstm")
# A mixture needs that many draws a component to be tried at all.
FEWEST_DRAWS = 4


class Target(NamedTuple):
    """A model whose marginal KL is estimated.

    Attributes:
        label: The label in the tables.
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
        values: One value a datapoint, of those held out where something was learned.
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
        max_steps: Most steps of each density network.
        seed: Random seed of the draws and of every fit.
        now: The sitting.

    Raises:
        Unfinished: The slice of time ended between two parts.
    """
    makers: dict[str, Callable[[], Mapping[str, Estimated]]] = {
        "mixture": partial(_mixture_parts, target, seed),
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


def _mixture_parts(target: Target, seed: int) -> dict[str, Estimated]:
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
        density = fit_density(parts, name, max_steps=steps)
        return {name: _of(density.bound(parts, seed))._replace(settled=density.settled)}


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
