"""Checks, one a file: from the shared evidence to a finding, with threshold and citation."""
