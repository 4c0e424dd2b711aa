"""From a config to everything a run trains with: data, classifier, optimizer, batches; nothing is written."""

import copy
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import Literal

import torch
from torch import Tensor
from torch.amp import GradScaler

from ptft.beginning import begin, co_tuning_of, has_own_head, regime_of, solver_of, start_of, without_choices
from ptft.checkpoint import Ancestor, Checkpoint
from ptft.data.ahead import Ahead, ahead_where_it_wins
from ptft.data.batches import Batches, Order
from ptft.data.cache import USUAL_CACHE, Cache, CacheOptions
from ptft.data.records import PARTS, Part
from ptft.data.resize import Sizes
from ptft.data.stream import StreamOrder
from ptft.data.task import Examples, Format, Task, prepare
from ptft.decisions import decide_steps, known, synced
from ptft.distributed.agreement import Agreement
from ptft.distributed.ranks import ALONE, Ranks
from ptft.drift import compare_data
from ptft.errors import DataError, UsageError
from ptft.models import Model
from ptft.models.classifier import Classifier
from ptft.models.stochastic import set_drop_path, set_dropout
from ptft.race.decide import Course, Train, decide, told_without_racing
from ptft.random_weights import random_classifier, whiten
from ptft.report.console import Console
from ptft.report.summary import describe_task
from ptft.runtime import pick_device
from ptft.settings import FinetuneConfig, PretrainConfig, RunConfig, resolve
from ptft.stop import Stop
from ptft.tracking import check_installed
from ptft.train.co_tuning import NAMES as CO_TUNING
from ptft.train.solve import HeadSolver
from ptft.train.state import Average, State
from ptft.train.step import Stepper
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


@dataclass(frozen=True)
class Prepared:
    """A run before its first step.

    Attributes:
        command: which of the two.
        config: resolved, nothing left open.
        model: the architecture.
        task: the data, decoded.
        classifier: on `device`, with the weights to start from.
        device: to compute on.
        stepper: computes a step.
        state: optimizer and averages at step 0.
        batches: of every step.
        sizes: of its images.
        ancestors: the runs behind the weights, oldest first.
        transfer: what became of each tensor; empty for pretraining.
        start: what the source was recognised as, and the proof of its features; empty for pretraining.
        seen: fingerprints of the images that the runs behind the weights trained on, see `ptft.transfer.seen`.
        race_steps: most steps of the races that recipe auto would run first, where they were not run.
    """

    command: Literal["pretrain", "finetune"]
    config: RunConfig
    model: Model
    task: Task
    classifier: Classifier
    device: torch.device
    stepper: Stepper | HeadSolver
    state: State
    batches: Batches | Ahead
    sizes: Sizes
    ancestors: tuple[Ancestor, ...] = ()
    transfer: tuple[dict[str, str], ...] = ()
    start: tuple[str, ...] = ()
    seen: Mapping[str, Tensor] = field(default_factory=dict)
    race_steps: int = 0

    @property
    def num_steps(self) -> int:
        """Of the whole run; a probe is solved in one."""
        return 1 if isinstance(self.stepper, HeadSolver) else self.config.train.num_steps(len(self.task.train))

    @property
    def phases(self) -> tuple[range, ...]:
        """The steps of the run, apart where their images are of another size."""
        return (range(1),) if isinstance(self.stepper, HeadSolver) else self.sizes.phases

    @property
    def batch_size(self) -> int:
        """Global."""
        return known(self.config.train.batch_size)


def prepare_pretrain(
    config: PretrainConfig,
    console: Console,
    saved: Checkpoint | None = None,
    check_stop: Callable[[], None] = lambda: None,
    read: Sequence[Part] = PARTS,
    agreement: Agreement | None = None,
    cache: CacheOptions = USUAL_CACHE,
) -> Prepared:
    """The source task and a classifier with random weights.

    Args:
        config: as loaded; what it leaves open is resolved from the data.
        console: for what was found and decided.
        saved: a state of this run to go on from.
        check_stop: raises when a signal asked to stop.
        read: the parts of the data to decode and have.
        agreement: of all ranks of the run; None for one alone.
        cache: for decoded images and measured speeds.

    Raises:
        PtftError: DataError, UsageError.
    """
    check_installed(config.tracking)
    kept = cache.open(console.say)
    task = _read_task(config, console, saved, None, config.model.in_channels, check_stop, read, kept)
    classifier = random_classifier(config.model, task, config.seed)
    if not saved and (count := whiten(classifier, task.train, task.format, check_stop)):
        console.say(
            f"whitening: the first layer's filters follow from {count:,} training images; they are not trained."
        )
    return _assemble("pretrain", config, config.model, task, classifier, console, check_stop, saved, agreement, kept)


