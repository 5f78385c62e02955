"""Reproductions: one published table or figure a file. None yet."""
