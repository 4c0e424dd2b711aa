"""Using a checkpoint: scores on a part, and a class for each image. No config is needed."""

import csv
import json
import stat
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TextIO

from pydantic import TypeAdapter, ValidationError

from ptft import checkpoint
from ptft.checkpoint import Checkpoint
from ptft.data.cache import Cache, CacheOptions
from ptft.data.records import HELD_OUT, Part, Record, Source
from ptft.data.shards.manifest import is_packed
from ptft.data.sources import Csv, Data, DataConfig, Folder, Hub, Torchvision, open_parts
from ptft.data.sources.base import PART_NAMES
from ptft.data.sources.listing import existing_folder, file_mode, is_folder, listing, passed_over, printable
from ptft.data.sources.table import TABLE_SUFFIXES
from ptft.data.splits import split
from ptft.data.task import Examples, listing_of, prepare_part
from ptft.distributed.ranks import ALONE, Ranks
from ptft.errors import CheckpointError, DataError, UsageError
from ptft.models.classifier import Classifier
from ptft.paths import real_path, user_path
from ptft.report.console import Console
from ptft.report.summary import describe_scores
from ptft.report.task_report import report_of
from ptft.runtime import pick_device
from ptft.tasks import Answers, SingleLabel, TaskConfig, Tasks
from ptft.train.evaluate import evaluate, logits_of
from ptft.transfer.source import format_of, model_of, scale_of


def load_classifier(found: Checkpoint) -> Classifier:
    """The classifier of a checkpoint, with the weights to use, in eval mode on the CPU.

    Raises:
        CheckpointError: its model is not known here, or its weights are not that model's.
    """
    classifier = model_of(found).build(len(found.metadata.classes), found.metadata.in_channels)
    try:
        classifier.load_state_dict(found.weights())
    except RuntimeError as error:
        raise CheckpointError(f"{found.path}: its weights are not those of its model: {error}") from error
    return classifier.eval()


def task_of(found: Checkpoint) -> TaskConfig:
    """Which kind of task a checkpoint is of.

    Raises:
        CheckpointError: this ptft knows no such task, or the checkpoint lacks what it needs.
    """
    try:
        task: TaskConfig = TypeAdapter(Tasks).validate_python(
            found.metadata.config.get("task", {"name": "single-label"})
        )
    except ValidationError as error:
        raise CheckpointError(f"{found.path} is of a task that this ptft does not know. Update ptft.") from error
    if task.name == "regression" and scale_of(found) is None:
        raise CheckpointError(f"{found.path} is of a regression, and does not say in which units it predicts.")
    return task


def held_out_examples(found: Checkpoint, cache: Cache | None) -> dict[Part, Examples]:
    """The validation and test images a checkpoint was judged by, as far as they can be read; empty parts left out.

    Raises:
        DataError: the data is not there, or is not the same any more.
    """
    parts, own, _ = own_records(found)
    labelling = task_of(found).labelling()

    def examples_of(part: Part) -> Examples:
        classes, format_ = found.metadata.classes, format_of(found)
        return prepare_part(parts[part], classes, own.tolerant(), format_, labelling=labelling, cache=cache)[0]

    examples = {part: examples_of(part) for part in HELD_OUT}
    return {part: some for part, some in examples.items() if len(some)}


def evaluate_checkpoint(
    path: Path, data: Path | None, console: Console, cache: CacheOptions, ranks: Ranks = ALONE
) -> tuple[dict[str, Any], str]:
    """Scores a checkpoint on the test images of its own data, or of a folder or CSV file.

    Args:
        path: of the checkpoint.
        data: folder or CSV file to use instead; its classes are matched by name.
        console: gets the tables.
        cache: for decoded images.
        ranks: that share the images.

    Returns:
        The scores as plain Python, and in one sentence.

    Raises:
        CheckpointError: the checkpoint cannot be read.
        DataError: the data cannot; or it has classes that the checkpoint does not know.
    """
    found = checkpoint.read(path)
    classes, task = found.metadata.classes, task_of(found)
    source, config = test_source(found, data)
    records, where = source.records, source.origin
    if data is not None and (caution := _caution(found, data)):
        console.say(f"ptft: {data} {caution}")
    if strangers := task.labelling().strangers(records, classes):
        raise DataError(
            f"{where}: the checkpoint does not know class {', '.join(map(repr, strangers))}. "
            f"It knows {', '.join(map(repr, classes))}."
        )
    kept, labelling = cache.open(console.say), task.labelling()
    examples, bad = prepare_part(records, classes, config.tolerant(), format_of(found), labelling=labelling, cache=kept)
    if source.passed_over:
        console.say(f"data: {source.passed_over}")
    for line in bad:
        console.say(f"left out: {line}")
    if not len(examples):
        raise DataError(f"{where}: no image could be read.")
    device = pick_device("auto", None if ranks.is_alone else ranks.place.local_rank)
    classifier, tally = load_classifier(found).to(device), task.tally(classes, scale_of(found), device)
    scores = evaluate(classifier, examples, format_of(found), tally, device, ranks=ranks)
    described = describe_scores(scores, classes)
    console.say(f"{path} on {where}:")
    report_of(task.name).tell(console, described, classes)
    result = {
        "checkpoint": str(path),
        "digest": found.digest,
        "data": where,
        "task": task.name,
        "num_views": found.metadata.num_views,
        **described,
        "bad_images": list(bad),
    }
    return result, scores.sentence()


