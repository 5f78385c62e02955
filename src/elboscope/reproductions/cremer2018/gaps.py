r"""The gap between log p(x) and L[q] of a trained model, in its two parts, datapoint by datapoint.

.. math:: \log \hat p(x) - L[q] = (\log \hat p(x) - L[q^*]) + (L[q^*] - L[q])

The first part, the approximation gap, is that of the family; the second, the amortisation gap, is
the encoder's. q* is of the family that the model was trained with. log p̂ is the best *by its mean
over the datapoints*, less two Monte Carlo errors, of importance sampling from q, from both q*, and,
if asked for, of annealing: each is a lower bound in expectation, and a choice for each datapoint
would be one of its noise.

Every part is kept in the state of the reproduction as soon as it is there: a sitting that ends
between two of them loses neither.

The file is long because four experiments share it: the gaps, their network, a plan, a row.
"""

from __future__ import annotations

__all__ = [
    "FLOW",
    "IMAGES",
    "FamilyName",
    "GapPlan",
    "GapRun",
    "Gaps",
    "cremer_vae",
    "gap_provenance",
    "gap_row",
    "load_gap_images",
    "measure_gaps",
    "train_model",
]

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Literal, NamedTuple, cast

import torch
from jaxtyping import Float, Float64, Int64, Shaped, UInt8
from safetensors import safe_open
from safetensors.torch import save as to_bytes
from torch import Tensor

from elboscope.core import Estimate, InputError, LatentVariableModel
from elboscope.data import Binarisation
from elboscope.estimators import (
    annealed_importance_sampling,
    evidence_lower_bound,
    importance_sampling,
    optimal_posterior,
)
from elboscope.models import VAE, AuxiliaryRealNVP
from elboscope.models.from_modules import make_likelihood
from elboscope.models.posteriors import PosteriorFamily
from elboscope.nn import Activation, mlp
from elboscope.training import ELBO

from ..frame.claims import ERRORS, difference
from ..frame.experiment import Request, Run
from ..frame.images import BinaryImages, load_binary_images
from ..frame.result import Row
from ..frame.sitting import Sitting
from ..frame.training import Schedule, derived_seed, file_name, train_to

FamilyName = Literal["diagonal", "flow"]


class Search(NamedTuple):
    """What a search for q* says of itself.

    Attributes:
        text: Its certificate.
        within: To how many nats the mean of L[q*] is certain.
        certified: Whether that is within the tolerance.
    """

    text: str
    within: float
    certified: bool


Part = tuple[dict[str, Tensor], Search | None]
"""Values of all datapoints, NaN where there is none, and the search that made them, if any."""


class Gaps(NamedTuple):
    """Values of the same datapoints, in nats.

    Attributes:
        log_px: log p̂.
        flow: L[q*] of the flow; NaN where it was not asked for.
        diagonal: L[q*] of the diagonal Gaussian.
        elbo: L[q].
        family: The family that the model was trained with, whose q* splits the gap.
        certificates: What each search for q* says of itself, by family.
        within: How many nats each mean of L[q*] is certain to, by family.
        certified: Whether every search was certified to the tolerance.
        chosen: The estimate that log p̂ is.
        candidates: The mean of each estimate among which log p̂ was chosen.
        rows: Rows of x that have values; the others diverged somewhere.
    """

    log_px: Float64[Tensor, " n"]
    flow: Float64[Tensor, " n"]
    diagonal: Float64[Tensor, " n"]
    elbo: Float64[Tensor, " n"]
    family: str
    certificates: Mapping[str, str]
    within: Mapping[str, float]
    certified: bool
    chosen: str
    candidates: Mapping[str, float]
    rows: Int64[Tensor, " n"]

    @property
    def optimal(self) -> Float64[Tensor, " n"]:
        """L[q*] of the family with which the model was trained."""
        return self.flow if self.family == "flow" else self.diagonal

    @property
    def approximation(self) -> Float64[Tensor, " n"]:
        """log p̂ − L[q*]: what is lost by the family."""
        return self.log_px - self.optimal

    @property
    def amortisation(self) -> Float64[Tensor, " n"]:
        """L[q*] − L[q]: what is lost by the encoder."""
        return self.optimal - self.elbo

    def open_error(self, family: str) -> float:
        """Returns what the certificate of this q* leaves open, c nats, counted as two errors."""
        return self.within.get(family, math.nan) / ERRORS

    @property
    def inference(self) -> Float64[Tensor, " n"]:
        """log p̂ − L[q], the sum of both."""
        return self.log_px - self.elbo


