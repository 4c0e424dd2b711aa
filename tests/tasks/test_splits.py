"""Images of several classes are divided so that every part has its share of each class."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from ptft.data.labelling import Numbers, SeveralClasses
from ptft.data.records import Record, Source
from ptft.data.sources import Csv
from ptft.data.splits import split
from ptft.errors import DataError

CLASSES = tuple("abcdefgh")


def make_source(count: int, shares: np.ndarray, seed: int = 0) -> Source:
    shown = np.random.default_rng(seed).random((count, len(shares))) < shares
    records = [
        Record(
            Path(f"{row}.png"),
            None,
            None,
            f"{row}.png",
            labels=tuple(name for name, there in zip(CLASSES, line, strict=False) if there),
        )
        for row, line in enumerate(shown)
    ]
    return Source(records, CLASSES[: len(shares)], "a made source")


def config(**keys: object) -> Csv:
    return Csv.model_validate({"name": "csv", "path": "x.csv"} | keys)


def counts(records: list[Record]) -> Counter[str]:
    return Counter(name for record in records for name in record.labels)


def test_every_class_has_its_share_in_every_part_the_rarest_too() -> None:
    source = make_source(1000, np.geomspace(0.02, 0.6, 8))
    _, parts = split(source, config(validation=0.1, test=0.2), seed=0, labelling=SeveralClasses())
    names = [record.name for records in parts.values() for record in records]
    assert sorted(names) == sorted(record.name for record in source.records)
    every, test = counts(list(source.records)), counts(parts["test"])
    for name in CLASSES:
        assert test[name] / every[name] == pytest.approx(0.2, abs=0.04), name
    rare = min(every, key=lambda name: every[name])
    assert test[rare] == round(0.2 * every[rare])


def test_the_rarest_class_has_exactly_its_share_whatever_the_others_are() -> None:
    for seed in range(12):
        source = make_source(150, np.geomspace(0.05, 0.6, 8), seed)
        _, parts = split(source, config(validation=0.1, test=0.2), seed=0, labelling=SeveralClasses())
        every = counts(list(source.records))
        rare = min(every, key=lambda name: every[name])
        assert counts(parts["test"])[rare] == round(0.2 * every[rare])


@pytest.mark.parametrize("seed", range(20))
def test_every_class_keeps_an_image_for_training_however_few_it_has(seed: int) -> None:
    source = make_source(12, np.full(8, 0.25), seed)
    there = [name for name in CLASSES if counts(list(source.records))[name]]
    source = Source(source.records, tuple(there), source.origin)
    _, parts = split(source, config(validation=0.4, test=0.4), seed=0, labelling=SeveralClasses())
    assert set(counts(parts["train"])) == set(there)


def test_the_parts_do_not_depend_on_the_order_of_the_rows_or_the_seed_of_the_run() -> None:
    source = make_source(200, np.full(4, 0.3))
    turned = Source(source.records[::-1], source.classes, source.origin)
    found = []
    for one, seed in ((source, 0), (turned, 1)):
        _, parts = split(one, config(), seed=seed, labelling=SeveralClasses())
        found.append({part: {record.name for record in records} for part, records in parts.items()})
    assert found[0] == found[1]
    _, other = split(source, config(split_seed=1), seed=0, labelling=SeveralClasses())
    assert {record.name for record in other["test"]} != found[0]["test"]


def test_a_class_that_every_or_no_training_image_has_is_refused() -> None:
    source = make_source(30, np.array([1.0, 0.5]))
    with pytest.raises(DataError, match="every training image has class 'a'"):
        split(source, config(), seed=0, labelling=SeveralClasses())
    absent = Source(source.records, ("a", "b", "never"), source.origin)
    with pytest.raises(DataError, match="no training image of class 'never'"):
        split(absent, config(), seed=0, labelling=SeveralClasses())


def test_the_images_of_a_regression_are_held_out_at_random_in_the_fractions_asked_for() -> None:
    records = [Record(Path(f"{n}.png"), None, None, f"{n}.png", targets=(float(n),)) for n in range(200)]
    _, parts = split(Source(records, ("n",), "made"), config(validation=0.1), seed=0, labelling=Numbers())
    assert [len(parts[part]) for part in ("train", "validation", "test")] == [144, 16, 40]
    mean = np.mean([record.targets[0] for record in parts["test"]])
    assert 75 < mean < 125
