r"""Rosca et al. (2018): estimates of one marginal KL by mixture, classifiers and density models.

.. math:: \mathrm{KL}(q_N \| p), \qquad \mathbb{E}_q[\operatorname{logit} C(z)], \qquad
          \mathbb{E}_q[\log r(z) - \log p(z)] \le \mathrm{KL}(q \| p)

of a VAE of ColorMNIST, and, in the same table, of two linear-Gaussian models whose KL(q‖p) is
known: a hole of few nats, and one larger than what a classifier of some thousand draws can see.
The classifiers of the paper differ in layers, gradient penalty, activation noise, rate and
dropout. They are trained for all their steps here, as no early stopping is spoken of there; one
with early stopping stands beside them, and gives the two lower bounds of the figure.

The file is long because the table is whole here: plans, estimates, rows, claims, figures.
"""

from __future__ import annotations

__all__ = [
    "EXPERIMENT",
    "PUBLISHED",
    "Found",
    "best_mixture",
    "claims_of",
    "classifiers",
    "plot_classifiers",
    "plot_estimates",
]

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import torch
from matplotlib.axes import Axes

from elboscope.core import seeded
from elboscope.estimators import RatioClassifier
from elboscope.models import LinearGaussian
from elboscope.plots.style import BLUE, FAINT, GREEN, INK, ORANGE, RED, Figure, blank

from ..frame.claims import Claim, Difference, difference, judge, references
from ..frame.experiment import Experiment, Request, Run
from ..frame.result import Row
from ..frame.sitting import Sitting
from ..frame.training import derived_seed
from .aggregate import Estimated, Target, estimates_of
from .marginal_kl import Grey, KLPlan, Subject, load_grey, new_subject, train_subject

NAME = "marginal-kl-estimators"
COLOUR = "ColorMNIST"
STOPPED = "2 layers, early stopping"


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a scale means.

    Attributes:
        vae: Data and training of the VAE, its only subject.
        width: Width of the classifiers' hidden layers.
        steps: Training steps of the classifiers.
        components: K of the mixtures of Gaussians.
        max_steps: Most steps of the density networks.
        latents: d of the linear-Gaussian models.
        num_data: N of their data.
    """

    vae: KLPlan
    width: int
    steps: int
    components: tuple[int, ...]
    max_steps: int
    latents: int
    num_data: int

    def record(self) -> dict[str, object]:
        """Returns what is saved beside a number."""
        own = ("width", "steps", "components", "max_steps", "latents", "num_data")
        return {name: getattr(self, name) for name in own} | {"vae": self.vae.record()}


PAPER = Plan(
    vae=KLPlan(
        subjects=(Subject(COLOUR, "bernoulli", "FFG", 50),),
        num_images=50_000,
        num_train=45_000,
        epochs={COLOUR: 142},
        maps={COLOUR: (32, 64)},
        num_draws=1000,
    ),
    width=1000,
    steps=20_000,
    components=(10, 30, 100, 300, 1000),
    max_steps=20_000,
    latents=10,
    num_data=50_000,
)
CPU = replace(
    PAPER,
    vae=replace(
        PAPER.vae,
        num_images=8192,
        num_train=7168,
        epochs={COLOUR: 9},
        maps={COLOUR: (8, 16)},
        num_draws=512,
        rate=1e-3,
    ),
    width=256,
    steps=1000,
    components=(10, 100, 1000),
    max_steps=500,
    num_data=8192,
)
SMOKE = replace(
    CPU,
    vae=replace(
        CPU.vae,
        subjects=(Subject(COLOUR, "bernoulli", "FFG", 3),),
        num_images=128,
        num_train=128,
        epochs={COLOUR: 2},
        maps={COLOUR: (2, 4)},
        num_draws=64,
        stand_in="color digits",
    ),
    width=8,
    steps=20,
    components=(10, 1000),
    max_steps=20,
    latents=3,
    num_data=400,
)


ThisRun = Run[Plan, Grey]
Estimates = Mapping[Target, "Found"]
"""The estimates of each target, the VAE's first."""


