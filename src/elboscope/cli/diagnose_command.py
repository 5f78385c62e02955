"""``elboscope diagnose``: load, check, measure, judge, write the report."""

from __future__ import annotations

__all__ = ["diagnosed", "headline", "run", "summary"]

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from elboscope.core import Severity, check_model, evaluating, placed_like, seeded
from elboscope.core.files import expanded
from elboscope.diagnostics import is_generator, title_of
from elboscope.diagnostics.budget import budget_named
from elboscope.diagnostics.quantities.prior import SURGERY
from elboscope.objectives import KLWeight
from elboscope.report import Diagnosis, diagnose
from elboscope.report.tables import number, row_of

from .evaluation_data import EvaluationData, Target, evaluation_data, load_target
from .parser import Arguments
from .terminal import UsageError, say, shown_progress


def run(arguments: Arguments) -> int:
    """Prints the verdicts and where the report is."""
    target = load_target(arguments.model, trust=arguments.trust)
    data = evaluation_data(target, arguments)
    folder = _out(target, arguments.out)
    diagnosed(target, data, folder, budget=arguments.budget, seed=arguments.seed)
    return 0


def diagnosed(
    target: Target, data: EvaluationData, folder: Path, *, budget: str, seed: int
) -> Diagnosis:
    """Diagnoses a model on data, writes report.html, findings.json and diagnosis.nc, prints.

    Args:
        target: The model and what is known about it.
        data: What it is evaluated on.
        folder: Where the three files go; each is written whole or not at all.
        budget: "quick", "standard" or "thorough".
        seed: Random seed of all draws.
    """
    console = Console()
    say(f"{target.name} on {data.name}: {len(data.x)} datapoints, {data.notes}")
    say(data.binarisation)
    say(budget_named(budget).describe())
    _require_contract(target, data)
    with shown_progress("diagnosing") as progress:
        diagnosis = diagnose(
            target.model,
            data.x,
            x_train=data.x_train,
            images=data.images,
            history=target.history,
            budget=budget,
            seed=seed,
            settings=_settings(target, data),
            progress=progress,
        )
    console.print()
    console.print(summary(diagnosis))
    paths = [
        diagnosis.save(folder / "report.html"),
        diagnosis.save_json(folder / "findings.json"),
        diagnosis.save_datatree(folder / "diagnosis.nc"),
    ]
    console.print()
    for path in paths:
        print(path)
    return diagnosis


def _require_contract(target: Target, data: EvaluationData) -> None:
    """A structural breach ends here, before anything is computed with the model."""
    model = target.model
    with evaluating(model), seeded(0):
        check_model(model, placed_like(data.x[:16], model))


def _settings(target: Target, data: EvaluationData) -> Mapping[str, object]:
    known: dict[str, object] = {
        "model": target.name,
        "data": data.name,
        "data treatment": data.notes,
        "binarisation": str(data.binarisation),
    }
    if target.run is None:
        return known
    objective = target.run.config["objective"]
    known["objective"] = str(target.record.get("objective", objective.get("class_path")))
    known["training status"] = str(target.record.get("status", "?"))
    weighted = objective.get("class_path") == KLWeight.__name__
    return known | (objective["init_args"] if weighted else {})


def _out(target: Target, out: str | None) -> Path:
    """Returns the report's folder: as told, in the run folder, or NAME-report."""
    if out is not None:
        folder = expanded(out)
    elif target.folder is not None:
        folder = target.folder / "report"
    else:
        place, _, name = target.name.rpartition(":")
        folder = Path(f"{Path(place).stem}-{name}-report")
    if out is None and folder.is_symlink():
        do = "Name the report's folder with --out."
        raise UsageError(str(folder), expected="a folder of the run", got="a link out of it", do=do)
    if folder.exists() and not folder.is_dir():
        raise UsageError("--out", expected="a folder", got=f"{folder}, which is a file")
    return folder


# A diagnosis in the terminal: a verdict per check, then the numbers that lead the report.

