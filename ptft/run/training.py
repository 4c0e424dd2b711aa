"""Pretraining and finetuning, from config to final checkpoint."""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from functools import partial

from torch import Tensor

from ptft import checkpoint
from ptft.allocator import release_freed_memory
from ptft.checkpoint import Ancestor, Checkpoint, DataSeen, Metadata
from ptft.config.durations import Duration
from ptft.config.load import dump
from ptft.data.records import PARTS, Part
from ptft.distributed.ranks import Ranks
from ptft.errors import UsageError
from ptft.models.classifier import Classifier
from ptft.report.console import Console, duration, silent
from ptft.report.journal import Journal, Unwritten
from ptft.report.measure import told_steps
from ptft.report.summary import Summary
from ptft.run.assembly import Prepared
from ptft.run.conclusion import conclude
from ptft.run.decisions import known
from ptft.run.drift import flat
from ptft.run.identity import Identity, newest_checkpoint
from ptft.run.interpolation import interpolate
from ptft.run.preparation import prepare_finetune, prepare_pretrain
from ptft.run.session import Session, run_in_folder
from ptft.run.soup import cook
from ptft.run_folder import RunFolder
from ptft.runtime import Precision, environment, memory_errors
from ptft.settings import FinetuneConfig, PretrainConfig
from ptft.storage import machine_errors, write_text_durably
from ptft.tracking.base import Ending, TrackedRun, numbers_of
from ptft.tracking.trackers import Trackers, tracked
from ptft.train.evaluate import evaluate
from ptft.train.loop import Plan, fit
from ptft.train.metrics import TaskScores
from ptft.train.saver import Saver
from ptft.transfer.origin import Origin
from ptft.transfer.seen import with_own


def pretrain(config: PretrainConfig, session: Session, *, read: Sequence[Part] = PARTS, draw: bool = True) -> Summary:
    """Trains on the source task from random weights.

    Args:
        config: as loaded; sizes left open are resolved from the data.
        session: with a run folder that is new, or holds a run of this config to go on with.
        read: the parts of the data to decode; without test among them the test images stay unseen.
        draw: whether to write the page.

    Raises:
        PtftError: any of `ptft.errors`.
    """
    saved = _saved(session, lambda: Identity.of(config))
    prepared = prepare_pretrain(config, session.surroundings(), saved, read)
    return _tracked(prepared, session, saved, draw)


def finetune(
    config: FinetuneConfig, source: Origin, session: Session, *, read: Sequence[Part] = PARTS, draw: bool = True
) -> Summary:
    """Starts the target task from the weights of a checkpoint.

    Args:
        config: as loaded; model, image format and sizes left open come from the source and the data.
        source: see `read_source`; not read when the run folder has a state to go on from.
        session, read, draw: as for `pretrain`.

    Raises:
        PtftError: any of `ptft.errors`; TransferError when the weights do not fit.
    """
    saved = _saved(session, lambda: Identity.of(config, source))
    prepared = prepare_finetune(config, source, session.surroundings(), saved, read)
    return _tracked(prepared, session, saved, draw)


def _saved(session: Session, identify: Callable[[], Identity]) -> Checkpoint | None:
    """The state to go on from, on every rank that which the first one finds."""

    def find() -> Checkpoint | None:
        return newest_checkpoint(session.folder, identify(), session.console)

    return checkpoint.on_every_rank(session.ranks, find)


def _tracked(prepared: Prepared, session: Session, saved: Checkpoint | None, draw: bool) -> Summary:
    """Trains, and tells the trackers of it from the beginning to the end."""
    facts = {"command": session.command, "folder": str(session.folder.path.resolve()), "data": prepared.task.origin}
    run = TrackedRun(session.folder, flat(prepared.config.model_dump(mode="json")), facts)
    with (
        tracked(
            prepared.config.tracking if session.ranks.is_first else (),
            run,
            is_new=saved is None,
            say=session.console.say,
        ) as trackers,
        machine_errors(),
        memory_errors(),
    ):
        summary = _train(prepared, session, saved, draw, trackers)
        trackers.end(_ending(summary))
    return summary


