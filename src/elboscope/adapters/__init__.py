"""Adapters: one foreign library a file, imported inside its function. None yet."""
