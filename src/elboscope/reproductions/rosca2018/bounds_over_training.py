r"""Rosca et al. (2018), Figs. 4, 5 and 23: a classifier instead of a KL, over training.

A VAE's ELBO is a lower bound on log p(x), and rises as the model learns. For an AAE and for VEEGAN
papers write bounds too, with the logit of a discriminator instead of a log-ratio of
densities. That logit is of a classifier that is being trained, against a model that is being
trained: the sum is no bound of anything, and need not follow the training. So here it is called
what the paper calls a bound, and never ours.

Where posteriors are Gaussians the KL that the classifier is to tell can be computed: the mixture
of N posteriors stands beside, with the interval in which it must be.

The file is long because the figure is whole here: runs, rows, rank statistics, claims, panels.
"""

from __future__ import annotations

__all__ = [
    "EXPERIMENT",
    "Course",
    "claims_of",
    "plot_bounds",
    "simultaneous",
    "smallest_rise",
    "tau",
]

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import torch
from jaxtyping import Float64
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from safetensors import safe_open
from safetensors.torch import save as to_bytes
from scipy.stats import norm
from torch import Tensor

from elboscope.core import InputError, seeded
from elboscope.plots.style import BLUE, GREEN, GREY, INK, ORANGE, RED, blank, dressed

from ..frame.claims import ERRORS, Claim, Difference, difference, judge
from ..frame.course import run_course
from ..frame.experiment import Experiment, Request, Run
from ..frame.result import Row
from ..frame.training import derived_seed, file_name
from .bounds_values import (
    CPU,
    PAPER,
    SMOKE,
    BoundsPlan,
    Data,
    Values,
    fitted_ratio,
    load_data,
    values_of,
)
from .hybrid_runs import BATCH_SIZE, Kind, Pace, evaluation_draw, hybrid_course, new_autoencoder

NAME = "bounds-over-training"
KINDS: tuple[Kind, ...] = ("VAE", "AAE", "VEEGAN")
EXPLICIT: tuple[Kind, ...] = ("VAE", "AAE")
CALLED = {
    "VAE": "ELBO",
    "AAE": "what the paper calls a bound: E log p(x|z) − KL by its discriminator",
    "VEEGAN": "what the paper calls a bound: −E T − E‖z − F(G(z))‖² − (d/2) ln 2πe",
}
Course = Sequence[Values]
"""The looks of one run, in time."""
Found = Mapping[str, Sequence[Course]]
ThisRun = Run[BoundsPlan, Data]


def _load(request: Request[BoundsPlan]) -> Data:
    data, device = load_data(request.plan, request.options), request.device
    return data._replace(train=data.train.to(device), test=data.test.to(device))


def _run(run: ThisRun) -> Found:
    seeds = run.seeds(run.plan.seeds)
    return {kind: [_course(kind, seed, run) for seed in seeds] for kind in KINDS}


def _provenance(run: ThisRun, found: Found) -> Mapping[str, object]:
    data, plan = run.data, run.plan
    return run.provenance(
        epochs=None,
        data={
            "name": "color digits, for ColorMNIST" if plan.stand_in else "ColorMNIST",
            "num_train": len(data.train),
            "num_test": len(data.test),
            "sha256": data.checksum,
        },
        settings=plan.record(),
    )


def _course(kind: Kind, seed: int, run: ThisRun) -> Course:
    """The looks of one run; what a sitting before did is only read."""
    name, data, plan, now = f"{kind}, seed {seed}", run.data, run.plan, run.now
    with seeded(derived_seed(f"weights of {name}", seed)):
        x, hidden = data.train, plan.code_hidden
        model = new_autoencoder(kind, x, plan.latents, plan.maps, hidden, plan.joint_maps).to(
            x.device
        )

    def place(step: int) -> Path:
        return now.folder / f"{file_name(name)}-look-{step}.safetensors"

    def look(step: int) -> dict[str, float]:
        some = evaluation_draw(x[: plan.num_images], of_training=True)
        values = values_of(kind, model, evaluation_draw(data.test, of_training=False), some, seed)
        if step == plan.steps and kind in EXPLICIT:
            values["fitted"] = fitted_ratio(model, some, plan.classifier, seed)
        now.keep(place(step).name, to_bytes(values))
        return {}

    pace = Pace(plan.rate, derived_seed(name, seed))
    rows = run_course(
        hybrid_course(name, kind, model, x, pace, plan.looks, look, {"latents": plan.latents}), now
    )
    if len(rows) < len(plan.looks):
        do = "Another --seed, and a report of this one, would help."
        raise InputError(name, expected="a training that stays finite", got="weights", do=do)
    return [_read(place(step)) for step in plan.looks]