def _load(request: Request[Plan]) -> Grey:
    return load_grey(COLOUR, request.plan.vae, request.options)


def _run(run: ThisRun) -> Estimates:
    plan, seed, now = run.plan, run.seed, run.now
    targets = (
        _trained(run.data.x.to(run.device), plan, seed, now),
        linear_target("small", 0.3, plan, seed),
        linear_target("large", 2.5, plan, seed),
    )
    tried = classifiers(plan.width, plan.steps)
    few = {name: tried[name] for name in (STOPPED, "2 layers", "2 layers, activation noise")}
    return {
        target: _estimate(target, tried if target.truth is None else few, plan, seed, now)
        for target in targets
    }


def _provenance(run: ThisRun, found: Estimates) -> Mapping[str, object]:
    vae, images = run.plan.vae, run.data
    return run.provenance(
        epochs=vae.epochs[COLOUR],
        data={
            "name": vae.stand_in or COLOUR,
            "num_images": len(images.x),
            "sha256": images.checksum,
        },
        settings=run.plan.record(),
    )


def _trained(x: torch.Tensor, plan: Plan, seed: int, now: Sitting) -> Target:
    (subject,) = plan.vae.subjects
    name, epochs = subject.label, plan.vae.epochs[COLOUR]
    colours, height, width = x.shape[1:]
    with seeded(derived_seed(name, seed)):
        model = new_subject(subject, plan.vae, (colours, height, width)).to(x.device)
    train_subject(name, model, x[: plan.vae.num_train], plan.vae, epochs, seed, now)
    return Target(name, model, x, None)


def linear_target(name: str, shift: float, plan: Plan, seed: int) -> Target:
    """Returns a linear-Gaussian model with correlated latents, its posterior means shifted.

    Args:
        name: What to call the hole.
        shift: Shift of every latent, in units of the prior.
        plan: Latents and data.
        seed: Random seed of the model and of its data.
    """
    with seeded(derived_seed("linear-Gaussian", seed)):
        W = torch.randn(plan.latents + 2, plan.latents, dtype=torch.float64)
    exact = LinearGaussian(W, torch.zeros_like(W[:, 0]), 1.0)
    model = exact.with_mistuned_posterior(mean_shift=shift)
    x, _ = model.sample(plan.num_data, seed=derived_seed(name, seed))
    label = f"linear-Gaussian, {name} hole, {plan.latents} latents"
    return Target(label, model, x, model.marginal_kl().item())


def _estimate(
    target: Target,
    tried: Mapping[str, RatioClassifier],
    plan: Plan,
    seed: int,
    now: Sitting,
) -> dict[str, Estimated]:
    K = plan.components if target.truth is None else plan.components[:2]  # those are Gaussian
    return estimates_of(target, tried, K, plan.max_steps, seed, now)


def _rows(run: ThisRun, found: Estimates) -> Iterator[Row]:
    for target, estimates in found.items():
        yield from _rows_of(target, estimates, run.plan)


def _rows_of(target: Target, found: Found, plan: Plan) -> Iterator[Row]:
    trained = target.truth is None
    epochs = plan.vae.epochs[COLOUR] if trained else None
    if target.truth is not None:
        yield Row(target.label, "KL(q‖p) in closed form", target.truth, float("nan"))
    published = references(NAME) if trained and not plan.vae.stand_in else {}
    for name, estimate in _shown(found).items():
        key, _, detail = name.partition(", ")
        estimator = ", ".join(part for part in (READ.get(key, key), detail) if part)
        paper = published.get(PUBLISHED.get(detail, "")) if key == "ratio" else None
        yield Row(
            f"{target.label}: {estimator}", _quantity(key, estimate), estimate.mean,
            estimate.error, "se over datapoints", epochs, None, len(estimate.values), paper,
        )  # fmt: skip


def _shown(found: Found) -> dict[str, Estimated]:
    """All but the two bounds of classifiers that were not stopped early: theirs are the best."""
    other = ("donsker_varadhan", "nwj")
    return {n: e for n, e in found.items() if not n.startswith(other) or n.endswith(STOPPED)}


