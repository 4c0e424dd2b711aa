"""One training run: from a config to the final checkpoint, in a run folder."""
