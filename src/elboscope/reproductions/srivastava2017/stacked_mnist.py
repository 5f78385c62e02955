r"""Stacked MNIST: who learns a thousand modes, by samples that a classifier of digits tells.

Three digits in red, green and blue have 1000 equally likely triples. AVB with adaptive contrast,
VEEGAN, VGH and VGH++ are trained beside a DCGAN, all with a generator of one size; their samples,
and reconstructions of test images where there is an encoder, are counted by mode.

The file is long because the table is whole here: runs, rows, claims, figures.

References:
    | VEEGAN: Reducing Mode Collapse in GANs (Srivastava et al., 2017),
      https://arxiv.org/abs/1705.07761
    | Adversarial Variational Bayes (Mescheder et al., 2017), https://arxiv.org/abs/1701.04722
    | Distribution Matching in Variational Inference (Rosca et al., 2018),
      https://arxiv.org/abs/1802.06847
"""

from __future__ import annotations

__all__ = [
    "EXPERIMENT",
    "SHARE",
    "Found",
    "corrected_kl",
    "data_rows",
    "plot_mode_kl",
    "rows_of",
    "stacked_claims",
]

import math
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import product
from pathlib import Path
from typing import NamedTuple

import torch
from jaxtyping import Float
from matplotlib.figure import Figure
from safetensors.torch import load_file, save_file
from torch import Tensor

from elboscope.classifiers import Extractor, classifier_for
from elboscope.core import evaluating, seeded
from elboscope.core.files import replace_file
from elboscope.data import Images, color_digits, color_mnist
from elboscope.data.images import content_checksum
from elboscope.estimators import sampler_of
from elboscope.models import Hybrid
from elboscope.plots.style import BLUE, GREEN, GREY, ORANGE, RED, blank, legend_above

from ..frame.claims import Claim, Difference, Published, judge, references, student
from ..frame.course import Look, Rows, Trained, run_course
from ..frame.experiment import Experiment, Request, Run
from ..frame.figures import curve, plot_pictures
from ..frame.result import Row
from ..frame.sitting import Options
from ..frame.training import derived_seed, file_name
from .networks import (
    CPU,
    ENCODERS,
    KINDS,
    LEARNERS,
    MODELS,
    PAPER,
    SCORES,
    SMOKE,
    Model,
    StackedPlan,
    Tally,
    course_of,
    new_model,
    perfect_modes,
    scores_of,
    tally,
)

NAME = "stacked-mnist"
NUM_PICTURES, PROTOCOL = 10, 26_000
# Looks on the way classify this share of the images.
BETWEEN = 4
# Reconstructions with less than this share of the samples' modes are told of.
FEWER = 0.7


class _Data(NamedTuple):
    train: Float[Tensor, "N C H W"]
    test: Float[Tensor, "M C H W"]
    classifier: Extractor
    checksum: str


Found = Mapping[Model, Sequence[Rows]]
"""The looks of each seed; the last of each is judged."""


class _Found(NamedTuple):
    runs: Found
    pictures: Mapping[str, Mapping[str, Tensor]]
    log_probs: Float[Tensor, "n y"]


ThisRun = Run[StackedPlan, _Data]


def _load(request: Request[StackedPlan]) -> _Data:
    images, device = _images(request.plan, request.options), request.device
    train, test = images.train.to(device), images.test.to(device)
    return _Data(train, test, classifier_for(images.data_shape), content_checksum(train, test))


def _images(plan: StackedPlan, options: Options) -> Images:
    if plan.stand_in:
        return color_digits(plan.num_train, plan.num_test)
    return color_mnist(options.data_dir, num_train=plan.num_train, num_test=plan.num_test)


def _name(model: Model, seed: int) -> str:
    return f"{file_name(model.replace('++', 'pp'))}-seed-{seed}"


