"""What follows the last step of a run: the final weights scored once, the leak check, summary and page."""

import time
from collections.abc import Mapping

import torch

from ptft import checkpoint
from ptft.allocator import release_freed_memory
from ptft.checkpoint import Checkpoint
from ptft.data.records import HELD_OUT, Part
from ptft.errors import StoppedError, StorageError
from ptft.proof.leak import LeakCheck, check_task
from ptft.report.console import duration
from ptft.report.evidence import judged
from ptft.report.page import write_page
from ptft.report.run_page import page_of_run
from ptft.report.run_record import read_run
from ptft.report.summary import Summary, write_summary
from ptft.report.task_report import report_of
from ptft.run.assembly import Prepared
from ptft.run.session import Session
from ptft.train.evaluate import Predictions, predictions_of


def conclude(prepared: Prepared, session: Session, reason: str, *, draw: bool) -> Summary:
    """Scores the final weights, once on test, and writes summary and page, as the first of many ranks.

    Args:
        prepared: the run, trained and saved.
        session: of the run.
        reason: why training ended.
        draw: whether to write the page.
    """
    folder, ranks = session.folder, session.ranks
    release_freed_memory()
    final = checkpoint.on_every_rank(
        ranks, lambda: checkpoint.read(folder.best if folder.best.exists() else folder.last)
    )
    leak = _check_leaks(prepared, session, final) if ranks.is_first else None
    predictions = _predict(prepared, session, final)
    release_freed_memory()
    summary = _summarize(prepared, session, final, predictions, leak, reason)
    if ranks.is_first:
        write_summary(folder, summary)
        if draw:
            _write_page(prepared, session, final, predictions)
        folder.write_status("done", prepared.state.progress.step, prepared.num_steps, exit_code=0, reason=reason)
    return summary


def _predict(prepared: Prepared, session: Session, final: Checkpoint) -> dict[Part, Predictions]:
    """What the weights of the final checkpoint say in fp32, as `ptft evaluate` will: test images are seen only here."""
    task = prepared.task
    prepared.classifier.load_state_dict(final.weights())
    prepared.classifier.to(memory_format=torch.contiguous_format)
    return {
        part: predictions_of(
            prepared.classifier, task.parts[part], task.format, prepared.device, session.stop.check, session.ranks
        )
        for part in HELD_OUT
        if part in task.parts
    }


def _summarize(
    prepared: Prepared,
    session: Session,
    final: Checkpoint,
    predictions: Mapping[Part, Predictions],
    leak: LeakCheck | None,
    reason: str,
) -> Summary:
    """The scores of the final weights, said on the console too."""
    progress = prepared.state.progress
    cpu = torch.device("cpu")
    scores = {part: predicted.scores(prepared.tally(cpu)) for part, predicted in predictions.items()}
    for part, result in scores.items():
        session.console.say(f"{part}: {result.sentence()}")
    return Summary(
        command=session.command,
        checkpoint=final,
        scores=scores,
        steps=progress.step,
        num_nonfinite=progress.num_nonfinite,
        seconds=progress.seconds,
        reason=reason,
        bad_images=prepared.task.bad_images,
        calibration=report_of(prepared.config.task.name).calibration(predictions),
        leak=leak,
    )


def _check_leaks(prepared: Prepared, session: Session, final: Checkpoint) -> LeakCheck | None:
    """Searches what this run and its source have seen for the test images; None without a test part."""
    task, console = prepared.task, session.console
    if "test" not in task.parts or not prepared.config.data.leak_check:
        return None
    begun = time.monotonic()
    try:
        leak = check_task(task, final.metadata.lineage, final.part("seen"), session.stop.check)
    except (ArithmeticError, MemoryError, RuntimeError, ValueError) as error:
        # Training is done and saved: a check that cannot be made must not make it a failure.
        console.say(f"ptft: the leak check could not be made: {error}")
        return None
    console.say(f"leak check: {leak.sentence()}, {duration(time.monotonic() - begun)}.")
    if leak.pairs:
        console.say(f"ptft: the test score leans on images that were trained on: {leak.names()}. See `ptft leak`.")
    return leak


def _write_page(
    prepared: Prepared, session: Session, final: Checkpoint, predictions: Mapping[Part, Predictions]
) -> None:
    """report.html. Training is done and saved: a page that cannot be made must not make it a failure."""
    folder, task = session.folder, prepared.task
    part = judged(predictions)
    try:
        evidence = part and report_of(prepared.config.task.name).gather(
            part,
            prepared.classifier,
            task.parts[part],
            predictions[part],
            final.metadata,
            prepared.device,
            session.stop.check,
        )
        release_freed_memory()
        write_page(folder.report, page_of_run(read_run(folder.path), evidence))
    except (StoppedError, StorageError):
        raise
    except Exception as error:
        session.console.say(f"ptft: {folder.report} could not be made: {error!r}")
