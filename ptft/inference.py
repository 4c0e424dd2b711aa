"""Using a checkpoint: scores on a part, and a class for each image. No config is needed."""

import csv
import json
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

from pydantic import TypeAdapter, ValidationError

from ptft import checkpoint
from ptft.checkpoint import Checkpoint
from ptft.data.records import HELD_OUT, Part, Record, Source
from ptft.data.sources import Csv, Data, DataConfig, Folder, Torchvision, open_parts
from ptft.data.sources.base import PART_NAMES
from ptft.data.sources.listing import file_mode, image_files, printable
from ptft.data.sources.table import TABLE_SUFFIXES
from ptft.data.splits import split
from ptft.data.task import Examples, listing_of, prepare_part
from ptft.distributed.ranks import ALONE, Ranks
from ptft.errors import CheckpointError, DataError
from ptft.models.classifier import Classifier
from ptft.report.console import Console
from ptft.report.summary import describe_scores, print_scores
from ptft.runtime import pick_device
from ptft.train.evaluate import evaluate, logits_of
from ptft.transfer.source import format_of, model_of


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


def held_out_examples(found: Checkpoint) -> dict[Part, Examples]:
    """The validation and test images a checkpoint was judged by, as far as they can be read; empty parts left out.

    Raises:
        DataError: the data is not there, or is not the same any more.
    """
    parts, own, _ = own_records(found)
    examples = {
        part: prepare_part(parts[part], found.metadata.classes, tolerant(own, len(parts[part])), format_of(found))[0]
        for part in HELD_OUT
    }
    return {part: some for part, some in examples.items() if len(some)}


def tolerant(config: DataConfig, num_records: int) -> DataConfig:
    """The same with every bad image left out, so that the others can be looked at."""
    return config.model_copy(update={"on_bad_image": "skip", "max_bad_images": num_records})


def evaluate_checkpoint(
    path: Path, data: Path | None, console: Console, ranks: Ranks = ALONE
) -> tuple[dict[str, Any], str]:
    """Scores a checkpoint on the test images of its own data, or of a folder or CSV file.

    Args:
        path: of the checkpoint.
        data: folder or CSV file to use instead; its classes are matched by name.
        console: gets the tables.
        ranks: that share the images.

    Returns:
        The scores as plain Python, and in one sentence.

    Raises:
        CheckpointError: the checkpoint cannot be read.
        DataError: the data cannot; or it has classes that the checkpoint does not know.
    """
    found = checkpoint.read(path)
    classes = found.metadata.classes
    records, config, where = test_records(found, data)
    if data is not None and is_own(found, data):
        console.say(f"ptft: {data} is what the checkpoint was trained on. Leave --data out to score its test images.")
    config = tolerant(config, len(records))
    labels = {record.label for record in records if record.label is not None}
    if strangers := sorted(labels - set(classes)):
        raise DataError(
            f"{where}: the checkpoint does not know class {', '.join(map(repr, strangers))}. "
            f"It knows {', '.join(map(repr, classes))}."
        )
    examples, bad = prepare_part(records, classes, config, format_of(found))
    for line in bad:
        console.say(f"left out: {line}")
    if not len(examples):
        raise DataError(f"{where}: no image could be read.")
    device = pick_device("auto", None if ranks.is_alone else ranks.place.local_rank)
    classifier = load_classifier(found).to(device)
    scores = evaluate(classifier, examples, format_of(found), len(classes), device, ranks=ranks)
    console.say(f"{path} on {where}:")
    print_scores(console, scores, classes)
    result = {
        "checkpoint": str(path),
        "digest": found.digest,
        "data": where,
        **describe_scores(scores, classes),
        "bad_images": list(bad),
    }
    return result, scores.sentence()


def test_records(found: Checkpoint, data: Path | None) -> tuple[Sequence[Record], DataConfig, str]:
    """The images to score on, how to read them, and a phrase for them: the checkpoint's own test part, or `--data`.

    Raises:
        DataError: they cannot be listed; or the checkpoint's own data changed, or has nothing held out.
    """
    if data is None:
        parts, own, origin = own_records(found)
        part: Part = "test" if parts["test"] else "validation"
        if not parts[part]:
            raise DataError(f"{origin} has neither test nor validation images. Give --data.")
        return parts[part], own, f"the {part} images of {origin}"
    if data.is_dir():
        config: DataConfig = Folder(name="folder", root=str(data))
        source = open_parts(str(data))
        return source.records, config, source.origin + _part_of(source)
    if data.suffix.lower() not in TABLE_SUFFIXES:
        raise DataError(f"--data {printable(data)}: neither a folder nor a .csv or .tsv file.")
    table = Csv(name="csv", path=str(data))
    source = table.open()
    tests = [record for record in source.records if record.part == "test"]
    return tests or source.records, table, source.origin


