r"""Hoffman and Johnson (2016): where the KL term of the ELBO goes, and what a better prior gains.

.. math:: \frac1N \sum_n \mathrm{KL}(q(z|x_n) \| p(z)) = I_q(n; z) + \mathrm{KL}(q_N(z) \| p(z)),
          \qquad 0 \le I \le \log N

VAEs on MNIST with few and many latents, cut at several epochs of their training. The second part
is what a better prior can gain, encoder and decoder held fixed: at most all of it, by p = q_N.
So densities are fitted to q(z) and used as the prior, their gain taken on held-out
images; and models are trained with a mixture of Gaussians and with a VampPrior.
"""

from __future__ import annotations

__all__ = ["EXPERIMENT", "NEAR", "PART", "claims_of", "claims_of_many", "claims_of_priors"]

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

from matplotlib.figure import Figure
from safetensors import safe_open
from safetensors.torch import save as to_bytes
from torch import Tensor

from elboscope.core import seeded
from elboscope.data import Binarisation
from elboscope.estimators.latents.fitted_prior import PriorDensity
from elboscope.models import VAE, MixturePrior, VampPrior, mlp_vae, start_at_mean
from elboscope.models.priors import PriorFamily
from elboscope.training import ELBO

from ..frame.claims import Claim, Difference, difference, judge
from ..frame.experiment import Experiment, Request, Run
from ..frame.images import BinaryImages, load_binary_images
from ..frame.result import Row
from ..frame.training import PUBLISHED_EPOCHS, Schedule, derived_seed, file_name, train_to
from .values import FAMILIES, Parts, final_parts, fitted_parts, parts_now, plot_surgeries

NAME = "elbo-surgery"
PLAIN = "standard normal"