def _read(path: Path) -> Values:
    with safe_open(path, framework="pt") as kept:
        return {name: kept.get_tensor(name) for name in kept.keys()}  # noqa: SIM118


def _rows(run: ThisRun, found: Found) -> Iterator[Row]:
    for kind in KINDS:
        yield from _rows_of(kind, found[kind], run.plan)


def _rows_of(kind: Kind, runs: Sequence[Course], plan: BoundsPlan) -> Iterator[Row]:
    S = len(runs)
    epochs = round(plan.steps * BATCH_SIZE / plan.num_train)

    def row(quantity: str, per_run: list[float], label: str = "the end", unit: str = "nats") -> Row:
        values = torch.tensor(per_run, dtype=torch.float64)
        error = values.std().item() if S > 1 else math.nan
        return Row(
            f"{kind}, {label}", quantity, values.mean().item(), error, f"sd over {S} seeds",
            epochs, num_data=plan.num_test, unit=unit, per_seed=tuple(per_run),
        )  # fmt: skip

    def mean(name: str, at: int = -1) -> list[float]:
        return [run[at][name].mean().item() for run in runs]

    yield row(CALLED[kind], mean("value", 0), f"step {plan.looks[0]}")
    yield row(CALLED[kind], mean("value"), f"step {plan.steps}")
    taus = [tau(torch.stack([look["value"] for look in run])) for run in runs]
    yield row(f"τ of it over {len(plan.looks)} looks", taus, "all looks", "units")
    if kind not in EXPLICIT:
        return
    end = f"step {plan.steps}"
    if kind == "AAE":
        yield row("ELBO, of its explicit posterior", mean("elbo"), end)
        yield row("KL by its own discriminator", mean("ratio"), end)
    kl, information = mean("kl"), mean("information")
    yield row("KL(q_N‖p), mixture", [a - b for a, b in zip(kl, information, strict=True)], end)
    lowest = [max(0.0, rate - math.log(plan.num_images)) for rate in kl]
    yield row("lowest it can be, average KL − log N", lowest, end)
    yield row("I(n; z), at most log N", information, end)
    for index, quantity in enumerate(
        ("KL by a classifier, no bound", "Donsker–Varadhan lower bound, the same classifier")
    ):
        yield row(quantity, [run[-1]["fitted"][index, 0].item() for run in runs], end)


# Does a value follow the training? Rank statistics of looks that are compared in pairs.
#
# A run is looked at K times on the same test images with the same noise. Of two looks j < k the
# second is higher, lower, or the same within two standard errors of the paired difference:
#
# .. math:: \tau = \binom K2^{-1} \sum_{j<k} s_{jk}, \qquad s_{jk} \in \{1, -1, 0\}
#
# is 1 for a value that rises from each look to every later one beyond its error, and 0 where
# rises and falls are as many. Its spread over runs is its error. The *smallest rise* between
# neighbouring looks is the least of many: its error is enlarged so that all of them hold at once.

FIGURES = "Rosca et al. 2018, Figs. 5 and 23, arXiv 1802.06847"
CLASSIFIERS = "Rosca et al. 2018, Fig. 4, arXiv 1802.06847"


def tau(looks: Float64[Tensor, "K n"]) -> float:
    """Returns τ: the mean sign of later minus earlier, 0 within two paired errors.

    Example:
        >>> rising = torch.arange(4.0).double()[:, None].expand(4, 5)
        >>> tau(rising), tau(-rising), tau(0 * rising)
        (1.0, -1.0, 0.0)
    """
    signs = []
    for k in range(1, len(looks)):
        rises = looks[k] - looks[:k]
        error = rises.std(1) / rises.shape[1] ** 0.5
        mean = rises.mean(1)
        signs.append(mean.sign() * (mean.abs() > ERRORS * error))
    return torch.cat(signs).mean().item()


def simultaneous(number: int) -> float:
    """Returns by how much errors grow for that many differences to hold at once with 95 %.

    Example:
        >>> round(simultaneous(1), 2), round(simultaneous(20), 2)
        (0.98, 1.51)
    """
    return float(norm.ppf(1 - 0.025 / number)) / ERRORS


