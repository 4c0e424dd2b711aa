"""Pretraining and finetuning, from config to final checkpoint."""

from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch.amp import GradScaler

from ptft import checkpoint
from ptft.checkpoint import Ancestor, Checkpoint, DataSeen, Metadata
from ptft.config.load import dump
from ptft.data.batches import Batches, Order
from ptft.data.task import Format, Task, prepare
from ptft.errors import CheckpointError, DataError, UsageError
from ptft.models import Model
from ptft.models.classifier import Classifier
from ptft.report.console import Console
from ptft.report.journal import Journal
from ptft.report.page import write_page
from ptft.report.summary import Summary, describe_task, write_summary
from ptft.run_folder import RunFolder
from ptft.runtime import derive_seed, environment, pick_device
from ptft.session import Session
from ptft.settings import FinetuneConfig, PretrainConfig, RunConfig, resolve
from ptft.storage import write_text_durably
from ptft.train.calibration import TORCH_FORMATS, calibrate
from ptft.train.evaluate import evaluate
from ptft.train.loop import Plan, fit
from ptft.train.metrics import Scores
from ptft.train.saver import Saver
from ptft.train.state import Average, State
from ptft.train.step import Stepper
from ptft.transfer.load import transfer
from ptft.transfer.source import SourceWeights


def pretrain(config: PretrainConfig, session: Session) -> Summary:
    """Trains on the source task from random weights.

    Args:
        config: as loaded; sizes left open are resolved from the data.
        session: with a run folder that is new, or holds a run of this config to go on with.

    Returns:
        What the run came to, as in summary.json.

    Raises:
        PtftError: any of `ptft.errors`.
    """
    saved = newest_checkpoint(session.folder, session.console)
    task = _prepare(config, session, saved, known=None, in_channels=config.model.in_channels)
    device = pick_device(config.device)
    classifier = _random_classifier(config.model, task, config.seed).to(device)
    config = resolve(config, num_examples=len(task.train), image_size=task.format.image_size)
    run = _Run("pretrain", config, task, classifier, device, ancestors=())
    return _train(run, session, saved)


def finetune(config: FinetuneConfig, source: Path, session: Session) -> Summary:
    """Starts the target task from the weights of a checkpoint.

    Args:
        config: as loaded; model, image format and sizes left open come from the source and the data.
        source: a ptft checkpoint or a bare state dict; not read when the run folder has a state to go on from.
        session: as for `pretrain`.

    Returns:
        What the run came to.

    Raises:
        PtftError: any of `ptft.errors`; TransferError when the weights do not fit.
    """
    saved = newest_checkpoint(session.folder, session.console)
    weights = SourceWeights.of(saved) if saved else SourceWeights.read(source)
    model = config.model or weights.model
    if model is None:
        raise UsageError(f"{source} does not say which model it is of. Write a config with `model:`.")
    task = _prepare(config, session, saved, known=weights.format, in_channels=model.in_channels)
    device = pick_device(config.device)
    classifier = _random_classifier(model, task, config.seed)
    tensors = saved.metadata.transfer if saved else ()
    if not saved:
        report = transfer(
            classifier,
            weights.tensors,
            source_classes=weights.classes,
            target_classes=task.classes,
            min_loaded=config.transfer.min_loaded,
        )
        session.console.say("\n".join(report.sentences()))
        tensors = tuple(asdict(tensor) for tensor in report.tensors)
    if config.transfer.freezes_backbone:
        classifier.backbone.requires_grad_(False)
    config = resolve(
        config.model_copy(update={"model": model}),
        num_examples=len(task.train),
        image_size=task.format.image_size,
    )
    run = _Run(
        "finetune",
        config,
        task,
        classifier.to(device),
        device,
        ancestors=weights.lineage,
        frozen_backbone=config.transfer.freezes_backbone,
        transfer=tensors,
    )
    return _train(run, session, saved)


@dataclass(frozen=True)
class _Run:
    """A task and the classifier to train on it."""

    command: Literal["pretrain", "finetune"]
    config: RunConfig
    task: Task
    classifier: Classifier
    device: torch.device
    ancestors: tuple[Ancestor, ...]
    frozen_backbone: bool = False
    transfer: tuple[dict[str, str], ...] = ()


