"""The page of one run: the verdict, and what stands behind it."""

from collections import Counter
from typing import Any

from ptft.report.charts import draw_accuracy, draw_feature_map, draw_loss, draw_reliability
from ptft.report.console import duration
from ptft.report.evidence import Evidence, Shown
from ptft.report.page import (
    Block,
    Cell,
    Code,
    Fact,
    Fold,
    Gallery,
    Graph,
    Node,
    Page,
    Picture,
    Prose,
    Section,
    Table,
    count,
    percent,
)
from ptft.report.pixels import thumbnail, with_heat
from ptft.report.run_record import RunRecord

_MAX_MATRIX = 20
_MAX_OPEN_ROWS = 30
_NUM_PAIRS = 30


def page_of_run(run: RunRecord, evidence: Evidence | None, missing: str = "") -> Page:
    """Everything a run folder knows, and what a look at its images showed.

    Args:
        run: finished or not.
        evidence: None where the images or the checkpoint are not there.
        missing: why they are not, a sentence.
    """
    title = f"{run.command} {run.name}"
    sections = [*_curves(run), *_scored(run), *_pictures(run, evidence), *_history(run), _again(run)]
    scores = run.scores
    if run.summary is None:
        return Page(title, _unfinished(run), _progress(run), sections, notes=_status_notes(run))
    if scores is None:
        verdict = f"{run.summary['steps']:,} steps, no images held out to judge by"
        return Page(title, verdict, _facts(run), sections, notes=_notes(run, evidence, missing))
    verdict = f"{100 * scores['top1']:.1f} % right"
    return Page(title, verdict, _facts(run), sections, lead=_lead(run), notes=_notes(run, evidence, missing))


def interval(scores: dict[str, Any]) -> str:
    """`90.0 to 92.4 %, n = 2,000`."""
    return f"{100 * scores['top1_low']:.1f} to {100 * scores['top1_high']:.1f} %, n = {scores['num_examples']:,}"


def _lead(run: RunRecord) -> str:
    scores = run.scores or {}
    guess = most_common(scores["confusion"])
    verb = "clearly more than" if scores["top1_low"] > guess else "not clearly more than"
    return (
        f"Of {scores['num_examples']:,} {run.part} images; 95 % interval {100 * scores['top1_low']:.1f} to "
        f"{100 * scores['top1_high']:.1f} %. This is {verb} the {100 * guess:.1f} % that naming the most common class "
        "always would get right."
    )


def most_common(confusion: list[list[int]]) -> float:
    """Share of the most common true class."""
    rows = [sum(row) for row in confusion]
    return max(rows) / sum(rows)


def _facts(run: RunRecord) -> list[Fact]:
    summary, scores = run.summary or {}, run.scores
    facts = []
    if scores:
        facts += [Fact("accuracy", f"{100 * scores['top1']:.1f} %", interval(scores))]
        if "top5" in scores:
            note = f"right class among the 5 most probable, n = {scores['num_examples']:,}"
            facts.append(Fact("top 5", f"{100 * scores['top5']:.1f} %", note))
    if calibration := summary.get("calibration"):
        facts.append(Fact("calibration error", f"{100 * calibration['error']:.1f} %", _scaled(calibration)))
    facts.append(Fact("final checkpoint", f"step {summary['best_step']:,}", f"of {summary['steps']:,}"))
    facts.append(Fact("training", duration(summary["seconds"]), summary["reason"]))
    return [*facts, _trained_on(summary)]


def _trained_on(summary: dict[str, Any]) -> Fact:
    data = summary["lineage"][-1]["data"]
    return Fact("trained on", f"{data['num_examples']:,} images", f"{len(data['classes']):,} classes, {data['origin']}")


def _scaled(calibration: dict[str, Any]) -> str:
    n = f"n = {calibration['num_examples']:,}"
    return f"{100 * calibration['scaled_error']:.1f} % after temperature, {n}" if "scaled_error" in calibration else n