def smallest_rise(runs: Sequence[Float64[Tensor, "K n"]]) -> Difference:
    """Returns the least mean difference of neighbouring looks in units of its error, of all runs.

    Example:
        >>> a = torch.tensor([[0.0, 0.0], [1.0, 1.2], [0.8, 1.1]]).double()
        >>> print(smallest_rise([a]))
        -0.150 ± 0.056 nats (1 seed, 2 test images)
    """
    steps = torch.stack([looks.diff(dim=0) for looks in runs]).flatten(0, 1)
    mean, error = steps.mean(1), steps.std(1) / steps.shape[1] ** 0.5
    worst = int((mean / error.clamp(min=1e-12)).argmin())
    enlarged = error[worst].item() * simultaneous(len(steps))
    return Difference(mean[worst].item(), enlarged, len(runs), steps.shape[1])


def _claims(run: ThisRun, found: Found) -> Iterator[Claim]:
    fitted: dict[str, Tensor] = {
        kind: torch.stack([looks[-1]["fitted"] for looks in found[kind]]) for kind in EXPLICIT
    }
    return claims_of(found, fitted)


def claims_of(
    found: Mapping[str, Sequence[Course]], fitted: Mapping[str, Float64[Tensor, "S three two"]]
) -> Iterator[Claim]:
    """Yields the claims.

    Args:
        found: Runs by kind: "VAE", "AAE", "VEEGAN".
        fitted: What classifiers trained at the end say, by kind, for VAE and AAE.
    """
    values = {kind: [_of(run, "value") for run in runs] for kind, runs in found.items()}
    taus = {k: torch.tensor([[tau(r)] for r in runs]).double() for k, runs in values.items()}
    zero = torch.zeros_like(taus["VAE"])
    rising = _in_ranks(difference(taus["VAE"], zero))
    yield judge("a VAE's ELBO rises over training (rank correlation τ > 0)", FIGURES, rising)
    text = "a VAE's ELBO rises monotonically: from each look to the next (the smallest rise)"
    yield judge(text, FIGURES, smallest_rise(values["VAE"]))
    for kind in ("AAE", "VEEGAN"):
        text = (
            f"what the paper calls a bound of {kind} follows training less than a VAE's ELBO does "
            "(difference of τ)"
        )
        yield judge(text, FIGURES, _in_ranks(difference(taus["VAE"], taus[kind])))
        fall = smallest_rise(values[kind])
        text = (
            f"what the paper calls a bound of {kind} does not rise monotonically (the clearest "
            "fall between two looks)"
        )
        data = "draws" if kind == "VEEGAN" else fall.data
        yield judge(text, FIGURES, fall._replace(value=-fall.value, data=data))
    yield from _underestimates(found, fitted)


def _underestimates(
    found: Mapping[str, Sequence[Course]], fitted: Mapping[str, Tensor]
) -> Iterator[Claim]:
    less = "is less than the mixture's KL(q_N‖p), at the end of training"
    for kind, by_classifier in fitted.items():
        last = [run[-1] for run in found[kind]]
        mixture = torch.stack([one["kl"] - one["information"] for one in last])
        text = f"{kind}: the KL by a classifier trained for nothing else {less}"
        apart = difference(mixture.mean(1, keepdim=True), by_classifier[:, 0, :1])
        yield judge(text, CLASSIFIERS, apart)
        if kind == "AAE":
            ratio = torch.stack([one["ratio"] for one in last])
            apart = difference(mixture, ratio, data="images of the mixture")
            text = f"{kind}: the KL by its own discriminator {less}"
            yield judge(text, CLASSIFIERS, apart)


def _of(run: Course, name: str) -> Float64[Tensor, "K n"]:
    return torch.stack([look[name] for look in run])


def _in_ranks(found: Difference) -> Difference:
    return found._replace(unit="of τ")


