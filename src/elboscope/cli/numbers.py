"""Numbers that can be typed, and what they are called where one is wrong."""

from __future__ import annotations

__all__ = ["KINDS", "positive", "whole"]

KINDS = {"whole": "a whole number ≥ 0", "positive": "a whole number ≥ 1"}


def whole(text: str) -> int:
    """Returns a whole number ≥ 0 that fits a seed, 64 bits."""
    number = int(text)
    if not 0 <= number < 2**63:
        raise ValueError
    return number


def positive(text: str) -> int:
    """Returns a whole number ≥ 1."""
    number = int(text)
    if number < 1:
        raise ValueError
    return number
