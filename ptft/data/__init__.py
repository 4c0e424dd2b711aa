"""From a source of labelled images to batches of uint8 tensors."""