def measure_gaps(
    name: str,
    model: LatentVariableModel,
    x: Float[Tensor, "N *X"],
    family: FamilyName,
    now: Sitting,
    *,
    num_samples: int = 5000,
    max_steps: int = 400,
    step_samples: int = 32,
    tolerance: float = 0.02,
    seed: int = 0,
    flow: bool = True,
    full: bool = False,
    num_temperatures: int | None = None,
) -> Gaps:
    """Returns the gaps of a trained model; what a sitting before measured is only read.

    Args:
        name: Name of the model and the data, for messages and files.
        model: It stays as it is.
        x: Binary images, on its device.
        family: The family that it was trained with.
        now: The sitting.
        num_samples: K, with which every value is reported.
        max_steps: Steps of the search for q*, at most.
        step_samples: Samples of a step.
        tolerance: Certify the means of L[q*] to within so many nats.
        seed: Random seed of all draws.
        flow: Whether to search for the best flow too, which takes the most time.
        full: Whether to sample from the best Gaussian with all correlations too, for log p̂.
        num_temperatures: T of annealing; None leaves annealing out.

    Raises:
        Unfinished: The slice of time ended between two parts.
        InputError: No datapoint has all of the values; a flow as the family, and ``flow=False``.

    Example:
        >>> import tempfile, elboscope as es
        >>> from pathlib import Path
        >>> from elboscope.reproductions.frame.sitting import Options
        >>> from elboscope.reproductions.frame.sitting import sitting
        >>> model = es.models.LinearGaussian.instance_1()
        >>> x, _ = model.sample(4, seed=0)
        >>> with sitting(Path(tempfile.mkdtemp()), {}, Options(), None) as now:
        ...     gaps = measure_gaps("toy", model, x, "diagonal", now, num_samples=500, flow=False)
        >>> bool((gaps.amortisation.mean().abs() < 0.1)), sorted(gaps.candidates)
        (True, ['importance sampling from q', 'importance sampling from q* (diagonal)'])
    """
    if family == "flow" and not flow:
        raise InputError("flow", expected="True for a model trained with a flow", got="False")

    work = _Work(name, model, x, now, num_samples, max_steps, step_samples, tolerance, seed)
    parts = {"q": work.kept("q", work.amortised)}
    sought = {"diagonal": True, "full": full, "flow": flow}
    for of in [of for of, wanted in sought.items() if wanted]:
        parts[of] = work.kept(of, partial(work.searched, of))
    if num_temperatures is not None:
        parts["AIS"] = work.kept("AIS", partial(work.annealed, num_temperatures))
    return _joined(name, parts, family)


class _Work(NamedTuple):
    """What the parts share."""

    name: str
    model: LatentVariableModel
    x: Tensor
    now: Sitting
    num_samples: int
    max_steps: int
    step_samples: int
    tolerance: float
    seed: int

    def kept(self, part: str, measure: Callable[[], Part]) -> Part:
        """Reads a part, or measures it and keeps it."""
        file = f"{file_name(self.name)}-gaps-{part}.safetensors"
        if not (self.now.folder / file).is_file():
            self.now.require_time(f"{self.name}, {part}")
            self.now.say(f"{self.name}: {part}", 0, 1)
            values, search = measure()
            said = json.dumps({} if search is None else search._asdict())
            self.now.keep(file, to_bytes(values, metadata={"said": said}))
        with safe_open(self.now.folder / file, framework="pt") as kept:
            values = {field: kept.get_tensor(field) for field in kept.keys()}  # noqa: SIM118
            told = json.loads(kept.metadata()["said"])
            return values, Search(**told) if told else None

    def amortised(self) -> Part:
        """L[q] and importance sampling from q."""
        seed = self._seed("q")
        log_px = importance_sampling(self.model, self.x, self.num_samples, seed=seed)
        elbo = evidence_lower_bound(self.model, self.x, self.num_samples, seed=seed + 1)
        return {**_weighed(log_px), "elbo": _values(elbo)}, None

    def searched(self, family: str) -> Part:
        """L[q*] and importance sampling from q*, with the certificate."""
        found = optimal_posterior(
            self.model,
            self.x,
            cast(Literal["diagonal"], family),
            num_samples=self.num_samples,
            step_samples=self.step_samples,
            max_steps=self.max_steps,
            tolerance=self.tolerance,
            seed=self._seed(family),
            progress=self._tell(f"q* ({family})"),
        )
        certificate = found.certificate
        search = Search(str(certificate), certificate.within, certificate.certified)
        values = {"elbo": _values(found.elbo), **_weighed(found.log_px)}
        return {k: _placed(v, found.index.cpu(), len(self.x)) for k, v in values.items()}, search

    def annealed(self, num_temperatures: int) -> Part:
        """AIS."""
        found = annealed_importance_sampling(
            self.model,
            self.x,
            num_temperatures=num_temperatures,
            seed=self._seed("AIS"),
            progress=self._tell("annealing"),
        )
        return _weighed(found), None

    def _seed(self, part: str) -> int:
        return derived_seed(f"{self.name}, {part}", self.seed)

    def _tell(self, what: str) -> Callable[[int, int], None]:
        return lambda done, total: self.now.say(f"{self.name}: {what}", done, total)


