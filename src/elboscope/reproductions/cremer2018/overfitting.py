r"""Cremer et al. (2018): does inference overfit more than the model of the data?

.. math:: \log \hat p(x) - L[q] = (\log \hat p(x) - L[q^*]) + (L[q^*] - L[q])

on training and on held-out images of Fashion-MNIST, at checkpoints of the training. The encoder
sees training images only: held out, its part of the gap, L[q*] − L[q], grows with training and
with the encoder's size, while q* of a held-out image is as good as that of any other. What the
decoder overfits shows in log p̂ instead.
"""

from __future__ import annotations

__all__ = ["EXPERIMENT", "overfitting_claims", "plot_gaps_over_training"]

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from elboscope.core import seeded
from elboscope.data import Binarisation
from elboscope.models import VAE, AuxiliaryRealNVP
from elboscope.plots.style import BLUE, GREY, INK, ORANGE
from elboscope.training import AnnealedEntropy

from ..frame.claims import ERRORS, Claim, Difference, judge
from ..frame.experiment import Experiment, Request, Run
from ..frame.images import BinaryImages, load_binary_images
from ..frame.result import Row
from ..frame.training import PUBLISHED_EPOCHS, Schedule, derived_seed, train_to
from .gaps import FLOW, Gaps, cremer_vae, measure_gaps
from .table1 import ANNEALED_SHARE

