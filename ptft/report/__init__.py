"""What a person reads: console, metrics log, summary, curves, page."""
