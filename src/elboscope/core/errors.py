"""A user's mistake in one line; and the words of torch's errors, read in this one place."""

from __future__ import annotations

__all__ = [
    "ContractError",
    "InputError",
    "blamed_on",
    "first_line",
    "is_out_of_memory",
    "lacks_gradient",
    "met_nan",
    "refuses_nan",
    "refuses_values",
    "require",
    "shown",
    "text_of",
]

from collections.abc import Callable, Iterator
from contextlib import contextmanager


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


def require(what: str, holds: bool, expected: str, value: object, do: str = "") -> None:
    """Raises an InputError about a value unless a condition holds.

    Example:
        >>> require("scale", False, "a number > 0", -1)
        Traceback (most recent call last):
        elboscope.core.errors.InputError: scale: expected a number > 0; got -1.
    """
    if not holds:
        raise InputError(what, expected=expected, got=shown(value), do=do)


def text_of(value: object, write: Callable[[object], str] = str) -> str:
    """Returns the text of a value, and nothing where a class of the user's raises instead."""
    try:
        return write(value)
    except Exception:  # the user's code, which may raise anything
        return ""


def shown(value: object) -> str:
    """Returns what a value is, short: its text where that is short, else its type.

    Example:
        >>> shown(-1), shown({}), shown(list(range(99)))
        ('-1', '{}', 'a list')
    """
    text = text_of(value, repr)
    return text if 0 < len(text) <= 40 and "\n" not in text else f"a {type(value).__name__}"


@contextmanager
def blamed_on(
    what: str, expected: str, do: str, kind: type[InputError] = InputError
) -> Iterator[None]:
    """Turns whatever the block raises into an error that names the user's argument.

    It is for calls of the user's own code (networks, data sets, callbacks), which may raise
    anything, ``sys.exit`` included, which would end the program as if all were well; and for
    arguments that only another library can judge, such as a device.

    Args:
        what: The argument.
        expected: What it should have done.
        do: What to do about it.
        kind: The error.

    Example:
        >>> with blamed_on("encoder", "a module that takes x", "Check its layers."):
        ...     raise SystemExit(0)
        Traceback (most recent call last):
        elboscope.core.errors.InputError: encoder: expected a module that takes x; got sys.exit(0). ...
    """  # noqa: E501
    try:
        yield
    except InputError:
        raise
    except (Exception, SystemExit) as error:
        got = f"{type(error).__name__}: {first_line(error)[:200]}"
        if isinstance(error, SystemExit):
            got = f"sys.exit({'' if error.code is None else repr(error.code)})"
        raise kind(what, expected=expected, got=got, do=do) from error


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
MEMORY_WORDS = ("can't allocate memory", "not enough memory", "out of memory", "overflowed")


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


def first_line(error: BaseException) -> str:
    """Returns the first line of an error's text, or the name of its class where it has none.

    Example:
        >>> first_line(ValueError("a\\nb")), first_line(KeyError())
        ('a', 'KeyError')
    """
    text = text_of(error).strip()
    return text.splitlines()[0] if text else type(error).__name__


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out, of the machine or of a device: no defect of any code.

    Example:
        >>> import torch
        >>> try:
        ...     torch.empty(2**60)
        ... except RuntimeError as error:
        ...     is_out_of_memory(error)
        True
    """
    if isinstance(error, MemoryError):
        return True
    text = first_line(error) if isinstance(error, RuntimeError) else ""
    return any(words in text for words in MEMORY_WORDS)