def _notes(run: RunRecord, evidence: Evidence | None, missing: str) -> list[str]:
    summary, notes = run.summary or {}, []
    if run.part == "validation":
        notes.append(
            "There is no test part: the accuracy is of the validation images, which also chose the checkpoint. "
            "Expect a little less on new images."
        )
    if run.scores and (absent := [row["class"] for row in run.scores["per_class"] if not row["num_examples"]]):
        notes.append(f"No {run.part} image of {_listed(absent)}: the accuracy says nothing about it.")
    if bad := summary.get("bad_images"):
        notes.append(f"{len(bad):,} images could not be read and were left out; they are listed below.")
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
    looks = [line for line in run.metrics if "validation_top1" in line]
    if not looks:
        return []
    best = max(looks, key=lambda line: line["validation_top1"])
    scores = {key.removeprefix("validation_"): value for key, value in best.items()}
    note = f"{interval(scores)}; the best look so far, at step {best['step']:,}: optimistic"
    return [Fact("validation accuracy", f"{100 * scores['top1']:.1f} %", note)]


def _curves(run: RunRecord) -> list[Section]:
    drawn = [drawing for drawing in (draw_accuracy([run]), draw_loss([run])) if drawing]
    return [Section("Learning curves", drawn)] if drawn else []


def _scored(run: RunRecord) -> list[Section]:
    summary, scores = run.summary or {}, run.scores
    if not scores:
        return []
    sections = [Section("Classes", _classes(run, scores)), Section("Confusion", _confusion(run, scores["confusion"]))]
    if calibration := summary.get("calibration"):
        sections.append(Section("Confidence", _confidence(calibration)))
    return sections


def _classes(run: RunRecord, scores: dict[str, Any]) -> list[Block]:
    columns = ["class", f"{run.part} images", "recall", "95 % interval", "precision"]
    rows = [_class_row(row) for row in scores["per_class"]]
    told = Prose(
        "Recall: of the images of a class, how many were named so. Precision: of the images named so, how many are.",
        soft=True,
    )
    if len(rows) <= _MAX_OPEN_ROWS:
        return [Table(columns, rows, "Recall and precision of each class."), told]
    worst = sorted((row for row in scores["per_class"] if row["num_examples"]), key=lambda row: row["recall"])[:10]
    return [
        Table(columns, [_class_row(row) for row in worst], "The ten classes of lowest recall."),
        Fold(f"All {len(rows):,} classes", [Table(columns, rows, "Recall and precision of each class.")]),
        told,
    ]


def _class_row(row: dict[str, Any]) -> list[str | Cell]:
    low, high = row["recall_low"], row["recall_high"]
    ends = Cell("–") if low is None else Cell(f"{100 * low:.1f} to {100 * high:.1f}", low)
    return [row["class"], count(row["num_examples"]), percent(row["recall"]), ends, percent(row["precision"])]


def _confusion(run: RunRecord, matrix: list[list[int]]) -> list[Block]:
    """The matrix, or where it would be too large to read only its worst cells."""
    classes = (run.summary or {})["classes"]
    pairs = sorted(
        ((cell, y, x) for y, row in enumerate(matrix) for x, cell in enumerate(row) if x != y and cell), reverse=True
    )
    if not pairs:
        return [Prose("Every image was named right.")]
    blocks: list[Block] = []
    if len(classes) <= _MAX_MATRIX:
        rows = [[classes[y], *_shaded(row)] for y, row in enumerate(matrix)]
        caption = "Rows are true classes, columns predicted ones; the tint is the share of the row."
        blocks.append(Table(["true", *classes], rows, caption, sortable=False, is_matrix=True))
    worst = [
        [classes[y], classes[x], count(cell), percent(cell / sum(matrix[y]))]
        for cell, y, x in pairs[: 5 if blocks else _NUM_PAIRS]
    ]
    table = Table(["true", "predicted", "images", "of the class"], worst, "The most frequent mistakes.")
    return [*blocks, table]


def _shaded(row: list[int]) -> list[Cell]:
    return [Cell(str(cell) if cell else "·", cell, cell / (sum(row) or 1)) for cell in row]


def _confidence(calibration: dict[str, Any]) -> list[Block]:
    told = (
        f"Expected calibration error {100 * calibration['error']:.1f} % on {calibration['num_examples']:,} "
        f"{calibration['part']} images: so far apart are, on average, how sure the classifier is and how often it is "
        "right (Guo et al. 2017, 15 bins)."
    )
    if "temperature" in calibration:
        temperature = calibration["temperature"]
        leaning = "too sure of itself" if temperature > 1 else "not sure enough of itself"
        told += (
            f" Dividing the logits by the temperature {temperature:.2f}, fitted on {calibration['num_validation']:,} "
            f"validation images, makes it {100 * calibration['scaled_error']:.1f} %: on those images the classifier "
            f"was {leaning}. Probabilities on this page, and those of predict, are not scaled."
        )
    return [draw_reliability(calibration), Prose(told, soft=True)]


