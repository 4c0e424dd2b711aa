"""Which checkpoint to start from, told from one pass of features over the target's training images."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Any

import torch

from ptft.data.cache import USUAL_CACHE, Cache, CacheOptions
from ptft.data.records import Record
from ptft.data.sources import DataConfig
from ptft.data.splits import split, subset
from ptft.data.task import Examples, Format, listing_of, pixel_statistics, prepare_part
from ptft.errors import CheckpointError, DataError
from ptft.models.classifier import Classifier
from ptft.proof.ranking import Measured, Ranking, rank
from ptft.proof.scores.worth import Worth, measure
from ptft.proof.stage_features import StageFeatures
from ptft.proof.start import Start
from ptft.report.console import Console
from ptft.runtime import derive_seed, pick_device
from ptft.train.evaluate import logits_of
from ptft.train.random_weights import whiten

MOST_IMAGES = 5_000
"""Of a larger target a share of each class is looked at: intervals of about a point, in a bounded time."""
NUM_DRAWS = 3
"""Of random weights; the best one is the zero. One draw differs from another by more than images explain."""


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
        passed_over: see `Source`.
    """

    config: DataConfig
    classes: tuple[str, ...]
    records: Sequence[Record]
    num_available: int
    listing: str
    origin: str
    passed_over: str

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
        config, listing = config.tolerant(), listing_of(parts)
        return cls(config, classes, records, len(parts["train"]), listing, source.origin, source.passed_over)

    def decode(self, format_: Format, cache: Cache | None) -> tuple[Examples, Sequence[str]]:
        """The images that could be read, and one line for each of the others.

        Raises:
            DataError: fewer than 2 images of a class could be.
        """
        examples, bad = prepare_part(self.records, self.classes, self.config, format_, cache=cache)
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


@dataclass(frozen=True)
class ScoreResult:
    """What `ptft score` found.

    Attributes:
        ranking: the checkpoints, best first.
        origin: phrase for the target's images.
        classes: of the target.
        num_images: training images that were looked at.
        num_available: training images there are.
        bad_images: one line for each image that could not be read.
    """

    ranking: Ranking
    origin: str
    classes: tuple[str, ...]
    num_images: int
    num_available: int
    bad_images: Sequence[str]

    def as_dict(self) -> dict[str, Any]:
        """Plain Python for `--json` and a page."""
        return {
            **self.ranking.as_dict(),
            "data": self.origin,
            "classes": list(self.classes),
            "num_images": self.num_images,
            "num_available": self.num_available,
            "bad_images": list(self.bad_images),
        }


def score(
    paths: Sequence[Path],
    config: DataConfig,
    *,
    seed: int,
    console: Console,
    cache: CacheOptions = USUAL_CACHE,
) -> ScoreResult:
    """Ranks checkpoints for a target task by how their features serve it; nothing is trained.

    Args:
        paths: checkpoints, at least one; of those with the same weights the first is scored.
        config: the target. Its training part is used; no validation or test image is looked at.
        seed: of the finetuning that is to follow (few-shot subsets), of folds and of random weights.
        console: gets what was found and decided.
        cache: for decoded images.

    Raises:
        CheckpointError: a checkpoint cannot be read, or its features are not finite.
        DataError: the data cannot be read, or has fewer than 2 training images of a class.
        UsageError: a model cannot take the images.
    """
    starts = _distinct([Start.read(path, config.image_size) for path in paths], console)
    target, kept = Target.open(config, seed), cache.open(console.say)
    console.say(target.sentence())
    if target.passed_over:
        console.say(f"data: {target.passed_over}")
    _warn_of_own(starts, target, console)
    measured: list[Measured] = []
    random: dict[str, Worth] = {}
    readable: Sequence[str] = ()
    bad: Sequence[str] = ()
    with console.bar(len(starts), 0) as bar:
        # Decoded once for each shape, and one shape at a time: that is all the memory it takes.
        for _, members in groupby(sorted(starts, key=lambda start: start.shape), key=lambda start: start.shape):
            shape = list(members)
            examples, bad = target.decode(shape[0].format, kept)
            readable = readable or examples.names
            if examples.names != readable:
                raise DataError(f"{target.origin} changed while it was read. Start again when it is complete.")
            for start in shape:
                measured.append(_measure(start, examples, target.classes, seed, random))
                bar.update(len(measured), str(start.path))
    for line in bad:
        console.say(f"left out: {line}")
    ranking = rank(measured)
    return ScoreResult(ranking, target.origin, target.classes, len(readable), target.num_available, bad)


def _measure(
    start: Start, examples: Examples, classes: tuple[str, ...], seed: int, random: dict[str, Worth]
) -> Measured:
    """Scores of a checkpoint; those of random weights are kept in `random`, as one model may be there often."""
    if start.architecture not in random:
        # The target's own statistics, as a pretraining on it would take: then the order of checkpoints says nothing.
        mean, std = pixel_statistics(examples.images)
        blank = replace(start, format=replace(start.format, mean=mean, std=std))
        networks = (_random(blank, examples, classes, seed, draw) for draw in range(NUM_DRAWS))
        draws = [_worth(blank, network, examples, seed) for network in networks]
        random[start.architecture] = min(draws, key=lambda draw: draw.probe.error)
    worth = _worth(start, start.loaded(classes), examples, seed)
    return Measured(
        path=start.path,
        digest=start.digest,
        model=start.model.name,
        image_size=start.format.image_size,
        worth=worth,
        random=random[start.architecture],
    )


def _random(start: Start, examples: Examples, classes: tuple[str, ...], seed: int, draw: int) -> Classifier:
    """The start's model with random weights, as a pretraining on these images would begin."""
    classifier = start.random(classes, seed, draw)
    whiten(classifier, examples, start.format)
    return classifier


def _worth(start: Start, classifier: Classifier, examples: Examples, seed: int) -> Worth:
    device = pick_device("auto")
    with StageFeatures(classifier.to(device).backbone) as network:
        stages = torch.cat([found.cpu() for _, found in logits_of(network, examples, start.format, device)])
    if not torch.isfinite(stages).all():
        raise CheckpointError(f"{start.path}: its features of these images are not finite. Leave it out.")
    features = stages[:, -classifier.feature_dim :]
    return measure(features.numpy(), stages.numpy(), examples.labels.numpy(), seed=derive_seed("folds", seed))


def _warn_of_own(starts: Sequence[Start], target: Target, console: Console) -> None:
    for start in starts:
        if any(ancestor.data.listing == target.listing for ancestor in start.lineage):
            console.say(f"ptft: {start.path} was trained on these images. Its scores are better than it is.")


def _distinct(starts: Sequence[Start], console: Console) -> list[Start]:
    known: dict[tuple[str, Format], Start] = {}
    for start in starts:
        first = known.setdefault((start.fingerprint, start.format), start)
        if first is not start:
            console.say(f"ptft: {start.path} has the weights of {first.path}: left out.")
    return list(known.values())
