"""Class folders as users have them: with parts, links, debris, odd names; and one sentence per mistake."""

import os
import re
from pathlib import Path

import pytest
from PIL import Image

from ptft.data.records import Part
from ptft.data.sources.folder import Folder, open_parts
from ptft.data.sources.listing import printable, some
from ptft.errors import DataError


def put(root: Path, *names: str) -> None:
    """Tiny images at the paths below root; names ending in / become empty folders."""
    for name in names:
        path = root / name
        if name.endswith("/"):
            path.mkdir(parents=True)
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (2, 2)).save(path, "PNG")


def names(root: Path) -> list[str]:
    return [record.name for record in Folder(root=str(root)).open().records]


class TestLayouts:
    def test_each_folder_is_a_class_without_part_folders(self, tmp_path: Path) -> None:
        put(tmp_path, "dog/b.png", "dog/a.jpg", "cat/c.PNG")
        source = Folder(root=str(tmp_path)).open()
        assert source.classes == ("cat", "dog")
        assert [(r.name, r.label, r.part) for r in source.records] == [
            ("cat/c.PNG", "cat", None),
            ("dog/a.jpg", "dog", None),
            ("dog/b.png", "dog", None),
        ]
        assert source.records[0].image == tmp_path / "cat/c.PNG"
        assert source.origin == f"folder {tmp_path}"

    @pytest.mark.parametrize(
        ("train", "val", "test"),
        [("train", "val", "test"), ("Training", "VALID", "Testing"), ("TRAIN", "validation", "test")],
    )
    def test_part_folders_have_many_spellings(self, tmp_path: Path, train: str, val: str, test: str) -> None:
        put(tmp_path, *(f"{part}/{label}/1.png" for part in (train, val, test) for label in "ab"))
        records = Folder(root=str(tmp_path)).open().records
        parts = {record.name.split("/")[0]: record.part for record in records}
        assert parts == {train: "train", val: "validation", test: "test"}

    def test_only_part_folders_count_beside_train(self, tmp_path: Path) -> None:
        put(tmp_path, "train/a/1.png", "train/b/1.png", "extra/c/1.png")
        assert names(tmp_path) == ["train/a/1.png", "train/b/1.png"]

    def test_classes_come_from_train_and_other_records_are_kept(self, tmp_path: Path) -> None:
        put(tmp_path, "train/a/1.png", "train/b/1.png", "test/c/1.png")
        source = Folder(root=str(tmp_path)).open()
        assert source.classes == ("a", "b")
        assert [(r.label, r.part) for r in source.records if r.part == "test"] == [("c", "test")]

    def test_images_are_found_at_any_depth(self, tmp_path: Path) -> None:
        put(tmp_path, "a/z.png", "a/deep/er/1.png", "b/1.png")
        assert names(tmp_path) == ["a/deep/er/1.png", "a/z.png", "b/1.png"]

    def test_debris_is_ignored(self, tmp_path: Path) -> None:
        put(tmp_path, "a/1.png", "b/1.png", "__MACOSX/a/1.png", ".cache/a/1.png", "a/.ipynb_checkpoints/1.png")
        put(tmp_path, "a/._1.png", "a/__MACOSX/2.png", "stray.png")
        for name in ("a/Thumbs.db", "a/notes.txt", "a/png", "a/.png"):
            (tmp_path / name).write_text("x")
        os.mkfifo(tmp_path / "a/pipe.png")
        assert names(tmp_path) == ["a/1.png", "b/1.png"]

    def test_files_that_are_not_named_as_images_are_told(self, tmp_path: Path) -> None:
        put(tmp_path, "train/a/1.png", "train/b/1.png", "train/a/2.HEIC", "train/a/deep/3.heic", "val/b/4", "notes.txt")
        expected = "not read, as their names do not end like those of images: 2 .heic, 1 without an ending."
        (tmp_path / "train/a/desktop.ini").write_text("x")
        put(tmp_path, "val/b/5.png")
        assert Folder(root=str(tmp_path)).open().passed_over == expected
        assert open_parts(str(tmp_path / "val")).passed_over.endswith(": 1 without an ending.")
        put(tmp_path, "plain/a/1.png", "plain/b/1.png")
        assert Folder(root=str(tmp_path / "plain")).open().passed_over == ""

    @pytest.mark.parametrize(
        "ending", ["jpeg", "JPG", "bmp", "gif", "webp", "tif", "tiff", "ppm", "pgm", "jp2", "avif"]
    )
    def test_endings_of_image_formats_count(self, tmp_path: Path, ending: str) -> None:
        put(tmp_path, f"a/1.{ending}", "b/1.png")
        assert names(tmp_path) == [f"a/1.{ending}", "b/1.png"]

    def test_home_folder_is_expanded(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("HOME", str(tmp_path))
        put(tmp_path, "set/a/1.png", "set/b/1.png")
        assert len(Folder(root="~/set").open().records) == 2


class TestLinks:
    def test_links_to_images_and_folders_are_followed(self, tmp_path: Path) -> None:
        put(tmp_path, "store/1.png", "set/a/1.png")
        (tmp_path / "set/a/2.png").symlink_to(tmp_path / "store/1.png")
        (tmp_path / "set/b").symlink_to(tmp_path / "store")
        assert names(tmp_path / "set") == ["a/1.png", "a/2.png", "b/1.png"]

    def test_loops_end(self, tmp_path: Path) -> None:
        put(tmp_path, "a/1.png", "b/1.png")
        (tmp_path / "a/again").symlink_to(tmp_path / "a")
        (tmp_path / "b/up").symlink_to(tmp_path / "b" / "..", target_is_directory=True)
        (tmp_path / "b/self").symlink_to("self")
        found = names(tmp_path)
        assert found.count("a/1.png") == 1
        assert len(found) < 10

    def test_link_to_nothing_is_an_error(self, tmp_path: Path) -> None:
        put(tmp_path, "a/1.png", "b/1.png")
        (tmp_path / "a/2.png").symlink_to("gone.png")
        with pytest.raises(DataError, match=r"a: 1 link leads to a file that does not exist: 2\.png\. Restore"):
            names(tmp_path)

    def test_a_link_to_nothing_is_left_out_like_other_bad_images(self, tmp_path: Path) -> None:
        put(tmp_path, "a/1.png", "b/1.png")
        (tmp_path / "a/2.png").symlink_to("gone.png")
        source = Folder(name="folder", root=str(tmp_path), on_bad_image="skip").open()
        assert [record.name for record in source.records] == ["a/1.png", "a/2.png", "b/1.png"]  # reading then tells it

    def test_class_folders_that_print_alike_are_not_merged(self, tmp_path: Path) -> None:
        put(tmp_path, "x\ny/1.png", "x\\ny/1.png", "c/1.png")
        with pytest.raises(DataError, match="class folders whose names print alike"):
            names(tmp_path)


class TestNames:
    def test_names_that_are_not_utf8_are_listed_and_printable(self, tmp_path: Path) -> None:
        put(tmp_path, "b/1.png")
        put(tmp_path, os.fsdecode(b"caf\xe9/\xff.png"))
        source = Folder(root=str(tmp_path)).open()
        assert source.classes == ("b", "caf\\xe9")
        assert source.records[1].name == "caf\\xe9/\\xff.png"
        "".join(record.name for record in source.records).encode()
        image = source.records[1].image
        assert isinstance(image, Path)
        assert image.exists()

    @pytest.mark.parametrize(
        ("text", "shown"),
        [
            ("größe 猫/a.png", "größe 猫/a.png"),
            ("a\\b", "a\\b"),
            ("two\nlines", "two\\nlines"),
            ("\x1b[31mred", "\\x1b[31mred"),
            ("caf\udce9", "caf\\xe9"),
            ("\ud800", "\\ud800"),
            ("cat\u202egpj.exe", "cat\\u202egpj.exe"),
            ("שלום\u200f 👩‍🌾", "שלום\u200f 👩‍🌾"),
            ("a\\\n", "a\\\\\\n"),
        ],
    )
    def test_printable_escapes_only_what_terminals_refuse(self, text: str, shown: str) -> None:
        assert printable(text) == shown
        printable(text).encode()

    def test_long_lists_are_cut(self) -> None:
        assert some("abcde") == "a, b, c, d, e"
        assert some("abcdefg") == "a, b, c, d, e and 2 more"


LAYOUT = r"ptft needs one folder per class:\n    .*/\n      cat/ .*\n[^$]*train/  cat/ dog/"
MISTAKES = {
    "empty": ([], r"ROOT: the folder holds no class folders and no images\. " + LAYOUT),
    "flat": (
        ["1.png", "2.png"],
        r"ROOT: images lie directly in this folder, without class folders\. " + LAYOUT,
    ),
    "flat train": (
        ["train/1.png", "bus/1.png"],
        r"ROOT/train: images lie directly in this folder, without class folders\. A folder named train "
        r"is read as a part; if it is a class here, rename it\. " + LAYOUT,
    ),
    "empty train": (["train/"], r"ROOT/train: the folder holds no class folders and no images\. " + LAYOUT),
    "empty classes": (
        ["a/1.png", "b/", "c/deep/"],
        r"ROOT: 2 class folders without an image: b, c\. Add images \(\.jpg, .*\) or remove the folder\.",
    ),
    "class of other files": (
        ["a/1.png", "b/1.heic"],
        r"ROOT: 1 class folder without an image: b, but 1 \.heic\. Add images \(\.jpg, .*\) or remove the folder\.",
    ),
    "empty class of a part": (
        ["train/a/1.png", "train/b/1.png", "val/a/"],
        r"ROOT: 1 class folder without an image: val/a\.",
    ),
    "one class": (["cat/1.png"], r"ROOT: only one class, cat; a classifier needs at least two\.$"),
    "wrapped": (
        ["photos/cat/1.png", "photos/dog/1.png"],
        r"ROOT: only one class, photos; a classifier needs at least two\. Did you mean ROOT/photos\?$",
    ),
    "wrapped parts": (["photos/train/cat/1.png"], r"only one class, photos; .* Did you mean ROOT/photos\?$"),
    "one class in train": (["train/cat/1.png", "test/dog/1.png"], r"ROOT/train: only one class, cat;"),
    "no train": (
        ["val/a/1.png", "test/a/1.png"],
        r"ROOT: has test, val but no train folder\. Add one, or, if these are classes, rename them\.$",
    ),
    "two trains": (
        ["train/a/1.png", "training/a/1.png"],
        r"ROOT: both train and training would be the train part\. Merge them or rename one\.$",
    ),
}


class TestMistakes:
    @pytest.mark.parametrize("mistake", MISTAKES)
    def test_sentence_says_what_where_and_what_to_do(self, tmp_path: Path, mistake: str) -> None:
        content, sentence = MISTAKES[mistake]
        put(tmp_path, *content)
        with pytest.raises(DataError, match=sentence.replace("ROOT", re.escape(str(tmp_path)))):
            names(tmp_path)

    def test_missing_folder(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        with pytest.raises(DataError, match=rf"^{re.escape(str(tmp_path))}/no: no such folder\.$"):
            names(tmp_path / "no")
        monkeypatch.chdir(tmp_path)
        with pytest.raises(DataError, match=rf"^no: no such folder \(looked in {re.escape(str(tmp_path))}\)\.$"):
            names(Path("no"))

    @pytest.mark.parametrize("root", ["~no-such-user-here/x", "x" * 5000])
    def test_paths_that_cannot_exist(self, root: str) -> None:
        with pytest.raises(DataError, match="no such folder"):
            Folder(root=root).open()

    def test_file_instead_of_folder(self, tmp_path: Path) -> None:
        put(tmp_path, "a.png")
        with pytest.raises(DataError, match=r"a\.png: not a folder\.$"):
            names(tmp_path / "a.png")

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may list every folder")
    def test_folder_without_permission(self, tmp_path: Path) -> None:
        put(tmp_path, "a/1.png", "b/1.png")
        (tmp_path / "a").chmod(0)
        try:
            with pytest.raises(DataError, match=r"a: the folder cannot be listed: Permission denied\.$"):
                names(tmp_path)
        finally:
            (tmp_path / "a").chmod(0o700)


class TestOpenParts:
    @pytest.mark.parametrize(
        ("folders", "part", "chosen"),
        [
            (["train", "val", "test"], "test", "test"),
            (["train", "val"], "test", "val"),
            (["test"], "test", "test"),
            (["train", "test"], "validation", "test"),
            (["train", "val", "test"], "train", "train"),
        ],
    )
    def test_wanted_part_or_its_stand_in_is_read(
        self, tmp_path: Path, folders: list[str], part: Part, chosen: str
    ) -> None:
        put(tmp_path, *(f"{folder}/a/1.png" for folder in folders))
        records = open_parts(str(tmp_path), part).records
        assert [(record.name, record.part) for record in records] == [(f"{chosen}/a/1.png", part)]

    def test_folder_of_classes_is_read_whole_and_one_class_is_enough(self, tmp_path: Path) -> None:
        put(tmp_path, "a/1.png")
        source = open_parts(str(tmp_path))
        assert source.classes == ("a",)
        assert [record.part for record in source.records] == ["test"]

    def test_training_images_are_never_taken_for_the_test(self, tmp_path: Path) -> None:
        put(tmp_path, "train/a/1.png")
        with pytest.raises(DataError, match=r"has train but no test or val folder\. Name the folder .*/train\.$"):
            open_parts(str(tmp_path))
