import random
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import Field, Strict

from ptft.config.base import Config, Names
from ptft.config.durations import Duration
from ptft.config.load import dump, load, schema
from ptft.errors import ConfigError
from ptft.settings import PretrainConfig

GOOD = """\
# a comment
seed: 3
data:
  name: folder
  root: "images/é"
  classes: [no, 012, 'on', "a: b"]
optim: {name: sgd, lr: 1e-3}
train:
  epochs: 8
  warmup: {epochs: 0.5}
"""


class Folder(Config):
    """Images in folders."""

    name: Literal["folder"]
    root: str
    classes: Names = ()


class Embedded(Config):
    """Embedded images."""

    name: Literal["embedded", "digits"]


class Sgd(Config):
    """Descent."""

    name: Literal["sgd"] = "sgd"
    lr: float = 0.1
    betas: Annotated[tuple[float, float], Strict(False)] = (0.9, 0.999)


class Train(Config):
    """How long."""

    epochs: int = 10
    """Passes over the
    training part."""
    warmup: Duration | None = None


class Run(Config):
    """A run."""

    seed: int = 0
    """Of everything."""
    data: Folder | Embedded = Field(discriminator="name")
    out: str = "runs"
    optim: Sgd = Sgd()
    train: Train = Train()
    note: str | None = None
    flags: dict[str, bool] = Field(default_factory=dict)


@pytest.fixture
def good(tmp_path: Path) -> Path:
    path = tmp_path / "run.yaml"
    path.write_text(GOOD, encoding="utf-8")
    return path


def test_file_becomes_a_config(good: Path) -> None:
    assert load(good, Run) == Run(
        seed=3,
        data=Folder(name="folder", root="images/é", classes=("no", "012", "on", "a: b")),
        optim=Sgd(lr=0.001),
        train=Train(epochs=8, warmup=Duration(epochs=0.5)),
    )


def test_overrides_win_over_the_file_and_reach_any_depth(good: Path) -> None:
    config = load(
        good,
        Run,
        [
            "seed=4",
            "optim.lr=1e-5",
            "data={name: digits}",
            "train.warmup={steps: 7}",
            "note=a: b",
            "flags.fast=true",
            "flags.fast=false",
            " out = elsewhere ",
        ],
    )
    assert config == Run(
        seed=4,
        data=Embedded(name="digits"),
        optim=Sgd(lr=1e-5),
        train=Train(epochs=8, warmup=Duration(steps=7)),
        note="a: b",
        flags={"fast": False},
        out="elsewhere",
    )


def test_override_replaces_a_unit_only_with_its_section(good: Path) -> None:
    with pytest.raises(ConfigError, match="got epochs and steps"):
        load(good, Run, ["train.warmup.steps=7"])
    assert load(good, Run, ["train.warmup=null"]).train.warmup is None


def test_no_file_at_all_is_an_empty_config() -> None:
    assert load(None, Train) == Train()


def test_dump_writes_every_default_in_the_order_of_the_fields() -> None:
    config = Run(data=Embedded(name="digits"), note="1e-3", train=Train(warmup=Duration(steps=3)))
    assert dump(config, "ptft 0.1.0\n\nresolved") == (
        "# ptft 0.1.0\n"
        "#\n"
        "# resolved\n"
        "seed: 0\n"
        "data:\n"
        "  name: digits\n"
        "out: runs\n"
        "optim:\n"
        "  name: sgd\n"
        "  lr: 0.1\n"
        "  betas: [0.9, 0.999]\n"
        "train:\n"
        "  epochs: 10\n"
        "  warmup:\n"
        "    steps: 3\n"
        "note: '1e-3'\n"
        "flags: {}\n"
    )


