r"""Do samples look like data, and if not, whose fault is it?

Of perfect samples a share :math:`1 - \prod_{i<k} (N-1-i)/(2N-1-i)` of the data is covered, and
their density is one. What samples lack of either is judged, and classes that data have and no
sample shows. Reconstructions come out of the same decoder: what they lack as well is the
decoder's, and what samples alone lack is due to latents that no datapoint is encoded to (see
'prior hole'). A GAN has no reconstructions; its samples are held against the data alone.

Scores are one classifier's view, over a few hundred images at the quick budget. They see no
memorised data, but for the independent critic of the thorough budget.

References:
    | Distribution Matching in Variational Inference (Rosca et al., 2018),
      https://arxiv.org/abs/1802.06847
    | Reliable Fidelity and Diversity Metrics (Naeem et al., 2020), https://arxiv.org/abs/2002.09797
"""

from __future__ import annotations

__all__ = ["modes_lost", "sample_quality"]

import math
from collections.abc import Mapping
from typing import NamedTuple

from elboscope.core import Estimate, Finding, Severity
from elboscope.estimators import SampleQuality

from ..decision import check, exceeds, graded
from ..evidence import Evidence
from ..quantities.samples import SAMPLE_QUALITY, SAMPLE_QUALITY_GAP, SCORING

CHECK = "sample quality"
# What real training digits lack of test digits is at most 0.06; two hundred digits by heart lack
# 0.25 of the coverage, and the digits 0 to 4 half of it. Half of samples replaced by noise
# lower the density by 0.35.
WARNING_SHARE, PROBLEM_SHARE = 0.25, 0.5
# The probability that a perfect sampler misses one of the classes that count, all together.
FALSE_ALARM = 0.01
# Samples fall short of reconstructions beyond three errors, since two numbers are looked at.
SHARE_ERRORS = 3.0
RANK: tuple[Severity, ...] = ("ok", "undecided", "warning", "problem")
VERDICTS: Mapping[Severity, str] = {
    "ok": "Samples score nearly as well as other data would",
    "undecided": "Whether samples fall short of data lies within the error",
    "warning": "Samples fall short of data",
    "problem": "Samples fall far short of data",
}
CAUSES = {
    "latents": "Reconstructions do not fall short: the fault lies not with the decoder but with "
    "latents that the prior draws and no datapoint is encoded to",
    "latents at least": "They fall short of reconstructions as well: the latents are to blame in "
    "part, and whether the decoder is lies within the error",
    "decoder": "Reconstructions are as poor: the decoder is to blame",
    "both": "Reconstructions fall short too, but less: the decoder and the latents are both to "
    "blame",
    "undecided": "Whether reconstructions fall short too lies within the error",
    "collapse": "Each sample looks like data, but the generator has collapsed to a part of them",
    "generator": "",
}


class Lack(NamedTuple):
    """What is missing of what perfect samples have, as shares with their errors."""

    coverage: float
    coverage_stderr: float
    density: float
    density_stderr: float

    @property
    def severity(self) -> Severity:
        """The worse of both."""
        both = (self[:2], self[2:])
        return _worst(*(graded(*p, warning=WARNING_SHARE, problem=PROBLEM_SHARE) for p in both))

    @property
    def decided(self) -> bool:
        """Whether anything is missing beyond its error, by three errors of the two numbers."""
        return any(share > SHARE_ERRORS * error for share, error in (self[:2], self[2:]))


@check(CHECK, asked_in="samples")
def sample_quality(evidence: Evidence) -> Finding:
    """Judges what samples lack of the data, and whether reconstructions lack it too.

    Args:
        evidence: Uses ``sample_quality`` and, where there is an encoder, ``sample_quality_gap``.

    Returns:
        *warning* from a quarter less coverage or density than perfect samples have, or a class
        that data have and no sample shows; *problem* from a half, or where half of the classes
        are missing. ``evidence["cause"]``: latents (at least), decoder, both; of a GAN collapse
        or generator.
    """
    samples = evidence[SAMPLE_QUALITY]
    lack, lost = lacking(samples), modes_lost(samples)
    severity = _worst(lack.severity, _of_modes(samples, lost))
    cause = _cause(evidence, severity, lack)
    return Finding(
        CHECK,
        severity,
        _summary(evidence, severity, cause, lost),
        _numbers(evidence, lack, lost, cause),
        _action(severity, cause, evidence),
    )


def lacking(quality: SampleQuality) -> Lack:
    """Returns what these samples lack of what perfect ones score."""
    coverage, density = quality.coverage, quality.density
    expected = coverage.expected
    return Lack(
        1 - coverage.mean / expected, coverage.stderr / expected, 1 - density.mean, density.stderr
    )


def modes_lost(quality: SampleQuality, than: Estimate | None = None) -> tuple[int, ...]:
    r"""Returns the classes that none of M samples shows although a of N data do, beyond chance.

    If samples have the data's distribution, all a + 0 images of a class are data with a
    probability of at most :math:`(N/(N+M))^a`; over all C classes it is kept below 0.01.

    Args:
        quality: Scores of the samples.
        than: What is held against: the data's own classes, or those of reconstructions.
    """
    mine = quality.modes_covered
    theirs = quality.of_data["modes_covered"] if than is None else than
    here, there = (e.diagnostics["count"] for e in (mine, theirs))
    N, M = there.sum().item(), here.sum().item()
    least = math.log(len(here) / FALSE_ALARM) / math.log((N + M) / N)
    return tuple(((here == 0) & (there >= least)).nonzero()[:, 0].tolist())


