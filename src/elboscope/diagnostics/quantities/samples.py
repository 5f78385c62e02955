"""Samples scored without a likelihood, and what a hybrid's own discriminator makes of its KL.

Scores are of as many images as the budget names, by a packaged classifier that knows such images
(:mod:`.suitable_classifier`). A model with an encoder has its reconstructions scored beside its
samples, of and against different halves of the data; a GAN has its samples alone, against all.
Where the data are binary draws, the grey images they were drawn from are compared with decoder
means; without these, draws of x are compared with draws.
"""

from __future__ import annotations

__all__ = ["Suitable", "as_pictures", "samples_scored", "suitable_classifier"]

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple, cast

import torch
from jaxtyping import Float
from torch import Tensor

from elboscope import estimators
from elboscope.classifiers import Extractor, classifier_for
from elboscope.core import InputError, LatentVariableModel, Sampled
from elboscope.data.files import NAMES
from elboscope.estimators import CriticTraining, SampleQuality, SampleQualityGap

from ..attempts import Attempts
from ..decision import no_encoder
from ..evidence import Evidence
from ..plan import Plan, stratified

# Neighbours of fewer, in ten groups, tell nothing; a half must have as many.
FEWEST = 40
CONDITIONAL = (
    "samples of a conditional model are of the conditions that one gives it: "
    "es.sample_quality takes any function from n to n images"
)


class _Scoring:
    """The rows of x that are scored, what they show, and by which classifier."""

    def __init__(self, plan: Plan, x: Tensor, images: Tensor | None, evidence: Evidence) -> None:
        self.plan, self.halves = plan, not no_encoder(evidence)
        rows = stratified(len(x), plan.budget.num_scored, plan.seed + 7)
        rows = rows[len(rows) % 2 :] if self.halves else rows
        shown = x if images is None else images
        self.x = x[rows.to(x.device)]
        self.images = as_pictures(shown[rows.to(shown.device)].detach().cpu())
        self.train = plan.x_train if images is None else None
        self.noise = evidence.capabilities.likelihood == "Bernoulli" and bool(
            ((self.images == 0) | (self.images == 1)).all()
        )
        self.reason = self._unscored(evidence)
        self.suitable = Suitable(None)
        if not self.reason:
            self.suitable = suitable_classifier(self.images, evidence.settings.get("data", ""))
            self.reason = self.suitable.reason

    def _unscored(self, evidence: Evidence) -> str:
        """Why these images cannot be scored by any classifier, or nothing."""
        budget, images = self.plan.budget, self.images
        if not budget.num_scored:
            return f"budget {budget.name!r} scores no samples"
        if self.plan.condition is not None:
            return CONDITIONAL
        if not evidence.capabilities.latent_shape:
            return "; ".join(evidence.capabilities.problems)
        if images.ndim != 4:
            return "the data are not images: (H, W) or (C, H, W)"
        low, high = images.min().item(), images.max().item()
        if low < 0 or high > 1:
            return f"values from {low:.4g} to {high:.4g} are no images in [0, 1]"
        needed = FEWEST * (2 if self.halves else 1)
        return "" if len(images) >= needed else f"{len(images)} images, where {needed} are needed"

    @property
    def critic(self) -> CriticTraining | None:
        """Independent critics, where the budget trains some."""
        steps = self.plan.budget.critic_steps
        return CriticTraining(steps=steps) if steps else None

    def record(self) -> dict[str, object]:
        """What is printed beside the numbers."""
        classifier = self.suitable.classifier
        if classifier is None:
            return {}
        error = f"{classifier.test_error:.2%} test error"
        return {
            "classifier": f"{classifier.name}, {error}, chosen by {self.suitable.chosen_by}",
            "n_scored": len(self.images),
        }

    def gap(self, model: Sampled) -> SampleQualityGap:
        """Scores samples beside reconstructions."""
        return estimators.sample_quality_gap(
            model,
            self.x,
            x_train=None if self.train is None else as_pictures(self.train).cpu(),
            classifier=self.suitable.classifier,
            num_compared=len(self.images),
            critic=self.critic,
            noise=self.noise,
            images=self.images,
            seed=self.plan.seed,
        )

    def alone(self, model: Sampled) -> SampleQuality:
        """Scores samples against all of the images."""
        sampler = estimators.sampler_of(model, noise=self.noise)
        return estimators.sample_quality(
            sampler.shaped(tuple(self.images.shape[1:])),
            self.images,
            x_train=None if self.train is None else as_pictures(self.train).cpu(),
            classifier=self.suitable.classifier,
            num_images=len(self.images),
            num_compared=len(self.images),
            critic=self.critic,
            seed=self.plan.seed,
        )


