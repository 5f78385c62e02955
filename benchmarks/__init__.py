"""Speed as ratios: against a peer, and against the matrix products that no one can avoid."""
