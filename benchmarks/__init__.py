"""Speed as ratios: against a peer, and against the matrix products that nobody can avoid."""
