"""The command line, thin: parse, load, call the library, print. Importing it imports no torch."""

from .main import main

__all__ = ["main"]