def _run(run: ThisRun) -> _Found:
    seeds, data = run.seeds(run.plan.seeds), run.data
    runs = {model: [_looks(model, seed, run) for seed in seeds] for model in MODELS}
    pictures = {
        str(model): load_file(run.now.folder / f"{_name(model, run.seed)}-pictures.safetensors")
        for model in MODELS
    }
    log_probs = data.classifier(data.test[: run.plan.num_samples]).log_probs
    return _Found(runs, pictures, log_probs)


def _looks(model: Model, seed: int, run: ThisRun) -> Rows:
    name, plan, data, now = _name(model, seed), run.plan, run.data, run.now
    with seeded(derived_seed(f"weights of {model}", seed)):
        built = new_model(model, plan, data.train).to(data.train.device)
    last = plan.paces[model].steps

    def look(step: int) -> Mapping[str, float]:
        if step == last:
            _keep_pictures(now.folder / f"{name}-pictures.safetensors", built, data, seed)
        num = plan.num_samples if step == last else plan.num_samples // BETWEEN
        return {"num": float(num), **scores_of(built, data.test, num, data.classifier, seed)}

    identity = {"samples": plan.num_samples, "seed": seed}
    course = course_of(
        model, plan, built, data.train, look, derived_seed(name, seed), name, identity
    )
    return run_course(course, now)


def _keep_pictures(path: Path, model: Trained, data: _Data, seed: int) -> None:
    x = data.test[:NUM_PICTURES]
    with evaluating(model), seeded(derived_seed("pictures", seed)):
        found = {"samples": sampler_of(model)(NUM_PICTURES)}
        if isinstance(model, Hybrid):
            found["reconstructions"] = model.decode(model.encode(x).rsample()).mean
    kept = {name: x.clamp(0, 1).cpu().contiguous() for name, x in found.items()}
    replace_file(path, partial(save_file, kept))


def _provenance(run: ThisRun, found: _Found) -> Mapping[str, object]:
    plan, data = run.plan, run.data
    return run.provenance(
        epochs=None,
        data={
            "name": "color digits" if plan.stand_in else "ColorMNIST",
            "train": len(data.train),
            "test": len(data.test),
            "sha256": data.checksum,
        },
        settings={
            "num_samples": plan.num_samples,
            "seeds": plan.seeds,
            "latents": plan.latents,
            "maps": plan.maps,
            **{model: plan.paces[model]._asdict() for model in MODELS},
        },
    )


def _notes(run: ThisRun, found: _Found) -> Iterator[str]:
    plan, classifier = run.plan, run.data.classifier
    yield (
        f"Modes are those of the {classifier.name}, {classifier.test_error:.2%} test error; an "
        "image is sure where the triple has p(y|x) > ½. A classifier answers whatever it sees: "
        "smears meet modes too, and the published protocol counts them."
    )
    yield (
        f"{plan.num_samples} images of each kind; the paper has {PROTOCOL}, of which perfect ones "
        "would meet all 1000 modes. Published numbers come from other networks and classifiers."
    )
    yield (
        "No bound is reported: AVB's KL is a classifier's, and grey values under a Bernoulli give "
        "a cross-entropy."
    )
    yield "Reconstructions are E[x|z] of z ~ q(z|x) of test images; samples are E[x|z] or G(z)."
    if plan.paces["VGH"].cost != "mean_absolute":
        weights = plan.paces["VGH"].weights
        yield (
            f"VGH and VGH++ reconstruct by {weights[0]:g} times the likelihood instead of the "
            "published ℓ1 distance, which for some hundred steps is content with black images."
        )
    if plan.seeds == 1:
        yield "One seed: a verdict is about these models, without the spread between trainings."
    for model, runs in found.runs.items():
        pace = plan.paces[model]
        yield f"{model}: {pace.steps} steps of batch {pace.batch_size} at a rate of {pace.rate:g}."
        for seed, rows in enumerate(runs):
            yield from _unlike(model, rows[-1])
            if rows[-1]["step"] < pace.steps:
                yield f"{model}, run {seed}: diverged; its last whole look is shown."


