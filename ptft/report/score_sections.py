"""The part of a run's page that its summary's numbers make: classes, confusion, confidence."""

from typing import Any

from ptft.report.charts import draw_reliability
from ptft.report.page import Block, Cell, Fold, Prose, Section, Table, count, percent
from ptft.report.run_record import RunRecord

_MAX_MATRIX = 20
_MAX_OPEN_ROWS = 30
_NUM_PAIRS = 20


def score_sections(run: RunRecord) -> list[Section]:
    """None where nothing was held out to score on."""
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
    told = "Recall: of the images of a class, how many were named so. Precision: of the images named so, how many are."
    if len(rows) <= _MAX_OPEN_ROWS:
        return [Table(columns, rows, told)]
    worst = sorted((row for row in scores["per_class"] if row["num_examples"]), key=lambda row: row["recall"])[:10]
    return [
        Table(columns, [_class_row(row) for row in worst], f"The ten classes of lowest recall. {told}"),
        Fold(f"All {len(rows):,} classes", [Table(columns, rows, told)]),
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
    if calibration["num_examples"] < 1000:
        told += " With so few images chance alone makes it larger than it is."
    if "temperature" in calibration:
        told += (
            f" Temperature {calibration['temperature']:.2f}, fitted on {calibration['num_validation']:,} validation "
            f"images (there the classifier was {_leaning(calibration['temperature'])}), makes it "
            f"{100 * calibration['scaled_error']:.1f} %. Probabilities here, and those of predict, are not scaled."
        )
    return [draw_reliability(calibration), Prose(told, soft=True)]


def _leaning(temperature: float) -> str:
    if 0.95 < temperature < 1.05:
        return "about as sure of itself as it should be"
    return "too sure of itself" if temperature > 1 else "not sure enough of itself"
