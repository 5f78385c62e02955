"""The page of the results that are kept: made of their ``result.md``, never typed.

``python -m elboscope.reproductions.frame.page PAGE.md FOLDER`` replaces what stands between the two
markers of the page by the results in the folder, one subfolder a run.
"""

from __future__ import annotations

__all__ = ["results", "update"]

import re
import sys
from pathlib import Path

BEGIN, END = "<!-- results: begin -->", "<!-- results: end -->"


def results(folder: Path, linked_from: Path) -> str:
    """Returns the results below a folder as one text, their headings two levels lower.

    Args:
        folder: Its subfolders hold a ``result.md`` each.
        linked_from: The folder of the page, from which pictures are linked.

    Example:
        >>> results(Path("/nowhere"), Path("/"))
        'No result is kept yet.'
    """
    parts = [_part(path, linked_from) for path in sorted(folder.glob("*/result.md"))]
    return "\n\n".join(parts) or "No result is kept yet."


def _part(path: Path, linked_from: Path) -> str:
    text = path.read_text(encoding="utf-8").strip()
    text = re.sub(r"^#", "###", text, flags=re.MULTILINE)
    place = path.parent.resolve().relative_to(linked_from.resolve()).as_posix()
    return re.sub(r"(!\[[^\]]*\]\()", rf"\1{place}/", text)


def update(page: str, content: str) -> str:
    """Returns a page with other content between its markers.

    Example:
        >>> "new" in update(f"a {BEGIN} old {END} b", "new")
        True
    """
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{content}\n\n{END}{after}"


def main(page: Path, folder: Path) -> None:
    """Rewrites the page."""
    text = update(page.read_text(encoding="utf-8"), results(folder, page.parent))
    page.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:3]))
