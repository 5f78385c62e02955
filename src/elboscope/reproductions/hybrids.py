r"""Rosca et al. (2018): do VAE-GAN hybrids draw better than VAEs, and than GANs?

VAE, AAE, VEEGAN, VGH, VGH++, DCGAN and WGAN-GP with one size of generator, each scored on samples
of the prior and, where there is an encoder, on reconstructions: what samples lack beside these is
the inference–generation gap. Every model is trained with several seeds in its own setting, and
once in each other setting of the published sweep, since how much a model depends on its settings
is itself a claim. There is no column of ELBOs: for models that learned from the ratio of an
adversary there is none to report.
"""

from __future__ import annotations

__all__ = ["reproduce_hybrids"]

from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from matplotlib.figure import Figure
from torch import Tensor

from elboscope.core import seeded

from .claims import without_verdict
from .hybrids_claims import hybrid_claims
from .hybrids_data import HybridImages, load_hybrid_images
from .hybrids_figure import plot_pictures, plot_scores, plot_settings
from .hybrids_networks import untrained
from .hybrids_plan import MODELS, HybridsPlan, Setting
from .hybrids_scores import KINDS, NUM_PICTURES, Scores, measured_run, scores_of_data
from .hybrids_table import data_rows, model_rows, sweep_rows
from .hybrids_training import trained_run
from .options import Options, Progress
from .provenance import provenance, training_device
from .result import Reproduction, Scale
from .sitting import Sitting, sitting
from .training import derived_seed, file_name

PUBLISHED_STEPS = {"ColorMNIST": 100_000, "CIFAR-10": 200_000, "CelebA": 200_000}
Runs = dict[tuple[Setting, int], Scores]


def reproduce_hybrids(
    name: str,
    plan: HybridsPlan,
    scale: Scale,
    *,
    out: Path,
    seed: int = 0,
    options: Options | None = None,
    progress: Progress | None = None,
) -> Reproduction:
    """Trains all models in all settings, scores them, and judges the published ordering.

    Args:
        name: Of the reproduction.
        plan: What the scale means.
        scale: Which.
        out: Folder of the state; the result is saved there by ``Reproduction.save``.
        seed: Of the first run; run s has seed + s.
        options: Where the data are; slices and resuming.
        progress: Told what is being done.

    Raises:
        InputError: The data are not to be had, or the folder is in use.
        Unfinished: The slice of time is over.
    """
    options, device = options or Options(), training_device(scale)
    images = load_hybrid_images(plan, options, seed, device)
    asked = {"name": name, "scale": scale, "seed": seed, "sha256": images.checksum}
    with sitting(out, asked, options, progress) as now:
        (now.folder / "data").mkdir(exist_ok=True)
        of_data = scores_of_data(images, plan, seed, now)
        found, pictures, steps = _runs(images, plan, seed, now)
        record = _record(plan, images, seed, device, now)
    claims = tuple(hybrid_claims(found, plan))
    return Reproduction(
        name,
        "Distribution Matching in Variational Inference: samples of VAEs, hybrids and GANs",
        scale,
        rows=(*data_rows(of_data, plan), *model_rows(found, plan), *sweep_rows(found, plan)),
        claims=without_verdict(claims) if scale == "smoke" else claims,
        notes=tuple(_notes(plan, images, scale, steps)),
        provenance=record,
        figures=_figures(found, of_data, pictures, images, plan),
    )


