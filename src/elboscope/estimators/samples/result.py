"""Scores of samples: each an Estimate, in one line or as a table, beside the data's own."""

from __future__ import annotations

__all__ = ["BETTER", "SampleQuality", "SampleQualityGap", "beside", "plain"]

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from elboscope.core import Estimate

from .critic import WassersteinCritic

BETTER: Mapping[str, str] = {
    "inception_score": "higher",
    "modes_covered": "higher",
    "mode_kl": "lower",
    "ms_ssim_diversity": "as the data's",
    "precision": "higher",
    "recall": "higher",
    "density": "1 is the data's",
    "coverage": "higher",
    "frechet_distance": "lower",
    "critic_validation": "lower",
    "critic_test": "lower",
    "critic_train": "as on test",
    "overfitting": "0 within the error",
}
SHORT = ("inception_score", "modes_covered", "precision", "recall", "coverage", "frechet_distance")


@dataclass(frozen=True, eq=False, repr=False)
class SampleQuality:
    """What can be said of samples without a likelihood; no number here is in nats but the KL.

    Attributes:
        inception_score: The Inception Score, in [1, C].
        modes_covered: How many of the C classes were met.
        mode_kl: KL of the classes met from uniform, nats.
        ms_ssim_diversity: 1 − MS-SSIM of pairs.
        precision: Share of samples near data.
        recall: Share of data near samples.
        density: Precision that outliers do not raise.
        coverage: Recall that outliers do not raise.
        frechet_distance: Distance of the classifier's features: not Inception's FID.
        num_samples: Samples behind the Inception Score and the modes.
        classifier: The classifier whose view this is.
        classifier_error: Its error on test data; NaN where it is not known.
        critic: Scores of an independent critic; None where it was left out.
        of_data: The same scores of data, where they have one.
        settings: Sampler, classifier and its test error, counts, seed. For display only.
    """

    inception_score: Estimate
    modes_covered: Estimate
    mode_kl: Estimate
    ms_ssim_diversity: Estimate
    precision: Estimate
    recall: Estimate
    density: Estimate
    coverage: Estimate
    frechet_distance: Estimate
    num_samples: int
    classifier: str
    classifier_error: float
    critic: WassersteinCritic | None = None
    of_data: Mapping[str, Estimate] = field(default_factory=dict)
    settings: Mapping[str, object] = field(default_factory=dict)

    @property
    def estimates(self) -> Mapping[str, Estimate]:
        """All scores by name; those of the critic as ``critic_test`` and so on."""
        found = {name: value for name, value in vars(self).items() if isinstance(value, Estimate)}
        if self.critic is not None:
            named = ("critic_validation", "critic_test", "critic_train", "overfitting")
            scores = zip(named, self.critic.parts(), strict=True)
            found |= {name: value for name, value in scores if value is not None}
        return found

    def __repr__(self) -> str:
        shown = "; ".join(f"{self.estimates[n].name} {plain(self.estimates[n])}" for n in SHORT)
        return f"<SampleQuality of {self.settings.get('sampler', 'samples')}: {shown}>"

    def table(self) -> str:
        """Returns a line a score: its value, the data's, what is better, and how it was made."""
        rows: list[tuple[str, ...]] = [("score", "samples", "data", "better", "how")]
        for name, estimate in self.estimates.items():
            value = f"{plain(estimate)} {estimate.measured_in}"
            data = beside(estimate, self.of_data.get(name))
            rows.append((estimate.name, value, data, BETTER[name], estimate.method))
        return laid_out(rows)


@dataclass(frozen=True, eq=False, repr=False)
class SampleQualityGap:
    """Scores of prior samples and of reconstructions, and their difference with its error.

    Attributes:
        samples: Scores of draws from the prior.
        reconstructions: Scores of draws from q(z|x), x being other data than those compared with.
        gap: Samples − reconstructions, a score each.
    """

    samples: SampleQuality
    reconstructions: SampleQuality
    gap: Mapping[str, Estimate]

    def __repr__(self) -> str:
        names = {n: self.samples.estimates[n].name for n in SHORT}
        shown = "; ".join(f"{names[n]} {plain(self.gap[n])}" for n in SHORT)
        return f"<SampleQualityGap, samples − reconstructions: {shown}>"

    def table(self) -> str:
        """Returns a line a score: of samples, of reconstructions, their difference, the data's."""
        head = ("score", "samples", "reconstructions", "difference", "data", "better")
        rows: list[tuple[str, ...]] = [head]
        for name, gap in self.gap.items():
            pair = (self.samples.estimates[name], self.reconstructions.estimates[name], gap)
            data = beside(pair[0], self.samples.of_data.get(name))
            rows.append((pair[0].name, *(plain(e) for e in pair), data, BETTER[name]))
        return laid_out(rows)


def plain(estimate: Estimate) -> str:
    """Returns ``value ± error``; a total for counts of modes.

    Example:
        >>> import torch
        >>> values = torch.tensor([1.0, 2.0, 3.0])
        >>> plain(Estimate.per_datapoint("W", "", values, torch.zeros(3), "none"))
        '2.00 ± 0.58'
    """
    value = estimate.total if estimate.axis == "unit" else estimate.mean
    digits = 4 if 0 < estimate.stderr < 0.005 else 2
    if estimate.axis == "unit" and estimate.stderr < 0.005:
        digits = 0
    return f"{round(value, digits) + 0.0:.{digits}f} ± {estimate.stderr:.{digits}f}"  # no −0.00


def beside(estimate: Estimate, of_data: Estimate | None) -> str:
    """Returns the data's score, with another count told; else what perfect samples score.

    Example:
        >>> import torch
        >>> values = torch.tensor([1.0, 2.0, 3.0])
        >>> e = Estimate.per_datapoint("IS", "", values, torch.zeros(3), "none")
        >>> beside(e, e), beside(e, None)
        ('2.00 ± 0.58', '')
    """
    if of_data is None:
        return "" if math.isnan(estimate.expected) else f"{estimate.expected:.2f} expected"
    count = of_data.num_images
    other = "" if count == estimate.num_images else f" ({count} images)"
    return plain(of_data) + other


def laid_out(rows: list[tuple[str, ...]]) -> str:
    """Returns rows as lines with aligned columns.

    Example:
        >>> print(laid_out([("a", "b"), ("long", "c")]))
        a     b
        long  c
    """
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = ["  ".join(f"{c:<{w}}" for c, w in zip(r, widths, strict=True)) for r in rows]
    return "\n".join(line.rstrip() for line in lines)
