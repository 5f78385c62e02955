"""What a check concludes."""

from __future__ import annotations

__all__ = ["SEVERITIES", "Finding", "Severity"]

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

Severity = Literal["ok", "warning", "problem", "undecided", "unavailable"]
SEVERITIES: tuple[Severity, ...] = get_args(Severity)


@dataclass(frozen=True)
class Finding:
    """A verdict: what is wrong, how sure, and what to do next.

    Attributes:
        check: The check's name, such as ``"prior hole"``.
        severity: *Undecided* when the threshold lies within the error; *unavailable* when the
            model cannot be asked, or the budget did not reach.
        summary: One sentence with the numbers, their errors and units.
        evidence: The numbers behind it, by name.
        action: What to do next, as a command or code that runs today. Every warning and every
            problem has one.

    Raises:
        ValueError: A warning or a problem without an action; an unknown severity.
    """

    check: str
    severity: Severity
    summary: str
    evidence: Mapping[str, object] = field(default_factory=dict)
    action: str = ""

    def __post_init__(self) -> None:
        if self.severity not in SEVERITIES:
            raise ValueError(f"severity: expected one of {SEVERITIES}; got {self.severity!r}.")
        if self.severity in ("warning", "problem") and not self.action:
            raise ValueError(f"{self.check}: a {self.severity} says what to do next (action).")

    def __str__(self) -> str:
        return f"[{self.severity}] {self.check}: {self.summary}"
