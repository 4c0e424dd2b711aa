import os
import time
from pathlib import Path

import pytest

from ptft.config.document import MAX_FAULTS, parse, parse_value, read
from ptft.errors import ConfigError, Fault

BOMB = "\n".join(
    ["a: &a [lol,lol,lol,lol,lol,lol,lol,lol,lol]"]
    + [f"{b}: &{b} [{','.join(['*' + a] * 9)}]" for a, b in zip("abcdefgh", "bcdefghi", strict=True)]
)
ALIASES = "aliases (*x) are not supported. Write the value again."
ANCHORS = "anchors (&x) are not supported. Remove it."
NOT_A_MAPPING = "expected keys and values such as `seed: 0` at the top of the config."
INCOMPATIBLE = "not valid YAML: expected a digit, but found 'x' while scanning a directive."
TAB = "a tab cannot indent a line or begin a value. Use spaces."


def faults_of(text: str) -> list[Fault]:
    """All faults of a text, whether they stopped the reading or not."""
    try:
        return sorted(parse(text, "run.yaml").faults)
    except ConfigError as error:
        return error.faults


def test_values_and_lines_are_read() -> None:
    document = parse("seed: 1\ndata:\n  classes: [no, 012,\n    on]\n  root: '5'\n\ntrain: {lr: 1e-3}\n", "run.yaml")
    assert document.data == {
        "seed": 1,
        "data": {"classes": ["no", "012", "on"], "root": "5"},
        "train": {"lr": 0.001},
    }
    assert document.lines == {
        (): 1,
        ("seed",): 1,
        ("data",): 2,
        ("data", "classes"): 3,
        ("data", "classes", 0): 3,
        ("data", "classes", 1): 3,
        ("data", "classes", 2): 4,
        ("data", "root"): 5,
        ("train",): 7,
        ("train", "lr"): 7,
    }
    assert document.faults == ()


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("'1e-3'", "1e-3"),
        ('"true"', "true"),
        ("|\n  1\n", "1\n"),
        (">-\n  1\n  2\n", "1 2"),
        ("", None),
        ("[]", []),
        ("{}", {}),
        ("[1, [true, {b: ~}]]", [1, [True, {"b": None}]]),
        ('"\\u00e9"', "é"),
    ],
)
def test_value_is_read(text: str, value: object) -> None:
    assert parse(f"a: {text}", "run.yaml").data == {"a": value}


def test_keys_are_taken_as_their_text() -> None:
    assert parse("1: a\ntrue: b\n'x': c\nnull: d\n012: e\n", "run.yaml").data == {
        "1": "a",
        "true": "b",
        "x": "c",
        "null": "d",
        "012": "e",
    }


