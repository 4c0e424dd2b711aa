"""`ptft report`: the page of a run made anew, or one page of several runs side by side."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ptft import checkpoint
from ptft.data.cache import CacheOptions
from ptft.errors import CheckpointError, DataError, UsageError
from ptft.inference import held_out_examples, load_classifier, task_of
from ptft.paths import real_path
from ptft.report.console import Console
from ptft.report.evidence import Evidence, judged
from ptft.report.page import Page, Section, check_page, write_page
from ptft.report.run_page import page_of_run
from ptft.report.run_record import RunRecord, read_run
from ptft.report.runs_page import page_of_runs
from ptft.report.task_report import report_of
from ptft.runtime import pick_device
from ptft.train.evaluate import predictions_of
from ptft.transfer.source import format_of


def report(paths: Sequence[Path], out: Path | None, console: Console) -> Path:
    """Writes a page and returns its path.

    Args:
        paths: run folders, at least one.
        out: the file to write; None for the run's own report.html, or for several runs ./report.html.
        console: hears what is missing from the page.

    Raises:
        UsageError: a path is no run folder, one is named twice, or the file to write is not a page of ptft.
        StorageError: a file cannot be read or written.
    """
    if repeated := _repeated(paths):
        raise UsageError(f"{repeated} is named twice.")
    runs = [read_run(path) for path in paths]
    target = out or (runs[0].folder.report if len(runs) == 1 else Path("report.html"))
    if target != runs[0].folder.report:
        check_page(target, "--out")
    write_page(target, _page(runs[0], console) if len(runs) == 1 else page_of_runs(runs))
    return target


def _repeated(paths: Sequence[Path]) -> Path | None:
    places = [real_path(path) for path in paths]
    return next((path for path, place in zip(paths, places, strict=True) if places.count(place) > 1), None)


def _page(run: RunRecord, console: Console) -> Page:
    if run.final is None or run.part is None:
        return page_of_run(run, None)
    try:
        run, evidence = _look_again(run, run.final)
    except (CheckpointError, DataError) as error:
        console.say(f"ptft: the page has no pictures of images: {error}")
        return page_of_run(run, None, missing=str(error))
    return page_of_run(run, evidence)


def _look_again(run: RunRecord, final: Path) -> tuple[RunRecord, Evidence | Sequence[Section] | None]:
    """What the end of the run saw, from its checkpoint and data; and the run with its calibration, if it had none.

    Raises:
        CheckpointError, DataError: they are not there any more, or not the same.
    """
    found = checkpoint.read(final)
    # What the cache says was said by the run; here only what is missing from the page is news.
    kept = CacheOptions().open(lambda _: None)
    examples, format_, device = held_out_examples(found, kept), format_of(found), pick_device("auto")
    classifier = load_classifier(found).to(device)
    predictions = {part: predictions_of(classifier, some, format_, device) for part, some in examples.items()}
    part = judged(predictions)
    if part is None:
        return run, None
    report = report_of(task_of(found).name)
    evidence = report.gather(part, classifier, examples[part], predictions[part], found.metadata, device)
    return replace(run, summary={"calibration": report.calibration(predictions), **(run.summary or {})}), evidence