def _ending(summary: Summary) -> Ending:
    scores = {
        f"final_{part}_{key}": value
        for part, result in summary.scores.items()
        for key, value in numbers_of(result.summary()).items()
    }
    facts = {"checkpoint": str(summary.checkpoint.path.resolve()), "digest": summary.checkpoint.digest}
    return Ending("done", 0, summary.reason, scores, facts)


def _train(prepared: Prepared, session: Session, saved: Checkpoint | None, draw: bool, trackers: Trackers) -> Summary:
    """Trains; then scores the final weights, once on test, and writes summary and page, as the first of many ranks."""
    folder, console, state, plan = session.folder, session.console, prepared.state, _plan(prepared)
    ranks = session.ranks
    seen = _seen(prepared, saved, session)
    if saved:
        _check_length(saved, prepared.num_steps)
        state.restore(saved.tensors, saved.metadata.progress)
        console.say(f"resumed at step {state.progress.step:,} of {prepared.num_steps:,} from {saved.path}.")
        _tell_length(saved, prepared, plan, console)
    ranks.copy_first(state.tensors())
    release_freed_memory()  # what steps were measured in
    if ranks.is_first:
        # The status first: a finished run that goes on is no longer finished when its config says so.
        folder.write_status("running", state.progress.step, prepared.num_steps)
        write_text_durably(folder.config, dump(prepared.config, header=session.command))
    _tell_warmup(prepared, plan, console)
    score = _scorer(prepared, prepared.stepper.precision, session)
    validate = (lambda model: score(model, "validation")) if "validation" in prepared.task.parts else None
    per_epoch = 1.0 if prepared.is_solved else len(prepared.task.train) / prepared.batch_size
    started = time.monotonic()
    with (
        console.bar(prepared.num_steps, state.progress.step) as bar,
        closing(
            Journal(folder, state.progress, per_epoch, bar, trackers) if ranks.is_first else Unwritten()
        ) as journal,
    ):
        reason = fit(
            state,
            prepared.stepper,
            prepared.batches,
            plan,
            evaluate=validate,
            journal=journal,
            saver=Saver(folder, _metadata(prepared, ranks), prepared.config.checkpoint.keep, seen, ranks),
            check_stop=session.agreement.check,
            clock=session.agreement.clock,
        )
    _tell_waiting(prepared, time.monotonic() - started, console)
    interpolate(prepared, folder, validate, console, ranks)
    cook(
        prepared,
        folder,
        partial(_run_ingredient, session),
        lambda: score(prepared.classifier, "validation"),
        console,
        session.stop.check,
    )
    return conclude(prepared, session, reason, draw=draw)


def _tell_waiting(prepared: Prepared, seconds: float, console: Console) -> None:
    """Which share of the training was not training."""
    share = prepared.batches.seconds / max(seconds, 1e-9)
    console.say(f"trained for {duration(seconds)}, {100 * share:.1f} % of it waiting for batches.")


def _run_ingredient(session: Session, config: FinetuneConfig, folder: RunFolder) -> None:
    """Finetunes with another seed, in a folder of its own; test images stay unseen."""
    source = config.transfer.from_
    if source is None:
        raise ValueError("the config is not resolved")

    def work(own: FinetuneConfig, inner: Session) -> Summary:
        inner.stop.folder = session.folder.path  # it is the run itself that a signal stops and --resume goes on with
        return finetune(own, source, inner, read=("train", "validation"), draw=False)

    with silent() as console:
        run_in_folder(
            folder,
            config,
            work,
            source=source,
            resume=True,
            console=console,
            command=session.command,
            stop=session.stop,
            cache=session.cache,
        )


