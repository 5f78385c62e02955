"""A user's mistake in one line; and the words of torch's errors, read in this one place."""

from __future__ import annotations

__all__ = [
    "ContractError",
    "InputError",
    "first_line",
    "lacks_gradient",
    "met_nan",
    "refuses_nan",
    "refuses_values",
]


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


# The only place that reads the words of torch's errors: torch has no classes for what they say.
#
# Each predicate has a test that provokes the real error, so that a new version of torch that
# words it differently fails that test and not, silently, a diagnosis.

# Words of errors of samplers (the first two) and of factorisations.
NAN_WORDS = (
    "std >= 0.0",
    "p_in >= 0",
    "ill-conditioned",
    "non-finite values",
    "infs or NaNs",
    "not positive-definite",
    "singular",
)


def refuses_values(error: Exception) -> bool:
    """Whether the validation of a torch distribution refused parameters or values.

    Example:
        >>> import torch
        >>> try:
        ...     torch.distributions.Normal(torch.nan, 1.0)
        ... except ValueError as error:
        ...     refuses_values(error)
        True
    """
    return "found invalid values" in str(error)


def refuses_nan(error: Exception) -> bool:
    """Whether a validation error shows a tensor that contains NaN."""
    return "nan" in str(error)


def lacks_gradient(error: Exception) -> bool:
    """Whether a derivative was asked of something that autograd cannot differentiate."""
    return "grad" in str(error)


def met_nan(error: Exception) -> bool:
    """Whether a sampler or a factorisation met NaN, or a matrix that NaN or collapse made singular.

    Example:
        >>> import torch
        >>> try:
        ...     torch.linalg.cholesky(torch.full((2, 2), torch.nan))
        ... except RuntimeError as error:
        ...     met_nan(error)
        True
    """
    return any(words in str(error) for words in NAN_WORDS)


def first_line(error: Exception) -> str:
    """Returns the first line of an error's text, or the name of its class where it has none.

    Example:
        >>> first_line(ValueError("a\\nb")), first_line(KeyError())
        ('a', 'KeyError')
    """
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__
