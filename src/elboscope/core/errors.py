"""What a user did, said in one line: what was expected, what came, what to do."""

from __future__ import annotations

__all__ = ["ContractError", "InputError"]


class InputError(ValueError):
    """A mistake that the user can fix, stated in one line that names the offender.

    It is not raised for defects of the library: those keep their own exceptions, so that
    the command line can tell the two apart.

    Args:
        what: The offender, by the name the user knows it under.
        expected: What it should have been.
        got: What came.
        do: What to do about it.

    Example:
        >>> raise InputError("x", expected="values in [0, 1]", got="max 255", do="Divide by 255.")
        Traceback (most recent call last):
        elboscope.core.errors.InputError: x: expected values in [0, 1]; got max 255. Divide by 255.
    """

    def __init__(self, what: str, *, expected: str, got: str, do: str = "") -> None:
        self.what, self.expected, self.got, self.do = what, expected, got, do
        text = f"{what}: expected {expected}; got {got}. {do}"
        super().__init__(" ".join(text.split()))

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild, (type(self), self.what, self.expected, self.got, self.do))


class ContractError(InputError):
    """A model breaks a clause of the contract; ``what`` names the clause."""


def _rebuild(kind: type[InputError], what: str, expected: str, got: str, do: str) -> InputError:
    return kind(what, expected=expected, got=got, do=do)
