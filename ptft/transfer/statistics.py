"""Batch-norm statistics for a source that has none."""

import torch

from ptft.data.task import Examples, Format
from ptft.models.classifier import Classifier

_MOST = 1_000
_BATCH = 100


def estimate_statistics(classifier: Classifier, train: Examples, format_: Format) -> str:
    """Measures the running statistics of all batch norms on training images, in place.

    They become the plain average over batches (torch.optim.swa_utils.update_bn), of at most 1,000 images spread
    evenly.

    Args:
        classifier: on the CPU; its mode is kept.
        train: the target's training part.
        format_: how the images are normalised.

    Returns:
        A sentence that says so.
    """
    rows = torch.arange(0, len(train), max(1, len(train) // _MOST))
    portions = [portion for portion in rows.split(_BATCH) if len(portion) > 1]
    batches = [format_.normalize(train.images.take(portion)) for portion in portions]
    torch.optim.swa_utils.update_bn(batches, classifier.backbone)
    count = sum(map(len, portions))
    return f"adapted: the source has no batch-norm statistics; measured on {count:,} training images of the target."
