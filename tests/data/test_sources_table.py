"""Tables as spreadsheets and scripts write them, and one sentence per mistake, with the line."""

import re
from pathlib import Path
from typing import Any

import pytest

from ptft.data.records import Source
from ptft.data.sources.row_labels import NumberColumns
from ptft.data.sources.table import Csv
from ptft.errors import DataError


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "set"
    (folder / "sub").mkdir(parents=True)
    for name in ("a.png", "b.png", "c.png", "sub/d.png", "with, comma.png", "..odd.png", "sub/plain"):
        (folder / name).write_bytes(b"not decoded")
    (tmp_path / "outside.png").write_bytes(b"not decoded")
    return folder


def read(folder: Path, content: str | bytes, **keys: Any) -> Source:
    path = folder / "t.csv"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return Csv(path=str(path), **keys).open()


def rows(source: Source) -> list[tuple[str, str | None, str | None]]:
    return [(record.name, record.label, record.part) for record in source.records]


GOOD = [("a.png", "cat", None), ("b.png", "dog", None)]


class TestTables:
    @pytest.mark.parametrize(
        "content",
        [
            "path,label\na.png,cat\nb.png,dog\n",
            "label,path\ncat,a.png\ndog,b.png",
            "path;label\na.png;cat\nb.png;dog\n",
            "path\tlabel\na.png\tcat\nb.png\tdog\n",
            "sep=;\r\npath;label\r\na.png;cat\r\nb.png;dog\r\n",
            "sep=|\npath|label\na.png|cat\nb.png|dog\n",
            "path,label\r\na.png,cat\r\nb.png,dog\r\n",
            b"\xef\xbb\xbfpath,label\na.png,cat\nb.png,dog\n",
            '"path","label"\n"a.png","cat"\n"b.png","dog"\n',
            "path, label\na.png, cat \nb.png, dog\n",
            "path,label\n\na.png,cat\n\nb.png,dog\n,\n",
            "path,label\na.png ,cat\nb.png\t,dog\n",
            'path;"age, in years, about";label\na.png;3;cat\nb.png;4;dog\n',
            "path,label,age\na.png,cat,3\n./b.png,dog,\n",
        ],
    )
    def test_many_spellings_of_one_table(self, root: Path, content: str | bytes) -> None:
        source = read(root, content)
        assert rows(source) == GOOD
        assert source.classes == ("cat", "dog")
        assert source.records[0].image == root / "a.png"

    def test_labels_stay_text(self, root: Path) -> None:
        assert read(root, "path,label\na.png,012\nb.png,12\nc.png,no\n").classes == ("012", "12", "no")

    def test_quoted_fields_may_hold_the_delimiter(self, root: Path) -> None:
        source = read(root, 'path,label\n"with, comma.png","big, cat"\na.png,"say ""hi"""\n')
        assert rows(source) == [("with, comma.png", "big, cat", None), ("a.png", 'say "hi"', None)]

    def test_split_column_gives_the_parts(self, root: Path) -> None:
        content = "path,label,split\na.png,x,train\nb.png,y,Train\nc.png,x,valid\nsub/d.png,z,TEST\n"
        source = read(root, content)
        assert [record.part for record in source.records] == ["train", "train", "validation", "test"]
        assert source.classes == ("x", "y")

    def test_a_table_without_it_is_read_again_by_a_config_with_every_default_written_out(self, root: Path) -> None:
        read(root, "path,label\na.png,cat\nb.png,dog\n")
        written = Csv(path=str(root / "t.csv")).model_dump()
        assert rows(Csv.model_validate(written).open()) == GOOD

    def test_columns_can_be_named(self, root: Path) -> None:
        content = "file,species,fold\na.png,cat,train\nb.png,dog,train\n"
        source = read(root, content, path_column="file", label_column="species", split_column="fold")
        assert [record.part for record in source.records] == ["train", "train"]

    def test_root_can_be_elsewhere(self, root: Path, tmp_path: Path) -> None:
        source = read(root, "path,label\nset/a.png,cat\noutside.png,dog\n", root=str(tmp_path))
        assert [record.image for record in source.records] == [root / "a.png", tmp_path / "outside.png"]

    def test_name_that_begins_with_dots_does_not_leave_root(self, root: Path) -> None:
        assert len(read(root, "path,label\n..odd.png,cat\nsub/../a.png,dog\n").records) == 2


