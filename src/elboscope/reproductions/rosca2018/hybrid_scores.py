r"""What is measured of one run: scores of prior samples and of reconstructions, and pictures.

Both kinds are compared with the same held-out images, in the same order, by critics from the same
starts, so that runs of one seed are compared in pairs. No number of them is a likelihood or a
bound: for a model that learned from the ratios of an adversary there is none to report here.

Scores are kept one file a part, and a sitting may end between two of them.

The file is long because every score is measured, tabled, judged and drawn here.

The file is long because every score of a hybrid is here: kept, tabled, judged, drawn.
"""

from __future__ import annotations

__all__ = [
    "DATA",
    "KINDS",
    "LABELS",
    "Found",
    "Measured",
    "Scores",
    "data_rows",
    "hybrid_claims",
    "kept_scores",
    "measure_run",
    "model_rows",
    "over_settings",
    "own_runs",
    "paired",
    "plot_scores",
    "plot_settings",
    "primary",
    "scores_of_data",
    "sweep_rows",
]

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import product
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

import torch
from jaxtyping import Float, Float64
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from safetensors.torch import load_file, save_file
from torch import Tensor

from elboscope.core import evaluating, seeded
from elboscope.core.files import replace_file
from elboscope.estimators import reconstructions_of, sampler_of
from elboscope.estimators.samples.classifier import ms_ssim_diversity
from elboscope.estimators.samples.critic import Sampler, wasserstein_critic
from elboscope.estimators.samples.quality import scored
from elboscope.estimators.samples.samplers import drawn_images
from elboscope.models import Hybrid
from elboscope.plots.style import BLUE, INK, ORANGE, blank, dressed, legend_above

from ..frame.claims import Claim, Difference, difference, judge, student
from ..frame.course import Trained
from ..frame.result import Row
from ..frame.sitting import Sitting
from ..frame.training import derived_seed
from .hybrid_plan import (
    AUTOENCODERS,
    GANS,
    HYBRIDS,
    MODELS,
    WEIGHTED,
    HybridImages,
    HybridsPlan,
    Model,
    Setting,
)

KINDS = ("samples", "reconstructions")
DATA = "data"
PICTURES, NUM_PICTURES = "pictures.safetensors", 10
OF_VIEWS = ("inception_score", "modes_covered", "mode_kl", "ms_ssim_diversity", "precision",
            "recall", "coverage", "frechet_distance")  # fmt: skip


class Measured(NamedTuple):
    """A value and its own error, without the spread of runs."""

    value: float
    error: float


Scores = Mapping[str, Measured]
"""By ``"samples: modes_covered"``, and so on for every kind and score."""


def measure_run(
    name: str,
    model: Trained,
    images: HybridImages,
    plan: HybridsPlan,
    seed: int,
    now: Sitting,
    *,
    kinds: tuple[str, ...] = KINDS,
) -> tuple[Scores, Mapping[str, Tensor]]:
    """Returns the scores of a trained model, and pictures; what is kept is only read.

    Args:
        name: Name of the run's folder in the state.
        model: The model, on the device of the images.
        images: Images to compare with, and to reconstruct.
        plan: How many, and the critic.
        seed: Random seed of all draws.
        now: The sitting.
        kinds: What is scored: samples, and reconstructions where there is an encoder.

    Raises:
        Unfinished: The slice of time ended between two parts.
    """
    found: dict[str, Measured] = {}
    for kind, make in _makers(model, images).items():
        if kind in kinds:
            found |= _scores(f"{name}/{kind}", kind, make, images, plan, seed, now)
    return found, _pictures(now.folder / name / PICTURES, model, images, seed)


def scores_of_data(images: HybridImages, plan: HybridsPlan, seed: int, now: Sitting) -> Scores:
    """Returns the scores of held-out data as if they were samples: what no model can surpass."""

    def make() -> Sampler:
        return _in_random_order(images.reconstructed)

    (now.folder / DATA).mkdir(exist_ok=True)
    return _scores(f"{DATA}/samples", "samples", make, images, plan, seed, now)


def _in_random_order(x: Tensor) -> Sampler:
    """Without replacement, and from the beginning after the last."""
    order: list[int] = []

    def sampler(n: int) -> Tensor:
        while len(order) < n:
            order.extend(torch.randperm(len(x)).tolist())
        rows, order[:n] = order[:n], []
        return x[rows]

    return sampler


