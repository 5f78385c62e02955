r"""Rosca et al. (2018): how far q(z) is from the prior, whatever the posterior family.

.. math:: \mathrm{KL}(q_N(z) \| p(z)) = \frac1N \sum_n \mathrm{KL}(q(z|x_n) \| p(z)) - I(n; z)
          \in [\mathrm{avgKL} - \log N, \mathrm{avgKL}]

by the full mixture of N posteriors, of VAEs with a diagonal Gaussian (FFG) or a flow (RNVP) and
with several likelihoods. The mixture is a statement about N images: where the posteriors are
narrow for N it overstates the population's KL, so its interval and a lower bound that needs no
mixture stand beside it. *No hole* is therefore refuted by the bound alone.

The file is long because the table is whole here: plans, trainings, rows, claims, figure.
"""

from __future__ import annotations

__all__ = [
    "EXPERIMENT",
    "LABELS",
    "Family",
    "Grey",
    "KLPlan",
    "Likelihood",
    "Subject",
    "load_grey",
    "new_subject",
    "plot_marginal_kls",
    "train_subject",
]

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import product
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from elboscope.core import InputError, seeded
from elboscope.data import Binarisation
from elboscope.data.images import content_checksum
from elboscope.models import VAE, RealNVP
from elboscope.plots.style import BLUE, FAINT, GREEN, GREY, INK, Figure, blank, legend_above
from elboscope.training import ELBO
from elboscope.training.slices import train_in_slices

from ..frame.claims import Claim, Difference, difference, judge, references
from ..frame.experiment import Experiment, Request, Run, Sets
from ..frame.result import Row
from ..frame.sitting import Options, Sitting
from ..frame.training import derived_seed, file_name
from .aggregate import AggregateValues, kl_difference, measure_aggregate
from .low_posterior_values import BATCH_SIZE, BETAS, EPS, constant_rate, load_pictures
from .networks import color_mnist_vae, dcgan_vae

NAME = "marginal-kl"
SOURCE = "Rosca et al. 2018, arXiv 1802.06847"


# The VAEs whose marginal KL is reproduced: which images, likelihood, posterior and latents.
#
# Networks and training are those of Rosca et al.: Adam with β = (0.5, 0.9), a fixed rate,
# minibatches of 64, 100 000 steps on ColorMNIST and 200 000 on CIFAR-10. Grey values are data as
# they are: under a Bernoulli that is a cross-entropy, as in the paper; QuantizedNormal is its
# dequantised bound, a mean and a scale for each value; Categorical has a logit for each level.

Likelihood = Literal["bernoulli", "categorical", "dequantized_normal"]
Family = Literal["FFG", "RNVP"]
LABELS = {
    "bernoulli": "Bernoulli",
    "categorical": "Categorical",
    "dequantized_normal": "QuantizedNormal",
}
ALL_LEVELS = 256


class Subject(NamedTuple):
    """One VAE.

    Attributes:
        data: "ColorMNIST" or "CIFAR-10".
        likelihood: p(x|z).
        posterior: q(z|x): "FFG" or "RNVP".
        latents: d.
    """

    data: str
    likelihood: Likelihood
    posterior: Family
    latents: int

    @property
    def label(self) -> str:
        """In the tables."""
        likelihood = LABELS[self.likelihood]
        return f"{self.data}, {likelihood}, {self.posterior}, {self.latents} latents"


