r"""Rosca et al. (2018), §4.2: VAEs and adversarial autoencoders with 10 to 10 000 latents.

A VAE pays for each latent that it uses, KL(q(z_j|x)‖p(z_j)), and leaves those that it does not
need at the prior: sparse codes, however many there are. An AAE pays nothing for a latent, since
only the aggregate q(z) is compared with the prior, and by a classifier: it uses all of them, and
makes each posterior as narrow as it likes, towards a deterministic code. So I(n; z) is all it can
be, log N, and the average KL grows without limit as σ → 0: it is stated with the floor of σ.

The file is long because the section is whole here: runs, rows, claims, figures.
"""

from __future__ import annotations

__all__ = ["EXPERIMENT", "claims_of", "plot_codes", "plot_pictures"]

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from elboscope.core import InputError, seeded
from elboscope.distributions.posteriors import LOG_VARIANCE_RANGE
from elboscope.plots.samples import sample_grid_data
from elboscope.plots.style import BLUE, GREEN, GREY, INK, ORANGE, blank, dressed, legend_above

from ..frame.claims import Claim, Difference, difference, judge
from ..frame.course import run_course
from ..frame.experiment import Experiment, Request, Run, Sets
from ..frame.result import Row
from ..frame.sitting import Options
from ..frame.training import derived_seed, file_name
from .hybrid_runs import BATCH_SIZE, Pace, evaluation_draw, hybrid_course, new_autoencoder
from .latent_codes import (
    BINS,
    CPU,
    FACES,
    PAPER,
    SMOKE,
    WIDE_HIDDEN,
    WIDEST,
    Codes,
    Pictures,
    ScalingPlan,
    Subject,
    codes_of,
    from_bytes,
    load_images,
    to_bytes,
)

NAME = "latent-scaling"
IMAGES, JACKKNIFE = "se over images", "jackknife over images"
NEAR = 0.1
MOST = 10_000
Found = Mapping[Subject, Codes]


class Available(NamedTuple):
    """The data sets by name, and what is said of those that are missing."""

    images: Sets[Pictures]
    missing: tuple[str, ...]

    @property
    def checksum(self) -> dict[str, object]:
        """The checksum of each."""
        return self.images.checksum


ThisRun = Run[ScalingPlan, Available]


def _load(request: Request[ScalingPlan]) -> Available:
    return _images(request.plan, request.options)


def _images(plan: ScalingPlan, options: Options) -> Available:
    """Faces may be missing, since the user brings them; digits must be there."""
    images, missing = Sets[Pictures](), []
    for data in plan.data:
        try:
            images[data] = load_images(data, plan, options)
        except InputError as problem:
            if data != FACES:
                raise
            missing.append(f"Without {data}, which is brought by the user: {problem}")
    return Available(images, tuple(missing))


def _run(run: ThisRun) -> Found:
    subjects = (subject for subject in run.plan.subjects if subject.data in run.data.images)
    return {subject: _measure(subject, run) for subject in subjects}


def _provenance(run: ThisRun, found: Found) -> Mapping[str, object]:
    images, plan = run.data.images, run.plan
    data = {name: {"num_images": len(p.x), "sha256": p.checksum} for name, p in images.items()}
    return run.provenance(
        epochs=None,
        data=data | ({"stand_in": {"name": plan.stand_in}} if plan.stand_in else {}),
        settings=plan.record(),
    )


def _measure(subject: Subject, run: ThisRun) -> Codes:
    """The codes of a trained model; what a sitting before did is only read."""
    name, plan, seed, now = subject.label, run.plan, run.seed, run.now
    x = run.data.images[subject.data].x.to(run.device)
    kept = now.folder / f"{file_name(name)}-codes.safetensors"
    hidden = WIDE_HIDDEN if subject.wide else plan.code_hidden
    maps, steps = plan.maps[subject.data], plan.steps[subject.data]

    def look(step: int) -> dict[str, float]:
        some = evaluation_draw(x[: plan.num_images], of_training=True)
        now.keep(kept.name, to_bytes(codes_of(model, some, seed)))
        return {}

    if not kept.is_file():
        with seeded(derived_seed(f"weights of {name}", seed)):
            model = new_autoencoder(subject.kind, x, subject.latents, maps, hidden).to(x.device)
        now.say(f"{name}: training", 0, steps)
        pace = Pace(plan.rate, derived_seed(name, seed))
        identity = {"data": subject.data, "latents": subject.latents}
        rows = run_course(
            hybrid_course(name, subject.kind, model, x, pace, (steps,), look, identity), now
        )
        if not rows:
            do = "Another --seed, and a report of this one, would help."
            raise InputError(name, expected="a training that stays finite", got="weights", do=do)
    return from_bytes(kept)


