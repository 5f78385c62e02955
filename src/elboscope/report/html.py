"""The report as one HTML file: verdicts first, then the questions and how they are answered.

Nothing is fetched: styles, pictures and bokeh's code are in the page, and a content security
policy in it forbids the rest. Every string is escaped by jinja2; the exceptions are the drawings
that this library made itself, which hold no text of the user's.

A file of its own because the page is the one renderer that draws.
"""

from __future__ import annotations

__all__ = ["QUESTIONS", "Question", "notebook_table", "page", "unasked"]

import functools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import jinja2
from markupsafe import Markup, escape

from elboscope import plots
from elboscope.core import Estimate, Finding, Severity
from elboscope.diagnostics import CHECKS, NUMBERS, Evidence, is_generator, reasons_of, title_of
from elboscope.diagnostics.quantities.likelihood import SCALE
from elboscope.diagnostics.quantities.prior import SURGERY
from elboscope.diagnostics.quantities.samples import SAMPLE_QUALITY

from .panels import panels_of
from .tables import Row, number, row_of, scale_rows

_ORDER: dict[Severity, int] = {
    "problem": 0,
    "warning": 1,
    "undecided": 2,
    "unavailable": 3,
    "ok": 4,
}
_SYMBOLS: dict[Severity, str] = {
    "problem": "✕",
    "warning": "!",
    "undecided": "?",
    "unavailable": "–",
    "ok": "✓",
}

# What to do where a check is unavailable; a GAN has no cause that could be fixed.
FIX = "Fix the cause above and run again."


class Tile(NamedTuple):
    """A number at the head of the page."""

    label: str
    value: str
    note: str


class Section(NamedTuple):
    """A question with everything that answers it."""

    question: Question
    findings: tuple[Finding, ...]
    rows: tuple[Row, ...]
    missing: tuple[tuple[str, str], ...]
    panels: tuple[object, ...]

    @property
    def empty(self) -> bool:
        """Whether all of it is unavailable, so that its reason is all there is to say."""
        silent = all(getattr(panel, "kind", "") == "missing" for panel in self.panels)
        refused = bool(self.findings) and all(f.severity == "unavailable" for f in self.findings)
        return refused and silent and not self.rows


def page(findings: Sequence[Finding], estimates: Mapping[str, Estimate], evidence: Evidence) -> str:
    """Returns the report as the text of a self-contained HTML file.

    Args:
        findings: The verdicts.
        estimates: The numbers, by name.
        evidence: Everything that was computed.
    """
    sections = [_section(question, findings, estimates, evidence) for question in QUESTIONS]
    has_map = any(getattr(p, "kind", "") == "map" for s in sections for p in s.panels)
    others = unasked(findings)
    return _template("page.html").render(
        css=Markup(_source("page.css")),
        subject=_subject(evidence),
        verdicts=sorted(findings, key=lambda finding: _ORDER[finding.severity]),
        tally=_tally(findings),
        symbols=_SYMBOLS,
        anchors={check: q.key for q in QUESTIONS for check in q.checks},
        tiles=_tiles(estimates, evidence),
        sections=sections,
        others=[finding for finding in findings if finding.check in others],
        other_rows=[row_of(key, estimates[key]) for key in _unplaced(estimates)],
        settings=_flat(evidence.settings),
        model=_flat(_capabilities(evidence)),
        skipped=[(title_of(name), reason) for name, reason in reasons_of(evidence).items()],
        problems=evidence.capabilities.problems,
        fix="" if is_generator(evidence) else FIX,
        bokeh_code=Markup(plots.bokeh_code()) if has_map else "",
    )


def notebook_table(findings: Sequence[Finding]) -> str:
    """Returns the verdicts as a small table, to be shown in a notebook."""
    return _template("notebook.html").render(findings=findings, symbols=_SYMBOLS)