def _runs(
    images: HybridImages, plan: HybridsPlan, seed: int, now: Sitting
) -> tuple[Runs, dict[str, Mapping[str, Tensor]], dict[tuple[Setting, int], int]]:
    found: Runs = {}
    pictures: dict[str, Mapping[str, Tensor]] = {}
    steps: dict[tuple[Setting, int], int] = {}
    for index, (setting, run) in enumerate(plan.runs):
        name = f"{file_name(setting.label.replace('++', 'pp'))}-run-{run}"
        now.say(f"{setting.label}, run {run}", index, len(plan.runs))
        with seeded(derived_seed(f"weights of {setting.model}", seed + run)):
            model = untrained(setting.model, plan, images.shape).to(images.train.device)
        folder = now.folder / name
        steps[setting, run] = trained_run(
            setting, model, images.train, plan, folder, seed + run, now
        )
        own = setting == plan.own(setting.model)
        kinds = KINDS if own else KINDS[:1]
        found[setting, run], shown = measured_run(
            name, model, images, plan, seed + run, now, kinds=kinds
        )
        if own and run == 0:
            pictures[setting.model] = shown
    return found, {m: pictures[m] for m in MODELS}, steps


def _figures(
    found: Runs,
    of_data: Scores,
    pictures: Mapping[str, Mapping[str, Tensor]],
    images: HybridImages,
    plan: HybridsPlan,
) -> dict[str, Figure]:
    figures = {
        "pictures": plot_pictures(pictures, images.reconstructed[:NUM_PICTURES].cpu()),
        "scores": plot_scores(found, of_data, plan),
    }
    return figures | ({"settings": plot_settings(found, plan)} if plan.swept else {})


def _record(
    plan: HybridsPlan, images: HybridImages, seed: int, device: torch.device, now: Sitting
) -> dict[str, object]:
    counts = {"train": len(images.train), "compared": len(images.compared)}
    counts |= {"reconstructed": len(images.reconstructed)}
    return provenance(
        seed=seed,
        device=device,
        wall_seconds=now.seconds,
        epochs=None,
        data={"name": plan.stand_in or plan.data, **counts, "sha256": images.checksum},
        settings=plan.record(),
    )


def _notes(
    plan: HybridsPlan,
    images: HybridImages,
    scale: Scale,
    steps: Mapping[tuple[Setting, int], int],
) -> Iterator[str]:
    if images.reference is not None:
        yield f"Scores by classes and features are those of the {images.reference.label}."
    else:
        yield (
            "No classifier of these images is at hand: no Inception Score, no neighbours, no "
            "Fréchet distance; diversity of the pixels and the independent critic alone."
        )
    yield (
        f"{plan.num_samples} samples and as many reconstructions, compared with "
        f"{plan.num_compared} held-out images; gap: samples − reconstructions. The Inception "
        "Score is a mean of ten parts, and lower for few images: compare it with the data's."
    )
    yield (
        "No ELBO: models that learned from an adversary's ratio have none that could be reported. "
        "The VAE's grey values under a Bernoulli give a cross-entropy."
    )
    yield (
        "Ŵ is of critics with the gradient penalty, the same for all models: no distance, lower is "
        "nearer. The Fréchet distance is not the FID of Inception's features."
    )
    yield (
        "‖x − x̂‖₁ is a mean over pixels and colours; the paper does not say whether it sums. "
        "WGAN-GP's critic has no batch normalisation, which the paper has everywhere."
    )
    yield from _little(plan, scale)
    ended = {key: n for key, n in steps.items() if n < plan.steps}
    for (setting, run), n in ended.items():
        yield f"{setting.label}, run {run}: diverged; scored as it was after {n} steps."


def _little(plan: HybridsPlan, scale: Scale) -> Iterator[str]:
    """What is less than published."""
    if plan.stand_in:
        yield f"{plan.stand_in} in the place of {plan.data}."
    if scale != "paper":
        whole = PUBLISHED_STEPS[plan.data]
        share = plan.steps / whole
        yield (
            f"{plan.steps} steps of batch {plan.batch_size}, {share:.2%} of the published {whole}, "
            f"with {plan.maps} maps and a rate of {plan.rate:g}: nothing has converged. This "
            "compares how models begin; a verdict is about that, and not about the paper's models."
        )
        settings = sum(len(plan.settings(model)) for model in MODELS)
        yield f"The sweep has {settings} settings in all, {plan.critic_steps} critic steps."
    if plan.seeds < 5:
        yield f"{plan.seeds} seeds: intervals are wide, Student's quantile is part of each."
