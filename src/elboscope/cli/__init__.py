"""The command line, thin: parse, load, call the library, print.

Importing it imports no torch: :func:`main` imports the one command that was asked for.
"""

from __future__ import annotations

__all__ = ["main"]

import importlib
import sys
from collections.abc import Sequence

from .parser import COMMANDS, parse
from .terminal import UsageError, reported


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command line and returns its exit code; nothing but ``--help`` leaves by itself.

    Args:
        argv: The words after ``elboscope``; by default those of this process.

    Example:
        >>> main(["--version"])
        elboscope 0.1.0
        0
    """
    words = list(sys.argv[1:] if argv is None else argv)
    return reported(lambda: _run(words), debug="--debug" in words)


def _run(words: list[str]) -> int:
    try:
        arguments = parse(words)
    except SystemExit as leaving:  # argparse has printed the help
        return int(leaving.code or 0)
    if arguments.version:
        from importlib.metadata import version

        print(f"elboscope {version('elboscope')}")
        return 0
    if arguments.command is None:
        expected = f"one of {', '.join(COMMANDS)}"
        raise UsageError("COMMAND", expected=expected, got="none", do="See elboscope --help.")
    command = importlib.import_module(f".{arguments.command}_command", __name__)
    code: int = command.run(arguments)
    return code