def prepare_finetune(
    config: FinetuneConfig,
    source: Origin,
    console: Console,
    saved: Checkpoint | None = None,
    check_stop: Callable[[], None] = lambda: None,
    read: Sequence[Part] = PARTS,
    agreement: Agreement | None = None,
    races: bool = True,
    cache: CacheOptions = USUAL_CACHE,
) -> Prepared:
    """The target task and a classifier with the source's weights, or those that recipe auto prefers.

    Args:
        config: as loaded; model and image format left open are the source's.
        source: see `read_source`; not read when there is a state to go on from.
        console: for what was found and decided, the transfer report included.
        saved: a state of this run to go on from.
        check_stop: raises when a signal asked to stop.
        read: the parts of the data to decode and have.
        agreement: of all ranks of the run; None for one alone.
        races: whether recipe auto may decide; else it is full, and the steps it would take are told.
        cache: for decoded images and measured speeds.

    Raises:
        PtftError: DataError, UsageError, CheckpointError; TransferError when the weights do not fit.
    """
    check_installed(config.tracking)
    weights = SourceWeights.of(saved) if saved else read_source(source, config.model)
    model = weights.model_for(config.model)
    if model is None:
        raise UsageError(f"{source} does not say which model it is of. Write a config with `model:`.")
    known = _known_format(model, weights)
    kept = cache.open(console.say)
    task = _read_task(config, console, saved, known, model.in_channels or weights.in_channels, check_stop, read, kept)
    classifier = random_classifier(model, task, config.seed)
    if not saved:
        whiten(classifier, task.train, task.format, check_stop)
    _set_randomness(classifier, model, config.transfer)
    untrained, lineage, seen, race_steps = copy.deepcopy(classifier), weights.lineage, weights.seen, 0
    tensors, start = (saved.metadata.transfer, saved.metadata.start) if saved else ((), ())
    said: tuple[str, ...] = ()
    if not saved and config.transfer.recipe != "random":
        tensors, start = _transfer(classifier, model, weights, task, config, console)
    device = pick_device(config.device)
    co_tuning = (
        {name: tensor.to(device) for name, tensor in saved.part("start").items() if name in CO_TUNING}
        if saved
        else co_tuning_of(config, classifier, weights.tensors, task, device, check_stop)
    )
    taken = config.transfer.model_copy(update={"from_": str(source)})
    config = config.model_copy(update={"model": model, "transfer": taken})
    if not saved and config.transfer.recipe == "auto":
        train = partial(_train_briefly, model, co_tuning, check_stop)
        course = partial(_course, config, task, classifier, untrained, tensors, train, console, check_stop, kept)
        if races:
            config, said = _decided_by_first(course, agreement.ranks if agreement else ALONE)
        else:
            race_steps = told_without_racing(course())
    if not saved and config.transfer.recipe == "random":
        classifier, lineage, seen = untrained, (), {}
        tensors, start = _set_aside(classifier), (f"random weights: nothing of {source} but its architecture.",)
    prepared = _assemble(
        "finetune",
        config,
        model,
        task,
        classifier,
        console,
        check_stop,
        saved,
        agreement,
        kept,
        lineage,
        tensors,
        (*start, *said),
        seen,
        co_tuning,
    )
    return replace(prepared, race_steps=race_steps)


def _course(
    config: FinetuneConfig,
    task: Task,
    classifier: Classifier,
    untrained: Classifier,
    tensors: Sequence[Mapping[str, str]],
    train: Train,
    console: Console,
    check_stop: Callable[[], None],
    cache: Cache | None,
) -> Course:
    """The races of recipe auto, with precision and memory format decided for them and the run."""
    device = pick_device(config.device)
    resolved = resolve(config, num_examples=len(task.train), image_size=task.format.image_size)
    resolved, _ = decide_steps(
        resolved, task, classifier.to(device), device, None, console, check_stop, Agreement(ALONE, Stop()), cache
    )
    return Course(
        config,
        resolved,
        task,
        classifier,
        untrained.to(device),
        has_own_head(tensors),
        device,
        train,
        console,
        check_stop,
    )


def _decided(course: Course) -> tuple[FinetuneConfig, tuple[str, ...]]:
    """What recipe auto chose and why. What was measured for steps does not count where there are none."""
    decision = decide(course)
    config, train = decision.config, course.resolved.train
    if not config.transfer.build().trains_network:
        return config, decision.said
    choice = {"precision": train.precision, "memory_format": train.memory_format}
    return config.model_copy(update={"train": config.train.model_copy(update=choice)}), decision.said


def _decided_by_first(course: Callable[[], Course], ranks: Ranks) -> tuple[FinetuneConfig, tuple[str, ...]]:
    """The same on every rank: the first one races, while the others wait."""
    found: list[tuple[FinetuneConfig, tuple[str, ...]]] = []

    def race() -> list[object]:
        found.append(_decided(course()))
        return [found[0][0].model_dump(mode="json"), found[0][1]]

    config, said = ranks.from_first(race)
    return found[0] if found else (FinetuneConfig.model_validate(config), tuple(said))


