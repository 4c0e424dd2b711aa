"""Which checkpoint to start from, told from one pass of features over the target's training images."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import torch

from ptft.data.records import Record
from ptft.data.sources import DataConfig
from ptft.data.splits import split, subset
from ptft.data.task import Examples, Format, listing_of, prepare_part
from ptft.errors import CheckpointError, DataError
from ptft.models.classifier import Classifier
from ptft.proof.ranking import Measured, Ranking, rank
from ptft.proof.scores.worth import Worth, measure
from ptft.proof.start import Start
from ptft.report.console import Console
from ptft.runtime import derive_seed, pick_device
from ptft.train.evaluate import features_of

MOST_IMAGES = 5_000
"""Of a larger target a share of each class is looked at: intervals of about a point, in a bounded time."""


@dataclass(frozen=True)
class Target:
    """The images to score on.

    Attributes:
        config: how to read them.
        classes: names in the order of the labels.
        records: training images, at most about MOST_IMAGES.
        num_available: training images there are.
        listing: SHA-256 over which image, by name, is in which part.
        origin: phrase for messages.
    """

    config: DataConfig
    classes: tuple[str, ...]
    records: Sequence[Record]
    num_available: int
    listing: str
    origin: str

    @classmethod
    def open(cls, config: DataConfig, seed: int) -> "Target":
        """Lists the images of the training part, and chooses among them where there are many.

        Raises:
            DataError: see `DataConfig.open` and `split`.
        """
        source = config.open()
        classes, parts = split(source, config, seed=seed)
        records = subset(parts["train"], MOST_IMAGES, seed=seed)
        # An image that cannot be read is left out and named, as in evaluate.
        lenient = config.model_copy(update={"on_bad_image": "skip", "max_bad_images": len(records)})
        return cls(lenient, classes, records, len(parts["train"]), listing_of(parts), source.origin)

    def decode(self, format_: Format) -> tuple[Examples, Sequence[str]]:
        """The images that could be read, and one line for each of the others.

        Raises:
            DataError: fewer than 2 images of a class could be.
        """
        examples, bad = prepare_part(self.records, self.classes, self.config, format_)
        counts = torch.bincount(examples.labels, minlength=len(self.classes)).tolist()
        if few := [f"{name!r} has {count}" for name, count in zip(self.classes, counts, strict=True) if count < 2]:
            raise DataError(
                f"{self.origin}: a score needs 2 readable training images of each class, one to learn from and one to "
                f"be asked about; class {', '.join(few)}."
            )
        return examples, bad

    def sentence(self) -> str:
        """What is looked at, in one line."""
        looked_at = f"{len(self.records):,}"
        if len(self.records) < self.num_available:
            looked_at += f" of {self.num_available:,}"
        return f"data: {self.origin}: {looked_at} training images; {len(self.classes)} classes."


def score(paths: Sequence[Path], config: DataConfig, *, seed: int, console: Console) -> Ranking:
    """Ranks checkpoints for a target task by how their features serve it; nothing is trained.

    Args:
        paths: checkpoints; of those with the same weights the first is scored.
        config: the target. Its training part is used; no validation or test image is looked at.
        seed: of the finetuning that is to follow (few-shot subsets), of folds, resampling and random weights.
        console: gets what was found and decided.

    Raises:
        CheckpointError: a checkpoint cannot be read, or its features are not finite.
        DataError: the data cannot be read, or has fewer than 2 training images of a class.
        UsageError: a model cannot take the images.
    """
    starts = _distinct([Start.read(path, config.image_size) for path in paths], console)
    target = Target.open(config, seed)
    console.say(target.sentence())
    for start in starts:
        if any(ancestor.data.listing == target.listing for ancestor in start.lineage):
            console.say(f"ptft: {start.path} was trained on these images. Its scores are better than it is.")
    with console.bar(len(starts), 0) as bar:
        measured = []
        for one in _measure_all(starts, target, seed, console):
            measured.append(one)
            bar.update(len(measured), str(one.path))
    return rank(measured, seed=derive_seed("score", seed))


def _measure_all(starts: Sequence[Start], target: Target, seed: int, console: Console) -> Iterator[Measured]:
    """Scores of each checkpoint; images are decoded once for each shape, random weights scored once for each model."""
    random: dict[str, Worth] = {}
    names: Sequence[str] | None = None
    for _, group in groupby(sorted(starts, key=lambda start: start.shape), key=lambda start: start.shape):
        members = list(group)
        examples, bad = target.decode(members[0].format)
        if names is None:
            names = examples.names
            for line in bad:
                console.say(f"left out: {line}")
        if examples.names != names:
            raise DataError(f"{target.origin} changed while it was read. Start again when it is complete.")
        for start in members:
            if start.architecture not in random:
                random[start.architecture] = _worth(start, start.random(target.classes, seed), examples, seed)
            worth = _worth(start, start.loaded(target.classes, seed), examples, seed)
            yield Measured(start.path, start.digest, start.model.name, worth, random[start.architecture])


def _worth(start: Start, classifier: Classifier, examples: Examples, seed: int) -> Worth:
    device = pick_device("auto")
    features = features_of(classifier.to(device), examples, start.format, device).cpu()
    if not torch.isfinite(features).all():
        raise CheckpointError(f"{start.path}: its features of these images are not finite. Leave it out.")
    return measure(features.numpy(), examples.labels.numpy(), seed=derive_seed("folds", seed))


def _distinct(starts: Sequence[Start], console: Console) -> list[Start]:
    known: dict[tuple[str, Format], Start] = {}
    for start in starts:
        first = known.setdefault((start.fingerprint, start.format), start)
        if first is not start:
            console.say(f"ptft: {start.path} has the weights of {first.path}: left out.")
    return list(known.values())