def test_source(found: Checkpoint, data: Path | None) -> tuple[Source, DataConfig]:
    """The images to score on, and how to read them: the checkpoint's own test part, or what `--data` has for a test.

    Raises:
        DataError: they cannot be listed; the checkpoint's own data changed, or has nothing held out; or all of them
            are for training.
    """
    if data is None:
        parts, own, origin = own_records(found)
        part: Part = "test" if parts["test"] else "validation"
        if not parts[part]:
            raise DataError(f"{origin} has neither test nor validation images. Give --data.")
        return Source(parts[part], found.metadata.classes, f"the {part} images of {origin}"), own
    task, data = task_of(found), user_path(data)
    if is_packed(data):
        _check_single(task, data)
        packed = Hub(name="hub", path=str(data))
        return _held_out(packed.open()), packed
    if is_folder(data):
        config: DataConfig = Folder(name="folder", root=str(data))
        _check_single(task, data)
        source = open_parts(str(data))
        return replace(source, origin=source.origin + _part_of(source)), config
    if data.suffix.lower() not in TABLE_SUFFIXES:
        if file_mode(data) is None:
            existing_folder(str(data))  # says where it looked
        raise DataError(f"--data {printable(data)}: neither a folder nor a .csv or .tsv file.")
    table = _like(found, Csv(name="csv", path=str(data)))
    records = table.records(task.cells(table.label_column))
    return _held_out(Source(records, found.metadata.classes, f"csv {printable(table.path)}")), table


def _held_out(source: Source) -> Source:
    """Its test part, else that of validation, as of a folder; all of it where there are no parts."""
    for part in ("test", "validation"):
        if found := [record for record in source.records if record.part == part]:
            return replace(source, records=found)
    if any(record.part == "train" for record in source.records):
        raise DataError(f"{source.origin}: every image is of the train part. Give images of a test or validation part.")
    return source


def _check_single(task: TaskConfig, data: Path) -> None:
    if not isinstance(task, SingleLabel):
        raise DataError(
            f"--data {printable(data)}: the checkpoint is of a {task.name} task, and folders have one class for "
            "each image. Give a CSV file."
        )


def own_records(found: Checkpoint) -> tuple[Mapping[Part, Sequence[Record]], Data, str]:
    """The records of each part the checkpoint was trained with, how to read them, and a phrase for them.

    Raises:
        DataError: they are not there, or are not the same any more.
    """
    own, seed = _own_data(found)
    task = task_of(found)
    source = task.open(own)
    _, parts = split(source, own, seed=seed, labelling=task.labelling())
    if listing_of(parts, task.labelling()) != found.metadata.lineage[-1].data.listing:
        raise DataError(
            f"{source.origin} has other images than when the checkpoint was trained, so that its test images may "
            "have been trained on. Give images of their own with --data."
        )
    return parts, own, source.origin


def _like(found: Checkpoint, table: Csv) -> Csv:
    """The table with the column of the checkpoint's own, where its task reads several classes from one."""
    own = found.metadata.config.get("data")
    if isinstance(task_of(found), SingleLabel) or not isinstance(own, dict) or own.get("name") != "csv":
        return table
    return table.model_copy(update={"label_column": str(own.get("label_column", table.label_column))})


def _own_data(found: Checkpoint) -> tuple[Data, int]:
    """The data section and the seed of the run that wrote a checkpoint."""
    config = found.metadata.config
    try:
        own: Data = TypeAdapter(Data).validate_python(config.get("data"))
        seed = TypeAdapter(int).validate_python(config.get("seed"), strict=True)
    except ValidationError as error:
        place, reason = error.errors()[0]["loc"], error.errors()[0]["msg"]
        told = f" ({'.'.join(map(str, place))}: {reason})" if config.get("data") else ""
        raise CheckpointError(f"{found.path} does not say which data it is of{told}. Give --data.") from error
    if isinstance(own, Torchvision | Hub):
        own = own.model_copy(update={"download": False})  # nothing goes online because a checkpoint says so
    return own, seed


