"""The part of a run's page that shows images: mistakes, Grad-CAM, feature map."""

from collections.abc import Sequence

from ptft.report.charts import draw_feature_map
from ptft.report.evidence import Evidence, Shown
from ptft.report.page import Block, Gallery, Picture, Prose, Section
from ptft.report.pixels import short_name, thumbnail, with_heat
from ptft.report.run_record import RunRecord


def picture_sections(run: RunRecord, evidence: Evidence | Sequence[Section] | None) -> list[Section]:
    """None where there is no evidence; that of other tasks comes in sections."""
    if evidence is None or run.summary is None:
        return []
    if not isinstance(evidence, Evidence):
        return list(evidence)
    classes, sections = run.summary["classes"], []
    if evidence.mistakes:
        size = evidence.mistakes[0].image.shape[-1]
        told = Prose(
            "Where the classifier was surest and wrong; wrong labels in the data are often found here. Images are as "
            f"the classifier saw them, {size} × {size} pixels."
        )
        shown = Gallery([thumbnail(one.image, _alt(one, classes), _named(one, classes)) for one in evidence.mistakes])
        sections.append(Section("Mistakes", [told, shown]))
    sections.append(Section("Where it looked", _heat(evidence, classes)))
    if evidence.feature_map:
        drawn = draw_feature_map(evidence.feature_map, classes, _most_mistaken((run.scores or {})["confusion"]))
        sections.append(Section("Features", [drawn]))
    return sections


def _alt(one: Shown, classes: list[str]) -> str:
    return f"{one.name}: {classes[one.true]}, predicted {classes[one.predicted]}"


def _named(one: Shown, classes: list[str]) -> str:
    share = f"{100 * one.confidence:.1f} %" if one.confidence < 0.9995 else "> 99.9 %"
    file = short_name(one.name)
    if one.true == one.predicted:
        return f"{classes[one.true]}\nnamed so, {share}\n{file}"
    return f"{classes[one.true]}\nnamed {classes[one.predicted]}, {share}\n{file}"


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
        f"Grad-CAM (Selvaraju et al. 2017): the yellower, the more a place spoke for the predicted class, as far as "
        f"the last feature map of {height} × {width} places can tell. Mistakes first, then some that are right."
    )
    return [Prose(told), Gallery(pictures, is_wide=True)]


def _most_mistaken(matrix: list[list[int]]) -> list[int]:
    mistakes = [sum(row) - row[index] for index, row in enumerate(matrix)]
    return sorted(range(len(matrix)), key=lambda index: -mistakes[index])
