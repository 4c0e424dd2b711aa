"""One page of several runs: their curves over each other, their results and how their configs differ."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from ptft.config.wording import flatten
from ptft.config.yaml_text import one_line
from ptft.report.charts import draw_loss, draw_measure
from ptft.report.console import duration
from ptft.report.measure import Measure
from ptft.report.page import Block, Cell, Fact, Page, Prose, Section, Table, count, percent
from ptft.report.run_record import RunRecord
from ptft.report.task_report import report_of

# What decides which images a run is tested on; the rest of `data`, and the seed, only decide what it learns from.
_TESTED_ON = ("name", "root", "path", "dataset", "variant", "classes", "test", "split_seed")
_MAX_FACTS = 6


def page_of_runs(runs: Sequence[RunRecord]) -> Page:
    """The page of at least two runs, finished or not, of any tasks."""
    named = _told_apart(runs)
    kinds = {run.task for run in named}
    if len(kinds) > 1:
        return _page_of_kinds(named)
    measure = report_of(kinds.pop()).measure
    ranked = sorted((run for run in named if run.scores), key=lambda run: -_merit(run, measure))
    verdict, lead = _verdict(ranked, measure)
    return Page(
        title=f"{len(runs)} runs side by side",
        verdict=verdict,
        lead=lead,
        facts=[
            Fact(run.name, measure.shown(_scores(run)[measure.key]), measure.interval(_scores(run)))
            for run in ranked[:_MAX_FACTS]
        ],
        notes=_notes(named, measure),
        sections=[
            Section("Results", [_results(named, measure)]),
            Section("Learning curves", _curves(named, measure)),
            Section("How the configs differ", _differences(named)),
        ],
    )


def _page_of_kinds(runs: Sequence[RunRecord]) -> Page:
    """Runs that have no number in common: each with its own."""
    told = [(run, report_of(run.task).measure) for run in runs if run.scores]
    return Page(
        title=f"{len(runs)} runs side by side",
        verdict="Runs of different tasks",
        lead="They do not answer the same question: their scores cannot be compared.",
        facts=[
            Fact(run.name, f"{measure.name} {measure.shown(_scores(run)[measure.key])}", measure.interval(_scores(run)))
            for run, measure in told[:_MAX_FACTS]
        ],
        sections=[Section("How the configs differ", _differences(runs))],
    )


def _curves(runs: Sequence[RunRecord], measure: Measure) -> list[Block]:
    return [drawing for drawing in (draw_measure(runs, measure), draw_loss(runs, measure)) if drawing]


def _merit(run: RunRecord, measure: Measure) -> float:
    value = _scores(run)[measure.key]
    return float("-inf") if value is None else float(value)


def _told_apart(runs: Sequence[RunRecord]) -> list[RunRecord]:
    """Runs by the names of their folders, by their paths where two have the same name."""
    names = Counter(run.name for run in runs)
    return [replace(run, name=str(run.folder.path)) if names[run.name] > 1 else run for run in runs]


def _scores(run: RunRecord) -> dict[str, Any]:
    return run.scores or {}


def _verdict(ranked: Sequence[RunRecord], measure: Measure) -> tuple[str, str]:
    """Which run is ahead, as far as intervals tell; and the sentence below."""
    if not ranked:
        return "No run has a result yet", ""
    if len({_tested_on(run) for run in ranked}) > 1:
        return (
            "Runs of different tasks",
            f"They were not tested on the same images: their {measure.plural} cannot be compared.",
        )
    first, *others = ranked
    told = f"{first.name} has {measure.shown(_scores(first)[measure.key])} ({measure.interval(_scores(first))})"
    level = [run for run in others if _reaches(run, first, measure)]
    if not others:
        return "One run has a result", f"{told}."
    if not level:
        return f"{first.name} is ahead", f"{told}; the intervals of all others lie below."
    return (
        "No run is clearly ahead",
        f"{told}, but the intervals of {len(level)} of {len(others)} others reach into its own.",
    )


def _reaches(run: RunRecord, first: RunRecord, measure: Measure) -> bool:
    """Whether the interval of one run reaches into that of the first, as far as both are known."""
    high, low = _scores(run)[f"{measure.key}_high"], _scores(first)[f"{measure.key}_low"]
    return high is None or low is None or high >= low


def _tested_on(run: RunRecord) -> str:
    data = run.config.get("data", {})
    return repr((run.part, _scores(run)["num_examples"], [data.get(key) for key in _TESTED_ON]))


def _notes(runs: Sequence[RunRecord], measure: Measure) -> list[str]:
    notes = []
    if unfinished := [run.name for run in runs if run.summary is None]:
        notes.append(f"Not finished: {', '.join(unfinished)}.")
    if any(run.part == "validation" for run in runs):
        notes.append(
            f"Where there is no test part, the {measure.name} is of the validation images, which also chose the "
            "checkpoint: optimistic."
        )
    return [
        *notes,
        "Each interval is of one run alone, and the highest of many runs looks better than it is. For a verdict, "
        "repeat runs over seeds and compare them pair by pair.",
    ]


def _results(runs: Sequence[RunRecord], measure: Measure) -> Table:
    columns = [
        "run",
        measure.name,
        "95 % interval",
        "n",
        "part",
        "guessing",
        "calibration error",
        "steps",
        "time",
    ]
    return Table(
        columns,
        [_result(run, measure) for run in runs],
        f"Results of the final checkpoints. Guessing: {measure.guessing}.",
    )


def _result(run: RunRecord, measure: Measure) -> list[str | Cell]:
    summary, scores = run.summary or {}, run.scores
    steps = count(summary.get("steps", run.status.get("step", 0)))
    if scores is None:
        state = "no images held out" if summary else run.status.get("state", "not finished")
        return [run.name, *(Cell("–") for _ in range(3)), str(state), Cell("–"), Cell("–"), steps, Cell("–")]
    return [
        run.name,
        Cell(measure.shown(scores[measure.key]), scores[measure.key]),
        Cell(measure.ends(scores).removesuffix(" %"), scores[f"{measure.key}_low"]),
        count(scores["num_examples"]),
        str(run.part),
        _guess(run, measure),
        percent((summary.get("calibration") or {}).get("error")),
        steps,
        Cell(duration(summary["seconds"]), summary["seconds"]),
    ]


def _guess(run: RunRecord, measure: Measure) -> Cell:
    value = report_of(run.task).guess(run.scores or {})
    return Cell(measure.shown(value), value)


def _differences(runs: Sequence[RunRecord]) -> list[Block]:
    """A row for each key that is not the same in all runs."""
    flat = [flatten(run.config) | {"command": run.command} for run in runs]
    keys = list(dict.fromkeys(key for config in flat for key in config))
    rows = [
        [key, *(_value(config, key) for config in flat)]
        for key in ["command", *(key for key in keys if key not in ("command", "out"))]
        if len({_value(config, key) for config in flat}) > 1
    ]
    if not rows:
        return [Prose("They have the same config.")]
    return [Table(["key", *(run.name for run in runs)], rows, "Keys that differ; all others are the same.")]


def _value(config: dict[str, Any], key: str) -> str:
    return one_line(config[key]) if key in config else "–"