def _part_of(source: Source) -> str:
    folders = {record.name.split("/")[0] for record in source.records}
    return f", its {folders.pop()} part" if len(folders) == 1 and folders <= PART_NAMES.keys() else ""


def with_own_images_at(found: Checkpoint, data: Path) -> Checkpoint | None:
    """The checkpoint, the images it was trained with and judged by read from `data`; None where others are there.

    Args:
        found: the checkpoint, which may say another place for them, or the same as seen from another folder.
        data: folder or table; its images are told by part, label and name, not by their pixels.
    """
    own = found.metadata.config.get("data")
    own = own if isinstance(own, dict) else {}
    if (key := next((key for key in ("path", "root") if own.get(key)), None)) is None:
        return None
    config = {**found.metadata.config, "data": {**own, key: str(user_path(data))}}
    moved = replace(found, metadata=found.metadata.model_copy(update={"config": config}))
    try:
        own_records(moved)
    except (DataError, CheckpointError):
        return None
    return moved


def _caution(found: Checkpoint, data: Path) -> str:
    """What to know of scores on images that were, or may have been, trained on; empty where nothing says so."""
    own = found.metadata.config.get("data")
    places = (own.get("path"), own.get("root")) if isinstance(own, dict) else ()
    is_there = real_path(user_path(data)) in [real_path(user_path(place)) for place in places if place]
    is_alike = with_own_images_at(found, data) is not None
    if is_there and is_alike:
        return "is what the checkpoint was trained on. Leave --data out to score its test images."
    if is_there or is_alike:
        what = "has the names" if is_alike else "is the path"
        command = f"ptft leak {found.path} --data {data}"
        return f"{what} of what the checkpoint was trained on: `{command}` tells which images it has seen."
    return ""


def predict_paths(path: Path, paths: Sequence[Path], format_: str, top: int, stream: TextIO, console: Console) -> int:
    """Writes a row for each image: its path, and the task's answer (label and probability, labels, or numbers).

    Args:
        path: of the checkpoint.
        paths: images, and folders that are searched for images.
        format_: `csv` (with a header) or `jsonl`.
        top: how many classes a jsonl row lists under `top`.
        stream: gets the rows, as they come.
        console: gets a line for each image that cannot be read.

    Returns:
        How many images could not be read.

    Raises:
        CheckpointError: the checkpoint cannot be read.
        DataError: a path does not exist, or no image is among them.
    """
    found = checkpoint.read(path)
    format_of_images, classes = format_of(found), found.metadata.classes
    task = task_of(found)
    if top > 1 and not isinstance(task, SingleLabel):
        raise UsageError(f"--top: belongs to single-label checkpoints; rows of a {task.name} one hold all there is.")
    answers = task.answers(classes, scale_of(found), top)
    records = _records(paths, console)
    device = pick_device("auto")
    classifier = load_classifier(found).to(device)
    write = _csv_writer(stream, answers) if format_ == "csv" else _jsonl_writer(stream)
    num_bad = 0
    config = Folder(name="folder", root=".").tolerant()
    for start in range(0, len(records), 1024):
        readable, bad = prepare_part(records[start : start + 1024], (), config, format_of_images)
        num_bad += len(bad)
        for line in bad:
            console.say(f"ptft: {line}")
        for rows, logits in logits_of(classifier, readable, format_of_images, device):
            for row, (cells, fields) in zip(rows.tolist(), answers.rows(logits), strict=True):
                write(readable.names[row], cells, fields)
    return num_bad


def _records(paths: Sequence[Path], console: Console) -> list[Record]:
    files: list[Path] = []
    others: Counter[str] = Counter()
    for path in paths:
        mode = file_mode(path)
        if mode is None and len(paths) == 1:
            raise DataError(f"{printable(path)}: no such file or folder.")
        is_folder = mode is not None and stat.S_ISDIR(mode)
        if is_folder:
            found = listing(path, with_lost=True)
            files += [path / name for name in found.images]
            others.update(found.others)
        else:
            files.append(path)
    if others:
        console.say(f"ptft: {passed_over(others)}")
    if not files:
        raise DataError(f"no image in {', '.join(map(printable, paths))}.")
    return [Record(file, None, None, printable(file)) for file in files]


_Write = Callable[[str, Sequence[str], Mapping[str, Any]], None]


def _csv_writer(stream: TextIO, answers: Answers) -> _Write:
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["path", *answers.columns])
    return lambda name, cells, fields: writer.writerow([name, *cells])


def _jsonl_writer(stream: TextIO) -> _Write:
    def write(name: str, cells: Sequence[str], fields: Mapping[str, Any]) -> None:
        stream.write(json.dumps({"path": name, **fields}) + "\n")

    return write
