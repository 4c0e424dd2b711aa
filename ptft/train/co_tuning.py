"""Co-Tuning: the source's head goes on naming source classes while the target is learnt."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor
from torch.nn import functional

from ptft.data.task import Task
from ptft.models.classifier import Classifier
from ptft.train.evaluate import features_of

_WEIGHT, _BIAS, _RELATION = NAMES = ("source_head.weight", "source_head.bias", "source_relation")
"""What training needs, by name: the source's head, (S, D) and (S,), and `relation`, (K, S)."""


def relation(probabilities: Tensor, labels: Tensor, num_classes: int) -> Tensor:
    """p(source class | target class): the mean of what the source says of each class's images.

    The direct approach of You et al. 2020, "Co-Tuning for transfer learning" (section 3.2), without the calibration of
    the source that they put before it.

    Args:
        probabilities: float (N, S), rows sum to 1.
        labels: int64 (N,), every class at least once.
        num_classes: K.

    Returns:
        (K, S), rows sum to 1.
    """
    one_hot = functional.one_hot(labels, num_classes).to(probabilities)
    return one_hot.T @ probabilities / one_hot.sum(dim=0)[:, None]


def prepare_co_tuning(
    classifier: Classifier,
    weight: Tensor,
    bias: Tensor,
    task: Task,
    device: torch.device,
    check_stop: Callable[[], None],
) -> dict[str, Tensor]:
    """The tensors of `NAMES`.

    Args:
        classifier: the target with the source's backbone, untrained, on `device`.
        weight, bias: of the source's head, (S, D) and (S,).
        task: the target; its training images are looked at once, without augmentation.
        device: to compute on.
        check_stop: raises when a signal asked to stop.
    """
    features = features_of(classifier, task.train, task.format, device, check_stop=check_stop)
    weight, bias = weight.flatten(1).to(device).float(), bias.to(device).float()
    probabilities = functional.linear(features, weight, bias).softmax(dim=1)
    found = relation(probabilities, task.train.labels.to(device), classifier.num_classes)
    return dict(zip(NAMES, (weight, bias, found), strict=True))


def co_tuning_loss(features: Tensor, targets: Tensor, start: Mapping[str, Tensor]) -> Tensor:
    """Mean over the batch of the cross-entropy in nats of the source's head with the relation (eq. 2, without its λ).

    We differ in that the source's head stays as it is; theirs is trained too.

    Args:
        features: float32 (B, D).
        targets: int64 (B,), or float32 (B, K) rows that sum to 1 where images were mixed.
        start: holds the tensors of `NAMES`.
    """
    wanted = start[_RELATION][targets] if targets.ndim == 1 else targets @ start[_RELATION]
    return functional.cross_entropy(functional.linear(features, start[_WEIGHT], start[_BIAS]), wanted)
