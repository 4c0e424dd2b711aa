"""Exact evaluation: every example once, nothing random, the model in eval mode."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from ptft.data.task import Examples, Format
from ptft.data.views import views_of
from ptft.distributed.ranks import ALONE, Ranks
from ptft.errors import NotFiniteError
from ptft.models.classifier import Classifier
from ptft.runtime import Precision, autocast, is_out_of_memory
from ptft.train.metrics import TaskScores, TaskTally

_BATCH_SIZE = 128
# On a CPU a batch of photographs passes in parts of so many pixels, or images where they are large: at 224 px resnet18
# takes 1.1 GB where a whole batch took 2.2, for 5 % of the speed (measured: 2 to 20, most for narrow networks).
_PIXELS_AT_ONCE, _IMAGES_AT_ONCE = 64 * 96 * 96, 16


def logits_of(
    classifier: nn.Module,
    examples: Examples,
    format_: Format,
    device: torch.device,
    precision: Precision = "fp32",
    check_stop: Callable[[], None] = lambda: None,
    ranks: Ranks = ALONE,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Logits of every example in order: the one path of evaluation and prediction.

    When memory runs out, the batches become half as large: an image's logits do not depend on the others. Many ranks
    take the batches in turn and tell each other what came out, so that each has the same logits as one alone.

    Args:
        classifier: on `device`; put into eval mode here and back as it was afterwards.
        examples: N images.
        format_: how images are given to the model, and of how many views of each the logits are averaged.
        device: to compute on.
        precision: of the forward pass.
        check_stop: called before each batch of a rank alone; raises when a signal asked to stop.
        ranks: that share the work.

    Yields:
        Rows int64 (B,) on the CPU and logits float32 (B, K) on `device`.
    """

    at_once = _BATCH_SIZE
    if device.type == "cpu":
        at_once = max(_IMAGES_AT_ONCE, _PIXELS_AT_ONCE // format_.image_size**2)

    def compute_part(rows: Tensor) -> Tensor:
        images = format_.normalize(examples.images.take(rows).to(device))
        views = views_of(images, format_.num_views)
        weighted: list[Tensor] = [weight * classifier(view).float() for weight, view in views]
        return sum(weighted[1:], start=weighted[0])

    def compute(rows: Tensor) -> Tensor:
        with torch.inference_mode(), autocast(device, precision):
            return torch.cat([compute_part(part) for part in rows.split(at_once)])

    was_training = classifier.training
    classifier.eval()
    try:
        if ranks.is_alone:
            yield from _in_batches(torch.arange(len(examples)), compute, at_once, check_stop)
        else:
            yield from _in_turn(len(examples), compute, at_once, ranks)
    finally:
        classifier.train(was_training)


def _in_batches(
    rows: Tensor, compute: Callable[[Tensor], Tensor], at_once: int, check_stop: Callable[[], None]
) -> Iterator[tuple[Tensor, Tensor]]:
    """What `compute`, which takes at most so many `at_once`, gives for the rows, in batches that memory bears."""
    start, size = 0, _BATCH_SIZE
    while start < len(rows):
        check_stop()
        batch = rows[start : start + size]
        try:
            found = compute(batch)
        except (RuntimeError, MemoryError) as error:
            if len(batch) == 1 or not is_out_of_memory(error):
                raise
            size = min(len(batch), at_once) // 2
            continue
        yield batch, found
        start += len(batch)


def _in_turn(
    count: int, compute: Callable[[Tensor], Tensor], at_once: int, ranks: Ranks
) -> Iterator[tuple[Tensor, Tensor]]:
    """The same batches, of which in every round each rank computes one and is told the others.

    Nobody stops in the middle: a rank that left a round alone would leave the others, or its own GPU, waiting in it.
    """
    batches = torch.arange(count).split(_BATCH_SIZE)
    for first in range(0, len(batches), ranks.world_size):
        turn = batches[first : first + ranks.world_size]
        # One without a batch computes an image for nothing, to know the shape.
        own = turn[ranks.rank] if ranks.rank < len(turn) else turn[0][:1]
        found = torch.cat([logits for _, logits in _in_batches(own, compute, at_once, lambda: None)])
        padded = torch.nn.functional.pad(found, (0, 0, 0, len(turn[0]) - len(found)))
        for rows, logits in zip(turn, ranks.gather(padded), strict=False):
            yield rows, logits[: len(rows)]


def features_of(
    classifier: Classifier,
    examples: Examples,
    format_: Format,
    device: torch.device,
    precision: Precision = "fp32",
    check_stop: Callable[[], None] = lambda: None,
    ranks: Ranks = ALONE,
) -> Tensor:
    """Features of every example in order, float32 (N, D) on `device`: all that a frozen backbone has to say.

    Of the image alone, whatever views are judged. Arguments as `logits_of`.
    """
    format_ = replace(format_, num_views=1)
    rows = logits_of(classifier.backbone, examples, format_, device, precision, check_stop, ranks)
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

    def scores(self, tally: TaskTally) -> TaskScores:
        """As `evaluate` gives them, to the bit where that ran on the CPU.

        Args:
            tally: an empty one of the task.

        Raises:
            NotFiniteError: the loss is not: the weights are spoilt.
        """
        for logits, labels in zip(self.logits.split(_BATCH_SIZE), self.labels.split(_BATCH_SIZE), strict=True):
            tally.add(logits, labels)
        return _finite(tally.scores())


def predictions_of(
    classifier: nn.Module,
    examples: Examples,
    format_: Format,
    device: torch.device,
    check_stop: Callable[[], None] = lambda: None,
    ranks: Ranks = ALONE,
) -> Predictions:
    """Predictions in fp32 for every example in order; arguments as `logits_of`."""
    rows = logits_of(classifier, examples, format_, device, check_stop=check_stop, ranks=ranks)
    logits = [found.cpu() for _, found in rows]
    return Predictions(torch.cat(logits), examples.labels)


def evaluate(
    classifier: nn.Module,
    examples: Examples,
    format_: Format,
    tally: TaskTally,
    device: torch.device,
    precision: Precision = "fp32",
    check_stop: Callable[[], None] = lambda: None,
    ranks: Ranks = ALONE,
) -> TaskScores:
    """Scores of a classifier on one part; arguments as `logits_of` and `Predictions.scores`.

    Raises:
        NotFiniteError: the loss is not: the weights are spoilt.
    """
    for rows, logits in logits_of(classifier, examples, format_, device, precision, check_stop, ranks):
        tally.add(logits, examples.labels[rows].to(device))
    return _finite(tally.scores())


def _finite(scores: TaskScores) -> TaskScores:
    if not math.isfinite(scores.loss):
        raise NotFiniteError(
            "the loss on held-out images is not finite. Train again, in a new run folder, with a lower optim.lr, "
            "or set train.clip_norm or train.precision: fp32."
        )
    return scores
