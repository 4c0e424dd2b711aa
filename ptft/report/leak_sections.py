"""The part of a page that tells which test images were seen in training."""

from collections.abc import Mapping, Sequence
from typing import Any

from ptft.report.page import Block, Cell, Fold, Prose, Section, Table

_MAX_OPEN_ROWS = 20
_COLUMNS = ("test image", "kind", "distance", "class", "seen as", "in")


def leak_sections(leak: Mapping[str, Any] | None) -> list[Section]:
    """What a search for the test images found; none where nobody searched.

    Args:
        leak: as in summary.json.
    """
    if leak is None:
        return []
    pairs, unknown = leak["pairs"], leak["unknown"]
    told = f"{leak['num_seen']:,} of {leak['num_test']:,} test images were seen in training, exactly or nearly: as "
    told += "mirrored, compressed, slightly cropped, lighter or darker copies."
    if unknown:
        told += f" Not known, for want of fingerprints: {', '.join(unknown)}."
    blocks: list[Block] = [Prose(told)]
    return [
        Section("Is the test set clean?", [*blocks, *pair_tables(pairs, "Test images and what they were seen as.")])
    ]


def pair_tables(pairs: Sequence[Mapping[str, Any]], caption: str) -> list[Block]:
    """The pairs as a table, of many the first ones openly; nothing for none."""
    if not pairs:
        return []
    rows = [_row(pair) for pair in pairs]
    shown: list[Block] = [Table(_COLUMNS, rows[:_MAX_OPEN_ROWS], caption)]
    more = [Fold(f"All {len(rows):,}", [Table(_COLUMNS, rows, caption)])] if len(rows) > _MAX_OPEN_ROWS else []
    return [*shown, *more]


def _row(pair: Mapping[str, Any]) -> list[str | Cell]:
    distance = Cell(f"{pair['distance']:.5f}", pair["distance"])
    return [pair["test"], pair["kind"], distance, pair["label"] or "–", pair["seen"], pair["data"]]