def _rows(run: ThisRun, found: Found) -> Iterator[Row]:
    for subject, codes in found.items():
        yield from _rows_of(subject, codes, run.plan)


def _rows_of(subject: Subject, codes: Codes, plan: ScalingPlan) -> Iterator[Row]:
    N = len(codes.kl)
    epochs = round(plan.steps[subject.data] * BATCH_SIZE / plan.num_train)

    def row(quantity: str, values: Tensor, unit: str = "nats") -> Row:
        error = values.std().item() / math.sqrt(N)
        mean = values.mean().item()
        return Row(subject.label, quantity, mean, error, IMAGES, epochs, num_data=N, unit=unit)

    def count(quantity: str, value: float, error: Tensor) -> Row:
        return Row(
            subject.label, quantity, value, error.item(), JACKKNIFE, epochs, num_data=N,
            unit="units",
        )  # fmt: skip

    yield count("active units", float(codes.active), codes.active_error)
    yield count("effective number of dimensions", codes.effective, codes.effective_error)
    yield row("posterior std, mean over dimensions", codes.std, "z")
    yield row("square of the posterior means, mean over dimensions", codes.spread, "z²")
    yield row("average KL", codes.kl)
    yield row("I(n; z), at most log N", codes.information)
    yield row("KL(q_N‖p)", codes.marginal)
    lowest = max(0.0, codes.kl.mean().item() - codes.log_n)
    yield replace(row("lowest it can be, average KL − log N", codes.kl), value=lowest)
    yield row("E log p(x|z)", codes.reconstruction)
    if subject.kind == "VAE":
        yield row("ELBO", codes.reconstruction - codes.kl)


def _notes(run: ThisRun, found: Found) -> Iterator[str]:
    plan = run.plan
    codes = next(iter(found.values()))
    floor = math.exp(LOG_VARIANCE_RANGE[0] / 2)
    yield (
        f"Posteriors have σ ≥ {floor:.1e} (log σ² ≥ {LOG_VARIANCE_RANGE[0]:g}): once an AAE's σ "
        "reaches this floor, the floor determines its average KL."
    )
    yield (
        f"Codes, KL and reconstruction are those of the first {len(codes.kl)} images, binarised by "
        f"one draw of seed 0, all trained on; log N = {codes.log_n:.2f}. Where I is log N, "
        "KL(q_N‖p) is the average KL less log N, whatever the population's is."
    )
    full = [s.label for s, c in found.items() if c.log_n - c.information.mean() < NEAR]
    yield f"I is within {NEAR:g} nat of log N in: {'; '.join(full) or 'none'}."
    yield (
        "Log-densities of codes are float64; dimensions at the prior add nothing to them, which "
        "is tested with 10 000 of them."
    )
    yield (
        "A unit is active above 0.01 of Var_x(μ_j): a short training leaves many of a VAE's "
        "latents just above it. The effective number, (Σ kl_j)² / Σ kl_j², has no threshold."
    )
    yield "An AAE is trained by a classifier of codes: nothing that it was trained by is a bound."
    if max(plan.latents) < MOST:
        yield f"At this scale up to {max(plan.latents)} latents, where the paper has {MOST}."
    if plan.stand_in:
        yield f"{plan.stand_in} instead of ColorMNIST."
    steps = ", ".join(f"{s} on {name}" for name, s in plan.steps.items())
    yield f"Steps of {BATCH_SIZE} images: {steps}; published: 100 000 and 200 000 (CelebA)."
    yield "One seed: errors hold for these models and say nothing of another run."
    yield from run.data.missing


# Sparse or dense: what Rosca et al. say of VAEs and AAEs with many latents, judged.
#
# Two models of the same images and the same number of latents are compared in pairs, image by
# image. Words that are no difference of two models have a threshold of ours, printed with the
# claim:
# "collapsed" is a mean σ below 0.1, "dense" is nine tenths of the units active, and latents are
# "ignored" where of ten further ones less than one becomes active.

