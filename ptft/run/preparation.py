"""From a config to everything a run trains with: data, source weights, classifier; nothing is written."""

import copy
from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import partial

import torch

from ptft.checkpoint import Checkpoint
from ptft.data.records import PARTS, Part
from ptft.data.task import Format, Task, prepare
from ptft.errors import DataError, UsageError
from ptft.models import Model
from ptft.models.classifier import Classifier
from ptft.models.stochastic import set_drop_path, set_dropout
from ptft.race.decide import told_without_racing
from ptft.report.console import Console
from ptft.report.summary import describe_task
from ptft.run.assembly import Inherited, Prepared, assemble
from ptft.run.beginning import co_tuning_of
from ptft.run.decisions import check_fits, device_of
from ptft.run.drift import compare_data
from ptft.run.racing import course_of, decided_by_first
from ptft.run.surroundings import Surroundings
from ptft.settings import FinetuneConfig, PretrainConfig, RunConfig
from ptft.tracking import check_installed
from ptft.train.co_tuning import NAMES as CO_TUNING
from ptft.train.random_weights import random_classifier, whiten
from ptft.transfer.head import rescaled_head
from ptft.transfer.load import transfer
from ptft.transfer.origin import Origin
from ptft.transfer.proof import prove
from ptft.transfer.recipes import TransferConfig
from ptft.transfer.report import TensorReport
from ptft.transfer.source import SourceWeights
from ptft.transfer.sources import read_source
from ptft.transfer.sources.preprocessing import adapted_format
from ptft.transfer.statistics import measure_statistics


def prepare_pretrain(
    config: PretrainConfig, around: Surroundings, saved: Checkpoint | None = None, read: Sequence[Part] = PARTS
) -> Prepared:
    """The source task and a classifier with random weights.

    Args:
        config: as loaded; what it leaves open is resolved from the data.
        around: of the run.
        saved: a state of this run to go on from.
        read: the parts of the data to decode and have.

    Raises:
        PtftError: DataError, UsageError.
    """
    check_installed(config.tracking)
    task = _read_task(config, around, saved, None, config.model.in_channels, read)
    classifier = random_classifier(config.model, task, config.seed)
    if not saved and (count := whiten(classifier, task.train, task.format, around.check_stop)):
        around.console.say(
            f"whitening: the first layer's filters follow from {count:,} training images; they are not trained."
        )
    return assemble("pretrain", config, config.model, task, classifier, around, saved)


def prepare_finetune(
    config: FinetuneConfig,
    source: Origin,
    around: Surroundings,
    saved: Checkpoint | None = None,
    read: Sequence[Part] = PARTS,
    races: bool = True,
) -> Prepared:
    """The target task and a classifier with the source's weights, or those that recipe auto prefers.

    Args:
        config: as loaded; model and image format left open are the source's.
        source: see `read_source`; not read when there is a state to go on from.
        around: of the run.
        saved: a state of this run to go on from.
        read: the parts of the data to decode and have.
        races: whether recipe auto may decide; else it is a recipe that it may end with, and the steps of its races
            are told.

    Raises:
        PtftError: DataError, UsageError, CheckpointError; TransferError when the weights do not fit.
    """
    check_installed(config.tracking)
    weights = SourceWeights.of(saved) if saved else read_source(source, config.model)
    model = weights.model_for(config.model)
    if model is None:
        raise UsageError(f"{source} does not say which model it is of. Write a config with `model:`.")
    known = _known_format(model, weights)
    task = _read_task(config, around, saved, known, model.in_channels or weights.in_channels, read)
    classifier = random_classifier(model, task, config.seed)
    if not saved:
        whiten(classifier, task.train, task.format, around.check_stop)
    _set_randomness(classifier, model, config.transfer)
    taken = config.transfer.model_copy(update={"from_": str(source)})
    config = config.model_copy(update={"model": model, "transfer": taken})
    check_fits(config, task, classifier, around.ranks, is_new=saved is None)
    device = device_of(config, around.ranks)
    if saved:
        return assemble("finetune", config, model, task, classifier, around, saved, _kept(saved, weights, device))
    untrained = copy.deepcopy(classifier)
    tensors: tuple[dict[str, str], ...] = ()
    start: tuple[str, ...] = ()
    said: tuple[str, ...] = ()
    if config.transfer.recipe != "random":
        tensors, start = _transfer(classifier, model, weights, task, config, around.console)
    co_tuning = co_tuning_of(config, classifier, weights, task, device, around.check_stop)
    race_steps = 0
    if config.transfer.recipe == "auto":
        course = partial(course_of, config, model, task, classifier, untrained, tensors, co_tuning, around)
        if races:
            config, said = decided_by_first(course, around.ranks)
        else:
            config, race_steps = told_without_racing(course())
    inherited = Inherited(weights.lineage, tensors, (*start, *said), weights.seen, co_tuning)
    if config.transfer.recipe == "random":
        classifier, told = untrained, f"random weights: nothing of {source} but its architecture."
        inherited = Inherited((), _set_aside(classifier), (told, *said), {}, co_tuning)
    prepared = assemble("finetune", config, model, task, classifier, around, inherited=inherited)
    return replace(prepared, race_steps=race_steps)


