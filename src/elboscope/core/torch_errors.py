"""The only place that reads the words of torch's errors: torch has no classes for what they say.

Each predicate has a test that provokes the real error, so that a new version of torch that words
it differently fails that test and not, silently, a diagnosis.
"""

from __future__ import annotations

__all__ = ["first_line", "lacks_gradient", "met_nan", "refuses_nan", "refuses_values"]

# Of samplers (the first two) and of factorisations.
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