def test_byte_order_mark_and_windows_line_ends_are_harmless(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_bytes(b"\xef\xbb\xbfseed: 1\r\ntrain:\r\n  lr: 0.1\r\n")
    document = read(path)
    assert document.data == {"seed": 1, "train": {"lr": 0.1}}
    assert document.lines[("train", "lr")] == 3


@pytest.mark.parametrize(
    ("text", "line", "key", "message"),
    [
        ("a: 1\nb: 2\na: 3", 3, "a", "already set in line 1. Keep one of the two."),
        ("t:\n  a: 1\n  a: 1", 3, "t.a", "already set in line 2. Keep one of the two."),
        ("s: 0\nt: {a: 1, a: 2}", 2, "t.a", "there twice. Keep one of the two."),
        ("a: *x", 1, "a", ALIASES),
        ("a: [1, *x]", 1, "a[1]", ALIASES),
        ("a: &x 1", 1, "a", ANCHORS),
        ("a: 1\nb: &x\n  c: 1", 2, "b", ANCHORS),
        ("&x a: 1", 1, "a", ANCHORS),
        ("<<: {a: 1}", 1, "", "merges (<<) are not supported. Write the keys out."),
        ("a: !!str 1", 1, "a", "tags (!!str) are not supported. Write the plain value."),
        ("a: !!python/x:y", 1, "a", "tags (!!python/x:y) are not supported. Write the plain value."),
        ("a: !mine {b: 1}", 1, "a", "tags (!mine) are not supported. Write the plain value."),
        ("a: ! x", 1, "a", "tags (!) are not supported. Write the plain value."),
        ("a: !y!x 1", 1, "", "tags are not supported. Write the plain value."),
        ("a: .inf", 1, "a", ".inf is not a finite number. Put it in quotes if it is text."),
        ("a: [.nan]", 1, "a[0]", ".nan is not a finite number. Put it in quotes if it is text."),
        ("a: 1e999", 1, "a", "a number too large to be finite. Put it in quotes if it is text."),
        ("a: 1\n---\nb: 1", 2, "", "a second document begins here. A config is one document."),
        ("[a]: 1", 1, "", "a key must be text, not a list, a section or an alias."),
        ("*x : 1", 1, "", "a key must be text, not a list, a section or an alias."),
        ("", 1, "", "the config is empty. `ptft init` writes one to start from."),
        ("# only a comment\n", 1, "", "the config is empty. `ptft init` writes one to start from."),
        ("---\n", 1, "", "the config is empty. `ptft init` writes one to start from."),
        ("- a\n- b", 1, "", NOT_A_MAPPING),
        ("just text", 1, "", NOT_A_MAPPING),
        ("7", 1, "", NOT_A_MAPPING),
        ("a:\n\tb: 1", 2, "", TAB),
        ("a: 1\n\tb: 1", 2, "", TAB),
        ("a: @x", 1, "", "a value cannot begin with '@'. Put it in quotes."),
        ("a: `x`", 1, "", "a value cannot begin with '`'. Put it in quotes."),
        ("a: %x", 1, "", "a value cannot begin with '%'. Put it in quotes."),
        ("a: b: c", 1, "", "a ':' too many. Check the indentation, or put the text in quotes."),
        ("a: 1\nb: 'x\n\n", 2, "", "a quote opens here and is never closed."),
        ("a: 1\nb: [x\nc: 2\n\n", 2, "", "a bracket opens here; a comma or its ']' is missing."),
        ("a: {b: 1\n\n", 1, "", "a bracket opens here and is never closed by '}'."),
        ("a: [1 2, {b: 1]", 1, "", "a bracket opens here; a comma or its '}' is missing."),
        ("a:\n  b: 1\n c: 2", 3, "", "the indentation does not fit, or a quote or bracket is closed early."),
        ("a: 'b'\n'c'x", 2, "", "a key without a ':' after it."),
        ("{a: 1}\nb: 2", 2, "", "the value before this has ended. Check quotes, brackets and indentation."),
        ("a: 1\nb\nc: 3", 2, "", "a key without a ':' after it."),
        ('a: "C:\\data"', 1, "", "\\d is no escape. Write \\\\ for a backslash, or use single quotes."),
        ('a: 1\nb: "\\UFFFFFFFF"', 2, "", "not valid YAML: an escape near this line names no character."),
        ("a: 1\nb: \x01", 2, "", "a control character that YAML does not allow."),
        ("a: ]", 1, "", "a value is missing here."),
        ("a: *.png", 1, "", "a value cannot begin with * or &. Put it in quotes."),
        ("%YAML x\n---\na: 1", 1, "", INCOMPATIBLE),
    ],
)  # fmt: skip
def test_text_that_is_no_config_has_one_fault(text: str, line: int, key: str, message: str) -> None:
    assert faults_of(text) == [Fault(line, key, message)]


def test_several_faults_are_found_at_once() -> None:
    assert [(fault.line, fault.key) for fault in faults_of("a: 1\na: 2\nb: !t 1\nc: {d: .inf, d: 2}\ne: *x\n")] == [
        (2, "a"),
        (3, "b"),
        (4, "c.d"),
        (4, "c.d"),
        (5, "e"),
    ]


def test_syntax_error_comes_with_the_faults_before_it() -> None:
    assert [fault.line for fault in faults_of("a: 1\na: 2\nb: 'x")] == [2, 3]


def test_first_of_two_equal_keys_is_kept() -> None:
    document = parse("a: 1\na: 2", "run.yaml")
    assert document.data == {"a": 1}
    assert document.lines["a",] == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (BOMB, "anchors (&a) are not supported. Remove it."),
        ("a: " + "[" * 5000, "nested deeper than 20 levels."),
        ("a: " + "{b: " * 5000, "nested deeper than 20 levels."),
        ("- " * 5000, "nested deeper than 20 levels."),
        ("? " * 5000, "a key must be text, not a list, a section or an alias."),
        ("a: [" + "*x, " * 5000, ALIASES),
        ("a: 0\n" * 5000, "already set in line 1. Keep one of the two."),
    ],
)
def test_bomb_is_refused_at_once(text: str, message: str) -> None:
    start = time.process_time()
    faults = faults_of(text)
    assert time.process_time() - start < 1
    assert message in [fault.message for fault in faults]
    assert len(faults) <= MAX_FAULTS