def _quantity(key: str, estimate: Estimated) -> str:
    if key in EXACT:
        return EXACT[key]
    return "KL(q‖p), lower bound" if estimate.side == "lower" else "KL(q‖p), no bound"


EXACT = {"mixture": "KL(q_N‖p)", "information": "I(n; z)", "average KL": "average KL"}
READ = {
    "mixture": "mixture of all posteriors",
    "average KL": "their rate",
    "information": "their information",
    "ratio": "classifier",
    "donsker_varadhan": "Donsker–Varadhan",
    "maf": "masked autoregressive flow",
    "lstm": "autoregressive LSTM",
    "nwj": "NWJ",
}


def _notes(run: ThisRun, found: Estimates) -> Iterator[str]:
    plan = run.plan
    for target, estimates in found.items():
        if target.truth is not None:
            yield f"{target.label}: {_sides(target.truth, estimates)}."
    vae = next(iter(found.values()))
    yield (
        f"The VAE's best mixture of Gaussians, by the part that chooses: {best_mixture(vae)}; "
        f"{', '.join(map(str, plan.components))} components were tried where the draws suffice."
    )
    yield (
        "The mixture of all posteriors is a value of q_N, on average no less than the population's "
        "KL(q‖p), which lies between it and the largest lower bound, up to their errors."
    )
    excess = [
        f"{estimates['mixture'].mean - target.truth:+.2f}"
        for target, estimates in found.items()
        if target.truth is not None
    ]
    yield (
        f"Where the truth is known, that value exceeds it by {' and '.join(excess)} nats: a "
        "classifier below the mixture need not have failed, but one below a lower bound has."
    )
    yield (
        "Donsker–Varadhan and NWJ say nothing beyond log(S/3) + 1, 11.4 nats with 100 000 prior "
        "draws, whatever the KL is: the large hole shows it."
    )
    yield (
        "Layers, steps and noise size (here 1) of the published classifiers are unknown; "
        "layers are counted from what the paper's text leaves. Compare signs, not values."
    )
    yield "One seed: errors hold for this VAE and this split and say nothing of another run."
    yield f"The VAE was trained for {plan.vae.epochs[COLOUR]} of about 142 published epochs."


def _sides(truth: float, found: Found) -> str:
    """How far each estimate is from the truth."""
    listed = (
        f"{name} {e.mean - truth:+.2f} ± {e.error:.2f}"
        for name, e in _shown(found).items()
        if name not in ("average KL", "information")
    )
    return f"estimate minus the closed form, {truth:.2f}: " + "; ".join(listed)


# The classifiers of Rosca et al. between q(z) and p(z), as far as the paper's text tells them.

# By the classifier's name in our table; the paper counts its layers otherwise.
PUBLISHED: Mapping[str, str] = {
    "2 layers": "ColorMNIST, plain",
    "3 layers": "ColorMNIST, one more layer",
    "3 layers, activation noise": "ColorMNIST, activation noise",
    "3 layers, gradient penalty": "ColorMNIST, gradient penalty",
    "2 layers, activation noise": "second set, rate 5e-4, activation noise",
    "2 layers, rate 1e-4": "second set, rate 1e-4",
    "2 layers, dropout": "second set, rate 5e-4, dropout",
}


def classifiers(width: int, steps: int) -> dict[str, RatioClassifier]:
    """Returns the classifiers by name; the first alone is stopped early.

    Args:
        width: Width of each hidden layer.
        steps: Gradient steps of each.

    Example:
        >>> tried = classifiers(256, 1000)
        >>> tried["3 layers, activation noise"].activation_noise, tried["3 layers"].hidden
        (1.0, (256, 256, 256))
        >>> set(PUBLISHED) < set(tried)
        True
    """
    two, three = (width,) * 2, (width,) * 3

    def trained(
        hidden: tuple[int, ...],
        rate: float = 5e-4,
        noise: float = 0.0,
        penalty: float = 0.0,
        dropout: float = 0.0,
    ) -> RatioClassifier:
        return RatioClassifier(hidden, rate, steps, penalty, noise, dropout, early_stopping=False)

    return {
        "2 layers, early stopping": RatioClassifier(two, max_steps=steps),
        "2 layers": trained(two),
        "3 layers": trained(three),
        "2 layers, activation noise": trained(two, noise=1.0),
        "3 layers, activation noise": trained(three, noise=1.0),
        "3 layers, gradient penalty": trained(three, penalty=10.0),
        "2 layers, rate 1e-4": trained(two, rate=1e-4),
        "2 layers, dropout": trained(two, dropout=0.5),
    }


