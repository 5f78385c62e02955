r"""Rosca et al. (2018): do VAE-GAN hybrids draw better than VAEs, and than GANs?

VAE, AAE, VEEGAN, VGH, VGH++, DCGAN and WGAN-GP with one size of generator, each scored on samples
of the prior and, where there is an encoder, on reconstructions: what samples lack beside these is
the inference–generation gap. Every model is trained with several seeds in its own setting, and
once in each other setting of the published sweep, since how much a model depends on its settings
is itself a claim. There is no column of ELBOs: for models that learned from the ratio of an
adversary there is none to report.
"""

from __future__ import annotations

__all__ = ["reproduce_hybrids", "reproduce_one_hybrid"]

from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from matplotlib.figure import Figure
from torch import Tensor

from ..frame.claims import without_verdict
from ..frame.result import Reproduction, Scale
from ..frame.sitting import (
    Options,
    Progress,
    Sitting,
    provenance,
    sitting,
    sitting_of_one_run,
    training_device,
)
from .hybrid_plan import MODELS, HybridImages, HybridsPlan, load_hybrid_images
from .hybrid_runs import Outcomes, Processes, all_runs, one_process_each, run_name, this_run
from .hybrid_scores import (
    NUM_PICTURES,
    Found,
    Scores,
    data_rows,
    hybrid_claims,
    model_rows,
    plot_pictures,
    plot_scores,
    plot_settings,
    scores_of_data,
    sweep_rows,
)

PUBLISHED_STEPS = {"ColorMNIST": 100_000, "CIFAR-10": 200_000, "CelebA": 200_000}


def reproduce_hybrids(
    name: str,
    plans: Mapping[Scale, HybridsPlan],
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
        plans: What the scales mean.
        scale: Which.
        out: Folder of the state; the result is saved there by ``Reproduction.save``.
        seed: Of the first run; run s has seed + s.
        options: Where the data are; slices and resuming.
        progress: Told what is being done.

    Raises:
        InputError: The data are not to be had, or the folder is in use.
        Unfinished: The slice of time is over.
    """
    plan, options, device = plans[scale], options or Options(), training_device(scale)
    images = load_hybrid_images(plan, options, seed, device)
    asked = _asked(name, scale, seed, images)
    with sitting(out, asked, options, progress) as now:
        others = None
        if options.workers is not None:
            others = one_process_each(
                images, plan, seed, asked, options.workers, now, begin_failed=options.resume
            )
        failed = {} if others is None else others.failed
        of_data = scores_of_data(images, plan, seed, now)
        outcomes = all_runs(images, plan, seed, now, failed)
        record = _record(plan, images, seed, device, now, others)
    found = {(run.setting, run.number): outcome.scores for run, outcome in outcomes.items()}
    claims = tuple(hybrid_claims(found, plan))
    return Reproduction(
        name,
        "Distribution Matching in Variational Inference: samples of VAEs, hybrids and GANs",
        scale,
        rows=(*data_rows(of_data, plan), *model_rows(found, plan), *sweep_rows(found, plan)),
        claims=without_verdict(claims) if scale == "smoke" else claims,
        notes=tuple(_notes(plan, images, scale, outcomes, failed)),
        provenance=record,
        figures=_figures(found, of_data, _pictures(outcomes, plan), images, plan),
        failed=tuple(failed),
    )


def reproduce_one_hybrid(
    name: str,
    plans: Mapping[Scale, HybridsPlan],
    number: int,
    scale: Scale,
    *,
    out: Path,
    seed: int = 0,
    options: Options | None = None,
    progress: Progress | None = None,
) -> None:
    """Trains and scores one of the runs for :func:`reproduce_hybrids`, which holds the folder.

    Args:
        name: Of the reproduction.
        plans: What the scales mean.
        number: Of the run, in ``plan.runs``; the one behind the last scores held-out data.
        scale: Which.
        out: Folder of the state.
        seed: Of the reproduction.
        options: Where the data are.
        progress: Told what is being done.

    Raises:
        InputError: No such run, a folder of something else, or a run in other hands.
        KeyboardInterrupt: Ctrl-C or SIGTERM came; the state is saved.
    """
    plan = plans[scale]
    called = run_name(number, plan)
    images = load_hybrid_images(plan, options or Options(), seed, training_device(scale))
    asked = _asked(name, scale, seed, images)
    with sitting_of_one_run(out, asked, called, progress) as now:
        this_run(number, images, plan, seed, now)


def _asked(name: str, scale: Scale, seed: int, images: HybridImages) -> dict[str, object]:
    return {"name": name, "scale": scale, "seed": seed, "sha256": images.checksum}


def _pictures(outcomes: Outcomes, plan: HybridsPlan) -> dict[str, Mapping[str, Tensor]]:
    """Those of each model's first run in its own setting."""
    found: dict[str, Mapping[str, Tensor]] = {}
    for run, outcome in outcomes.items():
        if run.setting == plan.own(run.setting.model):
            found.setdefault(run.setting.model, outcome.pictures)
    return {model: found[model] for model in MODELS}


def _figures(
    found: Found,
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
    plan: HybridsPlan,
    images: HybridImages,
    seed: int,
    device: torch.device,
    now: Sitting,
    others: Processes | None,
) -> dict[str, object]:
    counts = {"train": len(images.train), "compared": len(images.compared)}
    counts |= {"reconstructed": len(images.reconstructed)}
    record = provenance(
        seed=seed,
        device=device,
        wall_seconds=now.seconds,
        epochs=None,
        data={"name": plan.stand_in or plan.data, **counts, "sha256": images.checksum},
        settings=plan.record(),
    )
    if others is None:
        return record
    where = {"device": "; ".join(others.devices)} if others.devices else {}
    return record | where | {"seconds_of_workers": round(others.seconds, 1)}


def _notes(
    plan: HybridsPlan,
    images: HybridImages,
    scale: Scale,
    outcomes: Outcomes,
    failed: Mapping[str, str],
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
    for run, outcome in outcomes.items():
        if outcome.steps < plan.steps:
            label = f"{run.setting.label}, run {run.number}"
            yield f"{label}: diverged; scored as it was after {outcome.steps} steps."
    for called, reason in failed.items():
        yield f"{called} failed, and no number is of it: {reason}"


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