class TestOutsideRoot:
    @pytest.fixture
    def content(self, root: Path) -> str:
        (root / "link.png").symlink_to("../outside.png")
        (root / "folder").symlink_to("..")
        (root / "inside.png").symlink_to("sub/d.png")
        paths = (f"{root}/a.png", "../outside.png", "link.png", "folder/outside.png", "inside.png")
        return "path,label\n" + "".join(f"{path},{'cat' if n % 2 else 'dog'}\n" for n, path in enumerate(paths))

    def test_is_refused(self, root: Path, content: str) -> None:
        with pytest.raises(DataError) as caught:
            read(root, content)
        at, hint = f"{root}/t.csv", "write it relative to root, or set data.outside_root: true"
        assert str(caught.value).splitlines() == [
            f"{at}:2: {root}/a.png: an absolute path; {hint}",
            f"{at}:3: ../outside.png: leads out of {root}; {hint}",
            f"{at}:4: link.png: a link out of {root}; set data.outside_root: true",
            f"{at}:5: folder/outside.png: a link out of {root}; set data.outside_root: true",
            f"4 rows of {at} cannot be used. Correct or remove them.",
        ]

    def test_is_allowed_when_asked_for(self, root: Path, content: str) -> None:
        source = read(root, content, outside_root=True)
        assert [record.name for record in source.records[:2]] == [f"{root}/a.png", "../outside.png"]
        assert len(source.records) == 5


HEADER = "path,label\n"
MISTAKES: dict[str, tuple[str | bytes, dict[str, Any], str]] = {
    "empty file": (
        "",
        {},
        r"t\.csv: the file is empty\. Its first line must name the columns, .*path,label\.$",
    ),
    "no rows": (HEADER, {}, r"t\.csv: a header but no rows; list one image per line\.$"),
    "not utf-8": (
        b"path,label\na.png,caf\xe9\n",
        {},
        r"t\.csv:2: not UTF-8 text\. Save the table as UTF-8\.$",
    ),
    "utf-16": ("path,label\n".encode("utf-16"), {}, r"t\.csv:1: not UTF-8 text"),
    "no path column": (
        "Path,label\na.png,x\n",
        {},
        r"t\.csv:1: no column path; the columns are Path, label\. "
        r"Rename yours, or tell a run its name: --set data\.path_column=Path, or the same in the config\.$",
    ),
    "no header": (
        "a000.PNG,x\nb.png,y\n",
        {},
        r"t\.csv:1: no header line: the first line is of the image a000\.PNG already\. "
        r"Write a line above it that names the columns, for example path,label\.$",
    ),
    "no header, label first": ("x;a.png\ny;b.png\n", {"label_column": "kind"}, r"for example path;kind\.$"),
    "no header, no suffix": ("sub/plain,x\nb,y\n", {}, r"t\.csv:1: no header line: .* the image sub/plain already"),
    "no label column": (
        "path,labels\na.png,x\n",
        {},
        r"t\.csv:1: no column label; .*its name: --set data\.label_column=labels, or the same in the config\.$",
    ),
    "no column like a label": (
        "path,red\na.png,1\n",
        {},
        r"t\.csv:1: no column label; .*its name: --set data\.label_column=NAME, or the same in the config\.$",
    ),
    "no split column though named": (
        "path,label\na.png,x\n",
        {"split_column": "fold"},
        r"t\.csv:1: no column fold; .*data\.split_column",
    ),
    "two label columns": (
        "path,label,label\na.png,x,y\n",
        {},
        r"t\.csv:1: 2 columns are named label\. Rename all but one\.$",
    ),
    "too many fields": (
        HEADER + "a.png,big, cat\n",
        {},
        r't\.csv:2: 3 fields where the header has 2\. Put fields that contain "," in double quotes\.$',
    ),
    "too few fields": ("path;label\na.png\n", {}, r't\.csv:2: 1 field where the header has 2\..*contain ";"'),
    "open quote": (HEADER + 'a.png,x\n"b.png,y\n', {}, r"t\.csv:3: not a csv row: unexpected end of data\.$"),
    "empty label": (HEADER + "a.png,\n", {}, r"t\.csv:2: a\.png: the label is empty\n"),
    "blank label": (HEADER + 'a.png,"  "\n', {}, r"t\.csv:2: a\.png: the label is empty\n"),
    "empty path": (HEADER + ",x\n", {}, r"t\.csv:2: the path is empty\n"),
    "folder": (HEADER + "sub,x\n", {}, r"t\.csv:2: sub: not a regular file\n"),
    "nul": (HEADER + "a\0.png,x\n", {}, r"t\.csv:2: a\\x00\.png: no such file in "),
    "long name": (HEADER + "x" * 5000 + ",x\n", {}, r"t\.csv:2: x+: no such file in "),
    "a split column in other letters": (
        "path,label,Split\na.png,x,train\n",
        {},
        r"t\.csv:1: no column split; the columns are path, label, Split\. .*data\.split_column=Split",
    ),
    "unknown split": (
        "path,label,split\na.png,x,dev\n",
        {},
        r"t\.csv:2: 'dev' is not a split; write train, val or test\n",
    ),
    "empty split": (
        "path,label,split\na.png,x,\n",
        {},
        r"t\.csv:2: the split is empty; write train, val or test\n",
    ),
    "no train": ("path,label,split\na.png,x,test\n", {}, r"t\.csv: no row has split train\.$"),
    "one class": (HEADER + "a.png,x\n", {}, r"t\.csv: only one class, x; a classifier needs at least two\.$"),
    "contradiction": (
        HEADER + "a.png,x\n./a.png,y\n",
        {},
        r"t\.csv:3: a\.png is already on line 2, with label x there and y here\n1 row of .* cannot be used\.",
    ),
    "repetition": (HEADER + "a.png,x\nb.png,y\na.png,x\n", {}, r"t\.csv:4: a\.png is already on line 2\n"),
}


