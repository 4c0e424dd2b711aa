"""Pretraining and finetuning, from config to final checkpoint."""

from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import torch

from ptft import checkpoint
from ptft.checkpoint import Ancestor, Checkpoint, DataSeen, Metadata
from ptft.config.durations import Duration
from ptft.config.load import dump
from ptft.data.records import Part
from ptft.errors import CheckpointError
from ptft.models.classifier import Classifier
from ptft.preparation import Prepared, prepare_finetune, prepare_pretrain
from ptft.report.console import Console
from ptft.report.journal import Journal
from ptft.report.run_page import write_run_page
from ptft.report.summary import Summary, write_summary
from ptft.run_folder import RunFolder
from ptft.runtime import Precision, environment
from ptft.session import Session
from ptft.settings import FinetuneConfig, PretrainConfig
from ptft.storage import write_text_durably
from ptft.train.evaluate import evaluate
from ptft.train.loop import Plan, fit
from ptft.train.metrics import Scores
from ptft.train.saver import Saver


def pretrain(config: PretrainConfig, session: Session) -> Summary:
    """Trains on the source task from random weights.

    Args:
        config: as loaded; sizes left open are resolved from the data.
        session: with a run folder that is new, or holds a run of this config to go on with.

    Raises:
        PtftError: any of `ptft.errors`.
    """
    saved = newest_checkpoint(session.folder, session.console)
    prepared = prepare_pretrain(config, session.console, saved, session.stop.check)
    return _train(prepared, session, saved)


def finetune(config: FinetuneConfig, source: Path, session: Session) -> Summary:
    """Starts the target task from the weights of a checkpoint.

    Args:
        config: as loaded; model, image format and sizes left open come from the source and the data.
        source: a ptft checkpoint or a bare state dict; not read when the run folder has a state to go on from.
        session: as for `pretrain`.

    Raises:
        PtftError: any of `ptft.errors`; TransferError when the weights do not fit.
    """
    saved = newest_checkpoint(session.folder, session.console)
    prepared = prepare_finetune(config, source, session.console, saved, session.stop.check)
    return _train(prepared, session, saved)


def _train(prepared: Prepared, session: Session, saved: Checkpoint | None) -> Summary:
    """Trains; then scores the final weights, once on test, and writes summary and page."""
    folder, console, state = session.folder, session.console, prepared.state
    write_text_durably(folder.config, dump(prepared.config, header=session.command))
    if saved:
        state.restore(saved.tensors, saved.metadata.progress)
        console.say(f"resumed at step {state.progress.step:,} of {prepared.num_steps:,} from {saved.path}.")
    folder.write_status("running", state.progress.step, prepared.num_steps)
    score = _scorer(prepared, prepared.stepper.precision, session.stop.check)
    per_epoch = len(prepared.task.train) / prepared.batch_size
    with (
        console.bar(prepared.num_steps, state.progress.step) as bar,
        closing(Journal(folder, state.progress.step, per_epoch, bar)) as journal,
    ):
        reason = fit(
            state,
            prepared.stepper,
            prepared.batches,
            _plan(prepared),
            evaluate=(lambda model: score(model, "validation")) if "validation" in prepared.task.parts else None,
            journal=journal,
            saver=Saver(folder, _metadata(prepared), prepared.config.checkpoint.keep),
            check_stop=session.stop.check,
        )
    final = folder.best if folder.best.exists() else folder.last
    summary = _summarize(prepared, session, checkpoint.read(final), reason)
    write_summary(folder, summary)
    try:
        write_run_page(folder, summary)
    except (ValueError, RuntimeError) as error:
        # Training is done and saved: a picture that cannot be drawn must not make it a failure.
        console.say(f"ptft: {folder.report} could not be drawn: {error}")
    folder.write_status("done", state.progress.step, prepared.num_steps, exit_code=0, reason=reason)
    return summary


def _scorer(
    prepared: Prepared, precision: Precision, check_stop: Callable[[], None]
) -> Callable[[Classifier, Part], Scores]:
    """A function that scores a classifier on a part."""
    task = prepared.task

    def score(classifier: Classifier, part: Part) -> Scores:
        examples = task.parts[part]
        return evaluate(classifier, examples, task.format, len(task.classes), prepared.device, precision, check_stop)

    return score


def _plan(prepared: Prepared) -> Plan:
    config, num_steps = prepared.config, prepared.num_steps
    num_examples, batch_size = len(prepared.task.train), prepared.batch_size

    def period(duration: Duration | None) -> int:
        return max(1, duration.to_steps(num_examples, batch_size)) if duration else num_steps

    return Plan(
        num_steps=num_steps,
        evaluate_every=period(config.train.evaluate_every),
        save_every=period(config.checkpoint.every),
        log_every=max(1, num_steps // 200),
        peak_lr=config.optim.lr,
        schedule=config.schedule.build(num_steps, num_examples, batch_size),
        patience=config.train.patience,
        max_seconds=None if config.train.max_minutes is None else 60 * config.train.max_minutes,
    )


def _metadata(prepared: Prepared) -> Metadata:
    task, format_ = prepared.task, prepared.task.format
    seen = DataSeen(
        origin=task.origin,
        fingerprint=task.fingerprint,
        listing=task.listing,
        num_examples=len(task.train),
        classes=task.classes,
    )
    own = Ancestor(command=prepared.command, digest=None, data=seen, model=prepared.model.name, steps=0)
    if "validation" in task.parts:
        own = own.model_copy(update={"num_validation": len(task.parts["validation"])})
    return Metadata(
        command=prepared.command,
        step=0,
        num_steps=prepared.num_steps,
        config=prepared.config.model_dump(mode="json"),
        classes=task.classes,
        image_size=format_.image_size,
        in_channels=format_.in_channels,
        mean=format_.mean,
        std=format_.std,
        lineage=(*prepared.ancestors, own),
        transfer=prepared.transfer,
        environment=environment(prepared.device),
    )


def _summarize(prepared: Prepared, session: Session, final: Checkpoint, reason: str) -> Summary:
    """Scores the weights of the final checkpoint in fp32: what `ptft evaluate` will say too."""
    progress = prepared.state.progress
    prepared.classifier.load_state_dict(final.weights())
    prepared.classifier.to(memory_format=torch.contiguous_format)
    score = _scorer(prepared, "fp32", session.stop.check)
    parts: tuple[Part, ...] = ("validation", "test")
    scores = {part: score(prepared.classifier, part) for part in parts if part in prepared.task.parts}
    for part, result in scores.items():
        session.console.say(f"{part}: {result.sentence()}")
    return Summary(
        command=session.command,
        checkpoint=final,
        scores=scores,
        steps=progress.step,
        seconds=progress.seconds,
        reason=reason,
        bad_images=prepared.task.bad_images,
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
