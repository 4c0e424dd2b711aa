"""Train, validation and test are disjoint, stratified, and stay what they are when anything else changes."""

import hashlib
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from making import COLOURS, make_images

from ptft.data.records import PARTS, Part, Record, Source
from ptft.data.sources import EmbeddedFashionMnist, Folder
from ptft.data.splits import Parts, split, subset
from ptft.errors import DataError


def make_source(counts: dict[str, int]) -> Source:
    records = [
        Record(Path(f"{label}/{index}.png"), label, None, f"{label}/{index}.png")
        for label, count in counts.items()
        for index in range(count)
    ]
    return Source(records, tuple(counts), "a made source")


def config(**keys: object) -> Folder:
    return Folder.model_validate({"name": "folder", "root": "x"} | keys)


def names(parts: Parts) -> dict[str, set[str]]:
    return {part: {record.name for record in records} for part, records in parts.items()}


BUG = Record(Path("bug/0.png"), "bug", None, "bug/0.png")
COUNTS = {"ant": 40, "bee": 100, "no": 10}


def test_the_parts_are_disjoint_cover_everything_and_are_stratified() -> None:
    _, parts = split(make_source(COUNTS), config(), seed=0)
    found = names(parts)
    assert sum(len(part) for part in found.values()) == 150 == len(set().union(*found.values()))
    for label, count in COUNTS.items():
        sizes = {part: sum(name.startswith(f"{label}/") for name in found[part]) for part in PARTS}
        assert sizes == {"test": count // 5, "validation": round(0.8 * count * 0.1), "train": sizes["train"]}


def test_who_is_held_out_is_decided_by_a_hash_that_stays_what_it_is() -> None:
    """Another one would move test images of a checkpoint's own data into the training of what goes on from it."""

    def first(names: set[str], fraction: float, *key: str) -> set[str]:
        digests = {hashlib.blake2b("\0".join((*key, name)).encode(), digest_size=8).digest(): name for name in names}
        return {digests[digest] for digest in sorted(digests)[: round(fraction * len(names))]}

    source = make_source({"bee": 50})
    rest = {record.name for record in source.records}
    expected = {"test": first(rest, 0.2, "split", "3")}
    rest -= expected["test"]
    expected["validation"] = first(rest, 0.1, "split", "3", "validation")
    expected["train"] = rest - expected["validation"]
    _, parts = split(
        replace(source, classes=("bee", "bug"), records=[*source.records, BUG]), config(split_seed=3), seed=0
    )
    assert {part: found - {BUG.name} for part, found in names(parts).items()} == expected


def test_the_runs_seed_does_not_move_images_between_parts_but_split_seed_does() -> None:
    first, second = (names(split(make_source(COUNTS), config(), seed=seed)[1]) for seed in (0, 1))
    assert first == second
    assert names(split(make_source(COUNTS), config(split_seed=1), seed=0)[1]) != first


def test_choosing_classes_or_adding_images_moves_no_test_image_into_training() -> None:
    whole = names(split(make_source(COUNTS), config(), seed=0)[1])
    fewer = names(split(make_source(COUNTS), config(classes=["no", "bee"]), seed=0)[1])
    assert fewer["test"] == {name for name in whole["test"] if not name.startswith("ant")}
    assert fewer["train"] == {name for name in whole["train"] if not name.startswith("ant")}


def test_validation_per_class_is_the_same_for_every_draw_of_labels_and_these_stay_nested() -> None:
    def few(count: int | None, seed: int) -> dict[str, set[str]]:
        data = config(labels_per_class=count, validation_per_class=2)
        return names(split(make_source(COUNTS), data, seed=seed)[1])

    whole, five = few(None, 0), few(5, 0)
    assert len(whole["validation"]) == 6
    assert whole["validation"] == five["validation"] == few(3, 1)["validation"]
    assert few(3, 0)["train"] < five["train"] < whole["train"]
    assert five["train"] != few(5, 1)["train"]
    assert not five["validation"] & (five["train"] | five["test"])


def test_without_it_the_validation_images_depend_on_the_draw() -> None:
    drawn = [names(split(make_source(COUNTS), config(labels_per_class=8), seed=seed)[1]) for seed in (0, 1)]
    assert drawn[0]["validation"] != drawn[1]["validation"]


def test_too_many_validation_images_of_a_class_are_refused() -> None:
    with pytest.raises(DataError, match=r"data.validation_per_class: class 'no' has only 8 training images"):
        split(make_source(COUNTS), config(validation_per_class=9), seed=0)
    with pytest.raises(
        DataError, match="'no' has only 8 training images, 8 were asked for, which leaves none to train"
    ):
        split(make_source(COUNTS), config(validation_per_class=8), seed=0)


def test_few_shot_subsets_are_nested_seeded_and_share_the_test_part() -> None:
    def few(count: int, seed: int) -> dict[str, set[str]]:
        return names(split(make_source(COUNTS), config(labels_per_class=count, validation=0.0), seed=seed)[1])

    assert len(few(3, 0)["train"]) == 9
    assert few(3, 0)["train"] < few(7, 0)["train"]
    assert few(3, 0)["train"] != few(3, 1)["train"]
    assert few(3, 0)["test"] == few(7, 1)["test"]


def test_validation_is_taken_out_of_the_few_labels_not_added_to_them() -> None:
    _, parts = split(make_source(COUNTS), config(labels_per_class=5, validation=0.2), seed=0)
    assert (len(parts["train"]), len(parts["validation"])) == (12, 3)


def test_classes_keep_the_order_in_which_they_are_named() -> None:
    classes, _ = split(make_source(COUNTS), config(classes=["no", "ant"]), seed=0)
    assert classes == ("no", "ant")


def test_a_sources_own_parts_are_kept(tmp_path: Path) -> None:
    for part in ("train", "val", "test"):
        make_images(tmp_path / part, COLOURS, 5)
    folder = Folder(name="folder", root=str(tmp_path))
    _, parts = split(folder.open(), folder, seed=0)
    assert {part: len(records) for part, records in parts.items()} == {"train": 15, "validation": 15, "test": 15}
    assert all(record.name.startswith("test/") for record in parts["test"])


def with_parts(source: Source, parts: tuple[Part | None, ...]) -> Source:
    """The source with its records in these parts in turn."""
    records = [replace(record, part=parts[row % len(parts)]) for row, record in enumerate(source.records)]
    return Source(records, source.classes, source.origin)


@pytest.mark.parametrize(
    "parts", [("train",), ("train", None), ("train", "train", "validation"), (None, None, "validation")]
)
def test_where_a_source_has_any_part_of_its_own_no_test_part_is_taken_out_of_training(
    parts: tuple[Part | None, ...],
) -> None:
    source = with_parts(make_source(COUNTS), parts)
    found = split(source, config(), seed=0)[1]
    assert found["test"] == []
    assert len(found["train"]) + len(found["validation"]) == 150


def test_validation_images_of_the_sources_own_stay_whatever_the_config_asks_for() -> None:
    source = with_parts(make_source(COUNTS), ("train", "train", "validation"))
    own = {record.name for record in source.records if record.part == "validation"}
    for keys in ({"validation": 0.5}, {"validation_per_class": 1}):
        found = names(split(source, config(**keys), seed=0)[1])
        assert found["validation"] == own
        assert len(found["train"]) == 100


def test_a_validation_folder_with_other_class_order_and_number_is_matched_by_name(tmp_path: Path) -> None:
    make_images(tmp_path / "train", COLOURS, 5)
    make_images(tmp_path / "val", {"red": COLOURS["red"], "green": COLOURS["green"]}, 3)
    folder = Folder(name="folder", root=str(tmp_path))
    classes, parts = split(folder.open(), folder, seed=0)
    assert classes == ("blue", "green", "red")
    assert {record.label for record in parts["validation"]} == {"green", "red"}


def test_a_class_unknown_to_train_is_an_error_that_lists_it(tmp_path: Path) -> None:
    make_images(tmp_path / "train", COLOURS, 5)
    make_images(tmp_path / "val", COLOURS | {"wasp": (9, 9, 9)}, 3)
    folder = Folder(name="folder", root=str(tmp_path))
    with pytest.raises(DataError, match="'wasp' is in validation or test but not in train"):
        split(folder.open(), folder, seed=0)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"classes": ["ant", "wasp"]}, "has no class 'wasp'. It has 'ant', 'bee', 'no'"),
        ({"labels_per_class": 30}, "class 'no' has only 8 training images, 30 were asked for"),
    ],
)
def test_what_cannot_be_split_is_told(keys: dict[str, object], message: str) -> None:
    with pytest.raises(DataError, match=message):
        split(make_source(COUNTS), config(**keys), seed=0)


def test_the_embedded_set_has_its_ten_classes_of_a_thousand() -> None:
    embedded = EmbeddedFashionMnist(name="fashion-mnist-10k", validation=0.0)
    classes, parts = split(embedded.open(), embedded, seed=0)
    assert len(classes) == 10
    assert (len(parts["train"]), len(parts["test"])) == (8000, 2000)


def test_a_subset_keeps_the_proportions_of_the_classes_and_two_of_the_smallest() -> None:
    records = list(make_source({"a": 600, "b": 300, "c": 3}).records)
    found = subset(records, 90, seed=0)
    assert Counter(record.label for record in found) == {"a": 59, "b": 29, "c": 2}
    assert found == [record for record in records if record.name in {one.name for one in found}]
    assert subset(records, 90, seed=0) == found != subset(records, 90, seed=1)
    assert subset(records[:50], 90, seed=0) == records[:50]
