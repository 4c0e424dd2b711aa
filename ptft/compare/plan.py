"""From a config and a checkpoint to what a comparison will run: everything the cells share is decided here, once."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from ptft.compare.cells import Setting
from ptft.compare.design import Labels, order_of, told_seeds
from ptft.compare.learning_rates import fewest_cells
from ptft.data.cache import CacheOptions
from ptft.data.fingerprints import fingerprints_of
from ptft.data.records import Record, Source
from ptft.data.sources import DataConfig
from ptft.data.splits import Parts, split
from ptft.data.task import Task, prepare
from ptft.errors import DataError, UsageError
from ptft.models import Model
from ptft.paths import real_path
from ptft.proof.leak import LeakCheck, SeenSet, check_leaks, seen_sets
from ptft.proof.start import fingerprint_of
from ptft.report.console import Console
from ptft.runtime import derive_seed, pick_device
from ptft.settings import CompareConfig, resolve
from ptft.train.calibration import calibrate
from ptft.transfer.origin import Origin, is_name
from ptft.transfer.recipes import Budget, TransferConfig
from ptft.transfer.source import SourceWeights
from ptft.transfer.sources import read_source

_USUAL_LABELS = (5, 20, 100)
# Validation decides between learning rates that differ by a point or two; more images cost more than they tell.
_MOST_VALIDATION_PER_CLASS, _MOST_VALIDATION = 100, 2_000


@dataclass(frozen=True)
class Plan:
    """What a comparison will run, and on what.

    Attributes:
        setting: of all cells.
        origin: phrase for the target's images.
        classes: of the target.
        num_labels: labels of all classes at each number of them a class.
        num_validation: images that choose the learning rates, the same for every cell.
        test: the test images, the same for every cell.
        seen: what the source was trained on, as far as its fingerprints travelled.
    """

    setting: Setting
    origin: str
    classes: Sequence[str]
    num_labels: dict[Labels, int]
    num_validation: int
    test: Sequence[Record]
    seen: Sequence[SeenSet]


def plan(config: CompareConfig, sources: Sequence[Origin], out: Path, console: Console, cache: CacheOptions) -> Plan:
    """Decides model, image format, validation, numbers of labels, steps, precision.

    Validation images are set aside from the training images before any label is drawn: the same ones for every arm,
    number of labels and seed, never test images, and never counted as labels. To choose a learning rate on a
    share of 5 labels would be to choose it by chance; every arm has this same advantage over somebody who owns
    nothing but the labels.

    Args:
        config: as loaded.
        sources: see `read_source`.
        out: folder of the comparison.
        console: for the calibration.
        cache: for decoded images and measured speeds.

    Raises:
        PtftError: UsageError, DataError, CheckpointError.
    """
    weights = _read_alike(config, sources)
    model, image_size = _model_and_size(config, weights[0], sources[0])
    listed = config.data.open()
    if listed.passed_over:
        console.say(f"data: {listed.passed_over}")
    data = _with_validation(listed, config.data.model_copy(update={"image_size": image_size}))
    classes, parts = split(listed, data, seed=0)
    if not parts["test"]:
        raise DataError(
            f"{listed.origin} has no test images, and validation images choose the learning rates here. "
            "If they are in a folder of their own, name it test: validation is then drawn from train."
        )
    labels = _labels(config, listed, data, parts)
    config = config.model_copy(
        update={
            "data": data,
            "model": model,
            "transfer": _without_races(config.transfer),
            "compare": config.compare.model_copy(update={"labels_per_class": labels}),
        }
    )
    num_labels = {number: len(parts["train"]) if number == "all" else number * len(classes) for number in labels}
    budgets = {number: _budget(config, count, image_size) for number, count in num_labels.items()}
    config = _calibrated(config, model, len(classes), image_size, budgets[labels[-1]].batch_size, console, cache)
    charged = max(map(_pretraining_steps, weights, sources)) if config.compare.charge_pretraining else 0
    setting = Setting(config, sources, out, budgets, charged, cache)
    seen = _seen_of_all(weights)
    return Plan(setting, listed.origin, classes, num_labels, len(parts["validation"]), parts["test"], seen)


def _read_alike(config: CompareConfig, sources: Sequence[Origin]) -> list[SourceWeights]:
    """Every source; several must be of one architecture and image format.

    Raises:
        UsageError: they are not, one is given twice, or the seeds cannot be shared out among them.
    """
    seeds = config.compare.seeds
    if seeds % len(sources):
        raise UsageError(
            f"compare.seeds: {told_seeds(seeds)} cannot be shared out among {len(sources)} checkpoints. "
            f"Give --seeds {-(-seeds // len(sources)) * len(sources)}."
        )
    weights = [read_source(source, config.model) for source in sources]
    first = weights[0]
    known: dict[str, Origin] = {}
    for source, other in zip(sources, weights, strict=True):
        for what, mark in _marks(source, other):
            if mark in known:
                raise UsageError(
                    f"--from {source} {what} of --from {known[mark]}; several must be pretrainings with other seeds."
                )
            known[mark] = source
        if _shape(other) != _shape(first):
            raise UsageError(
                f"{source} has another model, image size or channels than {sources[0]}; several must be pretrainings "
                "that differ in their seed alone. Compare them one by one, or rank them with `ptft score`."
            )
    return weights


def _marks(source: Origin, weights: SourceWeights) -> list[tuple[str, str]]:
    """What no two draws of a pretraining share, with a phrase: else one would count twice and narrow the interval."""
    folder = real_path(source).parent
    of_run = [("is of the run", str(folder))] if not is_name(source) and folder.name == "checkpoints" else []
    return [*of_run, ("has the weights", fingerprint_of(weights.tensors))]


def _shape(weights: SourceWeights) -> tuple[Model | None, int | None, int | None]:
    """What sources of one pretraining have in common; statistics of the images differ with the draw of these."""
    known = weights.format
    return weights.model, known.image_size if known else None, known.in_channels if known else None


def _seen_of_all(weights: Sequence[SourceWeights]) -> list[SeenSet]:
    """What the sources were trained on, each data set once."""
    lineage = [ancestor for source in weights for ancestor in source.lineage]
    return seen_sets(lineage, {key: prints for source in weights for key, prints in source.seen.items()})


def _model_and_size(config: CompareConfig, weights: SourceWeights, source: Origin) -> tuple[Model, int]:
    """The architecture, with its channels, and the image side, of every arm."""
    model, known = weights.model_for(config.model), weights.format
    if model is None:
        raise UsageError(f"{source} does not say which model it is of. Write a config with `model:`.")
    channels = model.in_channels or (known.in_channels if known else weights.in_channels)
    size = config.data.image_size or (known.image_size if known else None)
    if channels is None or size is None:
        missing = "model.in_channels" if channels is None else "data.image_size"
        raise UsageError(f"{source} does not say what images it was trained on. Set {missing}.")
    if size < model.min_image_size():
        raise UsageError(
            f"data.image_size: {model.name} needs images of at least {model.min_image_size()} pixels, "
            f"these have {size}."
        )
    return model.model_copy(update={"in_channels": channels}), size


def _without_races(transfer: TransferConfig) -> TransferConfig:
    """The transfer with full for recipe auto: a comparison tries learning rates itself, all arms on equal terms."""
    return transfer.model_copy(update={"recipe": "full"}) if transfer.recipe == "auto" else transfer


def _with_validation(listed: Source, data: DataConfig) -> DataConfig:
    """The data with its number of validation images: the source's own part, as the config says, or a fifth."""
    if data.validation_per_class is not None or any(record.part == "validation" for record in listed.records):
        return data
    classes, parts = split(listed, data.model_copy(update={"validation": 0.0}), seed=0)
    most, smallest = min(_MOST_VALIDATION_PER_CLASS, _MOST_VALIDATION // len(classes)), _smallest(parts)
    if smallest < 2:
        raise DataError(
            f"{listed.origin}: a class has 1 training image. compare needs 2 of each: one to train on, one to choose "
            "the learning rate by."
        )
    return data.model_copy(update={"validation_per_class": max(1, min(smallest // 5, most))})


def _smallest(parts: Parts) -> int:
    """Training images of the class that has the fewest."""
    return min(Counter(record.label for record in parts["train"]).values())


def _labels(config: CompareConfig, listed: Source, data: DataConfig, parts: Parts) -> tuple[Labels, ...]:
    """Numbers of labels a class, rising; the usual ones as far as every class reaches.

    Raises:
        DataError: the config asks for more than a class has.
    """
    asked, smallest = config.compare.labels_per_class, _smallest(parts)
    if asked is None:
        return (*(number for number in _USUAL_LABELS if number < smallest), "all")
    greatest = max(asked, key=lambda number: -1 if number == "all" else number)
    if greatest != "all" and greatest > smallest:
        split(listed, data.model_copy(update={"labels_per_class": greatest}), seed=0)
    return tuple(sorted(asked, key=order_of))


def _budget(config: CompareConfig, num_examples: int, image_size: int) -> Budget:
    """Steps and batch size: as `ptft finetune` would take them for so many images."""
    train = resolve(config, num_examples=num_examples, image_size=image_size).train
    return Budget(train.num_steps(num_examples), train.batch_size or 1)


def _calibrated(
    config: CompareConfig,
    model: Model,
    num_classes: int,
    image_size: int,
    batch_size: int,
    console: Console,
    cache: CacheOptions,
) -> CompareConfig:
    """Precision and memory format measured once, so that all cells compute alike."""
    train, device = config.train, pick_device(config.device)
    torch.manual_seed(derive_seed("init", config.seed))
    channels = model.in_channels or 1
    classifier = model.build(num_classes, channels).to(device)
    shape = (-(-batch_size // train.accumulate), channels, image_size, image_size)
    choice, sentence = calibrate(
        classifier, shape, device, train.precision, train.memory_format, cache=cache.open(console.say)
    )
    if sentence:
        console.say(sentence)
    decided = {"precision": choice.precision, "memory_format": choice.memory_format}
    return config.model_copy(update={"train": train.model_copy(update=decided)})


def _pretraining_steps(weights: SourceWeights, source: Origin) -> int:
    if not weights.lineage:
        raise UsageError(f"compare.charge_pretraining: {source} does not say how long it was trained.")
    return sum(ancestor.steps for ancestor in weights.lineage)


def tell_plan(found: Plan, console: Console) -> None:
    """What will be run, in three lines."""
    setting, section = found.setting, found.setting.config.compare
    budgets = ", ".join(
        f"{number} ({found.num_labels[number]:,} images): {budget.steps:,} of {budget.batch_size}"
        for number, budget in setting.budgets.items()
    )
    tuning = min(section.tuning_seeds, section.seeds)
    num_runs = len(fewest_cells(setting))
    console.say(
        f"target: {found.origin}: {len(found.classes)} classes, {len(found.test):,} test images; learning rates are "
        f"chosen on {found.num_validation:,} validation images, the same for every run and no test images.\n"
        f"labels a class, and steps and batch size of every arm: {budgets}.\n"
        f"{', '.join(section.arms)}; {told_seeds(section.seeds)}, learning rates tried on {tuning} of them: at least "
        f"{num_runs:,} runs."
    )
    if setting.config.optim.lr is not None:
        console.say("optim.lr is not used: each arm tries learning rates of its own, compare.lrs or the usual ones.")
    if (count := len(setting.sources)) > 1:
        console.say(
            f"{count} checkpoints, taken for {count} draws of one pretraining: seeds that share one count once."
        )
    if setting.charged_steps:
        console.say(f"random weights get the {setting.charged_steps:,} steps of the pretraining in addition.")


def read_target(found: Plan, console: Console, check_stop: Callable[[], None]) -> Task:
    """Reads all images of the target, so that a bad one is found before anything is trained.

    Raises:
        DataError: an image cannot be read, see `prepare`.
    """
    config = found.setting.config
    channels = None if config.model is None else config.model.in_channels
    task = prepare(
        config.data.open(),
        config.data.model_copy(update={"store_size": None}),
        seed=config.seed,
        in_channels=channels,
        check_stop=check_stop,
        cache=found.setting.cache.open(console.say),
    )
    for line in task.bad_images:
        console.say(f"left out: {line}")
    return task


def search_leaks(found: Plan, task: Task, console: Console, check_stop: Callable[[], None]) -> LeakCheck | None:
    """Searches for the target's test images among its training images and what the source was trained on.

    Returns:
        What the search found; None where `data.leak_check` turns it off.
    """
    if not found.setting.config.data.leak_check:
        return None
    own = SeenSet(f"{task.origin} (its training part)", fingerprints_of(task.train.images, check_stop), task.train)
    leak = check_leaks(task.parts["test"], task.classes, [*found.seen, own], check_stop)
    console.say(f"leak check: {leak.sentence()}.")
    if leak.pairs:
        console.say(f"ptft: the accuracies below lean on images that were trained on: {leak.names()}. See `ptft leak`.")
    return leak