def _prepare(
    config: RunConfig, session: Session, saved: Checkpoint | None, known: Format | None, in_channels: int | None
) -> Task:
    task = prepare(
        config.data.open(),
        config.data,
        seed=config.seed,
        in_channels=in_channels,
        known=known,
        check_stop=session.stop.check,
    )
    if saved and saved.metadata.lineage[-1].data.fingerprint != task.fingerprint:
        raise DataError(f"{task.origin} changed since this run began. Restore it, or start a new run with another --out.")
    session.console.say("\n".join(describe_task(task)))
    return task


def _random_classifier(model: Model, task: Task, seed: int) -> Classifier:
    if task.format.image_size < model.min_image_size():
        raise UsageError(
            f"model.name: {model.name} needs images of at least {model.min_image_size()} pixels, these have "
            f"{task.format.image_size}. Set data.image_size, or model.small_stem where the model has one."
        )
    torch.manual_seed(derive_seed("init", seed))
    return model.build(len(task.classes), task.format.in_channels)


def _train(run: _Run, session: Session, saved: Checkpoint | None) -> Summary:
    """Calibrates, trains, evaluates the final weights once on test, writes summary and page."""
    config, task, console = _calibrate(run, session.console), run.task, session.console
    num_steps = config.train.num_steps(len(task.train))
    write_text_durably(session.folder.config, dump(config, header=f"# {session.command}\n"))
    stepper = _stepper(run, config)
    state = _state(run, config, stepper)
    if saved:
        state.restore(saved.tensors, saved.metadata.progress)
        console.say(f"resumed at step {state.progress.step:,} of {num_steps:,} from {saved.path}.")
    session.folder.write_status("running", state.progress.step, num_steps)
    metadata = _metadata(run, config, num_steps)
    score = _validation(run, stepper, session.stop.check) if "validation" in task.parts else None
    per_epoch = len(task.train) / (config.train.batch_size or 1)
    with (
        console.bar(num_steps, state.progress.step) as bar,
        closing(Journal(session.folder, state.progress.step, per_epoch, console, bar)) as journal,
    ):
        reason = fit(
            state,
            stepper,
            _batches(run, config),
            _plan(config, len(task.train)),
            evaluate=score,
            journal=journal,
            saver=Saver(session.folder, metadata, config.checkpoint.keep),
            check_stop=session.stop.check,
        )
    final = session.folder.best if score else session.folder.last
    summary = _summarize(run, session, checkpoint.read(final), state, reason)
    write_summary(session.folder, summary)
    write_page(session.folder, summary)
    session.folder.write_status(
        "done",
        state.progress.step,
        num_steps,
        exit_code=0,
        reason=reason,
        checkpoint=str(final.relative_to(session.folder.path)),
    )
    return summary