NASTY = st.sampled_from(
    [
        *(
            "",
            "no",
            "012",
            "1e-3",
            "null",
            "~",
            "true",
            ".inf",
            "<<",
            "=",
            "- a",
            "a: b",
            "#x",
            "*x",
            "&x",
            "!x",
        ),
        *(
            "%",
            "'",
            '"',
            "\n",
            "a\nb",
            " a ",
            "\t",
            "\x00",
            "\x85",
            "\u2028",
            "\ufeff",
            "😀",
            "{",
            "[a]",
            "?",
        ),
        *("0x1F", "1_000", "a #b", "\\", "1.0e-3", "9" * 400),
    ]
)
TEXTS = st.one_of(NASTY, st.text(st.characters(exclude_categories=["Cs"]), max_size=20))
FLOATS = st.floats(allow_nan=False, allow_infinity=False)
WHOLE = st.integers(-(10**30), 10**30)
CONFIGS = st.builds(
    Run,
    seed=WHOLE,
    data=st.builds(
        Folder,
        name=st.just("folder"),
        root=TEXTS,
        classes=st.lists(TEXTS, max_size=4).map(tuple),
    ),
    optim=st.builds(Sgd, lr=FLOATS, betas=st.tuples(FLOATS, FLOATS)),
    train=st.builds(
        Train,
        epochs=WHOLE,
        warmup=st.one_of(
            st.none(),
            st.builds(Duration, epochs=st.floats(0, 1e300)),
            st.builds(Duration, steps=st.integers(0, 10**20)),
        ),
    ),
    note=st.none() | TEXTS,
    flags=st.dictionaries(TEXTS, st.booleans(), max_size=3),
)


@settings(max_examples=150, deadline=None)
@given(config=CONFIGS, header=TEXTS)
def test_dumped_config_loads_as_an_equal_config(
    config: Run, header: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / "dumped.yaml"
    path.write_bytes(dump(config, header).encode("utf-8"))
    loaded = load(path, Run)
    assert loaded == config
    assert repr(loaded) == repr(config)


@settings(max_examples=100, deadline=None)
@given(config=CONFIGS)
def test_dumped_config_reads_the_same_in_other_yaml_readers(config: Run) -> None:
    assert yaml.safe_load(dump(config)) == config.model_dump(mode="json")


def test_path_that_is_not_utf8_survives_the_round_trip(tmp_path: Path) -> None:
    config = Run(data=Folder(name="folder", root="a\udcff"))
    path = tmp_path / "run.yaml"
    path.write_text(dump(config), encoding="utf-8")
    assert load(path, Run) == config


def sentences(path: Path, overrides: Sequence[str] = ()) -> list[str]:
    """The lines of the error of a config; none for a valid one."""
    try:
        load(path, Run, overrides)
    except ConfigError as error:
        return str(error).split("\n")
    return []


def test_damaged_config_is_read_or_refused_but_never_crashes(tmp_path: Path) -> None:
    rng = random.Random(0)
    path = tmp_path / "run.yaml"
    refused = 0
    for _ in range(300):
        damaged = bytearray(GOOD.encode("utf-8"))
        for _ in range(rng.randint(1, 3)):
            at = rng.randrange(len(damaged))
            byte = rng.choice([rng.randrange(256), rng.choice(b"[]{}:&*!|>-\t\"'\\%@#?,\n")])
            damaged[at : at + rng.randint(0, 2)] = bytes([byte])
        path.write_bytes(bytes(damaged))
        start = time.perf_counter()
        lines = sentences(path)
        assert time.perf_counter() - start < 1
        assert all(line.isprintable() for line in lines)
        refused += bool(lines)
    assert refused > 100


@pytest.mark.parametrize(
    "override",
    ["seed=\udcff", "\udcff=1", "note=\udcff", "note=\x00", "note='\\UFFFFFFFF'", "a" * 10**5, "=" * 10**5],
)
def test_strange_override_is_read_or_refused_but_never_crashes(good: Path, override: str) -> None:
    lines = sentences(good, [override])
    assert all(line.isprintable() and len(line) < 500 for line in lines)


def test_schema_is_strict_and_carries_the_docstrings() -> None:
    described = schema(Run)
    assert described["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert described["title"] == "Run"
    assert described["description"] == "A run."
    assert described["additionalProperties"] is False
    assert described["required"] == ["data"]
    assert described["properties"]["seed"]["description"] == "Of everything."
    train = described["$defs"]["Train"]
    assert train["properties"]["epochs"]["description"] == "Passes over the\ntraining part."
    assert train["additionalProperties"] is False


def test_config_package_knows_nothing_of_torch() -> None:
    program = "import sys, ptft.config.load; print([name for name in ('torch', 'numpy') if name in sys.modules])"
    shown = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"


def test_the_schema_takes_a_section_without_a_name_for_the_default_alone() -> None:
    definitions = schema(PretrainConfig)["$defs"]
    demanding = {name for name, part in definitions.items() if "name" in part.get("required", ())}
    assert {"SmallVgg", "SmallResnet", "Photo", "Trivial", "Folder", "Csv", "AdamW"} <= demanding
    assert not {"SmallCnn", "Standard", "Sgd", "Cosine"} & demanding
