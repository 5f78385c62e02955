"""Sphinx: writes the names of ``findings.json`` for its page, from the lists of the package."""

from pathlib import Path

from sphinx.application import Sphinx

from elboscope.diagnostics import CHECKS, NUMBERS

PLACE = Path("_build", "names.md")


def names() -> str:
    """Returns the checks, and a table of the numbers: name, title, what it is not."""
    rows = [f"| `{n.name}` | {_cell(n.title)} | {_cell(n.is_not)} |" for n in NUMBERS.values()]
    checks = ", ".join(f"`{check.name}`" for check in CHECKS)
    head = ["| name | what it is | what it is not |", "|---|---|---|"]
    return "\n".join([f"Checks: {checks}.", "", *head, *rows, ""])


def _cell(text: str) -> str:
    return text.replace("|", r"\|").replace("*", r"\*").replace("_", r"\_")


def setup(app: Sphinx) -> None:
    """Writes the table before a page is read."""
    app.connect("builder-inited", _write)


def _write(app: Sphinx) -> None:
    path = Path(app.srcdir) / PLACE
    path.parent.mkdir(exist_ok=True)
    path.write_text(names(), encoding="utf-8")