def _seen(prepared: Prepared, saved: Checkpoint | None, session: Session) -> Mapping[str, Tensor]:
    """Fingerprints for the checkpoints. Of images that are decoded later they cost a pass, told before it begins."""
    inherited, data = saved.part("seen") if saved else prepared.inherited.seen, prepared.config.data
    if data.decodes_later and not data.leak_check:
        return inherited
    if data.decodes_later and not saved:
        count = len(prepared.task.train)
        session.console.say(
            f"leak check: one pass over {count:,} training images before the first step; data.leak_check: false goes "
            "without."
        )
    return with_own(prepared.task, inherited, session.stop.check, session.cache.open(session.console.say))


def _scorer(prepared: Prepared, precision: Precision, session: Session) -> Callable[[Classifier, Part], TaskScores]:
    """A function that scores a classifier on a part."""
    task, device = prepared.task, prepared.device

    def score(classifier: Classifier, part: Part) -> TaskScores:
        examples, tally = task.parts[part], prepared.tally(device)
        return evaluate(classifier, examples, task.format, tally, device, precision, session.stop.check, session.ranks)

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
        peak_lr=0.0 if prepared.is_solved else known(config.optim.lr),
        schedule=config.schedule.build(num_steps, num_examples, batch_size),
        patience=config.train.patience,
        on_nonfinite=config.train.on_nonfinite,
        max_nonfinite=config.train.max_nonfinite,
        max_seconds=None if config.train.max_minutes is None else 60 * config.train.max_minutes,
    )


def _check_length(saved: Checkpoint, num_steps: int) -> None:
    if num_steps < saved.metadata.step:
        raise UsageError(
            f"train: {num_steps:,} steps are fewer than the {saved.metadata.step:,} that are done. Give at least as "
            "many, or start a new run with --out."
        )


def _tell_warmup(prepared: Prepared, plan: Plan, console: Console) -> None:
    """A warmup that is all there is of a run."""
    if not prepared.is_solved and 0 < plan.num_steps <= plan.schedule.warmup_steps:
        console.say(
            f"ptft: schedule.warmup takes all of the run ({told_steps(plan.num_steps)}): the learning rate only rises. "
            "Make it shorter, or the run longer."
        )


def _tell_length(saved: Checkpoint, prepared: Prepared, plan: Plan, console: Console) -> None:
    """What another length does to the learning rate, for a run that goes on with one."""
    step, before = saved.metadata.step, saved.metadata.num_steps
    if not step or before == plan.num_steps:
        return
    config = prepared.config
    old = config.schedule.build(before, len(prepared.task.train), prepared.batch_size)
    lr = plan.peak_lr * prepared.state.progress.lr_factor
    console.say(
        f"{plan.num_steps:,} steps instead of {before:,}: from step {step:,} on the learning rate follows the "
        f"{config.schedule.name} schedule of the new length; it was {lr * old.factor(step - 1):.3g}, it is "
        f"{lr * plan.schedule.factor(step):.3g}. The weights will not be those of a run that had this length at once."
    )


def _metadata(prepared: Prepared, ranks: Ranks) -> Metadata:
    task, format_ = prepared.task, prepared.task.format
    seen = DataSeen(
        origin=task.origin,
        fingerprint=task.fingerprint,
        listing=task.listing,
        held_out=task.held_out,
        num_examples=len(task.train),
        classes=task.classes,
    )
    own = Ancestor(
        command=prepared.command,
        digest=None,
        data=seen,
        model=prepared.model.name,
        steps=0,
        task=prepared.config.task.name,
    )
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
        num_views=format_.num_views,
        target_mean=task.scale.mean if task.scale else (),
        target_std=task.scale.std if task.scale else (),
        lineage=(*prepared.inherited.ancestors, own),
        transfer=prepared.inherited.transfer,
        start=prepared.inherited.start,
        environment=environment(prepared.device) | {"world_size": ranks.world_size},
    )