def _notes(run: ThisRun, found: Found) -> Iterator[str]:
    plan = run.plan
    yield (
        "A value with a discriminator's logit instead of a log-ratio is no bound: with the "
        "exact ratio the AAE's is its ELBO plus I(x; z), which can exceed log p(x)."
    )
    yield (
        "All looks of a run use the same test images (VEEGAN: draws of the prior) and noise. "
        "τ counts pairs of looks, +1 or −1 beyond two paired errors and 0 within; its error is "
        "that over seeds. The smallest rise has an error for all neighbouring looks at once."
    )
    yield (
        f"The mixture is that of N = {plan.num_images} training images, log N = "
        f"{math.log(plan.num_images):.2f}: where I comes near it, KL(q_N‖p) overstates the "
        "population's KL. A classifier trained on half of them estimates the latter; its "
        "Donsker–Varadhan value is a lower bound on it."
    )
    yield (
        "VAE and AAE see binary images, drawn afresh in training and once for every look; VEEGAN "
        "sees grey values, since its discriminator would recognise binary data at a glance. "
        "Values of different models may not be compared, their courses may."
    )
    yield f"The classifier: {plan.classifier.hidden} units, {plan.classifier.max_steps} steps."
    if plan.stand_in:
        yield "Triples of small digits instead of ColorMNIST."
    yield f"{plan.steps} steps of {BATCH_SIZE} images, {plan.seeds} seeds; published: 100 000."


# What is called a bound over training, a panel a model, and the KLs that are in it.

WIDTH, HEIGHT = 760, 560
TITLES = {
    "VAE": "VAE: the ELBO",
    "AAE": "AAE: what the paper calls a bound",
    "VEEGAN": "VEEGAN: what the paper calls a bound",
}


def plot_bounds(found: Mapping[str, Sequence[Course]], steps: Sequence[int]) -> Figure:
    """Returns the figure; a line is a run, its band two standard errors over images.

    Args:
        found: Runs by kind.
        steps: When the looks were.
    """
    figure, first = blank(WIDTH, HEIGHT)
    first.remove()
    for place, (kind, runs) in enumerate(found.items()):
        axes = _panel(figure, place, TITLES[kind])
        if kind == "AAE":
            _lines(axes, runs, steps, "elbo", BLUE, "its ELBO")
        name = "the same with the discriminator's KL" if kind == "AAE" else None
        colour = BLUE if kind == "VAE" else RED
        _lines(axes, runs, steps, "value", colour, name)
        if kind == "AAE":
            axes.legend(frameon=False, fontsize=9.5, labelcolor=INK)
    axes = _panel(figure, len(found), "KL(q(z)‖p(z))")
    for kind, colour in (("VAE", BLUE), ("AAE", ORANGE)):
        _lines(axes, found[kind], steps, "mixture", colour, f"{kind}, mixture")
    _lines(axes, found["AAE"], steps, "lowest", GREY, "AAE, average KL − log N", dashed=True)
    _lines(axes, found["AAE"], steps, "ratio", GREEN, "AAE, its discriminator")
    axes.legend(frameon=False, fontsize=9.5, labelcolor=INK)
    return figure


def _panel(figure: Figure, place: int, title: str) -> Axes:
    axes = dressed(figure.add_subplot(2, 2, place + 1))
    axes.set_title(title, fontsize=11.5, color=INK, loc="left")
    axes.set_ylabel("nats")
    if place >= 2:
        axes.set_xlabel("step")
    return axes


def _lines(
    axes: Axes, runs: Sequence[Course], steps: Sequence[int], name: str, colour: str,
    label: str | None, *, dashed: bool = False,
) -> None:  # fmt: skip
    for index, run in enumerate(runs):
        looks = [_values(look, name) for look in run]
        mean = torch.stack([v.mean() for v in looks])
        error = torch.stack([v.std() / len(v) ** 0.5 for v in looks])
        line = "--" if dashed else "-"
        axes.plot(steps, mean, color=colour, lw=1.3, ls=line, label=None if index else label)
        low, high = mean - ERRORS * error, mean + ERRORS * error
        axes.fill_between(steps, low, high, color=colour, alpha=0.15, lw=0)


def _values(look: Values, name: str) -> Tensor:
    if name == "mixture":
        return look["kl"] - look["information"]
    if name == "lowest":
        kl = look["kl"]
        return kl - torch.tensor(float(len(kl))).log()
    return look[name]


EXPERIMENT = Experiment(
    name=NAME,
    title="Distribution Matching in Variational Inference: what is called a bound, over training",
    plans={"smoke": SMOKE, "cpu": CPU, "paper": PAPER},
    load=_load,
    run=_run,
    provenance=_provenance,
    rows=_rows,
    claims=_claims,
    notes=_notes,
    figures=lambda run, found: {"bounds": plot_bounds(found, run.plan.looks)},
)