WORDS = "Rosca et al. 2018, §4.2 and app. B, in words, arXiv 1802.06847"
COLLAPSED, DENSE, IGNORED = 0.1, 0.9, 0.1
TRAINING_IMAGES = "training images"


def claims_of(found: Found) -> Iterator[Claim]:
    """Yields the claims about the models of one data set."""
    sizes = sorted({subject.latents for subject in found})
    data = next(iter(found)).data
    vae = {d: found[Subject(data, "VAE", d)] for d in sizes}
    aae = {d: found[Subject(data, "AAE", d)] for d in sizes}
    for d in sizes[1:]:
        yield from _pairs(f"{data}, {d} latents", vae[d], aae[d], d)
    for a, b in pairwise(sizes):
        text = (
            f"{data}: a VAE ignores latents beyond {a}: of those up to {b}, fewer than "
            f"{IGNORED:g} of each become active"
        )
        more = Difference(
            vae[b].active - vae[a].active, _both(vae[a], vae[b]), 1, _num_images(vae[a])
        )
        left = IGNORED * (b - a) - more.value
        yield judge(
            text, WORDS, more._replace(value=left, unit="units to spare", data=TRAINING_IMAGES)
        )
    few, many = sizes[0], sizes[-1]
    yield judge(
        f"{data}: a VAE scales: its ELBO with {many} latents is not below that with {few}",
        WORDS,
        _paired(_elbo(vae[many]), _elbo(vae[few])),
    )
    for subject, codes in found.items():
        if subject.kind == "AAE" and subject.latents == many:
            base = found[subject._replace(latents=few)]
            wider = "even with a wider discriminator, " if subject.wide else ""
            yield judge(
                f"{data}: {wider}an AAE struggles: KL(q_N‖p) is larger with {many} latents than "
                f"with {few}",
                WORDS,
                _paired(codes.marginal, base.marginal),
            )


def _pairs(place: str, vae: Codes, aae: Codes, d: int) -> Iterator[Claim]:
    yield judge(
        f"{place}: an AAE's posterior means spread wider than a VAE's, which are concentrated "
        "at 0 (mean square)",
        WORDS,
        _paired(aae.spread, vae.spread)._replace(unit="z²"),
    )
    yield judge(
        f"{place}: an AAE's posteriors are narrower than a VAE's (mean std)",
        WORDS,
        _paired(vae.std, aae.std)._replace(unit="z"),
    )
    yield judge(
        f"{place}: an AAE's posterior std collapses to 0 (its mean is below {COLLAPSED:g})",
        WORDS,
        _paired(torch.full_like(aae.std, COLLAPSED), aae.std)._replace(unit="z below that"),
    )
    share = Difference(
        (aae.active - vae.active) / d,
        _both(aae, vae) / d,
        1,
        _num_images(vae),
        "of d",
        TRAINING_IMAGES,
    )
    yield judge(f"{place}: an AAE uses more of them than a VAE (active units)", WORDS, share)
    number = Difference(
        (aae.effective - vae.effective) / d,
        math.hypot(aae.effective_error.item(), vae.effective_error.item()) / d,
        1,
        _num_images(vae),
        "of d",
        TRAINING_IMAGES,
    )
    text = f"{place}: an AAE spreads its KL over more of them than a VAE (effective number)"
    yield judge(text, WORDS, number)
    dense = share._replace(value=aae.active / d - DENSE, error=aae.active_error.item() / d)
    text = f"{place}: an AAE's codes are dense (more than {DENSE:.0%} of the units active)"
    yield judge(text, WORDS, dense._replace(unit="of d above that"))
    yield judge(
        f"{place}: an AAE's codes match the prior less than a VAE's (KL(q_N‖p))",
        WORDS,
        _paired(aae.marginal, vae.marginal),
    )


def _paired(a: Tensor, b: Tensor) -> Difference:
    return difference(a[None], b[None], data=TRAINING_IMAGES)


def _elbo(codes: Codes) -> Tensor:
    return codes.reconstruction - codes.kl


def _both(a: Codes, b: Codes) -> float:
    return math.hypot(a.active_error.item(), b.active_error.item())


