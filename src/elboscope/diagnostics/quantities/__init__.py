"""The numbers of a diagnosis, in one list for each question."""