def _train_briefly(
    model: Model,
    co_tuning: Mapping[str, Tensor],
    check_stop: Callable[[], None],
    config: FinetuneConfig,
    task: Task,
    classifier: Classifier,
) -> Classifier:
    """Trains as a run of this config would, in place, without a word, a look at validation or a checkpoint."""
    prepared = _assemble(
        "finetune",
        config,
        model,
        task,
        classifier,
        Console(io.StringIO()),
        check_stop,
        None,
        None,
        None,
        co_tuning=co_tuning,
    )
    num_steps, state, peak = prepared.num_steps, prepared.state, known(prepared.config.optim.lr)
    schedule = config.schedule.build(num_steps, len(task.train), prepared.batch_size)
    for step in range(num_steps):
        check_stop()
        prepared.stepper.step(state, prepared.batches.at(step), peak * schedule.factor(step))
        state.progress.step += 1
    return state.weights_to_use()


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
    console: Console,
    saved: Checkpoint | None,
    known: Format | None,
    in_channels: int | None,
    check_stop: Callable[[], None],
    read: Sequence[Part],
    cache: Cache | None,
) -> Task:
    task = prepare(
        config.task.open(config.data),
        config.data,
        seed=config.seed,
        in_channels=in_channels,
        known=known,
        read=read,
        labelling=config.task.labelling(),
        check_stop=check_stop,
        cache=cache,
    )
    if saved and (changes := compare_data(saved.metadata, task)):
        raise DataError(
            f"{task.origin} changed since this run began: {'; '.join(changes)}. Restore it, or start a new run with "
            "--out."
        )
    console.say("\n".join(describe_task(task)))
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


def _assemble(
    command: Literal["pretrain", "finetune"],
    config: RunConfig,
    model: Model,
    task: Task,
    classifier: Classifier,
    console: Console,
    check_stop: Callable[[], None],
    saved: Checkpoint | None,
    agreement: Agreement | None,
    cache: Cache | None,
    ancestors: tuple[Ancestor, ...] = (),
    tensors: tuple[dict[str, str], ...] = (),
    start: tuple[str, ...] = (),
    seen: Mapping[str, Tensor] | None = None,
    co_tuning: Mapping[str, Tensor] | None = None,
) -> Prepared:
    if config.train.patience is not None and "validation" not in task.parts:
        raise UsageError("train.patience: there are no validation images to judge by. Set data.validation.")
    agreement = agreement or Agreement(ALONE, Stop())
    ranks = agreement.ranks
    device = pick_device(config.device, None if ranks.is_alone else ranks.place.local_rank)
    classifier.to(device)
    timed = classifier
    if config.train.sync_bn and not ranks.is_alone:
        timed, classifier = copy.deepcopy(classifier), synced(classifier, device)
    config = resolve(config, num_examples=len(task.train), image_size=task.format.image_size)
    num_steps = config.train.num_steps(len(task.train))
    sizes = config.train.resize.build(task.format.image_size, num_steps, model.min_image_size())
    regime = regime_of(config, task, classifier, tensors)
    config = without_choices(config, console)
    config, stepper = decide_steps(config, task, timed, device, regime, console, check_stop, agreement, cache)
    classifier.to(memory_format=stepper.memory_format)
    solver = solver_of(config, task, stepper, console, check_stop)
    if not saved:
        begin(config, classifier, solver, console)
    is_solved_alone = regime is not None and not regime.recipe.trains_network
    state = State(
        model=classifier,
        optimizer=config.optim.build(classifier, regime.groups(classifier) if regime else ()),
        average=Average(classifier, config.train.ema) if config.train.ema and not is_solved_alone else None,
        scaler=GradScaler(device.type, enabled=stepper.precision == "fp16"),
        start=start_of(config, classifier, co_tuning or {}),
    )
    steps = solver if is_solved_alone else stepper
    if len(sizes.sides) > 1 and not is_solved_alone:
        small = ", ".join(map(str, sizes.sides[:-1]))
        console.say(f"train.resize: images of {small} pixels up to step {sizes.starts[-1]:,}, then {sizes.sides[-1]}.")
    batches = _batches(config, task, device, stepper, sizes)
    return Prepared(
        command,
        config,
        model,
        task,
        classifier,
        device,
        steps,
        state,
        batches,
        sizes,
        ancestors,
        tensors,
        start,
        seen or {},
    )


def _batches(config: RunConfig, task: Task, device: torch.device, stepper: Stepper, sizes: Sizes) -> Batches | Ahead:
    order = _order(config, task.train)
    batches = Batches(
        task.train,
        task.format,
        order,
        config.augment.build(task.format.image_size),
        device,
        own=stepper.exchange.places(order.batch_size),
        mixes=stepper.objective.mixes,
        sizes=sizes,
    )
    return ahead_where_it_wins(batches, task.train.to_augment, device)


def _order(config: RunConfig, train: Examples) -> Order | StreamOrder:
    """Which examples a step takes.

    Raises:
        UsageError: a stream cannot be balanced.
    """
    batch_size, window = known(config.train.batch_size), config.data.window
    balanced = config.train.sampling == "balanced"
    if window is None or train.groups is None:
        return Order(train.labels, batch_size, config.seed, balanced)
    if balanced:
        raise UsageError(
            "train.sampling: balanced takes images from all shards at once. With it write data.read: mapped or memory."
        )
    return StreamOrder(train.groups, batch_size, config.seed, window)