def test_depth_of_twenty_is_allowed() -> None:
    assert parse("a: " + "[" * 20 + "]" * 20, "run.yaml").faults == ()
    assert parse("a: " + "[" * 19 + "1" + "]" * 19, "run.yaml").faults == ()


def test_too_many_values_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ptft.config.document.MAX_NODES", 10)
    assert parse("a: [1, 2, 3, 4, 5, 6, 7, 8]", "run.yaml").faults == ()
    assert [f.message for f in faults_of("a: [1, 2, 3, 4, 5, 6, 7, 8, 9]")] == [
        "more than 10 values. A config holds settings, not data."
    ]


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"a: 1\nb: \xff\n", "{path}:2: not UTF-8 text. Save the file as UTF-8."),
        ("a: 1\n".encode("utf-16"), "{path}:1: not UTF-8 text. Save the file as UTF-8."),
        (b"#" * ((1 << 17) + 1), "{path}: larger than 128 KiB. A config holds settings, not data."),
        (b"", "{path}:1: the config is empty. `ptft init` writes one to start from."),
    ],
)
def test_unusable_file_is_one_sentence(tmp_path: Path, content: bytes, sentence: str) -> None:
    path = tmp_path / "run.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        read(path)
    assert str(caught.value).splitlines() == [
        sentence.format(path=path),
        f"1 fault in {path}; nothing was run.",
    ]


def test_missing_file_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        read(tmp_path / "nope.yaml")
    assert caught.value.faults == [Fault(0, "", "file not found.")]


def test_folder_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        read(tmp_path)
    assert caught.value.faults == [Fault(0, "", "is a folder. Name the config file inside it.")]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_unreadable_file_is_said_so(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text("a: 1")
    path.chmod(0)
    with pytest.raises(ConfigError) as caught:
        read(path)
    assert caught.value.faults == [Fault(0, "", "no permission to read the file.")]


@pytest.mark.parametrize("name", ["run.yaml/inner.yaml", "x" * 300, "a\0b"])
def test_impossible_path_is_said_so(tmp_path: Path, name: str) -> None:
    (tmp_path / "run.yaml").write_text("a: 1")
    with pytest.raises(ConfigError, match="cannot be read"):
        read(tmp_path / name)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 0.001),
        (" 7 ", 7),
        ("no", "no"),
        ("", None),
        ("[a, 1, no]", ["a", 1, "no"]),
        ("{name: resnet18, small_stem: true}", {"name": "resnet18", "small_stem": True}),
        ("'1'", "1"),
        ("a: b # c", "a: b # c"),
        ("C:\\data", "C:\\data"),
        ("@home", "@home"),
        ("*.png", "*.png"),
        ("- a", "- a"),
    ],
)
def test_value_of_an_override_is_read(text: str, value: object) -> None:
    assert parse_value(text) == value


@pytest.mark.parametrize("text", ["[a", "{a: 1, a: 2}", "'a", "[*x]", ".inf", "[.nan]", "{a: !t 1}", "[1] x"])
def test_value_of_an_override_can_be_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        parse_value(text)