STYLES: dict[Severity, tuple[str, str]] = {
    "ok": ("✓", "green"),
    "warning": ("!", "yellow"),
    "problem": ("✗", "bold red"),
    "undecided": ("?", "cyan"),
    "unavailable": ("–", "dim"),
}
LABELS = {
    "log_px": "log p(x)",
    "elbo": "ELBO",
    "bound_gap": "log p̂(x) − ELBO",
    "active_units": "active units",
}
SCORED = {"sample_coverage": "coverage by samples", "sample_density": "density of samples"}


class Headline(NamedTuple):
    """A quantity, its value with errors, and what it must be read with."""

    quantity: str
    value: str
    beside: str


def summary(diagnosis: Diagnosis) -> RenderableType:
    """Returns the verdicts and the headline numbers as two tables.

    All text is literal: nothing in a message is taken for markup.
    """
    return Group(_verdicts(diagnosis), Text(), _numbers(diagnosis))


def _verdicts(diagnosis: Diagnosis) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 1))
    table.add_column("verdict", no_wrap=True)
    table.add_column("check", overflow="fold", max_width=20)
    table.add_column("why, and what to do", overflow="fold")
    for finding in diagnosis.findings:
        mark, style = STYLES[finding.severity]
        why = Text(finding.summary)
        if finding.action:
            why.append(f"\n→ {finding.action}", style="italic")
        table.add_row(Text(f"{mark} {finding.severity}", style=style), Text(finding.check), why)
    return table


def _numbers(diagnosis: Diagnosis) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 1))
    table.add_column("number", overflow="fold", max_width=20)
    table.add_column("value", overflow="fold")
    table.add_column("how", overflow="fold", style="dim")
    for row in headline(diagnosis):
        table.add_row(*map(Text, row))
    return table


def headline(diagnosis: Diagnosis) -> list[Headline]:
    """Returns the leading numbers; what could not be computed is there with its reason."""
    rows = [_row(diagnosis, key, label) for key, label in LABELS.items()]
    if "log_px" not in diagnosis.estimates and "log_px_annealed" in diagnosis.estimates:
        rows[0] = _row(diagnosis, "log_px_annealed", title_of("log_px_annealed"))
    scored = [_row(diagnosis, key, SCORED[key]) for key in SCORED if key in diagnosis.estimates]
    if is_generator(diagnosis.evidence):  # it has these numbers alone
        return scored
    return [*rows[:3], *_surgery(diagnosis), rows[3], *scored]


def _row(diagnosis: Diagnosis, key: str, label: str) -> Headline:
    estimate = diagnosis.estimates.get(key)
    if estimate is None:
        return _missing(diagnosis.evidence.skipped, key, label)
    row = row_of(key, estimate)
    samples = f"K={row.samples}" if row.samples != "–" else ""
    trust = row.trust if row.trust != "–" else ""
    beside = ", ".join(part for part in (row.method, samples, row.count, trust) if part)
    return Headline(label, row.value, "" if key == "active_units" else beside)


def _missing(skipped: Mapping[str, str], key: str, label: str) -> Headline:
    return Headline(label, "unavailable", skipped.get(key, ""))


def _surgery(diagnosis: Diagnosis) -> list[Headline]:
    labels = ("mutual information", "marginal KL interval")
    surgery = diagnosis.evidence.get(SURGERY)
    if surgery is None:
        return [_missing(diagnosis.evidence.skipped, "surgery", label) for label in labels]
    information = row_of("mutual_information", surgery.mutual_information)
    low, high = surgery.interval  # a KL is not below zero, whatever the interval says
    held_out = surgery.marginal_kl_held_out
    beside = "" if held_out is None else f"held-out bound {row_of('', held_out).value}"
    return [
        Headline(labels[0], information.value, f"ceiling log N = {surgery.log_n:.2f} nats"),
        Headline(labels[1], f"{number(max(low, 0.0))} to {number(high)} nats", beside),
    ]
