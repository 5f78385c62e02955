"""``elboscope diagnose``: load, check, measure, judge, write the report."""

from __future__ import annotations

__all__ = ["diagnosed", "run"]

from collections.abc import Mapping
from pathlib import Path

from rich.console import Console

from elboscope.core import check_model, evaluating, placed_like, seeded
from elboscope.diagnostics.budget import budget_named
from elboscope.report import Diagnosis, diagnose
from elboscope.training import KLWeight

from .errors import UsageError
from .evaluation_data import EvaluationData, evaluation_data
from .parser import Arguments
from .progress import say, shown_progress
from .summary import summary
from .target import Target, load_target


def run(arguments: Arguments) -> int:
    """Prints the verdicts and where the report is."""
    target = load_target(arguments.model)
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
        seed: Of everything that is drawn.
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
    objective = target.run.settings.objective
    known |= {"objective": repr(objective), "training status": target.record.get("status", "?")}
    if isinstance(objective, KLWeight):
        known |= {"kl_weight": objective.kl_weight, "reduction": objective.reduction}
    return known


def _out(target: Target, out: str | None) -> Path:
    """Returns the report's folder: as told, in the run folder, or NAME-report."""
    if out is not None:
        folder = Path(out).expanduser()
    elif target.folder is not None:
        folder = target.folder / "report"
    else:
        place, _, name = target.name.rpartition(":")
        folder = Path(f"{Path(place).stem}-{name}-report")
    if folder.exists() and not folder.is_dir():
        raise UsageError("--out", expected="a folder", got=f"{folder}, which is a file")
    return folder
