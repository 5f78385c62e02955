"""What all reproductions share: plans, sittings, claims, rows and the result."""