@dataclass(frozen=True, kw_only=True)
class KLPlan:
    """What a scale means.

    Attributes:
        subjects: The VAEs.
        num_images: N of the mixture: images trained on, and those after them.
        num_train: Trained on, the first of the N.
        epochs: Passes over them, by data set.
        maps: Channels of the convolutions, by data set; two numbers: the network of ColorMNIST.
        num_draws: S.
        num_reconstructed: Images whose reconstruction is scored.
        levels: Levels of every value; the images are rounded to them.
        flow_hidden: Units of the flow's networks.
        flow_context: Numbers that they see of the image.
        rate: Adam's.
        stand_in: The data set used instead of both, if any.
    """

    subjects: tuple[Subject, ...]
    num_images: int
    num_train: int
    epochs: dict[str, int]
    maps: dict[str, tuple[int, ...]]
    num_draws: int
    num_reconstructed: int = 1000
    levels: int = ALL_LEVELS
    flow_hidden: int = 200
    flow_context: int = 50
    rate: float = 3e-4
    stand_in: str = ""

    def record(self) -> dict[str, object]:
        """Returns what is saved beside a number."""
        own = ("num_images", "num_train", "epochs", "num_draws", "num_reconstructed", "levels",
               "flow_hidden", "flow_context", "rate")  # fmt: skip
        training = {"batch_size": BATCH_SIZE, "betas": list(BETAS)}
        maps = {name: list(maps) for name, maps in self.maps.items()}
        return {name: getattr(self, name) for name in own} | training | {"maps": maps}


class Grey(NamedTuple):
    """Images of a data set, rounded to the levels.

    Attributes:
        x: Values in [0, 1].
        checksum: Checksum of these values.
    """

    x: Float[Tensor, "N 3 H W"]
    checksum: str


def load_grey(data: str, plan: KLPlan, options: Options) -> Grey:
    """Returns the first N images of a data set, or of what stands in for it.

    Raises:
        InputError: The data are unavailable.

    Example:
        >>> plan = replace(SMOKE, num_images=10, levels=4)
        >>> images = load_grey("ColorMNIST", plan, Options())
        >>> (3 * images.x).unique().tolist()
        [0.0, 1.0, 2.0, 3.0]
    """
    found = load_pictures(plan.stand_in or data, plan.num_images, options).grey
    if len(found) < plan.num_images:
        got = f"{len(found)} images of {data}"
        raise InputError("num_images", expected=f"{plan.num_images} images", got=got)
    top = plan.levels - 1
    x = (found * top).round() / top
    return Grey(x, content_checksum(x))


def new_subject(subject: Subject, plan: KLPlan, data_shape: tuple[int, int, int]) -> VAE:
    """Returns the VAE, its weights drawn from the ambient random state."""
    flow = RealNVP(hidden=plan.flow_hidden, context=plan.flow_context)
    normal = subject.likelihood == "dequantized_normal"
    scale: Literal["predicted"] | None = "predicted" if normal else None
    levels = None if subject.likelihood == "bernoulli" else plan.levels
    posterior = flow if subject.posterior == "RNVP" else None
    match plan.maps[subject.data]:
        case (few, many):
            return color_mnist_vae(
                data_shape, subject.latents, (few, many), likelihood=subject.likelihood,
                scale=scale, levels=levels, posterior=posterior,
            )  # fmt: skip
        case (first, second, third):
            return dcgan_vae(
                data_shape, subject.latents, (first, second, third),
                likelihood=subject.likelihood, scale=scale, levels=levels, posterior=posterior,
            )  # fmt: skip
    raise InputError("maps", expected="two or three numbers", got=str(plan.maps[subject.data]))


def train_subject(
    name: str,
    model: VAE,
    x: Float[Tensor, "N 3 H W"],
    plan: KLPlan,
    epochs: int,
    seed: int,
    now: Sitting,
) -> VAE:
    """Returns the model after its training; what a sitting before did is only read.

    Args:
        name: The model's name, for messages and files.
        model: The model, on the device of x.
        x: Training images.
        plan: How to train.
        epochs: How long.
        seed: Random seed of the order of the images and of all draws.
        now: The sitting.

    Raises:
        Unfinished: The slice of time ended; the state is saved.
        InputError: The training diverged.
    """

    def tell(done: int, bounds: list[float]) -> None:
        now.say(f"{name}: training, {bounds[0]:.1f}", done, epochs)

    run = train_in_slices(
        model,
        ELBO(analytic_kl=not isinstance(_family(model), RealNVP)),
        x,
        now.folder / file_name(name),
        epochs=epochs,
        batch_size=BATCH_SIZE,
        seed=seed,
        learning_rate=plan.rate,
        schedule=constant_rate,
        betas=BETAS,
        eps=EPS,
        binarisation=Binarisation("none"),
        slice_seconds=max(now.left, 0.0),
        progress=tell,
    )
    if run.diverged:
        do = "Another --seed, and a report of this one, would help."
        raise InputError(name, expected="a training that stays finite", got=run.status, do=do)
    if not run.finished:
        raise now.unfinished(f"{name}, epoch {run.epoch:.2f} of {epochs}")
    return model


