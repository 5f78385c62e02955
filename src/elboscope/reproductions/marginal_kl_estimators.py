r"""Rosca et al. (2018): estimates of one marginal KL by mixture, classifiers and density models.

.. math:: \mathrm{KL}(q_N \| p), \qquad \mathbb{E}_q[\operatorname{logit} C(z)], \qquad
          \mathbb{E}_q[\log r(z) - \log p(z)] \le \mathrm{KL}(q \| p)

of a VAE of ColorMNIST, and, in the same table, of two linear-Gaussian models whose KL(q‖p) is
known: a hole of few nats, and one larger than what a classifier of some thousand draws can see.
The classifiers of the paper differ in layers, gradient penalty, activation noise, rate and
dropout. They are trained for all their steps here, as no early stopping is spoken of there; one
with early stopping stands beside them, and gives the two lower bounds of the figure.
"""

from __future__ import annotations

__all__ = ["reproduce"]

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from elboscope.core import seeded
from elboscope.estimators import RatioClassifier
from elboscope.models import LinearGaussian

from .claims import without_verdict
from .marginal_kl_classifiers import PUBLISHED, classifiers
from .marginal_kl_estimators_claims import Found, best_mixture, claims_of
from .marginal_kl_estimators_figure import plot_classifiers, plot_estimates
from .marginal_kl_parts import Estimated, Target, estimates_of
from .marginal_kl_plan import KLPlan, Subject, load_grey, trained_subject, untrained_subject
from .options import Options, Progress
from .provenance import provenance, training_device
from .published import references
from .result import Reproduction, Row, Scale
from .sitting import Sitting, sitting
from .training import derived_seed

NAME = "marginal-kl-estimators"
COLOUR = "ColorMNIST"
STOPPED = "2 layers, early stopping"


