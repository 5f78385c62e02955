r"""Rosca et al. (2018): do VAE-GAN hybrids draw better than VAEs, and than GANs?

Three experiments of one kind: on ColorMNIST, whose 1000 modes can be counted; on CIFAR-10, by
networks of the DCGAN; and on CelebA, by the same, from a folder of the user.

VAE, AAE, VEEGAN, VGH, VGH++, DCGAN and WGAN-GP with one size of generator, each scored on samples
of the prior and, where there is an encoder, on reconstructions: what samples lack beside these is
the inference–generation gap. Every model is trained with several seeds in its own setting, and
once in each other setting of the published sweep, since how much a model depends on its settings
is itself a claim. There is no column of ELBOs: for models that learned from the ratio of an
adversary there is none to report.
"""

from __future__ import annotations

__all__ = ["CELEBA", "CIFAR_10", "COLOR_MNIST"]

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import NamedTuple

from matplotlib.figure import Figure
from torch import Tensor

from elboscope.estimators.samples.critic import CriticTraining

from ..frame.experiment import Experiment, Request, Run, SeparateRuns
from ..frame.figures import plot_pictures
from ..frame.result import Row, Scale
from .hybrid_plan import MODELS, HybridImages, HybridsPlan, load_hybrid_images
from .hybrid_runs import Outcomes, Processes, all_runs, one_process_each, run_name, this_run
from .hybrid_scores import (
    NUM_PICTURES,
    Found,
    Scores,
    data_rows,
    hybrid_claims,
    model_rows,
    plot_scores,
    plot_settings,
    scores_of_data,
    sweep_rows,
)

PUBLISHED_STEPS = {"ColorMNIST": 100_000, "CIFAR-10": 200_000, "CelebA": 200_000}

# Plans. Published: 5 seeds and the whole sweep. On a CPU: some hundred steps of narrow networks, a
# small sweep for ColorMNIST and none for the others. Smoke: digits, enlarged for the latter two.
COLOR_MNIST_PAPER = HybridsPlan(data="ColorMNIST")
CIFAR_PAPER = replace(
    COLOR_MNIST_PAPER,
    data="CIFAR-10",
    num_compared=5000,
    num_samples=5000,
    steps=200_000,
    maps=(64, 128, 256),
    latents=100,
)
CELEBA_PAPER = replace(
    CIFAR_PAPER, data="CelebA", num_compared=9981, num_samples=9981, maps=(64, 128, 256, 512)
)
COLOR_MNIST_CPU = replace(
    COLOR_MNIST_PAPER,
    num_train=6400,
    num_compared=1000,
    num_samples=1000,
    steps=600,
    rate=2e-3,
    swept_rates=(1e-3, 4e-3),
    swept_weights=((1.0, 1.0), (50.0, 50.0)),
    maps=(8, 16),
    critic=CriticTraining(
        steps=100, maps=(8, 16), num_seeds=1, num_evaluated=500, evaluations=2, batch_size=32
    ),
    crossed=False,
    swept=("VGH++", "DCGAN"),
    discriminator_maps=(8, 16, 16, 16, 16),
    joint_maps=(8, 16),
    code_hidden=(64, 64),
    latents=20,
    batch_size=32,
    critic_steps=2,
)
CIFAR_CPU = replace(
    COLOR_MNIST_CPU,
    data="CIFAR-10",
    num_train=20_000,
    num_compared=2000,
    num_samples=2000,
    steps=300,
    seeds=3,
    rate=1e-3,
    swept_rates=(),
    swept_weights=(),
    maps=(16, 32, 64),
    swept=(),
    discriminator_maps=CIFAR_PAPER.discriminator_maps,
    latents=50,
)
CELEBA_CPU = replace(
    CIFAR_CPU,
    data="CelebA",
    num_train=5000,
    num_compared=1000,
    num_samples=1000,
    seeds=2,
    maps=(8, 16, 32, 64),
)
COLOR_MNIST_SMOKE = replace(
    COLOR_MNIST_CPU,
    num_train=200,
    num_compared=40,
    num_samples=40,
    steps=3,
    seeds=2,
    rate=1e-3,
    swept_rates=(2e-3,),
    swept_weights=((1.0, 1.0),),
    maps=(4, 4),
    critic=CriticTraining(
        steps=2, maps=(4, 8), num_seeds=2, num_evaluated=40, evaluations=1, batch_size=16
    ),
    discriminator_maps=(4, 4),
    joint_maps=(4, 4),
    code_hidden=(8,),
    latents=4,
    batch_size=16,
    stand_in="color digits",
)
CIFAR_SMOKE = replace(
    COLOR_MNIST_SMOKE,
    data="CIFAR-10",
    num_train=100,
    steps=2,
    seeds=1,
    swept_rates=(),
    maps=(4, 4, 4),
    critic=replace(COLOR_MNIST_SMOKE.critic, num_seeds=1),
    swept=("VGH++",),
    discriminator_maps=CIFAR_PAPER.discriminator_maps,
    stand_in="large digits",
)
CELEBA_SMOKE = replace(
    CIFAR_SMOKE, data="CelebA", num_train=60, maps=(4, 4, 4, 4), stand_in="larger digits"
)


