"""The parts of the page: tables and figures, by question."""