def _unlike(model: Model, row: Look) -> Iterator[str]:
    """A generator that meets modes says nothing of the encoder beside it."""
    samples, others = (row.get(f"{kind}: modes", math.nan) for kind in KINDS)
    if others < FEWER * samples:
        yield (
            f"{model}: reconstructions meet {others:.0f} modes where samples meet {samples:.0f}: "
            "the generator has learned from its discriminator, but the encoder does not yet find "
            "codes of its images."
        )


# Rows and verdicts of Stacked MNIST.
#
# That a model *learns* it is a threshold of ours: half of the modes that as many perfect samples
# would cover, :math:`C(1 - (1 - 1/C)^n)/2`: once met by any samples, as the published protocol
# counts them, and once by those of which the classifier is sure. The published claim is that
# VEEGAN covers more modes than the DCGAN.
#
# Errors of counts are of these images; the spread of trainings joins them where there are several
# seeds. With one, a verdict is about these trained models alone.

SOURCE = "Srivastava et al. 2017, Stacked MNIST, arXiv 1705.07761"
OURS = "a threshold of ours, no published claim"
SHARE = 0.5
COUNTS = {"modes": "its samples", "sure_modes": "those of its samples that are sure"}


def stacked_claims(found: Found, num: int, classes: int) -> list[Claim]:
    """Returns a verdict for each model that is to learn, and for the published order.

    Args:
        found: Looks at all runs.
        num: Samples at the last look.
        classes: Modes there are.
    """
    needed = SHARE * perfect_modes(num, classes)
    claims = []
    for model, (key, what) in product(LEARNERS, COUNTS.items()):
        text = (
            f"{model} learns Stacked MNIST: {what} cover more than {needed:.0f} modes, half of "
            f"what {num} perfect ones would"
        )
        value, error = _mean_and_error(found[model], f"samples: {key}")
        gap = Difference(value - needed, error, len(found[model]), num, "modes", "samples")
        claims.append(judge(text, OURS, gap))
    more = _difference(found["VEEGAN"], found["DCGAN"], "samples: modes", num)
    text = "VEEGAN covers more modes than DCGAN (published: 150 against 99)"
    return [*claims, judge(text, SOURCE, more)]


def _difference(a: Sequence[Rows], b: Sequence[Rows], key: str, num: int) -> Difference:
    """The mean of a − b, seed by seed."""
    values = torch.tensor([_last(x, key) - _last(y, key) for x, y in zip(a, b, strict=True)])
    own = [math.hypot(_own(x, key), _own(y, key)) for x, y in zip(a, b, strict=True)]
    error = _error(values.tolist(), own)
    return Difference(values.mean().item(), error, len(values), num, "modes", "samples")


def _mean_and_error(runs: Sequence[Rows], key: str) -> tuple[float, float]:
    values = [_last(rows, key) for rows in runs]
    return sum(values) / len(values), _error(values, [_own(rows, key) for rows in runs])


def _error(values: Sequence[float], own: Sequence[float]) -> float:
    """That of a mean over runs; what images add is in their spread, so the larger one counts."""
    S = len(values)
    of_images = math.sqrt(sum(e * e for e in own)) / S
    if S == 1:
        return of_images
    spread = torch.tensor(values, dtype=torch.float64).std().item() / math.sqrt(S) * student(S - 1)
    return max(of_images, spread)


def _last(rows: Rows, key: str) -> float:
    return rows[-1][key]


def _own(rows: Rows, key: str) -> float:
    error = rows[-1][f"{key} error"]
    return error if math.isfinite(error) else 0.0