class HybridsFound(NamedTuple):
    """The scores of every run, those of held-out data, and what became of other processes."""

    outcomes: Outcomes
    of_data: Scores
    others: Processes | None

    @property
    def scores(self) -> Found:
        """By setting and number of the run."""
        return {(run.setting, run.number): o.scores for run, o in self.outcomes.items()}

    @property
    def failed(self) -> Mapping[str, str]:
        """Why runs failed, by name."""
        return {} if self.others is None else self.others.failed


ThisRun = Run[HybridsPlan, HybridImages]


def _load(request: Request[HybridsPlan]) -> HybridImages:
    return load_hybrid_images(request.plan, request.options, request.seed, request.device)


def _run(run: ThisRun) -> HybridsFound:
    images, plan, seed, now, options = run.data, run.plan, run.seed, run.now, run.options
    others = None
    if options.workers is not None:
        others = one_process_each(
            images, plan, seed, run.asked, options.workers, now, begin_failed=options.resume
        )
    failed = {} if others is None else others.failed
    of_data = scores_of_data(images, plan, seed, now)
    return HybridsFound(all_runs(images, plan, seed, now, failed), of_data, others)


def _one_run(number: int, run: ThisRun) -> None:
    this_run(number, run.data, run.plan, run.seed, run.now)


def _pictures(outcomes: Outcomes, plan: HybridsPlan) -> dict[str, Mapping[str, Tensor]]:
    """Those of each model's first run in its own setting."""
    found: dict[str, Mapping[str, Tensor]] = {}
    for run, outcome in outcomes.items():
        if run.setting == plan.own(run.setting.model):
            found.setdefault(run.setting.model, outcome.pictures)
    return {model: found[model] for model in MODELS}


def _figures(run: ThisRun, found: HybridsFound) -> Mapping[str, Figure]:
    plan, scores = run.plan, found.scores
    reconstructed = run.data.reconstructed[:NUM_PICTURES].cpu()
    figures = {
        "pictures": plot_pictures(_pictures(found.outcomes, plan), reconstructed),
        "scores": plot_scores(scores, found.of_data, plan),
    }
    return figures | ({"settings": plot_settings(scores, plan)} if plan.swept else {})


def _provenance(run: ThisRun, found: HybridsFound) -> Mapping[str, object]:
    images, plan, others = run.data, run.plan, found.others
    record = run.provenance(
        epochs=None,
        data={
            "name": plan.stand_in or plan.data,
            "train": len(images.train),
            "compared": len(images.compared),
            "reconstructed": len(images.reconstructed),
            "sha256": images.checksum,
        },
        settings=plan.record(),
    )
    if others is None:
        return record
    where = {"device": "; ".join(others.devices)} if others.devices else {}
    return record | where | {"seconds_of_workers": round(others.seconds, 1)}


def _rows(run: ThisRun, found: HybridsFound) -> Iterator[Row]:
    yield from data_rows(found.of_data, run.plan)
    yield from model_rows(found.scores, run.plan)
    yield from sweep_rows(found.scores, run.plan)


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
            "No classifier of these images is available: no Inception Score, no neighbours and no "
            "Fréchet distance, only the diversity of the pixels and the independent critic."
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
        "Ŵ comes from critics with the gradient penalty, the same for all models: it is no "
        "distance, but lower is nearer. The Fréchet distance is not the FID of Inception's "
        "features."
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
        yield f"{called} failed and is excluded from every number: {reason}"


def _little(plan: HybridsPlan, scale: Scale) -> Iterator[str]:
    """What is smaller than in the paper."""
    if plan.stand_in:
        yield f"{plan.stand_in} instead of {plan.data}."
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
        yield f"{plan.seeds} seeds: intervals are wide, and each includes Student's quantile."


COLOR_MNIST = Experiment(
    name="hybrids-colormnist",
    title="Distribution Matching in Variational Inference: samples of VAEs, hybrids and GANs",
    plans={"smoke": COLOR_MNIST_SMOKE, "cpu": COLOR_MNIST_CPU, "paper": COLOR_MNIST_PAPER},
    load=_load,
    run=_run,
    provenance=_provenance,
    rows=_rows,
    claims=lambda run, found: hybrid_claims(found.scores, run.plan),
    notes=lambda run, found: _notes(run.plan, run.data, run.scale, found.outcomes, found.failed),
    figures=_figures,
    separate=SeparateRuns(
        name=run_name,
        work=_one_run,
        failed=lambda found: found.failed,
    ),
)
CIFAR_10 = replace(
    COLOR_MNIST,
    name="hybrids-cifar10",
    plans={"smoke": CIFAR_SMOKE, "cpu": CIFAR_CPU, "paper": CIFAR_PAPER},
)
CELEBA = replace(
    COLOR_MNIST,
    name="hybrids-celeba",
    plans={"smoke": CELEBA_SMOKE, "cpu": CELEBA_CPU, "paper": CELEBA_PAPER},
)
