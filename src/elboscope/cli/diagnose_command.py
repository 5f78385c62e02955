"""``elboscope diagnose``: load, check, measure, judge, write the report."""

from __future__ import annotations

__all__ = ["diagnosed", "headline", "run", "summary"]

import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from elboscope.core import InputError, Severity, check_model, evaluating, placed_like, seeded
from elboscope.core.files import only_process, output_folder, unwritable
from elboscope.diagnostics import Interrupted, is_generator, title_of
from elboscope.diagnostics.budget import budget_named
from elboscope.diagnostics.kept import ABOUT, FOLDER, REPORT_LOCK, discard, give_room
from elboscope.diagnostics.quantities.prior import SURGERY
from elboscope.objectives import KLWeight
from elboscope.report import SCHEMA, Diagnosis, diagnose, judge
from elboscope.report.tables import number, row_of

from .evaluation_data import EvaluationData, Target, evaluation_data, load_target
from .parser import Arguments
from .terminal import UsageError, say, shown_progress, stoppable

PAGE, FINDINGS, NUMBERS = "report.html", "findings.json", "diagnosis.nc"


def run(arguments: Arguments) -> int:
    """Prints the verdicts and where the report is."""
    target = load_target(arguments.model, trust=arguments.trust)
    folder = _out(target, arguments.out)
    data = evaluation_data(target, arguments)
    diagnosed(
        target,
        data,
        folder,
        budget=arguments.budget,
        seed=arguments.seed,
        resume=arguments.resume,
    )
    return 0


def diagnosed(
    target: Target,
    data: EvaluationData,
    folder: Path,
    *,
    budget: str,
    seed: int,
    resume: bool = False,
) -> Diagnosis:
    """Diagnoses a model on data, prints, writes report.html, findings.json and diagnosis.nc.

    Args:
        target: The model and what is known about it.
        data: What it is evaluated on.
        folder: Where the three files go; each is written whole or not at all.
        budget: "quick", "standard" or "thorough".
        seed: Random seed of all draws.
        resume: Go on with what an interrupted diagnosis left there.

    Raises:
        InputError: The folder cannot be written, or is not of a report.
        KeyboardInterrupt: Ctrl-C, SIGTERM or SIGHUP came; the report has what was done.
    """
    say(f"{target.name} on {data.name}: {len(data.x)} datapoints, {data.notes}")
    say(data.binarisation)
    say(budget_named(budget).describe())
    _require_contract(target, data)
    with _claimed(folder), stoppable():
        if not resume and (folder / FOLDER / ABOUT).is_file():
            say(f"{folder} has an interrupted diagnosis; it begins again, without --resume.")
        try:
            diagnosis = _measured(target, data, folder, budget, seed, resume)
        except Interrupted as stop:
            _report(judge(stop.evidence), folder)
            text = f"{stop} The report in {folder} has these; --resume computes the rest."
            raise KeyboardInterrupt(text) from stop
        _report(diagnosis, folder)
        discard(folder)
    return diagnosis


def _measured(
    target: Target, data: EvaluationData, folder: Path, budget: str, seed: int, resume: bool
) -> Diagnosis:
    with shown_progress("diagnosing") as progress:
        return diagnose(
            target.model,
            data.x,
            x_train=data.x_train,
            images=data.images,
            history=target.history,
            budget=budget,
            seed=seed,
            settings=_settings(target, data),
            progress=progress,
            keep_in=folder,
            resume=resume,
        )


def _report(diagnosis: Diagnosis, folder: Path) -> None:
    """Prints, then writes: what cannot be written was at least seen.

    Raises:
        InputError: It cannot be written; what was computed stays on disk.
    """
    console = Console()
    console.print()
    console.print(summary(diagnosis))
    give_room(folder)
    try:
        paths = [
            diagnosis.save(folder / PAGE),
            diagnosis.save_json(folder / FINDINGS),
            diagnosis.save_datatree(folder / NUMBERS),
        ]
    except InputError as error:
        do = "Make room; --resume then writes the report, and computes nothing again."
        raise InputError(error.what, expected=error.expected, got=error.got, do=do) from error
    console.print()
    for path in paths:
        print(path)


@contextmanager
def _claimed(folder: Path) -> Iterator[None]:
    """Holds the report's folder, before anything is computed.

    Raises:
        InputError: It cannot be written, another process writes there, or a file of the report's
            name is not of a report.
    """
    foreign = _foreign(folder)
    if foreign:
        raise InputError(
            str(folder),
            expected="a new folder, or one of an earlier report",
            got=f"one with {' and '.join(foreign)} of something else",
            do="Nothing was changed. Name another with --out.",
        )
    with ExitStack() as stack:
        try:
            (folder / FOLDER).mkdir(parents=True, exist_ok=True)
            stack.enter_context(only_process(folder / FOLDER, REPORT_LOCK))
        except OSError as error:
            expected, do = "a folder that can be written", "Name another with --out."
            raise unwritable(folder, error, expected, do) from error
        yield


def _foreign(folder: Path) -> list[str]:
    """Names of files that a report would overwrite and that are not of one."""
    try:
        own = json.loads((folder / FINDINGS).read_text(encoding="utf-8"))["schema"] == SCHEMA
    except (OSError, ValueError, TypeError, LookupError):
        own = (folder / FOLDER / ABOUT).is_file()
    return [n for n in (PAGE, FINDINGS, NUMBERS) if not own and (folder / n).exists()]


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
        folder = output_folder(out)
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
