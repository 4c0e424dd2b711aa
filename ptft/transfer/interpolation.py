"""Weights between those that finetuning began with and those it ended with."""

from collections.abc import Mapping

import torch
from torch import Tensor

from ptft.models.classifier import Classifier


@torch.no_grad()
def draw_back(classifier: Classifier, start: Mapping[str, Tensor], share: float) -> None:
    """Makes weights w, in place, (1 - share) * start + share * w, batch-norm statistics too; counters stay.

    Wortsman et al. 2022, "Robust fine-tuning of zero-shot models", eq. 1, whose α the share is.

    Args:
        classifier: with the weights of the end.
        start: the weights of the beginning by their names, of the same shapes.
        share: of the end, in [0, 1]; 1 is the end to the bit.
    """
    if share == 1:
        return
    for name, tensor in classifier.state_dict().items():
        if tensor.is_floating_point():
            tensor.lerp_(start[name].to(tensor.device), 1 - share)
