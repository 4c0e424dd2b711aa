"""Random weights for a task: drawn from the seed, and whitened by the images where the model asks for it."""

from collections.abc import Callable

import torch

from ptft.data.task import Examples, Format, Task
from ptft.errors import UsageError
from ptft.models import Model
from ptft.models.classifier import Classifier
from ptft.models.whitening import PatchMoments, Whitening
from ptft.runtime import derive_seed

_MOST_IMAGES = 5_000
_MOST_PIXELS = _MOST_IMAGES * 32 * 32
_FEWEST_IMAGES = 100
_BATCH = 100


def random_classifier(model: Model, task: Task, seed: int) -> Classifier:
    """The classifier with the weights that this seed draws.

    Raises:
        UsageError: the images are too small for the model.
    """
    smallest, size = model.min_image_size(), task.format.image_size
    if size < smallest:
        raise UsageError(
            f"model.name: {model.name} needs images of at least {smallest} pixels, these have {size}. "
            "Set data.image_size, or model.small_stem: true where the model has it."
        )
    torch.manual_seed(derive_seed("init", seed))
    return model.build(len(task.classes), task.format.in_channels)


def whiten(
    classifier: Classifier, train: Examples, format_: Format, check_stop: Callable[[], None] = lambda: None
) -> int:
    """Computes the filters of a first layer that whitens, in place; a pure function of the images.

    Args:
        classifier: of any model.
        train: the training part, of which images of 5,000 · 32² pixels altogether, but no fewer than 100, spread
            evenly, are looked at, unaugmented.
        format_: how the images are normalised.
        check_stop: called before each batch; raises when a signal asked to stop.

    Returns:
        The number of images; 0 where the model has no such layer.
    """
    layers = [part for part in classifier.backbone.modules() if isinstance(part, Whitening)]
    if not layers:
        return 0
    most = max(_FEWEST_IMAGES, min(_MOST_IMAGES, _MOST_PIXELS // format_.image_size**2))
    count = min(len(train), most)
    moments = PatchMoments(format_.in_channels)
    for rows in (torch.arange(count) * len(train) // count).split(_BATCH):
        check_stop()
        moments.add(train.images.take(rows))
    mean, covariance = moments.normalised(torch.tensor(format_.mean), torch.tensor(format_.std))
    for layer in layers:
        layer.whiten(mean, covariance)
    return count
