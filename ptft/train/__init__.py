"""Training: the state, one step, exact evaluation, the loop, calibration."""