# What Rosca et al. say of the estimators, judged on the estimates of one VAE.

SOURCE = "Rosca et al. 2018, arXiv 1802.06847"
HELD_OUT = "held-out images"
NOISE = "activation noise"
Found = Mapping[str, Estimated]


def best_mixture(found: Found) -> str:
    """Returns the name of the mixture of Gaussians that the choosing part likes best.

    Example:
        >>> found = {f"gmm {K}": Estimated(0.0, 0.0, "lower", (), float(K)) for K in (10, 100)}
        >>> best_mixture(found)
        'gmm 100'
    """
    return max((n for n in found if n.startswith("gmm")), key=lambda n: found[n].score)


def claims_of(found: Found) -> Iterator[Claim]:
    """Yields the verdicts.

    Args:
        found: Estimates by name.
    """
    plain = [n for n in found if n.startswith("ratio") and NOISE not in n]
    largest = max(plain, key=lambda n: found[n].mean)
    gaussians = best_mixture(found)
    densities = {gaussians: "mixture of Gaussians", "maf": "flow", "lstm": "LSTM"}
    best = max(densities, key=lambda n: found[n].mean)
    yield judge(
        "classifiers without noise underestimate the marginal KL: the largest of theirs is below "
        "the mixture of all posteriors",
        f"{SOURCE}, Fig. 4",
        _unpaired(found["mixture"], found[largest]),
    )
    yield judge(
        "the same against the best lower bound, which no finite mixture inflates: "
        f"{densities[best]} − classifier",
        f"{SOURCE}, Fig. 4",
        _paired(found[best], found[largest]),
    )
    yield from _explosions(found)
    yield judge(
        "every density model stays short of the mixture of all posteriors; the best of them: "
        f"{densities[best]}",
        f"{SOURCE}, Fig. 21",
        _unpaired(found["mixture"], found[best]),
    )
    for name in ("maf", "lstm"):
        text = f"the {densities[name]} comes nearer than the best mixture of Gaussians"
        claim = judge(text, f"{SOURCE}, Fig. 21", _paired(found[name], found[gaussians]))
        yield claim if found[name].settled else _not_refuted(claim, "it was still improving")


def _explosions(found: Found) -> Iterator[Claim]:
    """Beyond the average KL, which no KL(q_N‖p) exceeds, an estimate is absurd."""
    for name, estimate in found.items():
        if name.startswith("ratio") and NOISE in name:
            label = name.removeprefix("ratio, ")
            text = f"{label}: the estimate explodes, beyond the average KL, which no KL(q_N‖p) can"
            claim = judge(text, SOURCE, _unpaired(estimate, found["average KL"]))
            yield _not_refuted(claim, "the published noise and steps are unavailable")


def _not_refuted(claim: Claim, reason: str) -> Claim:
    """What was not done as published, or not to its end, can confirm a claim and not refute it."""
    if claim.verdict != "contradicted":
        return claim
    return replace(claim, verdict="undecided", evidence=f"{claim.evidence}; {reason}")


def _paired(a: Estimated, b: Estimated) -> Difference:
    """The difference on the same held-out datapoints, in pairs."""
    one, other = (torch.tensor([e.values], dtype=torch.float64) for e in (a, b))
    return difference(one, other, data=HELD_OUT)


def _unpaired(a: Estimated, b: Estimated) -> Difference:
    """The difference of all datapoints and those held out, their errors added as if independent."""
    return Difference(a.mean - b.mean, math.hypot(a.error, b.error), 1, 0)


