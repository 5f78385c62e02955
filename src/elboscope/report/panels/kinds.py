"""The kinds of panels that a section of the report can have."""

from __future__ import annotations

__all__ = [
    "Drawing",
    "Listing",
    "MapPanel",
    "Missing",
    "Panel",
    "Pictures",
    "Scores",
    "drawing",
]

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, TypeVar

from markupsafe import Markup

from elboscope import plots

T = TypeVar("T")


@dataclass(frozen=True)
class Panel:
    """A titled part of a section, with a caption that says how to read it."""

    kind: ClassVar[str] = ""
    title: str
    caption: str


@dataclass(frozen=True)
class Drawing(Panel):
    """A static figure."""

    kind: ClassVar[str] = "drawing"
    svg: Markup


@dataclass(frozen=True)
class Pictures(Panel):
    """Rows of small pictures: (label, ((data URI, caption), …))."""

    kind: ClassVar[str] = "pictures"
    rows: tuple[tuple[str, tuple[tuple[str, str], ...]], ...]


@dataclass(frozen=True)
class Listing(Panel):
    """Lines of text, for data that are not images."""

    kind: ClassVar[str] = "listing"
    lines: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Scores(Panel):
    """A table: the heads of its columns, and (label, cells) a line."""

    kind: ClassVar[str] = "scores"
    head: tuple[str, ...]
    lines: tuple[tuple[str, tuple[str, ...]], ...]


@dataclass(frozen=True)
class MapPanel(Panel):
    """The latent map: its place on the page and its script."""

    kind: ClassVar[str] = "map"
    place: Markup
    script: Markup


@dataclass(frozen=True)
class Missing(Panel):
    """What could not be drawn; the caption is the reason."""

    kind: ClassVar[str] = "missing"


def drawing(
    title: str,
    caption: str,
    name: str,
    data: T | None,
    draw: Callable[[T], plots.Figure],
    reason: str,
) -> Panel:
    """Returns a figure as a panel, or the reason where there is nothing to draw.

    Args:
        title: The panel's title.
        caption: How to read it.
        name: Makes the ids of the drawing unique on the page.
        data: What is drawn.
        draw: Draws it.
        reason: Why there are no data.
    """
    if data is None:
        return Missing(title, reason)
    svg = plots.to_svg(draw(data), name=name, description=f"{title}. {caption}")
    return Drawing(title, caption, Markup(svg))  # our own drawing: no user's text is in it