@functools.cache
def _environment() -> jinja2.Environment:
    loader = jinja2.PackageLoader("elboscope.report", "template")
    environment = jinja2.Environment(
        loader=loader,
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["code"] = _code
    environment.filters["text"] = _text
    return environment


def _template(name: str) -> jinja2.Template:
    return _environment().get_template(name)


def _source(name: str) -> str:
    environment = _environment()
    assert environment.loader is not None
    return environment.loader.get_source(environment, name)[0]


def _code(text: str) -> Markup:
    """Escapes a text, and sets what stands between backticks as code."""
    parts = str(text).split("`")
    if len(parts) % 2 == 0:  # an unpaired backtick is one
        return escape(text)
    pieces = (
        Markup("<code>{}</code>").format(part) if i % 2 else escape(part)
        for i, part in enumerate(parts)
    )
    return Markup("").join(pieces)


def _text(value: object) -> str:
    if isinstance(value, float):
        return number(value)
    if isinstance(value, Mapping):
        return ", ".join(f"{key}: {_text(entry)}" for key, entry in value.items()) or "none"
    if isinstance(value, list | tuple):
        texts = [_text(entry) for entry in value]
        sentences = all(text.endswith(".") for text in texts)
        return (" " if sentences else ", ").join(texts) or "none"
    return str(value)


def _section(
    question: Question,
    findings: Sequence[Finding],
    estimates: Mapping[str, Estimate],
    evidence: Evidence,
) -> Section:
    rows = [row_of(key, estimates[key]) for key in question.numbers if key in estimates]
    rows += scale_rows(evidence.get(SCALE)) if question.key in SCALE.asked_in else []
    asked = (*question.numbers, *((SCALE.name,) if question.key in SCALE.asked_in else ()))
    return Section(
        question,
        tuple(f for f in findings if f.check in question.checks),
        tuple(rows),
        _missing(asked, reasons_of(evidence)),
        panels_of(question.key, evidence),
    )


def _missing(asked: Iterable[str], reasons: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """The numbers without a value, once for each reason, which several may share."""
    missing: dict[str, list[str]] = {}
    for name in asked:
        if name in reasons:
            missing.setdefault(reasons[name], []).append(title_of(name))
    return tuple(("; ".join(names), reason) for reason, names in missing.items())


def _unplaced(estimates: Mapping[str, Estimate]) -> list[str]:
    """The numbers that no section and no panel shows: none is left off the page."""
    placed = {name for question in QUESTIONS for name in question.numbers}
    placed |= {name for name, number in NUMBERS.items() if number.in_panel}
    return [name for name in estimates if name not in placed]


def _subject(evidence: Evidence) -> str:
    """One line on what was diagnosed."""
    settings = evidence.settings
    parts = [str(settings[key]) for key in ("model", "data", "binarisation") if settings.get(key)]
    families = evidence.capabilities
    if is_generator(evidence):
        parts.append("a generator without a likelihood")
    elif families.likelihood:
        parts.append(f"{families.likelihood} likelihood")
    parts += [f"{families.posterior} posterior"] if families.posterior else []
    latent = math.prod(families.latent_shape)
    parts += [f"{latent} latent unit{'' if latent == 1 else 's'}"] if families.latent_shape else []
    return " · ".join([*parts, f"{len(evidence.x)} datapoints"])


def _tally(findings: Sequence[Finding]) -> list[tuple[Severity, int]]:
    counts = [(severity, sum(f.severity == severity for f in findings)) for severity in _ORDER]
    return [(severity, count) for severity, count in counts if count]


def _tiles(estimates: Mapping[str, Estimate], evidence: Evidence) -> list[Tile]:
    """The numbers most people come for."""
    rows = {key: row_of(key, e) for key, e in estimates.items()}
    surgery, scored = evidence.get(SURGERY), evidence.get(SAMPLE_QUALITY)
    notes = {}
    if surgery is not None:
        low, high = surgery.interval
        notes["mutual_information"] = f"ceiling log N = {number(float(surgery.log_n))}"
        notes["marginal_kl"] = f"within [{number(max(0.0, low))}, {number(high)}]"
    if scored is not None:
        images = f"{scored.num_samples} images"
        notes["sample_coverage"] = f"perfect samples {scored.coverage.expected:.2f}, {images}"
        notes["sample_density"] = f"perfect samples 1, {images}"
    labels = {
        **_likelihood_tile(rows),
        "elbo": "ELBO",
        "bound_gap": "bound gap",
        "mutual_information": "mutual information",
        "marginal_kl": "marginal KL",
        "active_units": "active units",
        "sample_coverage": "coverage by samples",
        "sample_density": "density of samples",
    }
    return [
        Tile(label, rows[key].value, notes.get(key, _note(rows[key])))
        for key, label in labels.items()
        if key in rows
    ]


def _likelihood_tile(rows: Mapping[str, Row]) -> dict[str, str]:
    """Importance sampling, or AIS where q is missing or has no density."""
    return {"log_px": "log p(x)"} if "log_px" in rows else {"log_px_annealed": "log p(x), AIS"}


def _note(row: Row) -> str:
    parts = [f"K = {row.samples}"] if row.samples != "–" else []
    return ", ".join([*parts, row.trust] if row.trust != "–" else [*parts, row.count])


def _flat(values: Mapping[str, object]) -> list[tuple[str, str]]:
    return [(key.replace("_", " "), _text(value)) for key, value in values.items()]


def _capabilities(evidence: Evidence) -> dict[str, object]:
    c = evidence.capabilities
    return {
        "latent shape": str(c.latent_shape),
        "data shape": str(c.data_shape),
        "posterior": c.posterior or "none",
        "likelihood": c.likelihood or "none",
        "reparameterised": "yes" if c.reparameterised else "no",
        "closed-form KL": "yes" if c.analytic_kl else "no",
    }


# The questions a report answers, and how.
#
# A check and a number name the questions that they belong to (``asked_in``), by these keys.


@dataclass(frozen=True)
class Question:
    """A section of the report.

    Attributes:
        key: The name of its section in the page's address, and of its panels.
        title: The question.
        lead: How it is answered.
    """

    key: str
    title: str
    lead: str

    @property
    def checks(self) -> tuple[str, ...]:
        """The checks whose verdicts answer it."""
        return tuple(check.name for check in CHECKS if check.asked_in == self.key)

    @property
    def numbers(self) -> tuple[str, ...]:
        """The numbers that have a row in it, in order."""
        return tuple(name for name, number in NUMBERS.items() if self.key in number.asked_in)


QUESTIONS = (
    Question(
        "trust",
        "Can the likelihood be trusted?",
        "Importance sampling averages weights p(x, z)/q(z|x). The estimate is as good as those "
        "weights: k̂ is the index of their tail, the effective sample size says how many of the "
        "samples count, and half the samples must give the same answer.",
    ),
    Question(
        "certificate",
        "How far can log p(x) be off?",
        "k̂ cannot know what q never visits; annealed importance sampling (AIS) walks there. On "
        "data that the model simulates there is an upper bound as well: how far the estimate, made "
        "with the same settings, lies below it is certified for such data. For the real data no "
        "upper bound exists, and that they are as easy is an assumption.",
    ),
    Question(
        "bound",
        "How tight is the bound?",
        "The ELBO falls short of log p(x) by KL(q(z|x) ‖ p(z|x)): the price of an approximate "
        "posterior. The gap is taken datapoint by datapoint, so that the spread of the data "
        "cancels.",
    ),
    Question(
        "inference",
        "Why does inference lose?",
        "The gap has two parts. The best posterior q* of the encoder's own family, searched for "
        "each datapoint by itself, divides them: above it is what the family cannot do "
        "(approximation), below it what the encoder, which answers for all x at once, does not "
        "reach (amortisation). A richer posterior repairs the first, a better encoder the second.",
    ),
    Question(
        "latents",
        "Does it use its latents?",
        "A collapsed unit equals the prior whatever x is. Four views: what each unit costs, "
        "whether its posterior mean moves with x, how much the code tells about x, and what is "
        "lost when the unit is replaced by the prior's mean.",
    ),
    Question(
        "prior",
        "Latent space: does the aggregate posterior match the prior?",
        "Samples are decoded from p(z), but the decoder was trained on draws of "
        "q(z) = mean of q(z|x). Where the two differ, samples come from places the decoder has "
        "never seen. The average KL is information plus this mismatch. How large it is (three "
        "kinds of estimate), what a prior fitted to q(z) would win, and whether the model knows "
        "that its samples from where q(z) hardly goes are bad.",
    ),
    Question(
        "samples",
        "How good are its samples?",
        "Without a likelihood: by a classifier of such images. Coverage is the share of data with "
        "a sample nearby, density how many data a sample is near to. Reconstructions come out of "
        "the same decoder: what samples lack beside them is due to latents that no datapoint is "
        "encoded to.",
    ),
    Question(
        "scale",
        "Is the likelihood's scale right?",
        "A Gaussian decoder's σ² sets the exchange rate between reconstruction and KL. At the "
        "optimum it equals the mean squared error per value. A Bernoulli on grey values is not a "
        "normalised density at all.",
    ),
    Question(
        "overfitting",
        "Does it overfit?",
        "The same estimator, with the same number of samples, on data the model has been fitted "
        "to and on data it has not.",
    ),
    Question(
        "divergence",
        "Did training diverge?",
        "NaN, infinite or absurd values, in the training history and in the model as it is now.",
    ),
)


def unasked(findings: Iterable[Finding]) -> tuple[str, ...]:
    """Returns the checks that belong to no question, such as a user's own.

    Example:
        >>> unasked([Finding("prior hole", "ok", "…"), Finding("my own", "ok", "…")])
        ('my own',)
    """
    asked = {check for question in QUESTIONS for check in question.checks}
    return tuple(f.check for f in findings if f.check not in asked)