def _family(model: VAE) -> object:
    return getattr(model.encoder_output, "family", None)


FAMILIES: tuple[Family, ...] = ("FFG", "RNVP")
LIKELIHOODS: tuple[Likelihood, ...] = ("categorical", "dequantized_normal")
POPULATION = "se over images"
# Nats of I below log N at which a mixture says nothing of the population.
NEAR_CEILING = 0.1


def _subjects(colour: tuple[int, ...], cifar: tuple[int, ...]) -> tuple[Subject, ...]:
    """Both posteriors under a Bernoulli; other likelihoods on CIFAR-10 with the Gaussian."""
    digits = [Subject("ColorMNIST", "bernoulli", q, d) for d, q in product(colour, FAMILIES)]
    photos = [Subject("CIFAR-10", "bernoulli", q, d) for d, q in product(cifar, FAMILIES)]
    others = [Subject("CIFAR-10", p, "FFG", d) for d, p in product(cifar, LIKELIHOODS)]
    return (*digits, *photos, *others)


PAPER = KLPlan(
    subjects=_subjects((10, 50, 75), (50, 100)),
    num_images=50_000,
    num_train=45_000,
    epochs={"ColorMNIST": 142, "CIFAR-10": 284},
    maps={"ColorMNIST": (32, 64), "CIFAR-10": (64, 128, 256)},
    num_draws=1000,
)
# 32 levels, narrow networks.
CPU = replace(
    PAPER,
    subjects=_subjects((10, 50), (50,)),
    num_images=8192,
    num_train=7168,
    epochs={"ColorMNIST": 9, "CIFAR-10": 9},
    maps={"ColorMNIST": (8, 16), "CIFAR-10": (16, 32, 64)},
    num_draws=512,
    levels=32,
    flow_hidden=64,
    flow_context=32,
    rate=1e-3,
)
SMOKE = replace(
    CPU,
    subjects=_subjects((3,), (4,)),
    num_images=128,
    num_train=128,
    epochs={"ColorMNIST": 2, "CIFAR-10": 2},
    maps={"ColorMNIST": (2, 4), "CIFAR-10": (2, 4)},
    num_draws=64,
    num_reconstructed=20,
    levels=16,
    flow_hidden=8,
    flow_context=4,
    stand_in="color digits",
)
ThisRun = Run[KLPlan, Sets[Grey]]
Found = Mapping[Subject, AggregateValues]


def _load(request: Request[KLPlan]) -> Sets[Grey]:
    plan, options = request.plan, request.options
    return Sets({name: load_grey(name, plan, options) for name in plan.epochs})


def _run(run: ThisRun) -> Found:
    return {
        subject: _measure(subject, run.data[subject.data].x.to(run.device), run)
        for subject in run.plan.subjects
    }


def _provenance(run: ThisRun, found: Found) -> Mapping[str, object]:
    plan = run.plan
    data = {n: {"num_images": len(g.x), "sha256": g.checksum} for n, g in run.data.items()}
    return run.provenance(
        epochs=max(plan.epochs.values()),
        data=data | ({"stand_in": {"name": plan.stand_in}} if plan.stand_in else {}),
        settings=plan.record(),
    )


def _measure(subject: Subject, x: Tensor, run: ThisRun) -> AggregateValues:
    plan, seed, now = run.plan, run.seed, run.now
    name, epochs = subject.label, plan.epochs[subject.data]
    colours, height, width = x.shape[1:]
    with seeded(derived_seed(name, seed)):
        model = new_subject(subject, plan, (colours, height, width)).to(x.device)
    train_subject(name, model, x[: plan.num_train], plan, epochs, seed, now)
    return measure_aggregate(name, model, x, plan.num_draws, plan.num_reconstructed, seed, now)


