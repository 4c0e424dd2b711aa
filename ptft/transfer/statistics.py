"""Batch-norm statistics measured on the target's images."""

from collections.abc import Callable, Sequence

import torch
from torch.nn.modules.batchnorm import _BatchNorm

from ptft.data.task import Examples, Format
from ptft.models.classifier import Classifier

_MOST = 10_000
_BATCH = 100


def measure_statistics(
    classifier: Classifier,
    train: Examples,
    format_: Format,
    device: torch.device,
    check_stop: Callable[[], None] = lambda: None,
    norms: Sequence[_BatchNorm] | None = None,
) -> int:
    """Measures the running mean and variance of the backbone's batch norms anew, in place.

    They become the plain average over batches of about 100 unaugmented images: AdaBN (Li et al. 2016, "Revisiting
    batch normalization for practical domain adaptation", algorithm 1). Dropout is off.

    Args:
        classifier: on `device`; its mode is kept.
        train: the target's training part, of which at most 10,000 images, spread evenly, are looked at.
        format_: how the images are normalised.
        device: to compute on.
        check_stop: called before each batch; raises when a signal asked to stop.
        norms: those of the backbone that are measured; None for all of them.

    Returns:
        The number of images.
    """
    rows = torch.arange(0, len(train), max(1, -(-len(train) // _MOST)))
    if norms is None:
        norms = [part for part in classifier.backbone.modules() if isinstance(part, _BatchNorm)]
    momenta, was_training = [norm.momentum for norm in norms], classifier.training
    classifier.eval()
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # of torch: the plain average of all batches
        norm.train()
    with torch.no_grad():
        for portion in rows.tensor_split(max(1, len(rows) // _BATCH)):
            check_stop()
            classifier.features(format_.normalize(train.images.take(portion).to(device)))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    classifier.train(was_training)
    return len(rows)