# Estimates of one marginal KL side by side, and what classifiers make of it.

ERRORS = 2.0
WIDTH, ROW, MARGIN = 520, 26, 90
NAMES = {
    "mixture": "mixture of all posteriors",
    "maf": "masked autoregressive flow",
    "lstm": "autoregressive LSTM",
}


def plot_estimates(target: Target, found: Found, stopped: str) -> Figure:
    """Returns the figure of one model; bars are two errors, lower bounds point to the right.

    Args:
        target: The model.
        found: Estimates by name.
        stopped: The classifier whose ratio and bounds are shown.
    """
    shown = {"mixture": found["mixture"]}
    shown |= {
        label: found[f"{key}, {stopped}"]
        for key, label in (
            ("ratio", "classifier"),
            ("donsker_varadhan", "Donsker–Varadhan"),
            ("nwj", "NWJ"),
        )
    }
    shown |= {n: e for n, e in found.items() if n.startswith("gmm") or n in ("maf", "lstm")}
    figure, axes = blank(WIDTH, MARGIN + ROW * len(shown))
    if target.truth is not None:
        axes.axvline(target.truth, color=INK, linewidth=1.2, linestyle="--")
    _draw(axes, {NAMES.get(name, name): e for name, e in shown.items()})
    truth = "" if target.truth is None else "; dashed: closed form"
    axes.set_title(f"{target.label}{truth}", loc="left", fontsize=11, color=INK)
    axes.set_xlabel("KL(q(z)‖p(z)), nats")
    return figure


def plot_classifiers(found: Found) -> Figure:
    """Returns the figure of the classifiers' estimates, on a logarithmic axis.

    Args:
        found: Estimates of one VAE, by name.
    """
    shown = {"mixture of all posteriors": found["mixture"]}
    shown |= {n.removeprefix("ratio, "): e for n, e in found.items() if n.startswith("ratio")}
    figure, axes = blank(WIDTH, MARGIN + ROW * len(shown))
    axes.axvspan(found["average KL"].mean, 1e9, color=FAINT, zorder=0)
    _draw(axes, shown)
    axes.set_xscale("symlog", linthresh=1.0)
    largest = max(e.mean for e in shown.values())
    axes.set_xlim(min(0.0, *(e.mean for e in shown.values())), 3 * largest)
    axes.set_title("grey: beyond the average KL", loc="left", fontsize=11, color=INK)
    axes.set_xlabel("classifier's KL(q(z)‖p(z)), nats")
    return figure


def _draw(axes: Axes, shown: Mapping[str, Estimated]) -> None:
    for row, (name, estimate) in enumerate(shown.items()):
        colour, marker = _style(name, estimate)
        axes.errorbar(
            estimate.mean, row, xerr=ERRORS * estimate.error, color=colour, marker=marker, ms=5,
            linestyle="",
        )  # fmt: skip
    axes.set_yticks(range(len(shown)), list(shown))
    axes.set_ylim(len(shown) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0, labelcolor=INK, labelsize=10)
    axes.grid(axis="y", visible=False)


def _style(name: str, estimate: Estimated) -> tuple[str, str]:
    if estimate.side == "lower":
        return GREEN, ">"
    if name.startswith("mixture"):
        return BLUE, "o"
    return (RED if "noise" in name else ORANGE), "s"


def _vae(found: Estimates) -> Found:
    return next(iter(found.values()))


def _figures(run: ThisRun, found: Estimates) -> Mapping[str, Figure]:
    estimates = {
        f"estimates-{i}": plot_estimates(target, found[target], STOPPED)
        for i, target in enumerate(found)
    }
    return estimates | {"classifiers": plot_classifiers(_vae(found))}


EXPERIMENT = Experiment(
    name=NAME,
    title="Distribution Matching in Variational Inference: estimators of the marginal KL",
    plans={"smoke": SMOKE, "cpu": CPU, "paper": PAPER},
    load=_load,
    run=_run,
    provenance=_provenance,
    rows=_rows,
    claims=lambda run, found: claims_of(_vae(found)),
    notes=_notes,
    figures=_figures,
)