def _num_images(codes: Codes) -> int:
    return len(codes.kl)


# Sparse beside dense codes: where the means lie, how certain each dimension is, what is made.

PANEL, ROW, PICTURE = 260, 200, 240
SHOWN = 3.5


def plot_codes(found: Found) -> Figure:
    """Returns the figure of one data set: a column for each number of latents.

    Args:
        found: Its models.
    """
    sizes = sorted({subject.latents for subject in found})
    figure, first = blank(60 + PANEL * len(sizes), 60 + 2 * ROW)
    first.remove()
    for column, d in enumerate(sizes):
        means = dressed(figure.add_subplot(2, len(sizes), column + 1))
        scales = dressed(figure.add_subplot(2, len(sizes), len(sizes) + column + 1))
        z = np.linspace(-WIDEST, WIDEST, BINS)
        normal = np.exp(-0.5 * z**2) / np.sqrt(2 * np.pi)
        means.plot(z, normal, color=GREY, lw=1, ls="--", label="prior")
        for subject, codes in found.items():
            if subject.latents == d:
                label, style = _drawn(subject)
                density = codes.histogram / codes.histogram.sum() * BINS / (2 * WIDEST)
                means.step(z, density, where="mid", color=style, lw=1.4, label=label)
                share = np.arange(1, d + 1) / d
                scales.plot(share, codes.unit_std.sort().values, color=style, lw=1.4)
        means.set_yscale("log")
        means.set_ylim(1e-3, 30)
        means.set_xlim(-SHOWN, SHOWN)
        means.set_title(f"{d} latents", fontsize=11.5, color=INK, loc="left")
        means.set_xlabel("posterior mean")
        scales.set_ylim(0, 1.1)
        scales.set_xlabel("share of the dimensions")
        if column == 0:
            means.set_ylabel("density")
            scales.set_ylabel("posterior std")
            legend_above(figure, means, columns=4)
    return figure


def _drawn(subject: Subject) -> tuple[str, str]:
    if subject.kind == "VAE":
        return "VAE", BLUE
    return ("AAE, wider discriminator", GREEN) if subject.wide else ("AAE", ORANGE)


def plot_pictures(found: Found) -> Figure:
    """Returns reconstructions (upper half) and samples (lower half) of every model of a data set.

    Args:
        found: Its models.
    """
    sizes = sorted({subject.latents for subject in found})
    rows = list(dict.fromkeys(_drawn(subject)[0] for subject in found))
    figure, first = blank(PICTURE * len(sizes), (PICTURE + 20) * len(rows))
    first.remove()
    for subject, codes in found.items():
        kind, _ = _drawn(subject)
        place = rows.index(kind) * len(sizes) + sizes.index(subject.latents) + 1
        axes = figure.add_subplot(len(rows), len(sizes), place)
        tiles = torch.cat([codes.reconstructed, codes.samples])
        axes.imshow(sample_grid_data(tiles), interpolation="antialiased")
        axes.set_axis_off()
        title = f"{kind.split(',')[0]}, {subject.latents} latents"
        axes.set_title(title, fontsize=11.5, color=INK, loc="left")
    return figure


def _groups(run: ThisRun, found: Found) -> dict[str, Found]:
    """The models of each data set."""
    names = run.data.images
    return {name: {s: codes for s, codes in found.items() if s.data == name} for name in names}


def _claims(run: ThisRun, found: Found) -> Iterator[Claim]:
    for group in _groups(run, found).values():
        yield from claims_of(group)


def _figures(run: ThisRun, found: Found) -> Mapping[str, Figure]:
    groups = {file_name(name): group for name, group in _groups(run, found).items()}
    codes = {f"codes-{name}": plot_codes(group) for name, group in groups.items()}
    return codes | {f"pictures-{name}": plot_pictures(group) for name, group in groups.items()}


EXPERIMENT = Experiment(
    name=NAME,
    title="Distribution Matching in Variational Inference: VAEs and AAEs with many latents",
    plans={"smoke": SMOKE, "cpu": CPU, "paper": PAPER},
    load=_load,
    run=_run,
    provenance=_provenance,
    rows=_rows,
    claims=_claims,
    notes=_notes,
    figures=_figures,
)
