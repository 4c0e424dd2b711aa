"""How near the source is to the target: do neighbours in its features share a class?"""

from collections.abc import Callable
from dataclasses import dataclass

import torch

from ptft.data.task import Task
from ptft.models.classifier import Classifier
from ptft.proof.scores.neighbours import neighbours_right
from ptft.train.evaluate import features_of

_MOST = 2_000
_NEAR = 0.2
_FEW = 20


@dataclass(frozen=True)
class Nearness:
    """Leave-one-out accuracy of k-NN on the target's training images, in [0, 1].

    Attributes:
        source: on the source's features.
        untrained: on those of the same network with random weights.
        labels_per_class: training images over classes.
    """

    source: float
    untrained: float
    labels_per_class: float

    @property
    def is_clear(self) -> bool:
        """Few labels, and features far ahead of random ones: these need not be tried, and a frozen backbone may do."""
        return self.labels_per_class <= _FEW and self.source - self.untrained >= _NEAR

    def sentence(self) -> str:
        """Both accuracies, and what they say."""
        words = "random weights are not tried" if self.is_clear else "random weights may win"
        return (
            f"{self.labels_per_class:.3g} labels a class; nearest neighbours in the source's features name "
            f"{100 * self.source:.1f} % of the training images right, in those of random weights "
            f"{100 * self.untrained:.1f} %: {words}."
        )


def measure_nearness(
    task: Task, source: Classifier, untrained: Classifier, device: torch.device, check_stop: Callable[[], None]
) -> Nearness:
    """Looks at up to 2,000 training images, spread evenly.

    Args:
        task: the target.
        source, untrained: the network with the source's weights and with random ones, on `device`.
        device: to compute on.
        check_stop: raises when a signal asked to stop.
    """
    rows = torch.arange(0, len(task.train), -(-len(task.train) // _MOST))
    examples = task.train.chosen(rows)
    shares = []
    for classifier in (source, untrained):
        features = features_of(classifier, examples, task.format, device, check_stop=check_stop)
        shares.append(float(neighbours_right(features.cpu().numpy(), examples.labels.numpy()).mean()))
    return Nearness(shares[0], shares[1], len(task.train) / len(task.classes))
