r"""Stacked MNIST: who learns a thousand modes, by samples that a classifier of digits tells.

Three digits in red, green and blue have 1000 equally likely triples. AVB with adaptive contrast,
VEEGAN, VGH and VGH++ are trained beside a DCGAN, all with a generator of one size; their samples,
and reconstructions of test images where there is an encoder, are counted by mode.

References:
    | VEEGAN: Reducing Mode Collapse in GANs (Srivastava et al., 2017),
      https://arxiv.org/abs/1705.07761
    | Adversarial Variational Bayes (Mescheder et al., 2017), https://arxiv.org/abs/1701.04722
    | Distribution Matching in Variational Inference (Rosca et al., 2018),
      https://arxiv.org/abs/1802.06847
"""

from __future__ import annotations

__all__ = ["reproduce"]

import math
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
from jaxtyping import Float
from safetensors.torch import load_file, save_file
from torch import Tensor

from elboscope.classifiers import Extractor, classifier_for
from elboscope.core import evaluating, seeded
from elboscope.data import Images, color_digits, color_mnist
from elboscope.data.images import content_checksum
from elboscope.estimators import sampler_of
from elboscope.models import Hybrid
from elboscope.training.atomic import replace_file

from .claims import without_verdict
from .density_ratio_runs import Look, Rows, run_course
from .hybrids_figure import plot_pictures
from .hybrids_networks import Trained
from .options import Options, Progress
from .provenance import provenance, training_device
from .published import references
from .result import Reproduction, Scale
from .sitting import Sitting, sitting
from .stacked_mnist_claims import data_rows, rows_of, stacked_claims
from .stacked_mnist_figure import plot_mode_kl
from .stacked_mnist_networks import course_of, untrained
from .stacked_mnist_plan import MODELS, PLANS, Model, StackedPlan
from .stacked_mnist_scores import KINDS, scores_of, tally
from .training import derived_seed, file_name

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


def reproduce(
    scale: Scale,
    *,
    out: Path,
    seed: int = 0,
    options: Options | None = None,
    progress: Progress | None = None,
) -> Reproduction:
    """Trains five models on triples of digits and counts the modes of what they draw.

    Args:
        scale: smoke: small digits, six steps; cpu: some thousand steps of narrow networks, one
            seed; paper: 100 000 steps of the networks of ColorMNIST, 26 000 samples, five seeds.
        out: Folder of the state; the result is saved there by ``Reproduction.save``.
        seed: Of the first run; run s has seed + s.
        options: Where MNIST is; slices and resuming.
        progress: Told what is being done.

    Raises:
        InputError: The data are not to be had, or the folder is in use.
        Unfinished: The slice of time is over.
    """
    options, plan, device = options or Options(), PLANS[scale], training_device(scale)
    data = _data(plan, options, device)
    asked = {"name": NAME, "scale": scale, "seed": seed, "sha256": data.checksum}
    with sitting(out, asked, options, progress) as now:
        found: dict[Model, list[Rows]] = {
            model: [_run(model, s, plan, data, now) for s in range(seed, seed + plan.seeds)]
            for model in MODELS
        }
        pictures: dict[str, Mapping[str, Tensor]] = {
            model: load_file(now.folder / f"{_name(model, seed)}-pictures.safetensors")
            for model in MODELS
        }
        record = _record(plan, data, seed, device, now)
    log_probs = data.classifier(data.test[: plan.num_samples]).log_probs
    claims = stacked_claims(found, plan.num_samples, log_probs.shape[1])
    return Reproduction(
        NAME,
        "VEEGAN, AVB and hybrids on Stacked MNIST: modes covered",
        scale,
        rows=(
            *data_rows(tally(log_probs), len(log_probs)),
            *rows_of(found, plan.num_samples, references(NAME)),
        ),
        claims=without_verdict(claims) if scale == "smoke" else tuple(claims),
        notes=tuple(_notes(plan, data, found)),
        provenance=record,
        figures={
            "pictures": plot_pictures(pictures, data.test[:NUM_PICTURES].cpu()),
            "mode-kl": plot_mode_kl(found, plan),
        },
    )


def _data(plan: StackedPlan, options: Options, device: torch.device) -> _Data:
    images = _images(plan, options)
    train, test = images.train.to(device), images.test.to(device)
    return _Data(train, test, classifier_for(images.data_shape), content_checksum(train, test))


def _images(plan: StackedPlan, options: Options) -> Images:
    if plan.stand_in:
        return color_digits(plan.num_train, plan.num_test)
    return color_mnist(options.data_dir, num_train=plan.num_train, num_test=plan.num_test)


def _name(model: Model, seed: int) -> str:
    return f"{file_name(model.replace('++', 'pp'))}-seed-{seed}"


def _run(model: Model, seed: int, plan: StackedPlan, data: _Data, now: Sitting) -> Rows:
    name = _name(model, seed)
    with seeded(derived_seed(f"weights of {model}", seed)):
        built = untrained(model, plan, data.train).to(data.train.device)
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


def _record(
    plan: StackedPlan, data: _Data, seed: int, device: torch.device, now: Sitting
) -> dict[str, object]:
    counts = {"train": len(data.train), "test": len(data.test)}
    return provenance(
        seed=seed,
        device=device,
        wall_seconds=now.seconds,
        epochs=None,
        data={
            "name": "color digits" if plan.stand_in else "ColorMNIST",
            **counts,
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


def _notes(plan: StackedPlan, data: _Data, found: Mapping[Model, list[Rows]]) -> Iterator[str]:
    classifier = data.classifier
    yield (
        f"Modes are those of the {classifier.name}, {classifier.test_error:.2%} test error; an "
        "image is sure where the triple has p(y|x) > ½. A classifier answers whatever it sees: "
        "smears meet modes too, and the published protocol counts them."
    )
    yield (
        f"{plan.num_samples} images of each kind; the paper has {PROTOCOL}, of which perfect ones "
        "would meet all 1000 modes. Published numbers are of other networks and another classifier."
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
        yield "One seed: a verdict is about these trained models, and knows no spread of trainings."
    for model, runs in found.items():
        pace = plan.paces[model]
        yield f"{model}: {pace.steps} steps of batch {pace.batch_size} at a rate of {pace.rate:g}."
        for seed, rows in enumerate(runs):
            yield from _unlike(model, rows[-1])
            if rows[-1]["step"] < pace.steps:
                yield f"{model}, run {seed}: diverged; its last whole look is shown."


def _unlike(model: Model, row: Look) -> Iterator[str]:
    """That a generator met modes says nothing of the encoder beside it."""
    samples, others = (row.get(f"{kind}: modes", math.nan) for kind in KINDS)
    if others < FEWER * samples:
        yield (
            f"{model}: reconstructions meet {others:.0f} modes where samples meet {samples:.0f}: "
            "the generator has learned, by its discriminator; the encoder does not find codes of "
            "its images yet."
        )