def samples_scored(
    model: Sampled,
    plan: Plan,
    x: Tensor,
    images: Tensor | None,
    evidence: Evidence,
    attempt: Attempts,
) -> Evidence:
    """Adds the scores of samples and reconstructions, and the discriminator's KL.

    Args:
        model: The model as it was given, a GAN with its ``generate``.
        plan: The budget and the seed.
        x: All of the evaluation data.
        images: What x shows, where x is a binary draw of it.
        evidence: What is known so far.
        attempt: Takes the reasons of what is missing.
    """
    scoring = _Scoring(plan, x, images, evidence)
    gap = attempt(
        "sample_quality_gap", scoring.reason or no_encoder(evidence), lambda: scoring.gap(model)
    )
    one: Callable[[], SampleQuality]
    one = (lambda: scoring.alone(model)) if gap is None else (lambda: gap.samples)
    own = cast(LatentVariableModel, model)
    return replace(
        evidence,
        settings={**evidence.settings, **scoring.record()},
        sample_quality_gap=gap,
        sample_quality=attempt("sample_quality", scoring.reason, one),
        discriminator_kl=attempt(
            "discriminator_kl",
            no_encoder(evidence) or _no_discriminator(model),
            lambda: estimators.discriminator_kl(
                own, plan.x, seed=plan.seed, condition=plan.condition
            ),
        ),
    )


def _no_discriminator(model: object) -> str:
    carried = tuple(getattr(model, "adversaries", ()))
    if "code" in carried:
        return ""
    if "joint" in carried:
        return "the model's adversary judges pairs of x and z, not codes"
    return "the model carries no discriminator of codes"


# Which packaged classifier, if any, may score these images: by their name, shape, and its doubts.
#
# A classifier answers any image of its shape, and scores of the wrong one look like scores. So a
# data set that is known by name gets its own classifier or none (Fashion-MNIST has MNIST's
# shape). Data without a known name get that of their shape, and are kept only if it is about as
# sure of them as of its own test set, and finds most of its classes in them: one minus the mean
# probability of its answer estimates its error without labels.
#
# That doubt is 0.9 % on MNIST (0.4 % errors), 5 % on one Bernoulli draw of it (4 %), 1.3 % on the
# digits, 17 % on a draw of these (34 %), 28 % on Fashion-MNIST, 34 % on noise of 8 × 8.

# Named data that a packaged classifier was trained on; other names have none.
TAUGHT = ("digits", "mnist", "cifar10", "color_digits", "color_mnist")
# How much more in doubt than on its own test set: between a Bernoulli draw of MNIST (4 % more) and
# digits turned upside down (13 %).
MORE_DOUBT = 0.1
FLAT = {64: (1, 8, 8), 784: (1, 28, 28), 3072: (3, 32, 32)}
YOURS = "es.sample_quality(es.samples.sampler_of(model), x, classifier=…) takes one of yours"


class Suitable(NamedTuple):
    """A classifier for these images, or why there is none.

    Attributes:
        classifier: None where there is none.
        chosen_by: By what it was chosen.
        reason: Why there is none; empty otherwise.
    """

    classifier: Extractor | None
    chosen_by: str = ""
    reason: str = ""


def suitable_classifier(images: Float[Tensor, "n C H W"], data_name: object = "") -> Suitable:
    """Returns the packaged classifier that was trained on such images, or why none is used.

    Args:
        images: Some of the data, in [0, 1].
        data_name: What the data are called, where that is known.

    Example:
        >>> import elboscope as es
        >>> digits = es.data.digits().test
        >>> suitable_classifier(digits, "digits").classifier.name
        'digits classifier'
        >>> suitable_classifier(torch.zeros(9, 1, 8, 8), "Fashion-MNIST").reason
        'no classifier is packaged for fashion_mnist; ...
    """
    shape = tuple(images.shape[1:])
    known = {_plain(name): name for name in NAMES}.get(_plain(str(data_name)))
    if known is not None and known not in TAUGHT:
        return Suitable(None, reason=f"no classifier is packaged for {known}; {YOURS}")
    try:
        classifier = classifier_for(shape)
    except InputError:
        reason = f"no classifier is packaged for images of shape {shape}; {YOURS}"
        return Suitable(None, reason=reason)
    reason = _doubts(classifier, images)
    by = f"the data's name, {known}" if known else "the images' shape, and its answers to them"
    return Suitable(None, reason=reason) if reason else Suitable(classifier, by)


def _doubts(classifier: Extractor, images: Float[Tensor, "n C H W"]) -> str:
    """Why its answers say that it was trained on other images, or nothing."""
    p = classifier(images).log_probs.double().exp()
    doubt = 1 - p.max(1).values.mean().item()
    classes = torch.special.entr(p.mean(0)).sum().exp().item()
    if doubt > classifier.test_error + MORE_DOUBT:
        return (
            f"the {classifier.name} is in doubt of {doubt:.0%} of these images (it errs on "
            f"{classifier.test_error:.1%} of its own): they are others, or binarised; {YOURS}"
        )
    if classes < min(p.shape[1], len(p)) / 2:
        return (
            f"the {classifier.name} finds about {classes:.1f} of its {p.shape[1]} classes in these "
            f"images: they seem to be others; {YOURS}"
        )
    return ""


def as_pictures(x: Tensor) -> Tensor:
    """Returns x with axes for channels, height and width, where it can be seen which they are.

    Example:
        >>> [tuple(as_pictures(torch.ones(2, *s)).shape) for s in ((64,), (8, 8), (3, 4, 4), (5,))]
        [(2, 1, 8, 8), (2, 1, 8, 8), (2, 3, 4, 4), (2, 5)]
    """
    if x.ndim == 2 and x.shape[1] in FLAT:
        return x.reshape(len(x), *FLAT[x.shape[1]])
    return x[:, None] if x.ndim == 3 else x


def _plain(name: str) -> str:
    return name.lower().replace("-", "").replace("_", "")