def _rows(run: ThisRun, found: Found) -> Iterator[Row]:
    for subject, values in found.items():
        yield from _rows_of(subject, values, run.plan)


def _rows_of(subject: Subject, values: AggregateValues, plan: KLPlan) -> Iterator[Row]:
    low, _ = values.interval
    n = len(values.reconstruction)
    score = values.reconstruction
    grey = subject.likelihood == "bernoulli"
    fits = "minus the cross-entropy, no likelihood" if grey else "E log p(x|z)"
    total = "minus cross-entropy − KL, no bound" if grey else "ELBO"
    key = f"{subject.data}, {LABELS[subject.likelihood]}"
    alike = subject.posterior == "FFG" and not plan.stand_in
    published = references(NAME).get(key) if alike else None

    def row(quantity: str, found: Difference, num_samples: int | None = None) -> Row:
        return Row(
            subject.label, quantity, found.value, found.error, POPULATION,
            plan.epochs[subject.data], num_samples, found.num_data,
            published if quantity == "KL(q_N‖p)" else None,
        )  # fmt: skip

    def mean(of: Tensor) -> Difference:
        return difference(of[None], torch.zeros_like(of)[None])

    yield row("KL(q_N‖p)", values.marginal, len(values.which))
    yield row("lowest it can be, average KL − log N", mean(values.kl)._replace(value=low))
    yield row("highest it can be, average KL", mean(values.kl))
    yield row("I(n; z), at most log N", mean(values.information), len(values.which))
    bound = mean(values.held_out)._replace(error=values.held_out_error.item())
    yield row("held-out lower bound of the population's KL(q‖p)", bound)
    yield row(fits, mean(score), 1)
    yield row(total, mean(score - values.kl[:n]), 1)


def _claims(found: Found) -> Iterator[Claim]:
    yield from _flows(found)
    yield from _likelihoods(found)
    bound = min(found.values(), key=_surety)
    least = Difference(
        bound.held_out.mean().item(), bound.held_out_error.item(), 1, len(bound.held_out),
        data="held-out images of the least certain VAE",
    )  # fmt: skip
    text = "no VAE matches its prior: KL(q‖p) > 0, by the held-out lower bound of each"
    yield judge(text, SOURCE, least)


def _flows(found: Found) -> Iterator[Claim]:
    for subject, values in found.items():
        gaussian = found.get(subject._replace(posterior="FFG"))
        if subject.posterior == "RNVP" and gaussian is not None:
            text = (
                f"{subject.data}, {subject.latents} latents: a flow as posterior (RNVP) does not "
                "reduce KL(q_N‖p) against the diagonal Gaussian (difference RNVP − FFG)"
            )
            yield judge(text, f"{SOURCE}, Fig. 1", kl_difference(values, gaussian))


def _likelihoods(found: Found) -> Iterator[Claim]:
    for subject, values in found.items():
        plain = found.get(subject._replace(likelihood="bernoulli"))
        if subject.likelihood != "bernoulli" and plain is not None:
            text = (
                f"{subject.data}, {subject.latents} latents: KL(q_N‖p) is larger with "
                f"{LABELS[subject.likelihood]} than with Bernoulli"
            )
            yield judge(text, SOURCE, kl_difference(values, plain))


def _surety(values: AggregateValues) -> float:
    return values.held_out.mean().item() / max(values.held_out_error.item(), 1e-12)


def _larger(found: Found) -> Iterator[str]:
    """What more latents do; the paper's numbers of it are unavailable."""
    for subject, values in found.items():
        sizes = [s for s in found if s._replace(latents=subject.latents) == subject]
        fewer = max((s.latents for s in sizes if s.latents < subject.latents), default=None)
        if fewer is not None:
            gain = kl_difference(values, found[subject._replace(latents=fewer)])
            yield f"{subject.label} against {fewer}: KL(q_N‖p) {gain}."


