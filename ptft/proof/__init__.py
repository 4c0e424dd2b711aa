"""The evidence that pretraining helped."""
