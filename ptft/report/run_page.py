"""The page of one run: the verdict, and what stands behind it."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from ptft.report.charts import draw_loss, draw_measure
from ptft.report.console import duration
from ptft.report.evidence import Evidence
from ptft.report.leak_sections import leak_sections
from ptft.report.measure import told_averages, told_steps
from ptft.report.page import Block, Code, Fact, Fold, Graph, Node, Page, Prose, Section, Table, left_out
from ptft.report.picture_sections import picture_sections
from ptft.report.run_record import RunRecord
from ptft.report.task_report import report_of

_MAX_OPEN_ROWS = 30


def page_of_run(run: RunRecord, evidence: Evidence | Sequence[Section] | None, missing: str = "") -> Page:
    """Everything a run folder knows, and what a look at its images showed.

    Args:
        run: finished or not.
        evidence: None where the images or the checkpoint are not there.
        missing: why they are not, a sentence.
    """
    title, report = f"{run.command} {run.name}", report_of(run.task)
    sections = [
        *_curves(run),
        *(report.sections(run) if run.scores else []),
        *picture_sections(run, evidence),
        *leak_sections((run.summary or {}).get("leak")),
        *_history(run),
        _again(run),
    ]
    scores = run.scores
    if run.summary is None:
        return Page(title, _unfinished(run), _progress(run), sections, notes=_status_notes(run))
    if scores is None:
        verdict = f"{told_steps(run.summary['steps'])}, no images held out to judge by"
        return Page(title, verdict, _facts(run), sections, notes=_notes(run, evidence, missing))
    notes = _notes(run, evidence, missing)
    return Page(title, report.verdict(scores), _facts(run), sections, lead=report.lead(run), notes=notes)


def _facts(run: RunRecord) -> list[Fact]:
    summary = run.summary or {}
    return [
        *report_of(run.task).facts(run),
        Fact("final checkpoint", f"step {summary['best_step']:,}", f"of {summary['steps']:,}{told_averages(summary)}"),
        Fact("training", duration(summary["seconds"]), summary["reason"]),
        _trained_on(run, summary),
    ]


def _trained_on(run: RunRecord, summary: dict[str, Any]) -> Fact:
    data = summary["lineage"][-1]["data"]
    outputs = report_of(run.task).measure.outputs(len(data["classes"]))
    return Fact("training images", f"{data['num_examples']:,}", f"{outputs}, {data['origin']}")


def _notes(run: RunRecord, evidence: Evidence | Sequence[Section] | None, missing: str) -> list[str]:
    summary, notes, report = run.summary or {}, [], report_of(run.task)
    if run.part == "validation":
        notes.append(
            f"There is no test part: the {report.measure.name} is of the validation images, which also chose the "
            "checkpoint. Expect a little less on new images."
        )
    if run.scores:
        notes += report.notes(run)
    if (num_views := summary.get("num_views", 1)) > 1:
        notes.append(
            f"Each image was judged by {num_views} views of it, mirrored ones among them; a picture of what the "
            "network looks at is of the image as it is."
        )
    if seen := (summary.get("leak") or {}).get("num_seen"):
        were = "1 test image was" if seen == 1 else f"{seen:,} test images were"
        notes.append(f"{were} seen in training: the {report.measure.name} leans on that; see below, and `ptft leak`.")
    if bad := summary.get("bad_images"):
        left_out = (
            "1 image could not be read and was" if len(bad) == 1 else f"{len(bad):,} images could not be read and were"
        )
        notes.append(f"{left_out} left out; see below.")
    if evidence is None and run.scores:
        notes.append(f"No pictures of images, Grad-CAM and feature map. {missing}".strip())
    return notes


def _unfinished(run: RunRecord) -> str:
    step, steps = run.status.get("step", 0), run.status.get("num_steps", 0)
    state = {"failed": "Failed", "stopped": "Stopped"}.get(run.status.get("state", ""), "Not finished")
    return f"{state} at step {step:,} of {steps:,}" if steps else f"{state} before the first step"


def _status_notes(run: RunRecord) -> list[str]:
    reason = run.status.get("reason")
    return [str(reason)] if reason else ["This run has no summary yet: it is running, or it was killed."]


def _progress(run: RunRecord) -> list[Fact]:
    measure = report_of(run.task).measure
    key = f"validation_{measure.key}"
    looks = [line for line in run.metrics if line.get(key) is not None]
    if not looks:
        return []
    best = max(looks, key=lambda line: line[key])
    scores = {key.removeprefix("validation_"): value for key, value in best.items()}
    note = f"{measure.interval(scores)}; the best look so far, at step {best['step']:,}: optimistic"
    return [Fact(f"validation {measure.name}", measure.shown(scores[measure.key]), note)]


def _curves(run: RunRecord) -> list[Section]:
    measure = report_of(run.task).measure
    drawn = [drawing for drawing in (draw_measure([run], measure), draw_loss([run], measure)) if drawing]
    return [Section("Learning curves", drawn)] if drawn else []


def _history(run: RunRecord) -> list[Section]:
    summary = run.summary or {}
    sections = []
    if tensors := summary.get("transfer"):
        sections.append(Section("Transfer", _transfer(tensors, summary.get("start", ()))))
    if lineage := summary.get("lineage"):
        sections.append(Section("Lineage", [lineage_graph(lineage, summary["digest"])]))
    return [*sections, *left_out(summary.get("bad_images", ()))]


def _transfer(tensors: list[dict[str, str]], start: Sequence[str]) -> list[Block]:
    told = Counter(tensor["outcome"] for tensor in tensors)
    counts = ", ".join(f"{number:,} {outcome}" for outcome, number in told.items())
    remarkable = [tensor for tensor in tensors if tensor["outcome"] != "loaded"]
    blocks: list[Block] = [Prose(f"Of {len(tensors):,} tensors: {counts}."), *map(Prose, start)]
    if remarkable:
        blocks.append(_tensors(remarkable[:_MAX_OPEN_ROWS], "Tensors that were not loaded as they were."))
    return [*blocks, Fold("Every tensor", [_tensors(tensors, "What became of each tensor.")])]


def _tensors(tensors: list[dict[str, str]], caption: str) -> Table:
    rows = [[tensor["name"], tensor["outcome"], tensor["reason"] or "–"] for tensor in tensors]
    return Table(["tensor", "outcome", "reason"], rows, caption)


def lineage_graph(lineage: list[dict[str, Any]], digest: str) -> Graph:
    """The runs behind a checkpoint and the data they saw, oldest first."""
    nodes: list[Node] = []
    for index, ancestor in enumerate(lineage):
        data = ancestor["data"]
        outputs = report_of(ancestor.get("task", "single-label")).measure.outputs(len(data["classes"]))
        size = f"{data['num_examples']:,} images, {outputs}"
        nodes.append(Node(f"data {index}", [data["origin"], size, f"data {data['fingerprint'][:12]}"], is_data=True))
        lines = [f"{ancestor['command']} {ancestor['model']}", told_steps(ancestor["steps"])]
        lines.append(f"checkpoint {(ancestor['digest'] or digest)[:12]}")
        parents = [f"data {index}", *([f"run {index - 1}"] if index else [])]
        nodes.append(Node(f"run {index}", lines, parents))
    told = "; then ".join(f"{one['command']} of {one['model']} on {one['data']['origin']}" for one in lineage)
    return Graph(nodes, f"Lineage: {told}.")


def _again(run: RunRecord) -> Section:
    summary = run.summary or {}
    again = f"ptft {run.command} {run.folder.config} --out ANOTHER_FOLDER"
    blocks: list[Block] = []
    if "command" in summary:
        blocks += [Prose("The command, as typed:"), Code(summary["command"])]
    blocks += [Prose("The same from the run folder, whose config has every default written out:")]
    blocks += [Code(again + (" --from CHECKPOINT" if run.command == "finetune" else ""))]
    blocks += [Fold("config.yaml", [Code(run.folder.config.read_text("utf-8"))])]
    if machine := summary.get("environment"):
        rows = [[str(key), "–" if value is None else str(value)] for key, value in machine.items()]
        blocks.append(Fold("Environment", [Table(["what", "it was"], rows, "The machine and versions.")]))
    return Section("Reproduce", blocks)
