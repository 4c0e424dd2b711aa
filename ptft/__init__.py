"""ptft: image pretraining and finetuning from the command line."""

__version__ = "0.1.0"