class TestNumbers:
    @pytest.mark.parametrize("cell", ["3.5", " 3.5 ", "+3.5", "35e-1", "3.50"])
    def test_many_spellings_of_one_number(self, cell: str) -> None:
        assert NumberColumns(("age",)).read([cell]).targets == (3.5,)

    @pytest.mark.parametrize("cell", ["", "3,5", "nan", "inf", "1e999", "1_000", "\uff13\uff15", "\u0663", "0x10"])
    def test_what_is_no_number_in_a_config_is_none_here(self, cell: str) -> None:
        with pytest.raises(ValueError, match=r"^column age has .+; write a number, for example 3\.5$"):
            NumberColumns(("age",)).read([cell])

    @pytest.mark.parametrize("cell", ["1e300", "-3.5e38"])
    def test_what_no_model_can_compute_with_is_refused(self, root: Path, cell: str) -> None:
        columns = NumberColumns(("age", "price"))
        assert columns.read(["1", "3.3e38"]).targets == (1.0, 3.3e38)
        (root / "t.csv").write_text(f"path,age,price\na.png,1,2\nb.png,3,{cell}\n")
        with pytest.raises(
            DataError, match=rf"t\.csv:3: b\.png: column price has '{cell}', beyond 3\.4e\+38; count in a larger unit"
        ):
            Csv(path=str(root / "t.csv")).open_labelled(columns)


class TestMistakes:
    @pytest.mark.parametrize("mistake", MISTAKES)
    def test_sentence_says_where_and_what_to_do(self, root: Path, mistake: str) -> None:
        content, keys, sentence = MISTAKES[mistake]
        with pytest.raises(DataError, match=sentence):
            read(root, content, **keys)

    def test_first_five_missing_files_are_listed_with_the_count(self, root: Path) -> None:
        content = HEADER + "a.png,x\n" + "".join(f"no{n}.png,x\n" for n in range(12))
        with pytest.raises(DataError) as caught:
            read(root, content)
        assert str(caught.value).splitlines() == [
            *(f"{root}/t.csv:{n + 3}: no{n}.png: no such file in {root}" for n in range(5)),
            "... and 7 more",
            f"12 rows of {root}/t.csv cannot be used. Correct or remove them.",
        ]

    def test_line_numbers_count_lines_of_the_file(self, root: Path) -> None:
        content = 'path,label\n\na.png,"two\nlines"\nno.png,x\n'
        with pytest.raises(DataError, match=r"t\.csv:5: no\.png: no such file"):
            read(root, content)

    def test_missing_table(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match=rf"^{re.escape(str(tmp_path))}/no\.csv: cannot be read: no such file"):
            Csv(path=str(tmp_path / "no.csv")).open()

    def test_missing_root(self, root: Path) -> None:
        with pytest.raises(DataError, match="no such folder"):
            read(root, HEADER + "a.png,x\n", root=str(root / "no"))