def _pictures(run: RunRecord, evidence: Evidence | None) -> list[Section]:
    if evidence is None or run.summary is None:
        return []
    classes, sections = run.summary["classes"], []
    if evidence.mistakes:
        told = Prose("Where the classifier was surest and wrong. Wrong labels in the data are often found here.")
        shown = Gallery([thumbnail(one.image, _alt(one, classes), _named(one, classes)) for one in evidence.mistakes])
        sections.append(Section("Most confident mistakes", [told, shown]))
    sections.append(Section("Where it looked", _heat(evidence, classes)))
    if evidence.feature_map:
        drawn = draw_feature_map(evidence.feature_map, classes, _most_mistaken((run.scores or {})["confusion"]))
        sections.append(Section("Feature map", [drawn]))
    return sections


def _alt(one: Shown, classes: list[str]) -> str:
    return f"{one.name}: {classes[one.true]}, predicted {classes[one.predicted]}"


def _named(one: Shown, classes: list[str]) -> str:
    share = f"{100 * one.confidence:.1f} %" if one.confidence < 0.9995 else "> 99.9 %"
    if one.true == one.predicted:
        return f"{classes[one.true]}, right, {share}\n{one.name}"
    return f"true: {classes[one.true]}\npredicted: {classes[one.predicted]}, {share}\n{one.name}"


def _heat(evidence: Evidence, classes: list[str]) -> list[Block]:
    pictures: list[Picture] = []
    for one in evidence.heated:
        if one.heat is not None:
            alt = f"{_alt(one, classes)}; beside it the places that spoke for {classes[one.predicted]}"
            pictures.append(thumbnail(with_heat(one.image, one.heat), alt, _named(one, classes)))
    if not pictures:
        return [Prose("No Grad-CAM: the backbone has no last feature map of more than one pixel.", soft=True)]
    height, width = evidence.heated[0].heat.shape if evidence.heated[0].heat is not None else (0, 0)
    told = (
        f"Grad-CAM (Selvaraju et al. 2017): the brighter, the more a place spoke for the predicted class, as far as "
        f"the last feature map of {height} × {width} places can tell. Mistakes first, then some that are right."
    )
    return [Prose(told), Gallery(pictures)]


def _most_mistaken(matrix: list[list[int]]) -> list[int]:
    mistakes = [sum(row) - row[index] for index, row in enumerate(matrix)]
    return sorted(range(len(matrix)), key=lambda index: -mistakes[index])


def _history(run: RunRecord) -> list[Section]:
    summary = run.summary or {}
    sections = []
    if tensors := summary.get("transfer"):
        sections.append(Section("Transfer", _transfer(tensors)))
    if lineage := summary.get("lineage"):
        sections.append(Section("Lineage", [lineage_graph(lineage, summary["digest"])]))
    if bad := summary.get("bad_images"):
        sections.append(Section("Images left out", [Fold(f"{len(bad):,} images", [Code("\n".join(bad))])]))
    return sections


def _transfer(tensors: list[dict[str, str]]) -> list[Block]:
    told = Counter(tensor["outcome"] for tensor in tensors)
    counts = ", ".join(f"{number:,} {outcome}" for outcome, number in told.items())
    remarkable = [tensor for tensor in tensors if tensor["outcome"] != "loaded"]
    blocks: list[Block] = [Prose(f"Of {len(tensors):,} tensors: {counts}.")]
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
        size = f"{data['num_examples']:,} images, {len(data['classes']):,} classes"
        nodes.append(Node(f"data {index}", [data["origin"], size, f"data {data['fingerprint'][:12]}"], is_data=True))
        lines = [f"{ancestor['command']} {ancestor['model']}", f"{ancestor['steps']:,} steps"]
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
    return Section("To do it again", blocks)


def _listed(names: list[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5:,} more" if len(names) > 5 else "")
