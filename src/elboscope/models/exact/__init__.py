"""Models whose every quantity is known exactly: what estimators are tested against."""