@dataclass(frozen=True)
class Plan:
    """What a scale means.

    Attributes:
        vae: Data and training of the VAE, its only subject.
        width: Of the classifiers' hidden layers.
        steps: Of the classifiers.
        components: K of the mixtures of Gaussians.
        max_steps: Of the density networks.
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


def _vae(latents: int, **settings: object) -> KLPlan:
    return KLPlan((Subject(COLOUR, "bernoulli", "FFG", latents),), **settings)  # type: ignore[arg-type]


PLANS: Mapping[Scale, Plan] = {
    "smoke": Plan(
        _vae(3, num_images=128, num_train=128, epochs={COLOUR: 2}, maps={COLOUR: (2, 4)},
             num_draws=64, rate=1e-3, stand_in="color digits"),
        8, 20, (10, 1000), 20, 3, 400,
    ),
    "cpu": Plan(
        _vae(50, num_images=8192, num_train=7168, epochs={COLOUR: 9}, maps={COLOUR: (8, 16)},
             num_draws=512, rate=1e-3),
        256, 1000, (10, 100, 1000), 500, 10, 8192,
    ),
    "paper": Plan(
        _vae(50, num_images=50_000, num_train=45_000, epochs={COLOUR: 142},
             maps={COLOUR: (32, 64)}, num_draws=1000),
        1000, 20_000, (10, 30, 100, 300, 1000), 20_000, 10, 50_000,
    ),
}  # fmt: skip


def reproduce(
    scale: Scale,
    *,
    out: Path,
    seed: int = 0,
    options: Options | None = None,
    progress: Progress | None = None,
) -> Reproduction:
    """Estimates the marginal KL of a VAE, and of two models of known KL, in every way.

    Args:
        scale: smoke: triples of small digits, tiny networks; cpu: 8192 images, 9 epochs,
            classifiers of 256 units and 1000 steps; paper: 50 000 images, 100 000 steps of the
            VAE, classifiers of 1000 units and 20 000 steps.
        out: Folder of the state; the result is saved there by ``Reproduction.save``.
        seed: Of the training, of all draws and fits.
        options: Where MNIST is; slices and resuming.
        progress: Told what is being done.

    Raises:
        InputError: MNIST is not to be had, or the folder is in use.
        Unfinished: The slice of time is over.
    """
    options = options or Options()
    plan, device = PLANS[scale], training_device(scale)
    images = load_grey(COLOUR, plan.vae, options)
    asked = {"name": NAME, "scale": scale, "seed": seed, "sha256": images.checksum}
    with sitting(out, asked, options, progress) as now:
        targets = (
            _trained(images.x.to(device), plan, seed, now),
            linear_target("small", 0.3, plan, seed),
            linear_target("large", 2.5, plan, seed),
        )
        tried = classifiers(plan.width, plan.steps)
        few = {name: tried[name] for name in (STOPPED, "2 layers", "2 layers, activation noise")}
        found = {
            target: _estimated(target, tried if target.truth is None else few, plan, seed, now)
            for target in targets
        }
        record = provenance(
            seed=seed,
            device=device,
            wall_seconds=now.seconds,
            epochs=plan.vae.epochs[COLOUR],
            data={"name": plan.vae.stand_in or COLOUR, "num_images": len(images.x),
                  "sha256": images.checksum},
            settings=plan.record(),
        )  # fmt: skip
    vae = targets[0]
    claims = tuple(claims_of(found[vae]))
    figures = {f"estimates-{i}": plot_estimates(t, found[t], STOPPED) for i, t in enumerate(found)}
    return Reproduction(
        NAME,
        "Distribution Matching in Variational Inference: estimators of the marginal KL",
        scale,
        rows=tuple(row for target in found for row in _rows(target, found[target], plan)),
        claims=without_verdict(claims) if scale == "smoke" else claims,
        notes=tuple(_notes(found, plan)),
        provenance=record,
        figures=figures | {"classifiers": plot_classifiers(found[vae])},
    )


def _trained(x: torch.Tensor, plan: Plan, seed: int, now: Sitting) -> Target:
    (subject,) = plan.vae.subjects
    name, epochs = subject.label, plan.vae.epochs[COLOUR]
    colours, height, width = x.shape[1:]
    with seeded(derived_seed(name, seed)):
        model = untrained_subject(subject, plan.vae, (colours, height, width)).to(x.device)
    trained_subject(name, model, x[: plan.vae.num_train], plan.vae, epochs, seed, now)
    return Target(name, model, x, None)


def linear_target(name: str, shift: float, plan: Plan, seed: int) -> Target:
    """Returns a linear-Gaussian model with correlated latents, its posterior means shifted.

    Args:
        name: What to call the hole.
        shift: Of every latent, in units of the prior.
        plan: Latents and data.
        seed: Of the model and of its data.
    """
    with seeded(derived_seed("linear-Gaussian", seed)):
        W = torch.randn(plan.latents + 2, plan.latents, dtype=torch.float64)
    exact = LinearGaussian(W, torch.zeros_like(W[:, 0]), 1.0)
    model = exact.with_mistuned_posterior(mean_shift=shift)
    x, _ = model.sample(plan.num_data, seed=derived_seed(name, seed))
    label = f"linear-Gaussian, {name} hole, {plan.latents} latents"
    return Target(label, model, x, model.marginal_kl().item())


def _estimated(
    target: Target,
    tried: Mapping[str, RatioClassifier],
    plan: Plan,
    seed: int,
    now: Sitting,
) -> dict[str, Estimated]:
    K = plan.components if target.truth is None else plan.components[:2]  # those are Gaussian
    return estimates_of(target, tried, K, plan.max_steps, seed, now)


def _rows(target: Target, found: Found, plan: Plan) -> Iterator[Row]:
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


def _notes(found: Mapping[Target, Found], plan: Plan) -> Iterator[str]:
    for target, estimates in found.items():
        if target.truth is not None:
            yield f"{target.label}: {_sides(target.truth, estimates)}."
    vae = next(iter(found.values()))
    yield (
        f"The best mixture of Gaussians of the VAE, by the part that chooses: {best_mixture(vae)}; "
        f"of {', '.join(map(str, plan.components))} components tried where the draws suffice."
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
        "classifier below the mixture has not failed for that, one below a lower bound has."
    )
    yield (
        "Donsker–Varadhan and NWJ say nothing beyond log(S/3) + 1, 11.4 nats with 100 000 prior "
        "draws, whatever the KL is: the large hole shows it."
    )
    yield (
        "Layers, steps and the size of the noise (here 1) of the published classifiers are not at "
        "hand; layers are counted from what the paper's text leaves. Compare signs, not values."
    )
    yield "One seed: errors hold for this VAE and this split, and not for another run."
    yield f"The VAE was trained for {plan.vae.epochs[COLOUR]} of about 142 published epochs."


def _sides(truth: float, found: Found) -> str:
    """How far each estimate is from the truth."""
    listed = (
        f"{name} {e.mean - truth:+.2f} ± {e.error:.2f}"
        for name, e in _shown(found).items()
        if name not in ("average KL", "information")
    )
    return f"estimate minus the closed form, {truth:.2f}: " + "; ".join(listed)