def _makers(model: Trained, images: HybridImages) -> dict[str, Callable[[], Sampler]]:
    """A sampler knows what it drew: each part makes its own, so that slices change no number."""
    found: dict[str, Callable[[], Sampler]] = {"samples": partial(sampler_of, model)}
    if isinstance(model, Hybrid):
        found["reconstructions"] = partial(reconstructions_of, model, images.reconstructed)
    return found


def kept_scores(kinds: tuple[str, ...], plan: HybridsPlan) -> list[str]:
    """Returns the names of the files that hold the scores of a run, without its pictures.

    Example:
        >>> plan = HybridsPlan(data="ColorMNIST")
        >>> kept_scores(("samples",), plan)[:2]
        ['samples-views.json', 'samples-critic-0.json']
    """
    parts = ("views", *(f"critic-{c}" for c in range(plan.critic.num_seeds)))
    return [f"{kind}-{part}.json" for kind in kinds for part in parts]


def _scores(
    name: str, kind: str, make: Callable[[], Sampler], images: HybridImages, plan: HybridsPlan,
    seed: int, now: Sitting,
) -> dict[str, Measured]:  # fmt: skip
    views = _kept(f"{name}-views", seed, now, partial(_views, make, images, plan))
    starts = [derived_seed(f"critic {c}", seed) for c in range(plan.critic.num_seeds)]
    critics = [
        _kept(f"{name}-critic-{c}", seed, now, partial(_critic, make, images, plan, start))
        for c, start in enumerate(starts)
    ]
    found = views | {key: _mean([critic[key] for critic in critics]) for key in critics[0]}
    return {f"{kind}: {key}": value for key, value in found.items()}


def _kept(
    name: str, seed: int, now: Sitting, compute: Callable[[], dict[str, Measured]]
) -> dict[str, Measured]:
    path = now.folder / f"{name}.json"
    if not path.is_file():
        now.pause_before(name, f"{name}.paused")
        now.say(f"scores, {name}", 0, 1)
        with seeded(derived_seed(name, seed)):
            now.keep(f"{name}.json", json.dumps(compute()))
    content = json.loads(path.read_text(encoding="utf-8"))
    return {key: Measured(*pair) for key, pair in content.items()}


