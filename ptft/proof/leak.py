"""Is the test set clean? Test images that training, or the training of the source, has seen."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from ptft.checkpoint import Ancestor
from ptft.data.fingerprints import fingerprints_of
from ptft.data.task import Examples, Task
from ptft.proof.search import find
from ptft.transfer.seen import prints_of

_MOST_NAMES = 5


@dataclass(frozen=True)
class SeenSet:
    """Images that weights were trained on.

    Attributes:
        name: phrase for messages, for example `folder photos/ (pretrain)`.
        prints: their fingerprints, uint8 (N, 33); None where the checkpoint carries none.
        examples: the images themselves, in the same order; None where only fingerprints travelled.
    """

    name: str
    prints: Tensor | None
    examples: Examples | None = None

    def name_of(self, row: int) -> str:
        """What an image is called: its name where the images are at hand, else its place in the training part."""
        return self.examples.names[row] if self.examples else f"training image {row}"


@dataclass(frozen=True)
class Pair:
    """A test image and the seen image that shows the same.

    Attributes:
        kind: `exact` for the same pixels, `near` for a changed copy (mirrored, compressed, cropped, lighter or
            darker), `features` for the closest to the backbone, which may well be another picture.
        distance: 0 for exact; of the looks for near, at most 0.0012; 1 - cosine of the features for features.
        label: class of the test image; None where it has none, or several, or numbers.
        test_row, seen_row: places in the test part and in the training part of `data`.
        test, seen: names of the images.
        data: name of the seen set.
    """

    kind: Literal["exact", "near", "features"]
    distance: float
    label: str | None
    test_row: int
    test: str
    seen_row: int
    seen: str
    data: str

    def as_dict(self) -> dict[str, Any]:
        """Plain Python for `--json`."""
        return dict(vars(self))


@dataclass(frozen=True)
class LeakCheck:
    """What a search found.

    Attributes:
        num_test: images searched for.
        pairs: exact and near ones, at most one for each test image and seen set.
        unknown: names of seen sets of which no fingerprints travelled.
    """

    num_test: int
    pairs: Sequence[Pair]
    unknown: Sequence[str]

    @property
    def rows(self) -> list[int]:
        """Places of the test images that were seen, each once."""
        return sorted({pair.test_row for pair in self.pairs})

    def sentence(self) -> str:
        """`0 of 10,000 test images seen in training (exact or near)`, with what could not be searched."""
        exact = len({pair.test_row for pair in self.pairs if pair.kind == "exact"})
        found = len(self.rows)
        kinds = f"{exact} exact, {found - exact} near" if found else "exact or near"
        blind = f"; not known what was in {', '.join(self.unknown)}" if self.unknown else ""
        return f"{found:,} of {self.num_test:,} test images seen in training ({kinds}){blind}"

    def names(self) -> str:
        """The first few test images that were seen."""
        names = list(dict.fromkeys(pair.test for pair in self.pairs))
        rest = len(names) - _MOST_NAMES
        return ", ".join(names[:_MOST_NAMES]) + (f" and {rest:,} more" if rest > 0 else "")

    def as_dict(self) -> dict[str, Any]:
        """Plain Python for summary.json and `--json`."""
        return {
            "num_test": self.num_test,
            "num_seen": len(self.rows),
            "pairs": [pair.as_dict() for pair in self.pairs],
            "unknown": list(self.unknown),
        }


def seen_sets(lineage: Sequence[Ancestor], seen: Mapping[str, Tensor], own: Examples | None = None) -> list[SeenSet]:
    """What the runs of a lineage have seen, each data set once.

    Args:
        lineage: oldest first.
        seen: the fingerprints of a checkpoint, by key.
        own: training images of the last run, where they are at hand.
    """
    sets: dict[str, SeenSet] = {}
    for ancestor in lineage:
        examples = own if ancestor is lineage[-1] else None
        name = f"{ancestor.data.origin} ({ancestor.command})"
        sets.pop(ancestor.data.fingerprint, None)  # a set seen twice counts as seen by the later run
        sets[ancestor.data.fingerprint] = SeenSet(name, prints_of(ancestor.data, seen), examples)
    return list(sets.values())


def check_leaks(
    test: Examples, classes: Sequence[str], sets: Sequence[SeenSet], check_stop: Callable[[], None] = lambda: None
) -> LeakCheck:
    """Searches each seen set for the test images.

    Args:
        test: the images to search for; labels of one class index `classes`, -1 where there is none.
        classes: names.
        sets: to search.
        check_stop: called between batches; raises when a signal asked to stop.
    """
    prints = fingerprints_of(test.images, check_stop)
    pairs = []
    for seen in sets:
        if seen.prints is not None:
            for match in find(test.images, prints, seen.prints, check_stop=check_stop):
                pairs.append(_pair(test, classes, seen, match.kind, match.distance, match.query, match.seen))
    pairs.sort(key=lambda pair: (pair.kind, pair.distance, pair.test_row))
    return LeakCheck(len(test), pairs, [seen.name for seen in sets if seen.prints is None])


def check_task(
    task: Task, lineage: Sequence[Ancestor], seen: Mapping[str, Tensor], check_stop: Callable[[], None]
) -> LeakCheck:
    """Searches for a task's test images in its training part and in what its source has seen; `seen_sets` has more."""
    return check_leaks(task.parts["test"], task.classes, seen_sets(lineage, seen, task.train), check_stop)


def closest_in_features(
    test: Examples,
    classes: Sequence[str],
    seen: SeenSet,
    test_features: Tensor,
    seen_features: Tensor,
    without: Sequence[int],
    most: int = 10,
) -> list[Pair]:
    """The test images whose nearest neighbour in features is the closest, for a person to look at.

    Args:
        test: the test images.
        classes: names.
        seen: with its images.
        test_features: float32 (N, D).
        seen_features: float32 (M, D).
        without: test rows that are known as exact or near already.
        most: pairs at most.
    """
    queries = torch.nn.functional.normalize(test_features, dim=1)
    stored = torch.nn.functional.normalize(seen_features, dim=1)
    best = [(batch @ stored.T).max(dim=1) for batch in queries.split(256)]
    cosines, neighbours = torch.cat([top.values for top in best]), torch.cat([top.indices for top in best])
    cosines[torch.tensor(list(without), dtype=torch.int64)] = -2
    pairs = []
    for row in cosines.topk(min(most, len(cosines) - len(without))).indices.tolist():
        distance = max(0.0, 1 - float(cosines[row]))
        pairs.append(_pair(test, classes, seen, "features", distance, row, int(neighbours[row])))
    return pairs


def _pair(
    test: Examples,
    classes: Sequence[str],
    seen: SeenSet,
    kind: Literal["exact", "near", "features"],
    distance: float,
    test_row: int,
    seen_row: int,
) -> Pair:
    label = int(test.labels[test_row]) if test.labels.ndim == 1 else -1
    return Pair(
        kind=kind,
        distance=distance,
        label=classes[label] if label >= 0 else None,
        test_row=test_row,
        test=test.names[test_row],
        seen_row=seen_row,
        seen=seen.name_of(seen_row),
        data=seen.name,
    )