def _notes(found: Found, plan: KLPlan) -> Iterator[str]:
    values = next(iter(found.values()))
    yield (
        f"q_N is the mixture of all N = {len(values.kl)} posteriors, of {plan.num_train} images "
        f"trained on and those after them; log N = {math.log(len(values.kl)):.2f}. Where I comes "
        "near it, KL(q_N‖p) overstates the population's KL by an unknown amount."
    )
    full = [s.label for s, v in found.items() if v.log_n - v.information.mean() < NEAR_CEILING]
    if full:
        yield (
            f"I is within {NEAR_CEILING:g} nat of log N in {len(full)} of {len(found)} VAEs: there "
            "KL(q_N‖p) is the average KL less log N, comparing two of them compares their average "
            "KLs, and the population's KL is only known to lie above the held-out bound."
        )
    yield (
        "Errors of KL(q_N‖p) are those for the population, apart from that bias; a flow's "
        "KL(q(z|x)‖p) is a mean of 10 draws for each image."
    )
    yield (
        "Grey values under a Bernoulli give a cross-entropy, not a likelihood; QuantizedNormal "
        "is its dequantised bound. Their reconstructions may not be compared, marginal KLs may."
    )
    yield from _larger(found)
    if plan.levels != 256:
        yield (
            f"Images of {plan.levels} levels, for every likelihood: 256 logits for each value "
            "would take most of the time. The published numbers use 256."
        )
    if plan.stand_in:
        yield f"{plan.stand_in} instead of both data sets."
    yield "The paper does not say how many latents its 44.7 and 256.7 have: compare their order."
    yield "One seed: errors hold for these models and say nothing of another run."
    steps = plan.num_train // 64
    done = ", ".join(f"{n}: {e} epochs, {e * steps} steps" for n, e in plan.epochs.items())
    yield f"{done}; published: 100 000 steps on ColorMNIST, 200 000 on CIFAR-10."


# The marginal KL of several models: its interval, the mixture and the held-out lower bound.

ERRORS = 2.0
WIDTH, ROW, MARGIN = 620, 30, 100


def plot_marginal_kls(found: Mapping[str, AggregateValues]) -> Figure:
    """Returns the figure, a line a model; bars are two errors.

    Args:
        found: Values of each model by the label beside its line, from top to bottom.
    """
    figure, axes = blank(WIDTH, MARGIN + ROW * len(found))
    for row, values in enumerate(found.values()):
        first = row == 0
        low, high = values.interval
        axes.barh(
            row, high - low, left=low, height=0.5, color=FAINT, zorder=1,
            label="[average KL − log N, average KL]" if first else None,
        )  # fmt: skip
        mixture, bound = values.marginal, values.held_out.mean().item()
        axes.errorbar(
            mixture.value, row, xerr=ERRORS * mixture.error, color=BLUE, marker="o", ms=5,
            linestyle="", label="mixture, KL(q_N‖p)" if first else None,
        )  # fmt: skip
        axes.errorbar(
            bound, row, xerr=ERRORS * values.held_out_error.item(), color=GREEN, marker=">", ms=5,
            linestyle="", label="held-out lower bound of KL(q‖p)" if first else None,
        )  # fmt: skip
    axes.axvline(0, color=GREY, linewidth=0.8)
    axes.set_yticks(range(len(found)), list(found))
    axes.invert_yaxis()
    axes.tick_params(axis="y", length=0, labelcolor=INK, labelsize=10)
    axes.grid(axis="y", visible=False)
    axes.set_xlabel("nats")
    legend_above(figure, axes, columns=1)
    return figure


def _figures(run: ThisRun, found: Found) -> Mapping[str, Figure]:
    by_label = {subject.label: values for subject, values in found.items()}
    return {"marginal-kl": plot_marginal_kls(by_label)}


EXPERIMENT = Experiment(
    name=NAME,
    title="Distribution Matching in Variational Inference: the marginal KL of VAEs",
    plans={"smoke": SMOKE, "cpu": CPU, "paper": PAPER},
    load=_load,
    run=_run,
    provenance=_provenance,
    rows=_rows,
    claims=lambda run, found: _claims(found),
    notes=lambda run, found: _notes(found, run.plan),
    figures=_figures,
)
