"""`ptft leak`: the test images of a checkpoint's data, or of other data, that its training has seen."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ptft import checkpoint
from ptft.checkpoint import Checkpoint
from ptft.data.cache import Cache, CacheOptions
from ptft.data.fingerprints import as_arrays, fingerprints_of
from ptft.data.records import Record
from ptft.data.sources import Csv, DataConfig, Hub, open_parts
from ptft.data.task import Examples, prepare_part
from ptft.errors import DataError
from ptft.inference import load_classifier, own_records, task_of, test_source, with_own_images_at
from ptft.models.classifier import Classifier
from ptft.proof.leak import LeakCheck, Pair, SeenSet, check_leaks, closest_in_features, seen_sets
from ptft.report.console import Console
from ptft.report.summary import describe_scores
from ptft.runtime import pick_device
from ptft.storage import check_replaceable, write_durably
from ptft.train.evaluate import features_of, logits_of
from ptft.train.metrics import TaskScores
from ptft.transfer.source import format_of, scale_of

_MOST_ROWS = 50
_SHEET_COLUMNS = 4
_SHEET_SIDE = 96
_SIGNATURE = b"ptft leak"


@dataclass(frozen=True)
class LeakReport:
    """What `ptft leak` found.

    Attributes:
        checkpoint: path of the checkpoint.
        data: phrase for the test images.
        check: exact and near pairs.
        lookalikes: the closest pairs by the backbone's features among the rest, to look at; they do not count as seen.
        scores: on all test images; None where the checkpoint does not know their classes.
        clean: on those that were not seen; None where scores is, or nothing was seen, or nothing else is left.
        pictures: for each of check.pairs and lookalikes in turn, the test image and the seen one, uint8 (H, W) or
            (H, W, 3); None for a seen image of which only the fingerprint travelled.
        bad_images: one line for each test image that could not be read.
        task: which kind the checkpoint is of.
    """

    checkpoint: Path
    data: str
    check: LeakCheck
    lookalikes: Sequence[Pair]
    scores: TaskScores | None
    clean: TaskScores | None
    pictures: Sequence[tuple[np.ndarray, np.ndarray | None]]
    bad_images: Sequence[str]
    task: str = "single-label"

    def sentence(self) -> str:
        """The verdict."""
        if self.scores is None:
            return self.check.sentence()
        if not self.check.pairs:
            return f"{self.check.sentence()}: {self.scores.sentence()}"
        without = self.clean.sentence() if self.clean else "no image is left"
        return f"{self.check.sentence()}: {self.scores.sentence()}; without them {without}"

    def as_dict(self, classes: Sequence[str]) -> dict[str, Any]:
        """Plain Python for `--json`; pictures left out."""
        return {
            "checkpoint": str(self.checkpoint),
            "data": self.data,
            **self.check.as_dict(),
            "lookalikes": [pair.as_dict() for pair in self.lookalikes],
            "scores": describe_scores(self.scores, classes) if self.scores else None,
            "scores_without_seen": describe_scores(self.clean, classes) if self.clean else None,
            "bad_images": list(self.bad_images),
        }


def check_checkpoint(
    path: Path, data: Path | None, console: Console, options: CacheOptions
) -> tuple[LeakReport, dict[str, Any]]:
    """Searches what a checkpoint and its ancestors have seen for test images, and tells it.

    Args:
        path: of the checkpoint.
        data: folder or CSV file whose test images to check (all its images where it has no parts), also against
            its own training part; None for the test images of the checkpoint's own data.
        console: gets the table.
        options: for decoded images.

    Returns:
        The report, and the same as plain Python.

    Raises:
        CheckpointError: the checkpoint cannot be read.
        DataError: the data cannot.
    """
    found, cache = checkpoint.read(path), options.open(console.say)
    found, own = _own_images(found, data, cache)
    source, config = test_source(found, None if own else data)
    records, where = source.records, source.origin
    if source.passed_over:
        console.say(f"data: {source.passed_over}")
    classes, labelling = found.metadata.classes, task_of(found).labelling()
    is_known = not labelling.strangers(records, classes)
    names = classes if is_known else tuple(labelling.strangers(records, ()))
    test, bad = _read(records, names, config, found, cache)
    if not len(test):
        raise DataError(f"{where}: no image could be read.")
    sets, train = _sets(found, own, data, config, names, console, cache)
    console.say(f"{path}: looking for {where} in what its training has seen.")
    check = check_leaks(test, names, sets)
    classifier = load_classifier(found).to(pick_device("auto"))
    lookalikes = _lookalikes(classifier, found, test, names, train, check) if train else []
    scores, clean = _scores(classifier, found, test, check.rows) if is_known else (None, None)
    pairs = [*check.pairs, *lookalikes]
    pictures = [(_picture(test, pair.test_row), _seen_picture(pair, sets)) for pair in pairs]
    report = LeakReport(path, where, check, lookalikes, scores, clean, pictures, bad, task_of(found).name)
    _tell(report, console)
    return report, report.as_dict(names)


def _own_images(found: Checkpoint, data: Path | None, cache: Cache | None) -> tuple[Checkpoint, SeenSet | None]:
    """The checkpoint with its own images read from where they are, and those of training; None where `data` has others.

    In `data` they are told by names, and by pixels as far as fingerprints of them travelled.
    """
    moved = found if data is None else with_own_images_at(found, data)
    if moved is None:
        return found, None
    parts, own, _ = own_records(moved)
    train, _ = _read(parts["train"], found.metadata.classes, own, moved, cache)
    last = seen_sets(found.metadata.lineage, found.part("seen"))[-1]
    # Made again: this also checks the training images of a checkpoint that carries no fingerprints.
    seen = SeenSet(last.name, fingerprints_of(train.images), train)
    return (moved, seen) if data is None or not _differ(last, seen) else (found, None)


def _differ(remembered: SeenSet, seen: SeenSet) -> bool:
    """Whether other pixels have taken the names of those that were trained on; not where none are remembered."""
    if remembered.prints is None or seen.prints is None:
        return False
    return not torch.equal(remembered.prints, seen.prints)


def _read(
    records: Sequence[Record], classes: Sequence[str], config: DataConfig, found: Checkpoint, cache: Cache | None
) -> tuple[Examples, Sequence[str]]:
    labelling = task_of(found).labelling()
    return prepare_part(records, classes, config.tolerant(), format_of(found), labelling=labelling, cache=cache)


def _sets(
    found: Checkpoint,
    own: SeenSet | None,
    data: Path | None,
    config: DataConfig,
    classes: Sequence[str],
    console: Console,
    cache: Cache | None,
) -> tuple[list[SeenSet], SeenSet | None]:
    """What to search, and of it the set whose images are at hand."""
    sets = seen_sets(found.metadata.lineage, found.part("seen"))
    if own is not None:
        return [*(sets if _differ(sets[-1], own) else sets[:-1]), own], own
    if all(one.prints is None for one in sets):
        console.say(f"ptft: {found.path} was written before fingerprints travelled in checkpoints.")
    records = _training_records(found, data, config) if data else ()
    if not records:
        return sets, None
    train, _ = _read(records, classes, config, found, cache)
    beside = SeenSet(f"the training part of {data}", fingerprints_of(train.images), train)
    return [*sets, beside], beside


def _training_records(found: Checkpoint, data: Path, config: DataConfig) -> Sequence[Record]:
    """The training part that lies beside the test images; none where the data has no parts."""
    if isinstance(config, Csv | Hub):
        return [record for record in task_of(found).open(config).records if record.part == "train"]
    has_train = any(entry.is_dir() and entry.name.lower() in ("train", "training") for entry in data.iterdir())
    return open_parts(str(data), "train").records if has_train else []


def _lookalikes(
    classifier: Classifier,
    found: Checkpoint,
    test: Examples,
    classes: Sequence[str],
    train: SeenSet,
    check: LeakCheck,
) -> list[Pair]:
    if train.examples is None or not len(train.examples):
        return []
    device, format_ = pick_device("auto"), format_of(found)
    features = [features_of(classifier, part, format_, device).cpu() for part in (test, train.examples)]
    return closest_in_features(test, classes, train, features[0], features[1], check.rows)


def _scores(
    classifier: Classifier, found: Checkpoint, test: Examples, rows: Sequence[int]
) -> tuple[TaskScores, TaskScores | None]:
    """Scores on all images, and on those that were not seen."""
    device, task, classes = pick_device("auto"), task_of(found), found.metadata.classes
    every, clean = (task.tally(classes, scale_of(found), device) for _ in range(2))
    is_seen = torch.zeros(len(test), dtype=torch.bool)
    is_seen[torch.tensor(rows, dtype=torch.int64)] = True
    for batch, logits in logits_of(classifier, test, format_of(found), device):
        labels: Tensor = test.labels[batch].to(device)
        every.add(logits, labels)
        kept = (~is_seen[batch]).to(device)
        clean.add(logits[kept], labels[kept])
    return every.scores(), clean.scores() if 0 < len(rows) < len(test) else None


def _picture(examples: Examples, row: int) -> np.ndarray:
    picture: np.ndarray = as_arrays(examples.images.take(torch.tensor([row])))[0]
    return picture


def _seen_picture(pair: Pair, sets: Sequence[SeenSet]) -> np.ndarray | None:
    examples = next(one.examples for one in sets if one.name == pair.data)
    return None if examples is None else _picture(examples, pair.seen_row)


def _tell(report: LeakReport, console: Console) -> None:
    for line in report.bad_images:
        console.say(f"left out: {line}")
    pairs = [*report.check.pairs, *report.lookalikes]
    rows = [
        [pair.test, pair.kind, f"{pair.distance:.5f}", pair.label or "–", pair.seen, pair.data]
        for pair in pairs[:_MOST_ROWS]
    ]
    if rows:
        console.table(["test image", "kind", "distance", "class", "seen as", "in"], rows)
    if len(pairs) > _MOST_ROWS:
        console.say(f"and {len(pairs) - _MOST_ROWS:,} more; --json has all.")
    if report.lookalikes:
        console.say("kind features: the closest of the rest to the backbone, to look at; they do not count as seen.")


def check_pictures(path: Path) -> None:
    """Checks that pictures may be written there, see `check_replaceable`."""
    check_replaceable(path, "--pictures", "made by ptft leak", lambda start: _SIGNATURE in start, "pairs.png")


def write_pictures(report: LeakReport, path: Path) -> None:
    """Writes a PNG with the pairs side by side, exact and near ones first; a seen image not at hand is left dark.

    Raises:
        StorageError: it cannot be written.
    """
    from PIL import Image, PngImagePlugin

    side, gap = _SHEET_SIDE, 8
    count = len(report.pictures)
    width, height = _SHEET_COLUMNS * (2 * side + gap), max(1, -(-count // _SHEET_COLUMNS)) * (side + gap)
    sheet = Image.new("RGB", (width, height), "white")
    for place, pair in enumerate(report.pictures):
        top, left = place // _SHEET_COLUMNS * (side + gap), place % _SHEET_COLUMNS * (2 * side + gap)
        for offset, picture in enumerate(pair):
            tile = Image.new("RGB", (side, side), "#444") if picture is None else Image.fromarray(picture)
            sheet.paste(tile.resize((side, side), Image.Resampling.NEAREST), (left + offset * side, top))
    made_by = PngImagePlugin.PngInfo()
    made_by.add_text("Software", _SIGNATURE.decode())
    write_durably(path, lambda file: sheet.save(file, "PNG", pnginfo=made_by))