def _calibrate(run: _Run, console: Console) -> RunConfig:
    """The config with precision and memory format decided."""
    train, format_ = run.config.train, run.task.format
    if train.precision == "fp16" and run.device.type != "cuda":
        raise UsageError("train.precision: fp16 needs a GPU. Write auto, bf16 or fp32.")
    micro = -(-(train.batch_size or 1) // train.accumulate)
    choice, sentence = calibrate(
        run.classifier,
        (micro, format_.in_channels, format_.image_size, format_.image_size),
        run.device,
        train.precision,
        train.memory_format,
    )
    if sentence:
        console.say(sentence)
    decided = {"precision": choice.precision, "memory_format": choice.memory_format}
    return run.config.model_copy(update={"train": train.model_copy(update=decided)})


def _stepper(run: _Run, config: RunConfig) -> Stepper:
    train = config.train
    if train.precision == "auto" or train.memory_format == "auto":
        raise ValueError("calibration leaves nothing open")
    return Stepper(
        objective=config.objective.build(run.task.class_counts("train"), config.seed),
        device=run.device,
        precision=train.precision,
        memory_format=TORCH_FORMATS[train.memory_format],
        seed=config.seed,
        accumulate=train.accumulate,
        clip_norm=train.clip_norm,
        frozen_backbone=run.frozen_backbone,
    )


def _state(run: _Run, config: RunConfig, stepper: Stepper) -> State:
    model = run.classifier.to(memory_format=stepper.memory_format)
    return State(
        model=model,
        optimizer=config.optim.build(model),
        average=Average(model, config.train.ema) if config.train.ema else None,
        scaler=GradScaler(run.device.type, enabled=stepper.precision == "fp16"),
    )


def _batches(run: _Run, config: RunConfig) -> Batches:
    task = run.task
    order = Order(
        task.train.labels, config.train.batch_size or 1, config.seed, balanced=config.train.sampling == "balanced"
    )
    augmentation = config.augment.build(task.format.image_size)
    return Batches(task.train, task.format, order, augmentation, run.device)


def _plan(config: RunConfig, num_examples: int) -> Plan:
    train, batch_size = config.train, config.train.batch_size or 1
    num_steps = train.num_steps(num_examples)
    every, look = config.checkpoint.every, train.evaluate_every
    if every is None or look is None:
        raise ValueError("resolve writes every duration out")
    return Plan(
        num_steps=num_steps,
        evaluate_every=max(1, look.to_steps(num_examples, batch_size)),
        save_every=max(1, every.to_steps(num_examples, batch_size)),
        log_every=max(1, num_steps // 200),
        peak_lr=config.optim.lr,
        schedule=config.schedule.build(num_steps, num_examples, batch_size),
        patience=train.patience,
        max_seconds=None if train.max_minutes is None else 60 * train.max_minutes,
    )


def _metadata(run: _Run, config: RunConfig, num_steps: int) -> Metadata:
    task, format_ = run.task, run.task.format
    seen = DataSeen(
        origin=task.origin, fingerprint=task.fingerprint, num_examples=len(task.train), classes=task.classes
    )
    own = Ancestor(command=run.command, digest=None, data=seen, model=config.model.name, steps=0)
    return Metadata(
        command=run.command,
        step=0,
        num_steps=num_steps,
        config=config.model_dump(mode="json"),
        classes=task.classes,
        image_size=format_.image_size,
        in_channels=format_.in_channels,
        mean=format_.mean,
        std=format_.std,
        lineage=(*run.ancestors, own),
        transfer=run.transfer,
        environment=environment(run.device),
    )


def _validation(run: _Run, stepper: Stepper, check_stop: Callable[[], None]) -> Callable[[State], Scores]:
    def score(state: State) -> Scores:
        return evaluate(
            state.weights_to_use(),
            run.task.parts["validation"],
            run.task.format,
            len(run.task.classes),
            run.device,
            stepper.precision,
            check_stop,
        )

    return score


def _summarize(run: _Run, session: Session, final: Checkpoint, state: State, reason: str) -> Summary:
    """Scores of the final checkpoint, in fp32: on validation, and once on test."""
    run.classifier.load_state_dict(final.weights())
    scores = {
        part: evaluate(
            run.classifier,
            run.task.parts[part],
            run.task.format,
            len(run.task.classes),
            run.device,
            check_stop=session.stop.check,
        )
        for part in ("validation", "test")
        if part in run.task.parts
    }
    for part, result in scores.items():
        session.console.say(f"{part}: {result.sentence()}")
    return Summary(
        command=session.command,
        checkpoint=final,
        scores=scores,
        steps=state.progress.step,
        seconds=state.progress.seconds,
        reason=reason,
        bad_images=run.task.bad_images,
    )


def newest_checkpoint(folder: RunFolder, console: Console) -> Checkpoint | None:
    """The newest intact checkpoint of a run; None where nothing was saved yet.

    Raises:
        CheckpointError: checkpoints are there, and none is intact.
    """
    failures = []
    for path in folder.saved_paths():
        try:
            return checkpoint.read(path)
        except CheckpointError as error:
            failures.append(str(error))
            console.say(f"{error} Trying the one before.")
    if failures:
        raise CheckpointError(f"no intact checkpoint in {folder.checkpoints}. {failures[-1]}")
    return None