def own_records(found: Checkpoint) -> tuple[Mapping[Part, Sequence[Record]], Data, str]:
    """The records of each part the checkpoint was trained with, how to read them, and a phrase for them.

    Raises:
        DataError: they are not there, or are not the same any more.
    """
    own, seed = _own_data(found)
    source = own.open()
    _, parts = split(source, own, seed=seed)
    if listing_of(parts) != found.metadata.lineage[-1].data.listing:
        raise DataError(
            f"{source.origin} has other images than when the checkpoint was trained, so that its test images may "
            "have been trained on. Give images of their own with --data."
        )
    return parts, own, source.origin


def _own_data(found: Checkpoint) -> tuple[Data, int]:
    """The data section and the seed of the run that wrote a checkpoint."""
    config = found.metadata.config
    try:
        own: Data = TypeAdapter(Data).validate_python(config.get("data"))
        seed = TypeAdapter(int).validate_python(config.get("seed"), strict=True)
    except ValidationError as error:
        raise CheckpointError(f"{found.path} does not say which data it is of. Give --data.") from error
    if isinstance(own, Torchvision):
        own = own.model_copy(update={"download": False})  # nothing goes online because a checkpoint says so
    return own, seed


def _part_of(source: Source) -> str:
    folders = {record.name.split("/")[0] for record in source.records}
    return f", its {folders.pop()} part" if len(folders) == 1 and folders <= PART_NAMES.keys() else ""


def is_own(found: Checkpoint, data: Path) -> bool:
    """Whether a folder or CSV file is the one that a checkpoint was trained on."""
    own = found.metadata.config.get("data")
    place = (own.get("root") or own.get("path")) if isinstance(own, dict) else None
    return isinstance(place, str) and Path(place).expanduser().resolve() == data.resolve()


def predict_paths(path: Path, paths: Sequence[Path], format_: str, top: int, stream: TextIO, console: Console) -> int:
    """Writes a row for each image: path, label, probability.

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
    records = _records(paths)
    device = pick_device("auto")
    classifier = load_classifier(found).to(device)
    write = _csv_writer(stream) if format_ == "csv" else _jsonl_writer(stream)
    num_bad = 0
    config = Folder(name="folder", root=".", on_bad_image="skip", max_bad_images=len(records))
    for start in range(0, len(records), 1024):
        readable, bad = prepare_part(records[start : start + 1024], (), config, format_of_images)
        num_bad += len(bad)
        for line in bad:
            console.say(f"ptft: {line}")
        for rows, logits in logits_of(classifier, readable, format_of_images, device):
            probabilities, ranked = logits.softmax(dim=1).topk(min(top, len(classes)))
            for row, shares, best in zip(rows.tolist(), probabilities.tolist(), ranked.tolist(), strict=True):
                write(
                    readable.names[row],
                    [(classes[index], share) for index, share in zip(best, shares, strict=True)],
                )
    return num_bad


def _records(paths: Sequence[Path]) -> list[Record]:
    files: list[Path] = []
    for path in paths:
        mode = file_mode(path)
        if mode is None:
            raise DataError(f"{printable(path)}: no such file or folder.")
        files += [path / name for name in image_files(path)] if stat.S_ISDIR(mode) else [path]
    if not files:
        raise DataError(f"no image in {', '.join(map(printable, paths))}.")
    return [Record(file, None, None, printable(file)) for file in files]


def _csv_writer(stream: TextIO) -> Any:
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["path", "label", "probability"])
    return lambda name, ranked: writer.writerow([name, printable(ranked[0][0]), f"{ranked[0][1]:.6f}"])


def _jsonl_writer(stream: TextIO) -> Any:
    def write(name: str, ranked: list[tuple[str, float]]) -> None:
        (label, probability), rest = ranked[0], [{"label": label, "probability": p} for label, p in ranked]
        row = {"path": name, "label": label, "probability": probability, "top": rest}
        stream.write(json.dumps(row) + "\n")

    return write