def _weighed(log_px: Estimate) -> dict[str, Tensor]:
    return {"log_px": _values(log_px), "error": log_px.mc_stderr.double().cpu()}


def _error(mc_stderr: Float64[Tensor, " m"]) -> float:
    """The Monte Carlo error of the mean."""
    return mc_stderr.square().sum().sqrt().item() / len(mc_stderr)


def _values(estimate: Estimate) -> Float64[Tensor, " n"]:
    return estimate.values.double().cpu()


def _placed(values: Float64[Tensor, " m"], index: Tensor, n: int) -> Float64[Tensor, " n"]:
    """NaN for the datapoints that have no value."""
    return torch.full((n,), torch.nan, dtype=torch.float64).index_copy(0, index, values)


def _joined(name: str, parts: Mapping[str, Part], family: str) -> Gaps:
    fine = torch.stack([v.isfinite() for values, _ in parts.values() for v in values.values()])
    rows = fine.all(0).nonzero()[:, 0]
    if not len(rows):
        raise InputError(name, expected="at least one datapoint with all values", got="none")
    log_px = {_sampler(part): values["log_px"][rows] for part, (values, _) in parts.items()}
    means = {sampler: values.mean().item() for sampler, values in log_px.items()}
    errors = {_sampler(part): _error(values["error"][rows]) for part, (values, _) in parts.items()}
    chosen = max(means, key=lambda sampler: means[sampler] - ERRORS * errors[sampler])
    elbo = {part: values["elbo"][rows] for part, (values, _) in parts.items() if "elbo" in values}
    searches = {part: search for part, (_, search) in parts.items() if search is not None}
    return Gaps(
        log_px[chosen],
        elbo.get("flow", torch.full_like(elbo["q"], torch.nan)),
        elbo["diagonal"],
        elbo["q"],
        family,
        {part: search.text for part, search in searches.items()},
        {part: search.within for part, search in searches.items()},
        all(search.certified for search in searches.values()),
        chosen,
        means,
        rows,
    )


def _sampler(part: str) -> str:
    if part == "AIS":
        return "annealing"
    return "importance sampling from " + ("q" if part == "q" else f"q* ({part})")


# The networks of Cremer et al.: two ELU layers of 200 units either way, 50 latents.
#
# The posterior is a diagonal Gaussian ("FFG"), or the flow on (z, v) of
# :class:`~elboscope.models.AuxiliaryRealNVP`, two steps that see ELU of 50 more numbers from the
# encoder's last hidden layer. Weights begin as torch draws them. A larger encoder has 500-500
# units and leaves the decoder as it is, so that the family of models p(x) stays the same.

FLOW = AuxiliaryRealNVP(num_steps=2, hidden=200, context=50)


def cremer_vae(
    x: Shaped[Tensor, "N *X"],
    posterior: PosteriorFamily | None = None,
    *,
    encoder: tuple[int, ...] = (200, 200),
    decoder: tuple[int, ...] = (200, 200),
    latent_dim: int = 50,
    nonlinearity: Activation = "elu",
) -> VAE:
    """Returns an untrained model, its weights drawn from the ambient random state.

    Args:
        x: Training data, of which only the shape is used.
        posterior: The family of q; the diagonal Gaussian if None.
        encoder: Widths of its hidden layers.
        decoder: The same, from the latents on.
        latent_dim: d.
        nonlinearity: Activation of the hidden layers.

    Example:
        >>> import torch
        >>> model = cremer_vae(torch.zeros(1, 1, 28, 28))
        >>> sum(p.numel() for p in model.parameters())
        425284
    """
    shape = tuple(x.shape[1:])
    pixels = math.prod(shape)
    outputs = 2 * latent_dim if posterior is None else posterior.num_outputs(latent_dim)
    return VAE(
        mlp(pixels, encoder, outputs, nonlinearity),
        mlp(latent_dim, decoder, pixels, nonlinearity),
        make_likelihood("bernoulli", shape),
        latent_shape=(latent_dim,),
        data_shape=shape,
        encoder_output="mu_logvar" if posterior is None else posterior.head(latent_dim),
        input_shape=(pixels,),
    )


