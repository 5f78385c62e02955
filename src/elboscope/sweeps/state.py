"""What a run folder says about its run: the only memory of a sweep."""

from __future__ import annotations

__all__ = ["OUTCOME", "RunState", "Status", "run_state"]

import json
from pathlib import Path
from typing import Any, Literal, NamedTuple

Status = Literal["waiting", "unfinished", "finished", "diverged", "failed"]

OUTCOME = "outcome.json"


class RunState(NamedTuple):
    """Where a run stands.

    Attributes:
        status: "waiting" (not begun), "unfinished" (begun; it goes on from its checkpoint),
            "finished", "diverged" or "failed".
        reason: In words, what ended it.
    """

    status: Status
    reason: str

    @property
    def over(self) -> bool:
        """Whether nothing is to be done."""
        return self.status not in ("waiting", "unfinished")


def run_state(folder: Path) -> RunState:
    """Returns the state of the run in a folder, which need not exist.

    Example:
        >>> run_state(Path("no/such/run")).status
        'waiting'
    """
    said = str(_read(folder / "run.json").get("status", ""))
    if said.startswith("diverged"):
        return RunState("diverged", said)
    if said.startswith(("finished", "stopped early")):
        return RunState("finished", said)
    outcome = _read(folder / OUTCOME)
    if outcome.get("status") == "failed":
        return RunState("failed", str(outcome.get("reason", "")))
    return RunState("unfinished" if said else "waiting", said or str(outcome.get("reason", "")))


def _read(path: Path) -> dict[str, Any]:
    """A file that is missing or cut off says nothing."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
