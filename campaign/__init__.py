"""Attacks on the whole program that are too long for the tests: ``python -m campaign``."""
