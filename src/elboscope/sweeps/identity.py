"""Whether a folder is that of this sweep: the same space, seeds, sampler and base."""

from __future__ import annotations

__all__ = ["claim"]

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from elboscope.core import InputError
from elboscope.training.atomic import replace_file

from .plan import SweepPlan

FILE = "plan.json"
GROWS = "trials"


def claim(folder: Path, plan: SweepPlan, about: Mapping[str, object]) -> None:
    """Writes down what the folder is for, or compares it with what is there.

    Args:
        folder: Of the sweep, held by this process.
        plan: Its ``trials`` may grow from call to call; nothing else may change.
        about: What else makes the runs what they are, such as the configuration.

    Raises:
        InputError: The folder is that of another sweep, or of a run.
    """
    path = folder / FILE
    asked: dict[str, Any] = json.loads(json.dumps({**about, "sweep": asdict(plan)}))
    if (folder / "run.json").exists():
        raise InputError(
            str(folder), expected="a new folder, or one of a sweep", got="a run folder",
            do="Choose another folder.",
        )  # fmt: skip
    if path.exists():
        _compare(folder, _flat(json.loads(path.read_text(encoding="utf-8"))), _flat(asked))
    text = json.dumps(asked, indent=2, ensure_ascii=False)
    replace_file(path, lambda aside: aside.write_text(text + "\n", encoding="utf-8"))


def _compare(folder: Path, there: dict[str, Any], asked: dict[str, Any]) -> None:
    for key in sorted({*there, *asked}):
        old: Any = there.get(key)
        new: Any = asked.get(key)
        growing = key == f"sweep.{GROWS}" and isinstance(old, int)
        grows = growing and isinstance(new, int) and new >= old
        if old != new and not grows:
            more = " or more" if growing else ""
            raise InputError(
                str(folder), expected=f"the sweep that is there, with {key} {old!r}{more}",
                got=repr(new), do="Choose another folder for another sweep.",
            )  # fmt: skip


def _flat(content: Mapping[str, Any]) -> dict[str, Any]:
    return dict(_leaves(content, ""))


def _leaves(content: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for key, value in content.items():
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
