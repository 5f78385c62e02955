"""Published numbers: data with a source, read from JSON files, never written in code.

A file ``references/NAME.json`` holds the paper, what its numbers were computed with, and one
entry a number. A number is compared with ours and is no truth: for one recipe, implementations
and runs spread by 0.2 to 1 nat.
"""

from __future__ import annotations

__all__ = ["Published", "references"]

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).parent / "references"


@dataclass(frozen=True)
class Published:
    """A number as its paper printed it.

    Attributes:
        value: In the unit of the table.
        source: Paper, table, arXiv id.
        error: What stands behind its ±; ``None`` where nothing does.
        error_kind: What the ± is, such as "sd over 4 runs"; empty without one.
        epochs: Of its training; ``None`` where the paper trained nothing.
        num_samples: K of its estimate.
    """

    value: float
    source: str
    error: float | None = None
    error_kind: str = ""
    epochs: int | None = None
    num_samples: int | None = None

    def __str__(self) -> str:
        return f"{self.value:g}" if self.error is None else f"{self.value:g} ± {self.error:g}"


def references(name: str) -> Mapping[str, Published]:
    """Returns the published numbers of a reproduction, by key.

    Args:
        name: As on the command line.

    Example:
        >>> number = references("iwae-table1")["mnist, 1 layer, IWAE k=50, NLL"]
        >>> number.value, number.source, number.epochs
        (84.78, 'Burda et al. 2016, Table 1, arXiv 1509.00519', 3280)
    """
    path = FOLDER / f"{name.replace('-', '_')}.json"
    entries = json.loads(path.read_text(encoding="utf-8"))["numbers"]
    return {entry.pop("key"): Published(**entry) for entry in entries}