class Setting(NamedTuple):
    """One model: its latents and its prior."""

    latents: int
    prior: PriorFamily | None = None

    @property
    def name(self) -> str:
        """In the tables."""
        words = {MixturePrior: "mixture prior", VampPrior: "VampPrior"}
        prior = "" if self.prior is None else f", {words[type(self.prior)]}"
        return f"d = {self.latents}{prior}"


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a scale means.

    Attributes:
        data: Name of the data set.
        num_train: Images trained on, all of which are in q_N; all if None.
        num_test: Images of the held-out bounds.
        latents: Sizes with a standard normal prior.
        beside: The size that is trained with other priors too.
        num_components: Components of those priors.
        epochs: When the ELBO is cut.
        hidden: Widths of the hidden layers.
        max_steps: Most steps of the flow that is fitted to q(z).
    """

    data: str
    num_train: int | None
    num_test: int
    latents: tuple[int, ...]
    beside: int
    num_components: int
    epochs: tuple[int, ...]
    hidden: tuple[int, ...] = (200, 200)
    max_steps: int = 2000

    @property
    def schedule(self) -> Schedule:
        """Training ends at the last checkpoint."""
        return Schedule(epochs=self.epochs[-1], batch_size=100)

    @property
    def settings(self) -> tuple[Setting, ...]:
        """The models."""
        priors = (MixturePrior(self.num_components), VampPrior(self.num_components))
        return (
            *(Setting(d) for d in self.latents),
            *(Setting(self.beside, prior) for prior in priors),
        )

    def record(self) -> dict[str, object]:
        """Returns what is saved beside a number."""
        return self.schedule.record() | {
            "checkpoints": list(self.epochs), "latents": list(self.latents),
            "num_components": self.num_components, "hidden": list(self.hidden),
            "max_steps": self.max_steps, "num_test": self.num_test,
        }  # fmt: skip


PAPER = Plan(
    data="MNIST",
    num_train=None,
    num_test=10_000,
    latents=(2, 10, 50),
    beside=50,
    num_components=500,
    epochs=(1, 4, 40, 400, 1000, PUBLISHED_EPOCHS),
)
CPU = replace(
    PAPER, num_test=5000, beside=10, num_components=100, epochs=(1, 2, 4, 8), max_steps=500
)
SMOKE = replace(
    PAPER,
    data="digits",
    num_train=300,
    num_test=100,
    latents=(2, 3),
    beside=3,
    num_components=5,
    epochs=(1, 2),
    hidden=(16,),
    max_steps=30,
)
ThisRun = Run[Plan, BinaryImages]
Found = Mapping[Setting, Mapping[int, Parts]]


def _load(request: Request[Plan]) -> BinaryImages:
    plan = request.plan
    return load_binary_images(plan.data, request.options, num_train=plan.num_train)


def _run(run: ThisRun) -> Found:
    return {setting: _over_training(setting, run) for setting in run.plan.settings}


def _provenance(run: ThisRun, found: Found) -> Mapping[str, object]:
    plan = run.plan
    return run.provenance(epochs=plan.epochs[-1], data=run.data.record(), settings=plan.record())


def _log_n(run: ThisRun) -> float:
    return math.log(len(run.data.train))


def _over_training(setting: Setting, run: ThisRun) -> Mapping[int, Parts]:
    """The parts at every checkpoint: each is measured before the training goes on."""
    plan, now = run.plan, run.now
    with seeded(derived_seed(setting.name, run.seed)):
        model = _untrained(setting, run.data, plan).to(run.device)
    found: dict[int, Parts] = {}
    for epoch in plan.epochs:
        path = now.folder / f"{file_name(setting.name)}-epoch-{epoch}.safetensors"
        if not path.is_file():
            _train(epoch, setting, model, run)
            what = f"the surgery of {setting.name}, epoch {epoch}"
            now.pause_before(what, f"{path.stem}-trained")
            now.say(f"{setting.name}: surgery", epoch, plan.epochs[-1])
            values = _measure(epoch, setting, model, run)
            now.keep(path.name, to_bytes({k: v.contiguous() for k, v in values.items()}))
        with safe_open(path, framework="pt") as kept:
            found[epoch] = {name: kept.get_tensor(name) for name in kept.keys()}  # noqa: SIM118
    return found


def _untrained(setting: Setting, images: BinaryImages, plan: Plan) -> VAE:
    shape = tuple(images.train.shape[1:])
    model = mlp_vae(shape, setting.latents, plan.hidden, "tanh", prior=setting.prior)
    return start_at_mean(model, images.train.float() / 255)


def _train(epoch: int, setting: Setting, model: VAE, run: ThisRun) -> None:
    objective = ELBO(analytic_kl=setting.prior is None)
    train_to(
        epoch, setting.name, model, objective, run.data.train, run.plan.schedule, run.seed,
        run.now, run.device, binarisation=Binarisation("none"),
    )  # fmt: skip


def _measure(epoch: int, setting: Setting, model: VAE, run: ThisRun) -> dict[str, Tensor]:
    images, plan, device = run.data, run.plan, run.device
    seed = derived_seed(f"surgery of {setting.name} at {epoch}", run.seed)
    x = images.first_of_train(len(images.train)).to(device)
    if epoch != plan.epochs[-1]:
        return dict(parts_now(model, x, seed=seed))
    x_test = images.test[: plan.num_test].to(device)
    found = dict(final_parts(model, x, x_test, seed=seed))
    if setting.prior is None:
        found |= fitted_parts(model, x, x_test, max_steps=plan.max_steps, seed=seed)
    return found


QUANTITIES = {
    "reconstruction": "E log p(x|z)",
    "kl": "average KL",
    "information": "information I(n; z)",
    "marginal_kl": "marginal KL(q_N ‖ p)",
    "marginal_kl_plain": "marginal KL, plain Monte Carlo",
    "dimensionwise_kl": "marginal KL, of each dimension",
    "total_correlation": "marginal KL, total correlation",
    "held_out": "KL(q ‖ p) of the population, held-out lower bound",
    **{f"gain.{family}": f"gain of a fitted {words}" for family, words in FAMILIES.items()},
    **{f"left.{family}": f"marginal KL left by it: {words}" for family, words in FAMILIES.items()},
}


def _rows(run: ThisRun, found: Found) -> Iterator[Row]:
    for setting, epochs in found.items():
        yield from _rows_of(setting, epochs, _log_n(run))


def _rows_of(setting: Setting, found: Mapping[int, Parts], log_n: float) -> Iterator[Row]:
    last = max(found)
    for epoch, parts in found.items():
        place = f"{setting.name}, epoch {epoch}"
        for name, quantity in QUANTITIES.items():
            if name in parts:
                value, error = parts[name].tolist()
                yield Row(place, quantity, value, error, "se for other images", epoch)
    kl, test = found[last]["kl"].tolist(), found[last]["test"]
    low = max(0.0, kl[0] - log_n)
    place = f"{setting.name}, epoch {last}"
    yield Row(place, "marginal KL is at least avgKL − log N, or 0", low, kl[1],
              "se for other images", last)  # fmt: skip
    error = (test.std() / len(test) ** 0.5).item()
    yield Row(place, "test ELBO", test.mean().item(), error, "se over images", last,
              num_data=len(test))  # fmt: skip


def _claims(run: ThisRun, found: Found) -> Iterator[Claim]:
    plan = run.plan
    last = {setting: epochs[plan.epochs[-1]] for setting, epochs in found.items()}
    for setting, parts in last.items():
        if setting == Setting(max(plan.latents)):
            yield from claims_of_many(setting.name, parts, _log_n(run))
        if setting.prior is None:
            yield from claims_of(setting.name, parts)
    beside = {s.name: parts for s, parts in last.items() if s.latents == plan.beside}
    yield from claims_of_priors(beside, Setting(plan.beside).name)


def _notes(run: ThisRun, found: Found) -> tuple[str, ...]:
    plan = run.plan
    return (
        f"log N = {_log_n(run):.2f} nats is the ceiling of I(n; z). Within {NEAR:g} nats of it the "
        "posteriors are too narrow for N images, and KL(q_N ‖ p) overstates the population's.",
        "Images are binarised once by seed 0: q_N is the mixture of exactly their posteriors.",
        "The marginal KL is average KL − I where the average KL has a closed form; with a learned "
        "prior it has none, and all of it is sampled.",
        "Fitted priors leave encoder and decoder as they are; two thirds of the training images "
        f"fit, a third chooses, and the gain is measured on {plan.num_test} test images. What a "
        "fitted prior leaves is KL(q_N ‖ r) of the training images.",
        "With a learned prior there is no split by dimensions, since it does not factorise.",
        "The paper's own numbers are unavailable: what it says in words is judged on the model "
        f"with the most latents. Close to log N means within {NEAR:g} nats, a large part more than "
        f"{PART:.0%}: "
        "the evidence is the distance from that.",
        *plan.schedule.remarks(1),
    )


# What is said of the parts of the ELBO, and how it is decided.
#
# Parts of one model share their draws, and the larger error of the two is the smaller part of
# what other data would change; differences of parts, and of two models on the same images, are
# judged as if their errors were independent, which is on the safe side where these are alike. The
# papers say it in words: "close to log N" is taken as within half a nat of it, where q_N says
# nothing about the population any more; "a large part" as more than a tenth.

SURGERY = "Hoffman and Johnson 2016, ELBO surgery, in words"
TWO_STAGE = "Ghosh et al. 2020, ex-post density estimation, in words, arXiv 1903.12436"
VAMP = "Tomczak and Welling 2018, VampPrior, in words, arXiv 1705.07120"
NEAR = 0.5
PART = 0.1


def claims_of_many(name: str, parts: Parts, log_n: float) -> Iterator[Claim]:
    """Yields the claims about the model with the most latents, as far as q_N goes.

    Args:
        name: Name of the model.
        parts: The parts of its ELBO at the end of its training.
        log_n: The ceiling of the information.
    """
    information, marginal, kl = (parts[k] for k in ("information", "marginal_kl", "kl"))
    near = Difference(information[0].item() - log_n + NEAR, information[1].item(), 1, 0)
    yield judge(
        f"{name}: the information I(n; z) is close to log N = {log_n:.2f} (within {NEAR:g} nats)",
        SURGERY,
        near,
    )
    yield judge(
        f"{name}: the marginal KL is a large part of the average KL (above {PART:.0%})",
        SURGERY,
        _minus(marginal, kl, PART),
    )


def claims_of(name: str, parts: Parts) -> Iterator[Claim]:
    """Yields the claims about any model with a standard normal prior.

    Args:
        name: Name of the model.
        parts: The parts of its ELBO at the end of its training.
    """
    if "held_out" in parts:
        yield judge(
            f"{name}: q(z) is not the prior, for the population either: held-out bound above 0",
            SURGERY,
            _minus(parts["held_out"], parts["held_out"], 0.0),
        )
    for family, words in FAMILIES.items():
        yield from _fitted(name, words, family, parts)


def _fitted(name: str, words: str, family: PriorDensity, parts: Parts) -> Iterator[Claim]:
    if f"gain.{family}" not in parts:
        return
    gain = parts[f"gain.{family}"]
    yield judge(
        f"{name}: a {words} fitted to q(z) instead of the prior improves the held-out bound",
        TWO_STAGE,
        _minus(gain, gain, 0.0),
    )
    yield judge(
        f"{name}: what the {words} gains is less than the marginal KL",
        SURGERY,
        _minus(parts["marginal_kl"], gain, 1.0),
    )


def claims_of_priors(found: Mapping[str, Parts], plain: str) -> Iterator[Claim]:
    """Yields the claims about models trained with another prior.

    Args:
        found: Parts of each model, with the same latents.
        plain: The one with the standard normal.
    """
    for name, parts in found.items():
        if name == plain:
            continue
        yield judge(
            f"{name}: a smaller marginal KL than with the standard normal",
            SURGERY,
            _minus(found[plain]["marginal_kl"], parts["marginal_kl"], 1.0),
        )
        better = difference(parts["test"][None], found[plain]["test"][None])
        yield judge(f"{name}: a higher test bound than with the standard normal", VAMP, better)


def _minus(a: Tensor, b: Tensor, weight: float) -> Difference:
    """a − weight · b, with independent errors."""
    error = math.hypot(a[1].item(), weight * b[1].item())
    return Difference(a[0].item() - weight * b[0].item(), error, 1, 0)


def _figures(run: ThisRun, found: Found) -> Mapping[str, Figure]:
    by_name = {setting.name: epochs for setting, epochs in found.items()}
    return {"surgery": plot_surgeries(by_name, _log_n(run))}


EXPERIMENT = Experiment(
    name=NAME,
    title="ELBO surgery: where the KL goes, and what a better prior gains",
    plans={"smoke": SMOKE, "cpu": CPU, "paper": PAPER},
    load=_load,
    run=_run,
    provenance=_provenance,
    rows=_rows,
    claims=_claims,
    notes=_notes,
    figures=_figures,
)