def _kept(saved: Checkpoint, weights: SourceWeights, device: torch.device) -> Inherited:
    """What a run that goes on has kept of what came with its weights."""
    co_tuning = {name: tensor.to(device) for name, tensor in saved.part("start").items() if name in CO_TUNING}
    return Inherited(weights.lineage, saved.metadata.transfer, saved.metadata.start, weights.seen, co_tuning)


def _set_aside(classifier: Classifier) -> tuple[dict[str, str], ...]:
    """A report for recipe random: nothing is the source's."""
    return tuple(asdict(TensorReport(name, "fresh", "recipe random")) for name in classifier.state_dict())


def _known_format(model: Model, weights: SourceWeights) -> Format | None:
    """The source's image format, for the channels that the model is told to take."""
    if weights.format is None or model.in_channels in (None, weights.format.in_channels):
        return weights.format
    return adapted_format(weights.format, model.in_channels)


def _transfer(
    classifier: Classifier, model: Model, weights: SourceWeights, task: Task, config: FinetuneConfig, console: Console
) -> tuple[tuple[dict[str, str], ...], tuple[str, ...]]:
    """Loads the weights and proves it; what became of each tensor, and the sentences about the whole."""
    for sentence in weights.said:
        console.say(f"source: {sentence}")
    tensors, sentence = weights.tensors, ""
    if weights.scale and task.scale and weights.task == config.task.name:
        tensors, sentence = rescaled_head(tensors, (weights.classes, weights.scale), (task.classes, task.scale))
    report = transfer(
        classifier,
        tensors,
        source_classes=weights.classes,
        target_classes=task.classes,
        min_loaded=config.transfer.min_loaded,
        other_task=weights.task if weights.task != config.task.name else "",
    )
    console.say("\n".join(report.sentences()))
    start = [*weights.said, *([sentence] if sentence else []), prove(classifier, model, weights, report)]
    if report.lacks_statistics:
        count = measure_statistics(classifier, task.train, task.format, torch.device("cpu"))
        lacking = "adapted: the source has no batch-norm statistics; measured on"
        start.append(f"{lacking} {count:,} training images of the target.")
    console.say("\n".join(start[len(weights.said) :]))
    return tuple(asdict(tensor) for tensor in report.tensors), tuple(start)


def _read_task(
    config: RunConfig,
    around: Surroundings,
    saved: Checkpoint | None,
    known: Format | None,
    in_channels: int | None,
    read: Sequence[Part],
) -> Task:
    task = prepare(
        config.task.open(config.data),
        config.data,
        seed=config.seed,
        in_channels=in_channels,
        known=known,
        read=read,
        labelling=config.task.labelling(),
        check_stop=around.check_stop,
        cache=around.cache,
    )
    if saved and (changes := compare_data(saved.metadata, task)):
        raise DataError(
            f"{task.origin} changed since this run began: {'; '.join(changes)}. Restore it, or start a new run with "
            "--out."
        )
    around.console.say("\n".join(describe_task(task)))
    return task


def _set_randomness(classifier: Classifier, model: Model, transfer: TransferConfig) -> None:
    """Dropout and stochastic depth as the transfer asks for them."""
    if transfer.dropout is not None:
        set_dropout(classifier, transfer.dropout)
    if transfer.drop_path is not None and not set_drop_path(classifier, transfer.drop_path):
        raise UsageError(
            f"transfer.drop_path: {model.name} has no stochastic depth. Leave it out; small-resnet, ConvNeXt and "
            "EfficientNet have it."
        )