def _views(
    make: Callable[[], Sampler], images: HybridImages, plan: HybridsPlan
) -> dict[str, Measured]:
    """Without a classifier there is only the diversity of the pixels."""
    sampler = make()
    if images.reference is None:
        drawn = drawn_images(sampler, plan.num_samples, images.compared)
        diversity = ms_ssim_diversity(drawn, num_pairs=max(1, plan.num_samples // 2))
        return {"ms_ssim_diversity": Measured(diversity.mean, diversity.stderr)}
    estimates = scored(sampler, plan.num_samples, images.reference).estimates
    totals = {n: e.total if e.axis == "unit" else e.mean for n, e in estimates.items()}
    return {name: Measured(totals[name], estimates[name].stderr) for name in OF_VIEWS}


def _critic(
    make: Callable[[], Sampler], images: HybridImages, plan: HybridsPlan, seed: int
) -> dict[str, Measured]:
    sampler = make()
    half = len(images.compared) // 2
    found = wasserstein_critic(
        lambda n: drawn_images(sampler, n, images.compared),
        images.compared[:half],
        images.compared[half:],
        train=images.train,
        training=replace(plan.critic, num_seeds=1),
        seed=seed,
    )
    assert found.overfitting is not None
    pairs = {"critic_test": found.test, "overfitting": found.overfitting}
    return {name: Measured(e.mean, e.mc_stderr.item()) for name, e in pairs.items()}


def _mean(parts: list[Measured]) -> Measured:
    """The mean over critics, which share their data; their spread joins the error."""
    values = torch.tensor([part.value for part in parts], dtype=torch.float64)
    own = torch.tensor([part.error for part in parts], dtype=torch.float64).square().mean().item()
    spread = values.var().item() / len(parts) if len(parts) > 1 else 0.0
    return Measured(values.mean().item(), math.sqrt(own + spread))


def _pictures(
    path: Path, model: Trained, images: HybridImages, seed: int
) -> dict[str, Float[Tensor, "n C H W"]]:
    """A few samples; and data with their reconstructions."""
    if not path.is_file():
        data = images.reconstructed[:NUM_PICTURES]
        with evaluating(model), seeded(derived_seed("pictures", seed)):
            found = {"samples": sampler_of(model)(NUM_PICTURES)}
            if isinstance(model, Hybrid):
                z = model.encode(data).sample()
                found |= {"data": data, "reconstructions": model.decode(z).mean.clamp(0, 1)}
        kept = {name: x.cpu().contiguous() for name, x in found.items()}
        replace_file(path, lambda aside: save_file(kept, aside))
    return load_file(path)


# The ordering of Rosca et al., claim by claim, on the independent critic and one other score.
#
# Differences are taken in pairs, seed by seed; a run that failed leaves its pairs out. That the
# hybrids are more sensitive is judged by the logarithm of a ratio of two standard deviations over
# settings, each known to about :math:`1/\sqrt{2(n - 1)}` for n of them. What the paper calls good
# and poor is here: nearer to the data, by the critic, than the worse of the two GANs, or farther
# away.

SOURCE = "Rosca et al. 2018, Figs. 8–9, arXiv 1802.06847"
UNIT, CRITIC = "units of x", "samples: critic_test"


def hybrid_claims(found: Found, plan: HybridsPlan) -> Iterator[Claim]:
    """Yields every claim with its verdict.

    Args:
        found: Scores of all runs.
        plan: Their settings.
    """
    yield from _plus_plus(found, plan)
    yield from _beyond_autoencoders(found, plan)
    yield from _behind_gans(found, plan)
    yield _autoencoder(found, plan)
    yield from _sensitivity(found, plan)


def _farther(found: Found, plan: HybridsPlan, a: Model, b: Model) -> Difference:
    """Ŵ of a less that of b: positive where b is nearer to the data."""
    one, other = paired(found, plan.own(a), plan.own(b), CRITIC)
    return difference(one, other, unit=UNIT)


def _plus_plus(found: Found, plan: HybridsPlan) -> Iterator[Claim]:
    text = f"{plan.data}: VGH++ is nearer to the data than VGH (Ŵ of VGH − that of VGH++)"
    yield judge(text, SOURCE, _farther(found, plan, "VGH", "VGH++"))
    score = primary(plan.data)
    if score is None:
        return
    a, b = paired(found, plan.own("VGH++"), plan.own("VGH"), f"samples: {score}")
    quantity, unit = LABELS[score]
    text = f"{plan.data}: VGH++ is better than VGH in {quantity} (VGH++ − VGH)"
    yield judge(text, SOURCE, difference(a, b, unit=unit))


def _beyond_autoencoders(found: Found, plan: HybridsPlan) -> Iterator[Claim]:
    for hybrid, other in product(HYBRIDS, AUTOENCODERS):
        text = (
            f"{plan.data}: {hybrid} is nearer to the data than {other} "
            f"(Ŵ of {other} − that of {hybrid})"
        )
        yield judge(text, SOURCE, _farther(found, plan, other, hybrid))


def _behind_gans(found: Found, plan: HybridsPlan) -> Iterator[Claim]:
    gan = _extreme(found, plan, GANS, worst=False)
    for hybrid in HYBRIDS:
        text = (
            f"{plan.data}: {hybrid} is not nearer to the data than the better GAN, here {gan} "
            f"(Ŵ of {hybrid} − that of {gan})"
        )
        yield judge(text, SOURCE, _farther(found, plan, hybrid, gan))


def _autoencoder(found: Found, plan: HybridsPlan) -> Claim:
    gan = _extreme(found, plan, GANS, worst=True)
    poor = plan.data == "CIFAR-10"
    word, place = ("poor", "farther from") if poor else ("good", "nearer to")
    text = (
        f"{plan.data}: the VAE's samples are {word}, here: {place} the data than those of the "
        f"worse GAN, {gan} (Ŵ of {gan} − that of the VAE)"
    )
    return judge(text, SOURCE, _farther(found, plan, gan, "VAE"), -1 if poor else 1)


def _extreme(found: Found, plan: HybridsPlan, models: tuple[Model, ...], *, worst: bool) -> Model:
    ranked = sorted(models, key=lambda model: _mean_score(found, plan, model))
    return ranked[-1 if worst else 0]


def _mean_score(found: Found, plan: HybridsPlan, model: Model) -> float:
    return fmean(scores[CRITIC].value for scores in own_runs(found, plan, model))


def _sensitivity(found: Found, plan: HybridsPlan) -> Iterator[Claim]:
    for hybrid, gan in product(WEIGHTED, GANS):
        if hybrid in plan.swept and gan in plan.swept:
            a, b = (over_settings(found, plan, model, "critic_test") for model in (hybrid, gan))
            text = (
                f"{plan.data}: {hybrid} is more sensitive to its settings than {gan} "
                "(log of the ratio of the sd of Ŵ over them)"
            )
            yield judge(text, SOURCE, _log_ratio(a, b))


def _log_ratio(a: Float64[Tensor, " n"], b: Float64[Tensor, " m"]) -> Difference:
    """log(sd a / sd b); each variance is a scaled χ², with n − 1 degrees of freedom."""
    n, m = len(a), len(b)
    text = f"{n} and {m} settings"
    if min(n, m) < 2:
        return Difference(math.nan, math.nan, 1, 0, text)
    error = math.sqrt(0.5 / (n - 1) + 0.5 / (m - 1)) * student(min(n, m) - 1)
    value = (a.std() / b.std()).log().item()
    return Difference(value, error, 1, 0, f"in the logarithm of the ratio, {text}")


# Figures of hybrids: the scores of each model, and of its sweep.

COLOURS = {"samples": BLUE, "reconstructions": ORANGE}
COLUMNS, PANEL_WIDTH, PANEL_HEIGHT = 2, 330, 210


def plot_scores(found: Found, of_data: Scores, plan: HybridsPlan) -> Figure:
    """Returns a panel a score: a dot a run, a bar at their mean; dashed: held-out data.

    Args:
        found: Scores of all runs.
        of_data: Those of data instead of samples.
        plan: Their settings.
    """
    scores = [score for score in LABELS if f"samples: {score}" in of_data]
    lines = math.ceil(len(scores) / COLUMNS)
    figure, first = blank(COLUMNS * PANEL_WIDTH, 40 + lines * PANEL_HEIGHT)
    figure.delaxes(first)
    grid = figure.subplots(lines, COLUMNS, squeeze=False, sharey=True).flatten()
    for axes, score in zip(grid, scores, strict=False):
        _panel(axes, score, found, plan)
        axes.axvline(of_data[f"samples: {score}"].value, color=INK, linewidth=1.2, linestyle="--")
    for axes in grid[len(scores) :]:
        figure.delaxes(axes)
    legend_above(figure, grid[0])
    return figure


def _panel(axes: Axes, score: str, found: Found, plan: HybridsPlan) -> None:
    dressed(axes)
    for kind, shift in zip(KINDS, (-0.15, 0.15), strict=True):
        label = "samples of the prior" if kind == "samples" else kind
        for row, model in enumerate(MODELS):
            runs = own_runs(found, plan, model)
            x = [r[f"{kind}: {score}"].value for r in runs if f"{kind}: {score}" in r]
            if x:
                _dots(axes, x, row + shift, COLOURS[kind], label if row == 0 else "")
    axes.set_yticks(range(len(MODELS)), list(MODELS))
    axes.set_ylim(len(MODELS) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0, labelcolor=INK)
    axes.grid(axis="y", visible=False)
    axes.set_xlabel(LABELS[score][0])


def _dots(axes: Axes, x: Sequence[float], y: float, colour: str, label: str) -> None:
    axes.plot(x, [y] * len(x), "o", ms=4, color=colour, alpha=0.55, linestyle="", label=label)
    axes.plot([sum(x) / len(x)], [y], "|", ms=12, mew=2, color=colour)


def plot_settings(found: Found, plan: HybridsPlan) -> Figure:
    """Returns Ŵ of each setting of each swept model; dark: the setting of the tables.

    Args:
        found: Scores of all runs.
        plan: Their settings.
    """
    figure, axes = blank(560, 80 + 30 * len(plan.swept))
    names = []
    for row, model in enumerate(plan.swept):
        x = over_settings(found, plan, model, "critic_test")
        own = x[:1] if (plan.own(model), 0) in found else x[:0]
        axes.plot(x, [row] * len(x), "o", ms=6, color=BLUE, alpha=0.5, linestyle="")
        axes.plot(own, [row] * len(own), "o", ms=6, color=INK, linestyle="")
        names.append(f"{model} ({len(x)})")
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0, labelcolor=INK)
    axes.grid(axis="y", visible=False)
    axes.set_xlabel("independent critic Ŵ(test) of samples, a dot a setting; lower is better")
    return figure


# Rows of hybrids: models × scores, means and spread over seeds, and over the published sweep.

Found = Mapping[tuple[Setting, int], Scores]
"""Scores by setting and number of the run."""

LABELS: Mapping[str, tuple[str, str]] = {
    "inception_score": ("Inception Score", "classes"),
    "modes_covered": ("modes covered", "modes"),
    "mode_kl": ("KL(modes ‖ uniform)", "nats"),
    "ms_ssim_diversity": ("MS-SSIM diversity", "1 − MS-SSIM"),
    "precision": ("precision", "share"),
    "recall": ("recall", "share"),
    "coverage": ("coverage", "share"),
    "frechet_distance": ("Fréchet distance of our features", "features²"),
    "critic_test": ("independent critic Ŵ(test)", "units of x"),
    "overfitting": ("Ŵ(test) − Ŵ(train)", "units of x"),
}
OWN_ERROR = "own error, one run"


def primary(data: str) -> str | None:
    """Returns the score by which samples of a data set are compared beside the critic.

    Faces have no classifier here, and no more diversity than they should.

    Example:
        >>> primary("ColorMNIST"), primary("CIFAR-10"), primary("CelebA")
        ('modes_covered', 'inception_score', None)
    """
    return {"ColorMNIST": "modes_covered", "CIFAR-10": "inception_score"}.get(data)


def paired(
    found: Found, a: Setting, b: Setting, key: str
) -> tuple[Float64[Tensor, "S 1"], Float64[Tensor, "S 1"]]:
    """Returns a score of two settings, of the seeds with which both are there, in their order."""
    seeds = sorted(s for (setting, s) in found if setting == a and (b, s) in found)
    first, second = ([[found[one, s][key].value] for s in seeds] for one in (a, b))
    return _column(first), _column(second)


def _column(values: list[list[float]]) -> Float64[Tensor, "S 1"]:
    return torch.tensor(values, dtype=torch.float64).reshape(-1, 1)


def own_runs(found: Found, plan: HybridsPlan, model: Model) -> list[Scores]:
    """Returns the scores of a model's runs in its own setting, in the order of the seeds."""
    own = plan.own(model)
    return [found[own, s] for s in range(plan.seeds) if (own, s) in found]


def over_settings(found: Found, plan: HybridsPlan, model: Model, key: str) -> Float64[Tensor, " n"]:
    """Returns a score of a model's samples in each setting of its sweep, one run each."""
    settings = [setting for setting in plan.settings(model) if (setting, 0) in found]
    scores = [found[setting, 0][f"samples: {key}"].value for setting in settings]
    return torch.tensor(scores, dtype=torch.float64)


def data_rows(scores: Scores, plan: HybridsPlan) -> Iterator[Row]:
    """Yields what held-out data score instead of samples."""
    for key, found in scores.items():
        quantity, unit = LABELS[key.partition(": ")[2]]
        label = "data instead of samples"
        yield _row(label, quantity, unit, [found], plan, f"{OWN_ERROR}")


def model_rows(found: Found, plan: HybridsPlan) -> Iterator[Row]:
    """Yields each model's scores of samples, of reconstructions, and their difference."""
    for model in MODELS:
        runs = own_runs(found, plan, model)
        for kind in (*KINDS, "gap"):
            for score, (quantity, unit) in LABELS.items():
                parts = [part for run in runs if (part := _part(run, kind, score)) is not None]
                if parts:
                    yield _row(f"{model}, {kind}", quantity, unit, parts, plan)


def sweep_rows(found: Found, plan: HybridsPlan) -> Iterator[Row]:
    """Yields the spread of each swept model over its settings, one run each."""
    for model in plan.swept:
        for score in filter(None, ("critic_test", primary(plan.data))):
            quantity, unit = LABELS[score]
            spread = over_settings(found, plan, model, score)
            if len(spread) > 1:
                yield Row(
                    f"{model}, samples, {len(spread)} settings", quantity,
                    spread.mean().item(), spread.std().item(), "sd over settings, one run each",
                    None, None, plan.num_samples, None, unit, tuple(spread.tolist()),
                )  # fmt: skip


def _part(scores: Scores, kind: str, score: str) -> Measured | None:
    if kind != "gap":
        return scores.get(f"{kind}: {score}")
    a, b = (scores.get(f"{one}: {score}") for one in KINDS)
    return None if a is None or b is None else _gap(a, b)


def _gap(a: Measured, b: Measured) -> Measured:
    return Measured(a.value - b.value, math.hypot(a.error, b.error))


def _row(
    label: str,
    quantity: str,
    unit: str,
    parts: list[Measured],
    plan: HybridsPlan,
    kind: str = "",
) -> Row:
    """The spread of runs where there are several, else the error of the one."""
    values = torch.tensor([part.value for part in parts], dtype=torch.float64)
    several = len(parts) > 1
    error = values.std().item() if several else parts[0].error
    words = kind or (f"sd over {len(parts)} seeds" if several else OWN_ERROR)
    per_seed = tuple(values.tolist()) if several else ()
    return Row(
        label, quantity, values.mean().item(), error, words, None, None, plan.num_samples, None,
        unit, per_seed,
    )  # fmt: skip
