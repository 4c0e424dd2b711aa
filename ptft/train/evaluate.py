"""Exact evaluation: every example once, no augmentation, the model in eval mode."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ptft.data.task import Examples, Format
from ptft.errors import NotFiniteError
from ptft.models.classifier import Classifier
from ptft.runtime import Precision, autocast, is_out_of_memory
from ptft.train.metrics import Tally, TaskScores, TaskTally

_BATCH_SIZE = 256


def logits_of(
    classifier: nn.Module,
    examples: Examples,
    format_: Format,
    device: torch.device,
    precision: Precision = "fp32",
    check_stop: Callable[[], None] = lambda: None,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Logits of every example in order: the one path of evaluation and prediction.

    When memory runs out, the batches become half as large: an image's logits do not depend on the others.

    Args:
        classifier: on `device`; put into eval mode here and back as it was afterwards.
        examples: N images.
        format_: how images are given to the model.
        device: to compute on.
        precision: of the forward pass.
        check_stop: called before each batch; raises when a signal asked to stop.

    Yields:
        Rows int64 (B,) on the CPU and logits float32 (B, K) on `device`.
    """
    was_training = classifier.training
    classifier.eval()
    try:
        start, size = 0, _BATCH_SIZE
        while start < len(examples):
            check_stop()
            rows = torch.arange(start, min(start + size, len(examples)))
            try:
                with torch.inference_mode(), autocast(device, precision):
                    images = format_.normalize(examples.images.take(rows).to(device))
                    logits = classifier(images).float()
            except (RuntimeError, MemoryError) as error:
                if len(rows) == 1 or not is_out_of_memory(error):
                    raise
                size = len(rows) // 2
                continue
            yield rows, logits
            start += len(rows)
    finally:
        classifier.train(was_training)


def features_of(
    classifier: Classifier,
    examples: Examples,
    format_: Format,
    device: torch.device,
    precision: Precision = "fp32",
    check_stop: Callable[[], None] = lambda: None,
) -> Tensor:
    """Features of every example in order, float32 (N, D) on `device`: all that a frozen backbone has to say.

    Arguments as `logits_of`.
    """
    rows = logits_of(classifier.backbone, examples, format_, device, precision, check_stop)
    return torch.cat([features for _, features in rows])


@dataclass(frozen=True)
class Predictions:
    """What a classifier says about every example of a part.

    Attributes:
        logits: float32 (N, K), on the CPU.
        labels: the truth, as `Examples` has it.
    """

    logits: Tensor
    labels: Tensor

    def confidences(self, temperature: float = 1.0) -> tuple[Tensor, Tensor]:
        """Probability of the predicted class, float64 (N,) in [0, 1], and the predicted class, int64 (N,)."""
        shares = (self.logits.double() / temperature).softmax(dim=1)
        return shares.amax(dim=1).clamp(max=1.0), self.logits.argmax(dim=1)

    def scores(self, tally: TaskTally | None = None) -> TaskScores:
        """As `evaluate` gives them, to the bit where that ran on the CPU.

        Args:
            tally: of the task; None for one class an image.

        Raises:
            NotFiniteError: the loss is not: the weights are spoilt.
        """
        tally = tally or Tally(self.logits.shape[1], self.logits.device)
        for logits, labels in zip(self.logits.split(_BATCH_SIZE), self.labels.split(_BATCH_SIZE), strict=True):
            tally.add(logits, labels)
        return _finite(tally.scores())


def predictions_of(
    classifier: nn.Module,
    examples: Examples,
    format_: Format,
    device: torch.device,
    check_stop: Callable[[], None] = lambda: None,
) -> Predictions:
    """Predictions in fp32 for every example in order; arguments as `logits_of`."""
    logits = [logits.cpu() for _, logits in logits_of(classifier, examples, format_, device, check_stop=check_stop)]
    return Predictions(torch.cat(logits), examples.labels)


def evaluate(
    classifier: nn.Module,
    examples: Examples,
    format_: Format,
    num_classes: int,
    device: torch.device,
    precision: Precision = "fp32",
    check_stop: Callable[[], None] = lambda: None,
    tally: TaskTally | None = None,
) -> TaskScores:
    """Scores of a classifier on one part; arguments as `logits_of` and `Predictions.scores`.

    Raises:
        NotFiniteError: the loss is not: the weights are spoilt.
    """
    tally = tally or Tally(num_classes, device)
    for rows, logits in logits_of(classifier, examples, format_, device, precision, check_stop):
        tally.add(logits, examples.labels[rows].to(device))
    return _finite(tally.scores())


def _finite(scores: TaskScores) -> TaskScores:
    if not math.isfinite(scores.loss):
        raise NotFiniteError(
            "the loss on held-out images is not finite. Train again, in a new run folder, with a lower optim.lr, "
            "or set train.clip_norm or train.precision: fp32."
        )
    return scores
