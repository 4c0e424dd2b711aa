"""The page of `ptft leak`: the verdict, the pairs as pictures, every number behind them."""

from collections.abc import Sequence

import numpy as np
import torch

from ptft.commands.leak import LeakReport
from ptft.proof.leak import Pair
from ptft.report.leak_sections import pair_tables
from ptft.report.measure import Measure
from ptft.report.page import Block, Code, Fact, Gallery, Page, Picture, Prose, Section, left_out
from ptft.report.pixels import thumbnail
from ptft.report.task_report import report_of
from ptft.train.metrics import TaskScores

# A page of thumbnails in the thousands is one that no phone opens.
_MAX_PICTURES = 60


def page_of_leak(report: LeakReport, command: str) -> Page:
    """What `ptft leak` found, as a page.

    Args:
        report: see `ptft.commands.leak.check_checkpoint`.
        command: as typed.
    """
    check, found = report.check, len(report.check.rows)
    verdict = (
        f"{found:,} of {check.num_test:,} test images were seen in training" if found else "No test image was seen"
    )
    return Page(
        title=f"leak {report.checkpoint}",
        verdict=verdict,
        lead=f"{report.sentence()}. Searched for: {report.data}.",
        facts=_facts(report),
        notes=[f"Not known, for want of fingerprints: what was in {', '.join(check.unknown)}."]
        if check.unknown
        else [],
        sections=[
            *_seen(report),
            *_lookalikes(report),
            *left_out(report.bad_images),
            Section("To do it again", [Code(command)]),
        ],
    )


def _facts(report: LeakReport) -> list[Fact]:
    rows = report.check.rows
    exact = len({pair.test_row for pair in report.check.pairs if pair.kind == "exact"})
    facts = [Fact("exact", f"{exact:,}", "the same pixels"), Fact("near", f"{len(rows) - exact:,}", "changed copies")]
    if report.scores:
        facts.append(_fact(report_of(report.task).measure, "on all", report.scores))
    if report.clean:
        facts.append(_fact(report_of(report.task).measure, "without those seen", report.clean))
    return facts


def _fact(measure: Measure, label: str, scores: TaskScores) -> Fact:
    found = scores.summary()
    return Fact(f"{measure.name} {label}", measure.shown(found[measure.key]), measure.interval(found))


def _seen(report: LeakReport) -> list[Section]:
    pairs = report.check.pairs
    if not pairs:
        return []
    told = "Left the test image, right what training has seen; dark where only the fingerprint travelled."
    tables = pair_tables([pair.as_dict() for pair in pairs], "Test images and what they were seen as.")
    shown = _gallery(pairs, report.pictures[: len(pairs)])
    return [Section("Seen", [Prose(told, soft=True), *shown, *tables])]


def _lookalikes(report: LeakReport) -> list[Section]:
    pairs = report.lookalikes
    if not pairs:
        return []
    told = "The closest of the other pairs by the backbone's features, to look at. They do not count as seen."
    shown = _gallery(pairs, report.pictures[len(report.check.pairs) :])
    return [Section("Lookalikes", [Prose(told), *shown, *pair_tables([one.as_dict() for one in pairs], told)])]


def _gallery(pairs: Sequence[Pair], pictures: Sequence[tuple[np.ndarray, np.ndarray | None]]) -> list[Block]:
    shown: list[Picture] = [_pair(*both) for both in zip(pairs[:_MAX_PICTURES], pictures, strict=False)]
    rest = len(pairs) - len(shown)
    more = [Prose(f"And {rest:,} more, in the table below.", soft=True)] if rest > 0 else []
    return [Gallery(shown, is_wide=True), *more]


def _pair(pair: Pair, pictures: tuple[np.ndarray, np.ndarray | None]) -> Picture:
    test, seen = pictures
    dark = np.full_like(test, 68) if seen is None else seen
    alt = f"{pair.test}; beside it {pair.seen} of {pair.data}" + ("" if seen is not None else ", not at hand")
    both = torch.cat([_channels_first(test), _channels_first(dark)], dim=2)
    return thumbnail(both, alt, f"{pair.label or pair.kind}\n{pair.test.rpartition('/')[2]}\n{pair.kind}: {pair.seen}")


def _channels_first(picture: np.ndarray) -> torch.Tensor:
    """Uint8 (H, W) or (H, W, 3) as (3, H, W)."""
    coloured = np.repeat(picture[..., None], 3, axis=2) if picture.ndim == 2 else picture
    return torch.from_numpy(np.ascontiguousarray(coloured)).permute(2, 0, 1)