def _of_modes(samples: SampleQuality, lost: tuple[int, ...]) -> Severity:
    met = samples.of_data["modes_covered"].total
    if not lost:
        return "ok"
    return "problem" if len(lost) >= PROBLEM_SHARE * met else "warning"


def _worst(*severities: Severity) -> Severity:
    return max(severities, key=RANK.index)


def _cause(evidence: Evidence, severity: Severity, lack: Lack) -> str:
    if severity not in ("warning", "problem"):
        return "none"
    found = evidence.get(SAMPLE_QUALITY_GAP)
    if found is None:
        sparse = exceeds(lack.density, lack.density_stderr, WARNING_SHARE)
        return "generator" if sparse else "collapse"
    rebuilt, missed = lacking(found.reconstructions).severity, modes_lost(found.reconstructions)
    modes = modes_lost(found.samples, found.reconstructions.modes_covered)
    latents = _of_gap(found.gap, found.samples.coverage.expected).decided or bool(modes)
    if rebuilt in ("warning", "problem") or missed:
        return "both" if latents else "decoder"
    if not latents:
        return "undecided"
    return "latents" if rebuilt == "ok" else "latents at least"


def _of_gap(gap: Mapping[str, Estimate], expected: float) -> Lack:
    coverage, density = gap["coverage"], gap["density"]
    return Lack(
        -coverage.mean / expected, coverage.stderr / expected, -density.mean, density.stderr
    )


def _summary(evidence: Evidence, severity: Severity, cause: str, lost: tuple[int, ...]) -> str:
    samples, found = evidence[SAMPLE_QUALITY], evidence.get(SAMPLE_QUALITY_GAP)
    expected = samples.coverage.expected
    shares = f"they cover {_number(samples.coverage)} of the data (perfect samples {expected:.2f})"
    shares += f" at a density of {_number(samples.density)} (perfect samples 1)"
    if found is not None:
        rebuilt = found.reconstructions
        shares += f"; reconstructions cover {_number(rebuilt.coverage)} at a density of "
        shares += _number(rebuilt.density)
    missing = f"; no sample is of class {', '.join(map(str, lost))}" if lost else ""
    view = f"{samples.num_samples} of each, scored by the {samples.classifier}"
    error, told = samples.classifier_error, f" {CAUSES[cause]}." if CAUSES.get(cause) else ""
    return f"{VERDICTS[severity]}: {shares}{missing}.{told} ({view}, test error {error:.2%})"


def _number(estimate: Estimate) -> str:
    return f"{estimate.mean:.2f} ± {estimate.stderr:.2f}"


def _numbers(
    evidence: Evidence, lack: Lack, lost: tuple[int, ...], cause: str
) -> dict[str, object]:
    samples, found = evidence[SAMPLE_QUALITY], evidence.get(SAMPLE_QUALITY_GAP)
    numbers: dict[str, object] = {f"lacks_{k}": v for k, v in lack._asdict().items()}
    numbers |= {
        "modes": samples.modes_covered.total,
        "modes_of_data": samples.of_data["modes_covered"].total,
        "modes_lost": lost,
        "cause": cause,
        "classifier": samples.classifier,
        "classifier_error": samples.classifier_error,
    }
    if found is not None:
        rebuilt = lacking(found.reconstructions)._asdict()
        alone = _of_gap(found.gap, samples.coverage.expected)._asdict()
        numbers |= {f"reconstructions_lack_{k}": v for k, v in rebuilt.items()}
        numbers |= {f"samples_alone_lack_{k}": v for k, v in alone.items()}
    if samples.critic is not None and samples.critic.overfitting is not None:
        signal = samples.critic.overfitting
        numbers |= {"overfitting": signal.mean, "overfitting_stderr": signal.stderr}
    return numbers


def _action(severity: Severity, cause: str, evidence: Evidence) -> str:
    if severity == "ok":
        return ""
    if severity == "undecided":
        return _more(evidence)
    train = "x" if evidence.x_train is None else "x_train"
    close = (
        "See 'prior hole': the prior draws latents that the decoder was never trained for. "
        f"es.fit_prior(model, {train}) puts a density of the codes in its place."
    )
    strengthen = (
        "Give the decoder more units (--model.hidden), or train for longer (--training.epochs); "
        "a blurred mean is scored here, not a draw of p(x|z)."
    )
    if cause == "undecided":
        return f"More evaluation data tell latents from decoder. {close}"
    if cause in ("collapse", "generator"):
        if any("critic_difference" in row for row in evidence.history):  # WGANGP it was
            return (
                "Train for longer (--training.epochs), or give the critic more steps "
                "(--objective.critic_steps, with a --training.batch_size for all of them)."
            )
        return (
            "Train for longer (--training.epochs), or by a critic that does not saturate: "
            "elboscope train CONFIG.yaml --objective WGANGP (with a discriminator without batch "
            "normalisation)."
        )
    return {"latents": close, "decoder": strengthen}.get(cause, f"{close} {strengthen}")


def _more(evidence: Evidence) -> str:
    """What would make the error smaller: of an odd number of images one is left out."""
    scoring, given = evidence.get(SCORING), evidence.num_given
    if scoring is not None and given is not None and len(scoring.images) < given - 1:
        return (
            f"A larger budget scores more than {len(scoring.images)} of the {given} datapoints: "
            "es.diagnose(model, x, budget='thorough')."
        )
    return "Give more evaluation data: all of it is already scored."
