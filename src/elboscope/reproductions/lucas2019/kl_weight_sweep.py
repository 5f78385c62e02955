r"""The weight of the KL and the reduction of the error: which pairs collapse, and was it forced?

A blog trains a convolutional VAE with two latents on MNIST by ‖x − x̂‖² + w·KL and sees its
decoder return one image. Whether that is a failure depends on a number that the text does not
give: with the error *summed* over pixels w = 0.01 is a decoder of σ² = 0.005, with the *mean* one
of σ² = 3.92, beyond which only one direction of MNIST varies more than the noise that the model
assumes. Here all of {1, 0.1, 0.01, 0.001} × {sum, mean} are trained, beside what a linear VAE
does at the same σ² (:mod:`.measures`); one optimiser against two; and an autoencoder of the same
networks, whose latent space nothing holds together.

The file is long because the table is whole here: plans, trainings, figures, rows, claims.
"""

from __future__ import annotations

__all__ = [
    "EXPERIMENT",
    "manifold",
    "plot_latents",
    "plot_manifolds",
    "plot_rate_distortion",
    "sweep_claims",
    "sweep_notes",
    "sweep_rows",
]

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Float64, UInt8
from matplotlib.figure import Figure
from torch import Tensor
from torch.distributions import Normal

from elboscope.core import evaluating
from elboscope.data import digits, mnist
from elboscope.data.images import content_checksum
from elboscope.models import VAE
from elboscope.plots.samples import sample_grid_data
from elboscope.plots.style import BLUE, GREY, INK, ORANGE, RED, blank, legend_above

from ..frame.claims import ERRORS, Claim, Verdict, difference, judge, verdict
from ..frame.experiment import Experiment, Request, Run
from ..frame.result import Row
from ..frame.sitting import Sitting
from ..frame.training import file_name
from .measures import (
    Latents,
    LinearCollapse,
    Measured,
    SweepMeasure,
    Value,
    latent_space,
    linear_collapse,
    measure,
    pixel_eigenvalues,
    squared_errors,
)
from .networks import LATENTS, Setting, SweepSchedule, distance_of_two_optimisers, train_sweep