# What the experiments on gaps share: what a scale means, a training, a row of the table.
#
# Images are binary once, the ELBO is sampled for every family alike, and every value is one of
# the same first training images.

IMAGES = "training images"


@dataclass(frozen=True, kw_only=True)
class GapPlan:
    """What a scale means: training, images, samples, search, sizes.

    Attributes:
        data: Name of the data set.
        schedule: Schedule of each training.
        num_seeds: Seeds of the models that are compared.
        num_images: Images on which the gaps are measured.
        num_samples: K of every value.
        max_steps: Most steps of the search for q*.
        num_temperatures: T of annealing, if log p̂ is also estimated by it.
        width: Width of the hidden layers.
        latents: d.
    """

    data: str
    schedule: Schedule
    num_seeds: int
    num_images: int
    num_samples: int = 5000
    max_steps: int = 400
    num_temperatures: int | None = None
    width: int = 200
    latents: int = 50

    def record(self) -> dict[str, object]:
        """Returns what is saved beside a number."""
        own = ("num_samples", "max_steps", "num_temperatures", "width", "latents")
        return self.schedule.record() | {name: getattr(self, name) for name in own}


GapRun = Run[GapPlan, BinaryImages]


def load_gap_images(request: Request[GapPlan]) -> BinaryImages:
    """Returns the images of a plan, all training images among them."""
    return load_binary_images(request.plan.data, request.options)


def gap_provenance(run: GapRun, found: object) -> Mapping[str, object]:
    """Returns what is saved beside the numbers of a plan with several seeds."""
    return run.provenance(
        epochs=run.plan.schedule.epochs,
        data=run.data.record(),
        settings=run.plan.record() | {"seeds": list(run.seeds(run.plan.num_seeds))},
    )


def train_model(
    name: str,
    model: VAE,
    x: UInt8[Tensor, "N *X"],
    plan: GapPlan,
    seed: int,
    now: Sitting,
    device: torch.device,
) -> VAE:
    """Returns the model after its training, of which frozen parameters take no part.

    Args:
        name: Name of the model; its folder in the state is called after it.
        model: The model, on the device.
        x: Binary training images.
        plan: How long.
        seed: Random seed of the order of the data and of all draws.
        now: The sitting.
        device: Where to train.

    Raises:
        Unfinished: The slice of time ended; the state is saved.
        InputError: The training diverged.
    """
    train_to(
        plan.schedule.epochs, name, model, ELBO(analytic_kl=False), x, plan.schedule, seed, now,
        device, binarisation=Binarisation("none"),
    )  # fmt: skip
    return model


def gap_row(
    label: str,
    quantity: str,
    values: Float64[Tensor, "S n"],
    plan: GapPlan,
    runs: str = "seeds",
) -> Row:
    """Returns the mean of a value over runs and images, in nats.

    Args:
        label: Label of the row.
        quantity: Which.
        values: One per run and image.
        plan: Plan of the training.
        runs: What the S are.

    Example:
        >>> from elboscope.reproductions.frame.training import Schedule
        >>> plan = GapPlan(data="digits", schedule=Schedule(1), num_seeds=1, num_images=2)
        >>> row = gap_row("VAE", "gap", torch.tensor([[1.0, 3.0]]).double(), plan)
        >>> row.value, row.error, row.error_kind
        (2.0, 1.0, 'se over images')
    """
    S, n = values.shape
    ours = difference(values, torch.zeros_like(values))
    kind = "se over images" + (f" and {runs}" if S > 1 else "")
    return Row(
        label, quantity, ours.value, ours.error, kind, plan.schedule.epochs, plan.num_samples, n,
        per_seed=tuple(values.mean(1).tolist()),
    )  # fmt: skip
