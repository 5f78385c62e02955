"""Samples scored without a likelihood, and what a hybrid's own discriminator makes of its KL.

Scores are of as many images as the budget names, by a packaged classifier that knows such images
(:mod:`.suitable_classifier`). A model with an encoder has its reconstructions scored beside its
samples, of and against different halves of the data; a GAN has its samples alone, against all.
Where the data are binary draws, the grey images they were drawn from are compared with decoder
means; without these, draws of x are compared with draws.
"""

from __future__ import annotations

__all__ = ["samples_scored"]

from collections.abc import Callable
from dataclasses import replace
from typing import cast

from torch import Tensor

from elboscope import estimators
from elboscope.core import LatentVariableModel, Sampled
from elboscope.estimators import CriticTraining, SampleQuality, SampleQualityGap

from .attempts import Attempts
from .evidence import Evidence
from .plan import Plan, stratified
from .reasons import no_encoder
from .suitable_classifier import Suitable, as_pictures, suitable_classifier

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
            num_samples=len(self.images),
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