NAME = "kl-weight-sweep"
AUTOENCODER = "autoencoder"
WEIGHTS = (1.0, 0.1, 0.01, 0.001)
SETTINGS = tuple(Setting(w, reduction) for reduction in ("sum", "mean") for w in WEIGHTS)
COLLAPSED, HEALTHY = Setting(1.0, "mean"), Setting(1.0, "sum")


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a scale means.

    Attributes:
        num_train: Training images; all if ``None``.
        num_test: Test images; all if ``None``.
        schedule: Schedule of each training.
        measure: How much is measured.
        steps: Taken with one optimiser and with two.
    """

    num_train: int | None
    num_test: int | None
    schedule: SweepSchedule
    measure: SweepMeasure
    steps: int


PAPER = Plan(
    num_train=None,
    num_test=None,
    schedule=SweepSchedule(epochs=15),
    measure=SweepMeasure(num_decoded=10_000, num_samples=4, num_draws=10_000),
    steps=200,
)
CPU = replace(
    PAPER,
    schedule=SweepSchedule(epochs=1),
    measure=SweepMeasure(num_decoded=1000, num_samples=4, num_draws=5000),
    steps=50,
)
# Digits of 8×8 pixels and small networks.
SMOKE = replace(
    PAPER,
    num_train=1000,
    num_test=200,
    schedule=SweepSchedule(epochs=2, batch_size=50),
    measure=SweepMeasure(num_decoded=100, num_samples=2, num_draws=200),
    steps=5,
)


class Grey(NamedTuple):
    """Images in grey values: their data set, those that are used, and their checksum."""

    name: str
    train: Tensor
    test: Tensor
    checksum: str


class Found(NamedTuple):
    """What is measured.

    Attributes:
        models: The VAE of each setting, and the autoencoder.
        values: The measures of each setting.
        spaces: Latent spaces by name.
        errors: Squared errors of the healthy VAE and of the autoencoder, image by image.
        parted: How far one optimiser and two have parted.
        eigenvalues: Eigenvalues of the pixels' covariance.
    """

    models: Mapping[Setting | None, VAE]
    values: Mapping[Setting, Measured]
    spaces: Mapping[str, Latents]
    errors: Mapping[str, Float64[Tensor, " n"]]
    parted: float
    eigenvalues: Float64[Tensor, " D"]


ThisRun = Run[Plan, Grey]


def _load(request: Request[Plan]) -> Grey:
    plan, folder = request.plan, request.options.data_dir
    images = digits() if request.scale == "smoke" else mnist(folder)
    train, test = images.train[: plan.num_train], images.test[: plan.num_test]
    return Grey(images.name, train, test.to(request.device), content_checksum(train, test))


def _run(run: ThisRun) -> Found:
    plan, seed, train, test = run.plan, run.seed, run.data.train, run.data.test
    models = {
        setting: train_sweep(
            _name(setting), setting, train, plan.schedule, seed, run.now, run.device
        )
        for setting in (*SETTINGS, None)
    }
    values = {
        setting: _recall(models[setting], setting, test, plan, seed, run.now)
        for setting in SETTINGS
    }
    spaces = _spaces(models, test, plan, seed)
    decoded, K = test[: plan.measure.num_decoded], plan.measure.num_samples
    errors = {_name(s): squared_errors(models[s], decoded, K, seed).cpu() for s in (HEALTHY, None)}
    first = train[: 10 * plan.schedule.batch_size]
    parted = distance_of_two_optimisers(HEALTHY, first, plan.steps, plan.schedule, seed)
    return Found(models, values, spaces, errors, parted, pixel_eigenvalues(train))


def _provenance(run: ThisRun, found: Found) -> Mapping[str, object]:
    plan, data = run.plan, run.data
    return run.provenance(
        epochs=plan.schedule.epochs,
        data={
            "name": data.name,
            "num_train": len(data.train),
            "num_test": len(data.test),
            "binarisation": "none, grey values",
            "sha256": data.checksum,
        },
        settings=plan.schedule.record() | plan.measure.record() | {"latents": 2},
    )


def _name(setting: Setting | None) -> str:
    return AUTOENCODER if setting is None else str(setting)


def _recall(
    model: VAE, setting: Setting, x: Tensor, plan: Plan, seed: int, now: Sitting
) -> Measured:
    """Measures one VAE, or reads what a sitting before has measured."""
    name = f"{file_name(str(setting))}.json"
    path = now.folder / name
    if not path.is_file():
        now.say(f"{setting}: measuring", 0, 1)
        found = measure(model, x, setting.variance(x[0].numel()), plan.measure, seed)
        now.keep(name, json.dumps(found))
    fields = json.loads(path.read_text(encoding="utf-8"))
    return Measured(*fields[:2], *((value, error) for value, error in fields[2:]))


def _spaces(
    models: Mapping[Setting | None, VAE], x: Tensor, plan: Plan, seed: int
) -> dict[str, Latents]:
    """Latent spaces of the VAEs with a summed error, none of which is expected to collapse."""
    chosen = [s for s in SETTINGS if s.reduction == "sum"]
    n = plan.measure.num_draws
    spaces = {str(s): latent_space(models[s], x, n, seed, has_prior=True) for s in chosen}
    return spaces | {AUTOENCODER: latent_space(models[None], x, n, seed, has_prior=False)}


# Rows, claims and notes of the sweep.
#
# A setting *collapsed* if no unit is active. Beside each stands what a linear VAE would do at the
# σ² that it implies, from the covariance of the training pixels. I ≤ R holds of every model:
# their difference is the marginal KL. The other side of the sandwich, H − D ≤ I, needs the
# entropy of the data in the same units as the distortion, which no one knows: only differences of
# D can be read.

SOURCE = "blog on posterior collapse of an MNIST VAE"
LINEAR = "linear truth: Lucas et al. 2019, arXiv 1911.02469"
DECODED = ("squared error", "ELBO")
ACTIVE = 0.01
ROUNDING = 1e-6
PUBLISHED_EPOCHS = 15
Collapse = Mapping[Setting, LinearCollapse]


def predictions(
    settings: Mapping[Setting, Measured], eigenvalues: Float64[Tensor, " D"]
) -> dict[Setting, LinearCollapse]:
    """Returns what a linear VAE would do at the σ² of each setting."""
    D = len(eigenvalues)
    return {s: linear_collapse(eigenvalues, s.variance(D), LATENTS) for s in settings}


def sweep_rows(
    found: Mapping[Setting, Measured],
    spaces: Mapping[str, Latents],
    autoencoder: Float64[Tensor, " n"],
    eigenvalues: Float64[Tensor, " D"],
    epochs: int,
    counts: tuple[int, int],
) -> Iterator[Row]:
    """Yields each setting's numbers beside the linear prediction, then the latent spaces.

    Args:
        found: The measures of each setting.
        spaces: Latent spaces by name.
        autoencoder: Its squared errors.
        eigenvalues: Eigenvalues of the pixels' covariance.
        epochs: Epochs of each training.
        counts: How many images are encoded, and how many decoded.
    """
    images = "se over images"
    for setting, m in found.items():
        linear = linear_collapse(eigenvalues, setting.variance(len(eigenvalues)), LATENTS)
        beside = (
            ("active units", m.units, "from the error of each variance", "units"),
            ("I(n; z)", m.information, images, "nats"),
            ("KL(q(z|x)‖p(z))", m.rate, images, "nats"),
            ("KL(q(z)‖p(z))", m.marginal, images, "nats"),
            ("squared error", m.error, images, "per image"),
            ("ELBO", m.elbo, images, "nats"),
        )
        for quantity, (value, error), kind, unit in beside:
            n = counts[quantity in DECODED]
            yield Row(str(setting), quantity, value, error, kind, epochs, None, n, unit=unit)
        exact = (
            ("implied σ²", 1e3 * setting.variance(len(eigenvalues)), "10⁻³"),
            ("linear VAE: units kept", float(linear.kept), "units"),
            ("linear VAE: units kept of all pixels", float(linear.kept_of_all), "units"),
            ("linear VAE: I", linear.information, "nats"),
            ("linear VAE: squared error", linear.error, "per image"),
            ("any decoder gains at most", linear.most_gain, "nats"),
        )
        for quantity, value, unit in exact:
            yield Row(str(setting), quantity, value, math.nan, unit=unit)
    mean = difference(autoencoder[None], torch.zeros_like(autoencoder[None]))
    yield Row(
        AUTOENCODER,
        "squared error",
        mean.value,
        mean.error,
        images,
        epochs,
        None,
        counts[1],
        unit="per image",
    )
    for name, space in spaces.items():
        yield from _space_rows(name, space, epochs)


def _space_rows(name: str, space: Latents, epochs: int) -> Iterator[Row]:
    shares = {"uncovered": space.uncovered, "uncovered, by density": space.by_density}
    values = {"completeness": space.completeness, "continuity": space.continuity}
    n, kind = len(space.drawn), "se over draws"
    for quantity, (value, error) in values.items():
        yield Row(name, quantity, value, error, kind, epochs, None, n, unit="ratio")
    for quantity, share in shares.items():
        if share is not None:
            percent, unit = (100 * share[0], 100 * share[1]), "% of draws"
            yield Row(name, quantity, *percent, kind, epochs, None, n, unit=unit)


def sweep_claims(
    found: Mapping[Setting, Measured],
    spaces: Mapping[str, Latents],
    errors: Mapping[str, Float64[Tensor, " n"]],
    eigenvalues: Float64[Tensor, " D"],
    parted: float,
) -> tuple[Claim, ...]:
    """Returns the verdicts.

    Args:
        found: The measures of each setting.
        spaces: Latent spaces; the autoencoder's, and of the VAE that it is compared with.
        errors: Squared errors of the same two, image by image.
        eigenvalues: Eigenvalues of the pixels' covariance.
        parted: How far one optimiser and two have parted.
    """
    collapsed, healthy = Setting(1.0, "mean"), Setting(1.0, "sum")
    linear = predictions(found, eigenvalues)
    name = next(key for key in spaces if key != AUTOENCODER)
    return (
        _forced(found[collapsed], linear[collapsed], collapsed),
        _uses(found[healthy], healthy),
        _agrees(found, linear),
        _same(parted),
        _greater(
            "draws of the autoencoder's codes fall into holes more often than a VAE's: share",
            spaces[AUTOENCODER].uncovered,
            spaces[name].uncovered,
            name,
        ),
        judge(
            "an autoencoder reconstructs better than a VAE: squared error",
            SOURCE,
            difference(errors[name][None], errors[AUTOENCODER][None], unit="per image"),
        ),
    )


def _state(m: Measured) -> tuple[float, float]:
    """The largest unit variance above the threshold, and its error."""
    largest = max(range(len(m.variance)), key=lambda j: m.variance[j])
    return m.variance[largest] - ACTIVE, m.variance_stderr[largest]


def _forced(m: Measured, linear: LinearCollapse, setting: Setting) -> Claim:
    above, error = _state(m)
    text = f"{setting}: the posterior collapses"
    evidence = (
        f"largest Var E_q[z] {above + ACTIVE:.1e} ± {error:.0e} against {ACTIVE:g}; any decoder "
        f"gains at most {linear.most_gain:.3f} nats"
    )
    return Claim(text, SOURCE, verdict(above, error, -1), evidence, above, error)


def _uses(m: Measured, setting: Setting) -> Claim:
    above, error = _state(m)
    text = f"{setting}: the posterior does not collapse"
    evidence = f"largest Var E_q[z] {above + ACTIVE:.3f} ± {error:.3f} against {ACTIVE:g}"
    return Claim(text, SOURCE, verdict(above, error), evidence, above, error)


def _agrees(found: Mapping[Setting, Measured], linear: Collapse) -> Claim:
    """Whether the linear VAE says of every setting if it collapses."""
    others, unsure = [], []
    for setting, m in found.items():
        above, error = _state(m)
        if abs(above) <= ERRORS * error:
            unsure.append(str(setting))
        elif (above > 0) != (linear[setting].kept > 0):
            others.append(str(setting))
    outcome: Verdict = "contradicted" if others else "undecided" if unsure else "reproduced"
    evidence = f"{len(found) - len(others) - len(unsure)} of {len(found)} settings agree"
    evidence += f"; not {', '.join(others)}" if others else ""
    evidence += f"; unsure: {', '.join(unsure)}" if unsure else ""
    text = "the linear VAE's λ₁ > σ² says which settings collapse"
    return Claim(text, LINEAR, outcome, f"{evidence} (± two errors of each variance)")


def _same(parted: float) -> Claim:
    outcome: Verdict = "reproduced" if parted <= ROUNDING else "contradicted"
    text = "one Adam over both networks takes the steps of an Adam for each, to rounding"
    evidence = f"largest difference of a parameter {parted:.1e} ± 0"
    return Claim(
        text, "exact: Adam treats each parameter by itself", outcome, evidence, parted, 0.0
    )


def _greater(text: str, a: Value, b: Value, name: str) -> Claim:
    value, error = a[0] - b[0], math.hypot(a[1], b[1])
    evidence = f"{value:+.4f} ± {error:.4f} against {name} (one model each)"
    return Claim(text, SOURCE, verdict(value, error), evidence, value, error)


def sweep_notes(
    eigenvalues: Float64[Tensor, " D"],
    spaces: Mapping[str, Latents],
    log_n: float,
    epochs: int,
) -> tuple[str, ...]:
    """Returns what must be read with the numbers."""
    leading = ", ".join(f"{v:.4f}" for v in eigenvalues[:5].tolist())
    notes = [
        "‖x − x̂‖² + w·KL is the ELBO of a Gaussian decoder with σ² = w/2 if the error is summed "
        f"over the {len(eigenvalues)} pixels, and σ² = w·{len(eigenvalues)}/2 if it is their mean.",
        f"Covariance of the training pixels: total {eigenvalues.sum().item():.4f}, leading "
        f"eigenvalues {leading}. The linear VAE is a prediction for these networks, not a "
        "bound; its error is that of the training images, ours that of the first test images.",
        "The ELBO is a density of grey pixels, without dequantisation: it is compared between "
        "settings and means nothing against a Bernoulli's.",
        f"I(n; z) is that of the mixture of the test images and at most {log_n:.2f} nats: near "
        "this limit the posteriors are too narrow for so few images.",
        "The information I of every model is at most its rate R, the average KL(q(z|x)‖p(z)); the "
        "difference is KL(q(z)‖p(z)). H − D ≤ I cannot be drawn, since the entropy H of grey "
        "images is unknown.",
        "uncovered: draws of the prior (autoencoder: of the Gaussian fitted to its codes) farther "
        "from any code than 99 % of further codes; 1 % without holes. completeness: distance of "
        "their images to the data, in units of the data's own. continuity: squared change of the "
        "image for a step of a tenth of the codes' distance; 0.01 for a linear decoder.",
        "The autoencoder's draws come from a Gaussian fitted to its codes, the kindest choice; a "
        "VAE's come from the prior that it was trained for. Uncovered: "
        + ", ".join(f"{name} {space.uncovered[0]:.1%}" for name, space in spaces.items())
        + "; distance of the images to the data (completeness): "
        + ", ".join(f"{name} {space.completeness[0]:.2f}" for name, space in spaces.items())
        + ". The second need not follow the first: a decoder can return good images in a hole.",
        "One seed, the same for all settings: errors hold for these models and say nothing of "
        "another run.",
    ]
    if epochs < PUBLISHED_EPOCHS:
        notes.append(f"Trained for {epochs} of the {PUBLISHED_EPOCHS} published epochs.")
    return tuple(notes)


def _rows(run: ThisRun, found: Found) -> Iterator[Row]:
    encoded = len(run.data.test)
    counts = (encoded, min(encoded, run.plan.measure.num_decoded))
    autoencoder, epochs = found.errors[AUTOENCODER], run.plan.schedule.epochs
    return sweep_rows(found.values, found.spaces, autoencoder, found.eigenvalues, epochs, counts)


def _claims(run: ThisRun, found: Found) -> tuple[Claim, ...]:
    return sweep_claims(found.values, found.spaces, found.errors, found.eigenvalues, found.parted)


def _notes(run: ThisRun, found: Found) -> tuple[str, ...]:
    log_n = math.log(len(run.data.test))
    return sweep_notes(found.eigenvalues, found.spaces, log_n, run.plan.schedule.epochs)


# Figures of the sweep: rate against distortion, what latents decode to, where codes lie.

SIDE = 12
POINTS = 800
PANEL = 300


def plot_rate_distortion(
    found: Mapping[Setting, Measured], eigenvalues: Float64[Tensor, " D"]
) -> Figure:
    """Draws rate and information against the squared error, beside the best linear VAE.

    Args:
        found: The measures of each setting.
        eigenvalues: Eigenvalues of the pixels' covariance.
    """
    figure, axes = blank(400, 290)
    grid = np.geomspace(1e-4, float(eigenvalues[0]), 200)
    linear = [linear_collapse(eigenvalues, float(s), LATENTS) for s in grid]
    curve = ([one.error for one in linear], [one.information for one in linear])
    axes.plot(*curve, color=GREY, lw=1.2, ls="--", label=f"linear VAE, {LATENTS} units")
    for reduction, colour in (("sum", BLUE), ("mean", ORANGE)):
        own = {setting: m for setting, m in found.items() if setting.reduction == reduction}
        errors = [m.error[0] for m in own.values()]
        rates = [m.rate[0] for m in own.values()]
        axes.plot(errors, rates, "o", color=colour, ms=4, label=f"rate R, {reduction}")
        axes.vlines(errors, [m.information[0] for m in own.values()], rates, color=colour, lw=1)
        information = [m.information[0] for m in own.values()]
        axes.plot(errors, information, "o", color=colour, ms=4, mfc="none", label=f"I, {reduction}")
        for rank, setting in enumerate(own):
            at, above = (errors[rank], rates[rank]), 14 if rank == 0 else 3
            text = f"{setting.kl_weight:g}"
            axes.annotate(
                text, at, (4, above), textcoords="offset points", fontsize=9, color=colour
            )
    axes.set_xlabel("squared error of an image")
    axes.set_ylabel("nats")
    legend_above(figure, axes, columns=3)
    return figure


@torch.no_grad()
def manifold(
    model: VAE, codes: Float[Tensor, "m two"] | None = None
) -> UInt8[np.ndarray, "height width 3"]:
    """Returns what a square of latents decodes to: equal steps of the prior's quantiles.

    Args:
        model: A model with two latents.
        codes: Codes of an autoencoder, whose fitted Gaussian then stands for the prior.
    """
    quantiles = Normal(0.0, 1.0).icdf((torch.arange(SIDE) + 0.5) / SIDE)
    z = torch.cartesian_prod(-quantiles, quantiles).flip(1)
    if codes is not None:
        z = codes.mean(0) + z.to(codes) @ torch.linalg.cholesky(torch.cov(codes.T)).T
    with evaluating(model):
        means = model.decode(z.to(next(model.parameters()))).mean
    return sample_grid_data(means)


def plot_manifolds(pictures: Mapping[str, UInt8[np.ndarray, "height width 3"]]) -> Figure:
    """Draws pictures side by side, each below its name.

    Example:
        >>> black = np.zeros((4, 4, 3), dtype=np.uint8)
        >>> len(plot_manifolds({"a": black, "b": black}).axes)
        2
    """
    figure, first = blank(PANEL * len(pictures), PANEL + 20)
    first.remove()
    for i, (name, picture) in enumerate(pictures.items()):
        axes = figure.add_subplot(1, len(pictures), i + 1)
        axes.imshow(picture, interpolation="antialiased")
        axes.set_axis_off()
        axes.set_title(name, fontsize=11.5, color=INK, loc="left")
    return figure


def plot_latents(spaces: Mapping[str, Latents]) -> Figure:
    """Draws codes, and the draws that lie where no code is, one panel a latent space."""
    figure, first = blank(PANEL * len(spaces), PANEL)
    first.remove()
    for i, (name, space) in enumerate(spaces.items()):
        axes = figure.add_subplot(1, len(spaces), i + 1, facecolor="none")
        points = space.codes[:POINTS].cpu()
        holes = space.drawn[space.outside].cpu()[:POINTS]
        axes.plot(points[:, 0], points[:, 1], ".", color=BLUE, ms=2, alpha=0.6, label="codes")
        label = "draws where no code is"
        axes.plot(holes[:, 0], holes[:, 1], "x", color=RED, ms=4, mew=1, label=label)
        share = space.uncovered[0]
        axes.set_title(f"{name}: {share:.1%} uncovered", fontsize=11.5, color=INK, loc="left")
        axes.tick_params(colors=GREY, labelsize=10)
        axes.spines[["top", "right"]].set_visible(False)
        if i == 0:
            legend_above(figure, axes)
    return figure


def _figures(run: ThisRun, found: Found) -> Mapping[str, Figure]:
    models, spaces = found.models, found.spaces
    manifolds = {
        f"collapsed: {COLLAPSED}": manifold(models[COLLAPSED]),
        f"healthy: {HEALTHY}": manifold(models[HEALTHY]),
        AUTOENCODER: manifold(models[None], spaces[AUTOENCODER].codes),
    }
    return {
        "rate-distortion": plot_rate_distortion(found.values, found.eigenvalues),
        "manifolds": plot_manifolds(manifolds),
        "latents": plot_latents({k: spaces[k] for k in (str(HEALTHY), AUTOENCODER)}),
    }


EXPERIMENT = Experiment(
    name=NAME,
    title="The weight of the KL and the reduction of the error: a convolutional VAE on MNIST",
    plans={"smoke": SMOKE, "cpu": CPU, "paper": PAPER},
    load=_load,
    run=_run,
    provenance=_provenance,
    rows=_rows,
    claims=_claims,
    notes=_notes,
    figures=_figures,
)