def rows_of(found: Found, num: int, published: Mapping[str, Published]) -> Iterator[Row]:
    """Yields each model's scores of samples and of reconstructions, published ones beside."""
    keys = {"modes": "modes covered", "kl": "KL"}
    for model in MODELS:
        for kind in KINDS if model in ENCODERS else KINDS[:1]:
            for score, (quantity, unit) in SCORES.items():
                values = [_last(rows, f"{kind}: {score}") for rows in found[model]]
                own = [_own(rows, f"{kind}: {score}") for rows in found[model]]
                theirs = published.get(f"{model}, {keys.get(score)}") if kind == "samples" else None
                yield _row(f"{model}, {kind}", quantity, unit, values, own, num, theirs)


def data_rows(found: Tally, num: int) -> Iterator[Row]:
    """Yields what held-out data score instead of samples: the classifier's own errors."""
    for score, (quantity, unit) in SCORES.items():
        label = "test images instead of samples"
        yield _row(label, quantity, unit, [found[score]], [found[f"{score} error"]], num, None)


def _row(
    label: str, quantity: str, unit: str, values: Sequence[float], own: Sequence[float], num: int,
    published: Published | None,
) -> Row:  # fmt: skip
    several = len(values) > 1
    mean = sum(values) / len(values)
    error = torch.tensor(values, dtype=torch.float64).std().item() if several else own[0]
    kind = f"sd over {len(values)} seeds" if several else "own error, one run"
    return Row(
        label, quantity, mean, error, kind, num_data=num, published=published,
        unit="units" if unit in ("modes", "share") else unit, per_seed=tuple(values),
    )  # fmt: skip


# How evenly modes are met, over a training.
#
# .. math:: \mathrm{KL}(\hat p \| \text{uniform}) - \frac{m - 1}{2n}
#
# m modes met by n samples: the correction of Miller and Madow, without which looks at few samples
# would seem worse than the last one, at many. A count of modes has none: it grows with n as long
# as there are rare modes to be met.

COLOURS = dict(zip(MODELS, (RED, GREEN, BLUE, ORANGE, GREY), strict=True))


def plot_mode_kl(found: Found, plan: StackedPlan) -> Figure:
    """Draws the corrected KL of samples against the share of the training that is done.

    Args:
        found: Looks at all runs; lines are means over seeds.
        plan: Says how long each training is.
    """
    figure, axes = blank(520, 300)
    for model, runs in found.items():
        of = curve(runs, corrected_kl)
        done = of.step / plan.paces[model].steps
        axes.plot(done, of.mean, "-o", color=COLOURS[model], lw=1.6, ms=4, label=model)
    axes.set_xlabel("share of the training")
    axes.set_ylabel("KL(modes of samples ‖ uniform), nats")
    axes.set_ylim(bottom=0)
    legend_above(figure, axes, columns=5)
    return figure


def corrected_kl(row: Look) -> float:
    """Returns the KL of a look at samples, less what perfect ones would show for being few.

    Example:
        >>> round(corrected_kl({"samples: kl": 1.0, "samples: modes": 501, "num": 1000}), 6)
        0.75
    """
    return row["samples: kl"] - (row["samples: modes"] - 1) / (2 * row["num"])


def _rows(run: ThisRun, found: _Found) -> Iterator[Row]:
    yield from data_rows(tally(found.log_probs), len(found.log_probs))
    yield from rows_of(found.runs, run.plan.num_samples, references(NAME))


def _claims(run: ThisRun, found: _Found) -> list[Claim]:
    return stacked_claims(found.runs, run.plan.num_samples, found.log_probs.shape[1])


def _figures(run: ThisRun, found: _Found) -> Mapping[str, Figure]:
    return {
        "pictures": plot_pictures(found.pictures, run.data.test[:NUM_PICTURES].cpu()),
        "mode-kl": plot_mode_kl(found.runs, run.plan),
    }


EXPERIMENT = Experiment(
    name=NAME,
    title="VEEGAN, AVB and hybrids on Stacked MNIST: modes covered",
    plans={"smoke": SMOKE, "cpu": CPU, "paper": PAPER},
    load=_load,
    run=_run,
    provenance=_provenance,
    rows=_rows,
    claims=_claims,
    notes=_notes,
    figures=_figures,
)