NAME = "inference-overfitting"
MODELS = ("Regular", "Large encoder", "Large decoder", "Flow")


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a scale means: data, models, checkpoints, images of either split, sizes."""

    data: str
    num_train: int
    models: tuple[str, ...]
    epochs: tuple[int, ...]
    num_images: int
    num_samples: int = 5000
    max_steps: int = 400
    num_temperatures: int | None = None
    hidden: tuple[int, ...] = (200, 200)
    large: tuple[int, ...] = (500, 500, 500)
    latent_dim: int = 50
    flow: AuxiliaryRealNVP = FLOW

    @property
    def schedule(self) -> Schedule:
        """Training ends at the last checkpoint."""
        return Schedule(epochs=self.epochs[-1], batch_size=100)


SMALL_FLOW = AuxiliaryRealNVP(num_steps=1, hidden=6, context=3)
PAPER = Plan(
    data="Fashion",
    num_train=50_000,
    models=MODELS,
    epochs=(100, 400, 1000, 2000, PUBLISHED_EPOCHS),
    num_images=100,
    num_temperatures=1000,
)
CPU = replace(
    PAPER,
    num_train=5_000,
    models=MODELS[:2],
    epochs=(10, 30, 100),
    num_images=40,
    num_samples=1000,
    max_steps=200,
    num_temperatures=None,
)
SMOKE = replace(
    CPU,
    data="digits",
    num_train=1000,
    models=("Regular", "Flow"),
    epochs=(1, 2),
    num_images=3,
    num_samples=100,
    max_steps=20,
    hidden=(16,),
    large=(24, 24),
    latent_dim=3,
    flow=SMALL_FLOW,
)

ThisRun = Run[Plan, BinaryImages]
Found = Mapping[str, Mapping[int, Mapping[str, Gaps]]]


def _load(request: Request[Plan]) -> BinaryImages:
    plan = request.plan
    return load_binary_images(plan.data, request.options, num_train=plan.num_train)


def _run(run: ThisRun) -> Found:
    return {name: _over_training(name, run) for name in run.plan.models}


def _provenance(run: ThisRun, found: Found) -> Mapping[str, object]:
    plan = run.plan
    searched = {"checkpoints": list(plan.epochs), "max_steps": plan.max_steps}
    return run.provenance(
        epochs=plan.epochs[-1],
        data=run.data.record(),
        settings=plan.schedule.record() | searched,
    )


def _over_training(name: str, run: ThisRun) -> Mapping[int, Mapping[str, Gaps]]:
    """The gaps at every checkpoint: each is measured before the training goes on."""
    images, plan = run.data, run.plan
    model = _untrained(name, images, plan, run.seed).to(run.device)
    chosen = {
        "train": images.first_of_train(plan.num_images).to(run.device),
        "validation": images.held_out[: plan.num_images].to(run.device),
    }
    found: dict[int, Mapping[str, Gaps]] = {}
    for epoch in plan.epochs:
        _train(epoch, name, model, run)
        found[epoch] = {
            split: measure_gaps(
                f"{name}, epoch {epoch}, {split}",
                model,
                x,
                "flow" if name == "Flow" else "diagonal",
                run.now,
                num_samples=plan.num_samples,
                max_steps=plan.max_steps,
                seed=run.seed,
                flow=name == "Flow",
                num_temperatures=plan.num_temperatures,
            )
            for split, x in chosen.items()
        }
    return found


def _untrained(name: str, images: BinaryImages, plan: Plan, seed: int) -> VAE:
    with seeded(derived_seed(name, seed)):
        return cremer_vae(
            images.train,
            plan.flow if name == "Flow" else None,
            encoder=plan.large if name == "Large encoder" else plan.hidden,
            decoder=plan.large if name == "Large decoder" else plan.hidden,
            latent_dim=plan.latent_dim,
        )


def _train(epoch: int, name: str, model: VAE, run: ThisRun) -> None:
    """Trains up to a checkpoint. An earlier one has lost its weights, but its gaps are kept."""
    annealed = AnnealedEntropy(run.plan.epochs[-1] * ANNEALED_SHARE)
    train_to(
        epoch, name, model, annealed, run.data.train, run.plan.schedule, run.seed, run.now,
        run.device, binarisation=Binarisation("none"),
    )  # fmt: skip


def _rows(run: ThisRun, found: Found) -> Iterator[Row]:
    for name, epochs in found.items():
        for epoch, splits in epochs.items():
            for split, gaps in splits.items():
                yield from _of_split(f"{name} ({split})", epoch, gaps, run.plan)


def _of_split(label: str, epoch: int, gaps: Gaps, plan: Plan) -> Iterator[Row]:
    values = {
        "log p̂": gaps.log_px,
        "L[q*]": gaps.optimal,
        "L[q]": gaps.elbo,
        "approximation gap": gaps.approximation,
        "amortisation gap": gaps.amortisation,
    }
    for quantity, v in values.items():
        n = len(v)
        yield Row(label, quantity, v.mean().item(), (v.std() / n**0.5).item(), "se over images",
                  epoch, plan.num_samples, n)  # fmt: skip


def _notes(run: ThisRun, found: Found) -> Iterator[str]:
    yield "The paper shows curves, without publishing a number."
    yield (
        f"Trained on the first {run.plan.num_train} training images; validation images are the "
        "first of the others. Both are binarised once and for all."
    )
    every = [gaps for epochs in found.values() for splits in epochs.values()
             for gaps in splits.values()]  # fmt: skip
    widest = max(gaps.within[gaps.family] for gaps in every)
    yield (
        f"Means of L[q*] are certain to ±{widest:.3f} nats or better; the claims' errors include "
        "it. log p̂ is a lower bound in expectation, from q or from q*, whichever is higher."
    )
    yield from run.plan.schedule.remarks(1)


# What Cremer et al. conclude from their curves, with a verdict for every model that was run.
#
# The amortisation gap A of a model at its first and last checkpoint, on training and held-out
# images:
#
# - held out, A grows with training; on training images it shrinks;
# - held out, a larger encoder has the larger A at the end;
# - A(held out) − A(training) at the end is larger than the same difference of the approximation
# gap;
# - it has grown more than log p̂(training) − log p̂(held out): inference overfits more than p(x).
#
# Differences on the same images are in pairs; those of training and held-out images are not. The
# errors include what the certificates of q* leave open, c nats counted as two errors.

SOURCE = "Cremer et al. 2018, generalisation of inference, in words, arXiv 1801.03558"

Values = Callable[[Gaps], Tensor]
Splits = Mapping[str, Gaps]


def overfitting_claims(found: Mapping[str, Mapping[int, Splits]]) -> Iterator[Claim]:
    """Yields the claims.

    Args:
        found: Gaps by model, epoch and split.
    """
    for name, epochs in found.items():
        yield from _of_model(name, list(epochs.values()))
    if {"Regular", "Large encoder"} <= set(found):
        large, regular = (list(found[n].values())[-1] for n in ("Large encoder", "Regular"))
        delta = _grown(large["validation"], regular["validation"], _amortisation, "validation")
        text = "validation: the larger encoder has the larger amortisation gap at the end"
        yield judge(text, SOURCE, delta)


def _of_model(name: str, splits: list[Splits]) -> Iterator[Claim]:
    first, last = splits[0], splits[-1]
    grown = {s: _grown(last[s], first[s], _amortisation, s) for s in ("train", "validation")}
    yield judge(f"{name}: the amortisation gap of validation images grows with training", SOURCE,
                 grown["validation"])  # fmt: skip
    yield judge(f"{name}: the amortisation gap of training images shrinks with training", SOURCE,
                 grown["train"], -1)  # fmt: skip
    text = f"{name}: training and validation differ more in amortisation than in approximation"
    yield judge(text, SOURCE, _minus(*(_mean(_balance(last[s]), (2 * _open(last[s]),), s)
                                        for s in ("validation", "train"))))  # fmt: skip
    text = f"{name}: with training, inference overfits more than log p̂ does"
    yield judge(text, SOURCE, _minus(*(_grown(last[s], first[s], _amortised, s)
                                        for s in ("validation", "train"))))  # fmt: skip


def _amortisation(gaps: Gaps) -> Tensor:
    return gaps.amortisation


def _balance(gaps: Gaps) -> Tensor:
    """Amortisation − approximation, of the same image: L[q*] is in it twice."""
    return gaps.amortisation - gaps.approximation


def _amortised(gaps: Gaps) -> Tensor:
    """A + log p̂: what it grows by is what A grows by beyond what log p̂ falls by."""
    return gaps.amortisation + gaps.log_px


def _grown(a: Gaps, b: Gaps, values: Values, split: str) -> Difference:
    """a − b in pairs, of the images that both have."""
    rows = a.rows[torch.isin(a.rows, b.rows)]
    delta = values(a)[torch.isin(a.rows, rows)] - values(b)[torch.isin(b.rows, rows)]
    return _mean(delta, (_open(a), _open(b)), split)


def _open(gaps: Gaps) -> float:
    return gaps.within.get(gaps.family, math.nan) / ERRORS


def _mean(values: Tensor, open_: tuple[float, ...], split: str) -> Difference:
    n = len(values)
    error = (values.std() / math.sqrt(n)).item() if n > 1 else math.nan
    return Difference(values.mean().item(), math.hypot(error, *open_), 1, n, data=f"{split} images")


def _minus(a: Difference, b: Difference) -> Difference:
    """The difference of two differences on independent images."""
    return Difference(a.value - b.value, math.hypot(a.error, b.error), 1, a.num_data,
                      data="images of either kind")  # fmt: skip


# Gaps of training and of held-out images while a model is trained: a panel a model.

PARTS = (("approximation", BLUE), ("amortisation", ORANGE))
SPLITS = (("train", "-", "o"), ("validation", "--", "s"))
WIDTH, HEIGHT = 2.9, 2.9  # inches, of a panel


def plot_gaps_over_training(found: Mapping[str, Mapping[int, Mapping[str, Gaps]]]) -> Figure:
    """Returns the figure; bars are two standard errors over the images.

    Args:
        found: By model, epoch, and split ("train" or "validation").
    """
    figure = Figure(figsize=(WIDTH * len(found), HEIGHT), layout="constrained")
    panels = figure.subplots(1, len(found), sharey=True, squeeze=False)[0]
    for axes, (name, epochs) in zip(panels, found.items(), strict=True):
        _draw(axes, epochs)
        axes.set_title(name, fontsize=9, color=INK)
        axes.set_xlabel("epoch", fontsize=8)
    panels[0].set_ylabel("nats", fontsize=8)
    panels[0].legend(fontsize=7, frameon=False)
    return figure


def _draw(axes: Axes, epochs: Mapping[int, Mapping[str, Gaps]]) -> None:
    for part, colour in PARTS:
        for split, line, marker in SPLITS:
            values = [getattr(splits[split], part) for splits in epochs.values()]
            means = [v.mean().item() for v in values]
            bars = [ERRORS * (v.std() / len(v) ** 0.5).item() for v in values]
            axes.errorbar(list(epochs), means, bars, label=f"{part}, {split}", color=colour,
                          linestyle=line, marker=marker, markersize=3, linewidth=1.2)  # fmt: skip
    axes.set_xscale("log")
    axes.tick_params(labelsize=7, colors=GREY)
    axes.spines[["top", "right"]].set_visible(False)


EXPERIMENT = Experiment(
    name=NAME,
    title="Inference Suboptimality in Variational Autoencoders: overfitting of inference",
    plans={"smoke": SMOKE, "cpu": CPU, "paper": PAPER},
    load=_load,
    run=_run,
    provenance=_provenance,
    rows=_rows,
    claims=lambda run, found: overfitting_claims(found),
    notes=_notes,
    figures=lambda run, found: {"gaps": plot_gaps_over_training(found)},
)
