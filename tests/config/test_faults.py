"""Every sentence that a config can get, against the mistake that causes it."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Literal, Self

import pytest
from pydantic import AfterValidator, Field, Strict, model_validator

from ptft.config.base import Config, MisfitError, Names
from ptft.config.durations import Duration, Period
from ptft.config.load import load
from ptft.errors import ConfigError


def even(value: int) -> int:
    """Refuses odd numbers."""
    if value % 2:
        raise ValueError(f"{value} is odd; take {value + 1}.")
    return value


class Embedded(Config):
    """Images that come with ptft."""

    name: Literal["fashion-mnist-10k"] = "fashion-mnist-10k"
    classes: Names = ()
    image_size: Annotated[int, Field(ge=8)] | None = None


class Folder(Config):
    """Images in folders."""

    name: Literal["folder"]
    root: str = Field(examples=["images"])
    classes: Names = ()


class SmallCnn(Config):
    """A small network."""

    name: Literal["small-cnn"] = "small-cnn"
    widths: Annotated[tuple[int, ...], Strict(False)] = Field(default=(32, 64), min_length=1)


class Zoo(Config):
    """A network of the zoo."""

    name: Literal["resnet18", "resnet34", "resnet50"]
    in_channels: int = Field(default=3, ge=1, le=4)
    small_stem: bool | Literal["auto"] = "auto"


Model = Annotated[SmallCnn | Zoo, Field(discriminator="name")]


class Sgd(Config):
    """Descent."""

    name: Literal["sgd"] = "sgd"
    lr: float = Field(default=0.1, gt=0)
    momentum: float = Field(default=0.9, ge=0, lt=1)
    nesterov: bool = False


class Train(Config):
    """How long."""

    epochs: Annotated[int, Field(ge=1, examples=[10])] | None = None
    batch_size: int = Field(default=256, ge=1)
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    crop: Annotated[int, AfterValidator(even)] = 0
    warmup: Duration | None = None
    look: Period | None = None
    workers: Annotated[int, Field(ge=0)] | Literal["auto"] = "auto"
    every: int | Duration = 100
    scale: Annotated[tuple[float, float], Strict(False)] = (0.5, 1.0)
    multiple: int = Field(default=8, multiple_of=8)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.batch_size == 13:
            raise ValueError("batch_size 13 brings bad luck.")
        return self


class Transfer(Config):
    """From a checkpoint."""

    recipe: Literal["auto", "linear", "full"] = "auto"
    min_loaded: float = Field(default=0.95, ge=0, le=1)


class PretrainConfig(Config):
    """A run."""

    seed: int = 0
    out: str = "runs"
    code: str = Field(default="a", pattern="^[a-z]+$", max_length=3)
    label: str | None = None
    data: Embedded | Folder = Field(discriminator="name")
    model: Model = SmallCnn()
    optim: Sgd = Sgd()
    train: Train = Train()
    transfer: Transfer = Transfer()
    weights: dict[str, float] = Field(default_factory=dict)
    nets: Annotated[tuple[Model, ...], Strict(False)] = ()

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.train.batch_size == 7 and self.optim.momentum == 0:
            raise MisfitError("optim.momentum", "0 does not go with train.batch_size: 7. Leave one out.")
        return self


def report(path: Path | None, *overrides: str) -> list[str]:
    """The lines of the error of a config that must have one."""
    with pytest.raises(ConfigError) as caught:
        load(path, PretrainConfig, overrides)
    return str(caught.value).split("\n")


Write = Callable[[str], Path]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Writes run.yaml into the working folder."""
    monkeypatch.chdir(tmp_path)

    def write(text: str) -> Path:
        path = Path("run.yaml")
        path.write_text(text, encoding="utf-8")
        return path

    return write


def test_example_of_the_design_word_for_word(write: Write) -> None:
    text = "data: {name: fashion-mnist-10k}\ntrain:\n  batchsize: 3\n  epochs: ten\nmodel:\n  name: resnet17\n"
    assert report(write(text)) == [
        "run.yaml:3: train.batchsize: unknown key. Did you mean train.batch_size?",
        "run.yaml:4: train.epochs: expected a whole number, got 'ten'. Write for example 10.",
        "run.yaml:6: model.name: 'resnet17' is not a model. Did you mean resnet18? `ptft list models` shows all.",
        "3 faults in run.yaml; nothing was run.",
    ]


TABLE = r"""
# unknown keys
lr: 1
    lr: unknown key. Did you mean optim.lr?
learning_rate: 1
    learning_rate: unknown key. Did you mean optim.lr?
train: {lr: 1}
    train.lr: unknown key. Did you mean optim.lr?
optimizer: {}
    optimizer: unknown key. Did you mean optim?
transfer: {colour: 1}
    transfer.colour: unknown key. Known here: recipe, min_loaded.
transfer: {1: 1}
    transfer.1: unknown key. Known here: recipe, min_loaded.
transfer: {"a\nb": 1}
    transfer.a\nb: unknown key. Known here: recipe, min_loaded.
model: {name: resnet18, in_chanels: 1}
    model.in_chanels: unknown key. Did you mean model.in_channels?
model: {name: resnet18, widths: [1]}
    model.widths: unknown key. Known here: name, in_channels, small_stem.

# names
model: {name: ResNet50}
    model.name: 'ResNet50' is not a model. Did you mean resnet50? `ptft list models` shows all.
model: {name: banana}
    model.name: 'banana' is not a model. `ptft list models` shows all.
model: {name: 5}
    model.name: 5 is not a model. `ptft list models` shows all.
model: {name: }
    model.name: null is not a model. `ptft list models` shows all.
model: {name: [a]}
    model.name: a list is not a model. `ptft list models` shows all.
model: {in_channels: 3}
    model.name: missing. Write for example small-cnn, resnet18 or resnet34. `ptft list models` shows all.
model: resnet50
    model: expected a section, got 'resnet50'. Write for example {name: resnet50}.
model: banana
    model: expected a section, got 'banana'. Write for example {name: small-cnn}.
model: [a]
    model: expected a section, got a list. Write for example {name: small-cnn}.
optim: {name: sdg}
    optim.name: 'sdg' is not an optimizer. Did you mean sgd? `ptft list optimizers` shows all.
transfer: {recipe: linaer}
    transfer.recipe: 'linaer' is not a recipe. Did you mean linear? `ptft list recipes` shows all.
nets: [{name: resnet19}]
    nets[0].name: 'resnet19' is not one of small-cnn, resnet18, resnet34, resnet50. Did you mean resnet18?
nets: [{name: small-cnn}, {name: resnet18, in_channels: 9}]
    nets[1].in_channels: must be at most 4, got 9.
nets: [{}]
    nets[0].name: missing. Write for example small-cnn, resnet18 or resnet34.

# types
seed: 1.5
    seed: expected a whole number, got 1.5. Write for example 0.
seed: 1e3
    seed: expected a whole number, got 1000.0. Write for example 1000.
seed: '7'
    seed: expected a whole number, got '7'. Write for example 7.
seed: 012
    seed: expected a whole number, got '012'. Write for example 12.
seed: true
    seed: expected a whole number, got true. Write for example 0.
seed: null
    seed: expected a whole number, got null. Write for example 0.
seed: [1]
    seed: expected a whole number, got a list. Write for example 0.
seed: {a: 1}
    seed: expected a whole number, got a section. Write for example 0.
seed: {LONG}
    seed: expected a whole number, got '{SHORT}…'. Write for example 0.
seed: "a\nb\e[31m"
    seed: expected a whole number, got 'a\nb\x1b[31m'. Write for example 0.
optim: {lr: fast}
    optim.lr: expected a number, got 'fast'. Write for example 0.1.
optim: {lr: '0.5'}
    optim.lr: expected a number, got '0.5'. Write for example 0.5.
optim: {lr: nan}
    optim.lr: expected a number, got 'nan'. Write for example 0.1.
optim: {nesterov: yes}
    optim.nesterov: expected true or false, got 'yes'. Write for example true.
optim: {nesterov: 0}
    optim.nesterov: expected true or false, got 0. Write for example false.
optim: {nesterov: maybe}
    optim.nesterov: expected true or false, got 'maybe'. Write for example false.
label: 7
    label: expected text, got 7. Put it in quotes.
label: true
    label: expected text, got true. Put it in quotes.
label: [a]
    label: expected text, got a list.
data: {name: fashion-mnist-10k, classes: [a, 3]}
    data.classes[1]: expected text, got 3. Put it in quotes.
data: {name: fashion-mnist-10k, classes: [a, ~]}
    data.classes[1]: expected text, got null. Put it in quotes.
data: {name: fashion-mnist-10k, classes: a}
    data.classes: expected a list, got 'a'. Write for example [a].
data: {name: fashion-mnist-10k, classes: "a, no"}
    data.classes: expected a list, got 'a, no'. Write for example [a, 'no'].
model: {name: small-cnn, widths: 3}
    model.widths: expected a list, got 3. Write for example [3].
model: {name: small-cnn, widths: many}
    model.widths: expected a list, got 'many'. Write for example [32, 64].
out: 3
    out: expected text, got 3. Put it in quotes.
train: 5
    train: expected a section, got 5. Write for example {epochs: 10}.
train: [5]
    train: expected a section, got a list. Write for example {epochs: 10}.
weights: 5
    weights: expected a section, got 5.
weights: {a: b}
    weights.a: expected a number, got 'b'.
train: {warmup: 5}
    train.warmup: expected a section, got 5. Write for example {epochs: 1}.
train: {warmup: {steps: 1.5}}
    train.warmup.steps: expected a whole number, got 1.5. Write for example 1000.
train: {warmup: {minutes: 1}}
    train.warmup.minutes: unknown key. Known here: epochs, steps, examples.
train: {warmup: {}}
    train.warmup: expected one of epochs, steps or examples, got none.
train: {look: {steps: 0}}
    train.look: must be more than 0. Write for example {epochs: 1}.
train: {look: {}}
    train.look: expected one of epochs, steps or examples, got none.
train: {scale: [0.5]}
    train.scale[1]: missing.
train: {scale: [0.5, 1, 2]}
    train.scale: must have at most 2 items, got 3.
train: {scale: [0.5, a]}
    train.scale[1]: expected a number, got 'a'.

# several types
train: {workers: -1}
    train.workers: must be at least 0, got -1.
train: {workers: aut}
    train.workers: expected a whole number or auto, got 'aut'. Did you mean auto?
train: {workers: 1.5}
    train.workers: expected a whole number or auto, got 1.5. Write for example auto.
train: {every: a}
    train.every: expected a whole number or a section, got 'a'. Write for example 100.
train: {every: {steps: a}}
    train.every.steps: expected a whole number, got 'a'. Write for example 1000.
train: {every: {}}
    train.every: expected one of epochs, steps or examples, got none.
model: {name: resnet18, small_stem: on}
    model.small_stem: expected true, false or auto, got 'on'. Write for example true.

# values
train: {batch_size: 0}
    train.batch_size: must be at least 1, got 0.
optim: {lr: 0}
    optim.lr: must be more than 0, got 0.
optim: {momentum: 1.0}
    optim.momentum: must be less than 1, got 1.0.
transfer: {min_loaded: 95}
    transfer.min_loaded: must be at most 1, got 95.
train: {multiple: 12}
    train.multiple: must be a multiple of 8, got 12.
model: {name: small-cnn, widths: []}
    model.widths: must have at least 1 item, got 0.
model: {name: small-cnn, widths: [5.5]}
    model.widths[0]: expected a whole number, got 5.5.
code: abcd
    code: must have at most 3 characters, got 4.
code: A
    code: 'A' does not have the form ^[a-z]+$. Write for example a.
train: {precision: fp8}
    train.precision: 'fp8' is not one of auto, fp32, bf16, fp16. Did you mean fp16?
train: {precision: best}
    train.precision: 'best' is not one of auto, fp32, bf16, fp16.
train: {precision: 16}
    train.precision: 16 is not one of auto, fp32, bf16, fp16.
optim: {lr: {DIGITS}}
    optim.lr: a number of more than 300 digits. Put it in quotes if it is text.
optim: {lr: .inf}
    optim.lr: .inf is not a finite number. Put it in quotes if it is text.

# our own validators
train: {crop: 3}
    train.crop: 3 is odd; take 4.
train: {batch_size: 13}
    train: batch_size 13 brings bad luck.
"""
PLACEHOLDERS = {"{LONG}": "x" * 100, "{SHORT}": "x" * 59, "{DIGITS}": "9" * 301}


def rows() -> Iterator[tuple[str, str]]:
    """The pairs of the table: what the config says, and the sentence it gets."""
    table = TABLE
    for name, text in PLACEHOLDERS.items():
        table = table.replace(name, text)
    lines = [line for line in table.splitlines() if line and not line.startswith("#")]
    yield from zip(lines[::2], map(str.strip, lines[1::2]), strict=True)


SENTENCES = list(rows())


@pytest.mark.parametrize(("text", "sentence"), SENTENCES)
def test_mistake_gets_its_sentence(write: Write, text: str, sentence: str) -> None:
    data = "" if text.startswith("data:") else "data: {name: fashion-mnist-10k}\n"
    line = 2 if data else 1
    lines = report(write(f"{data}{text}\n"))
    assert lines == [f"run.yaml:{line}: {sentence}", "1 fault in run.yaml; nothing was run."]


@pytest.mark.parametrize(("text", "_sentence"), SENTENCES)
def test_no_sentence_speaks_of_the_machinery(write: Write, text: str, _sentence: str) -> None:
    said = " ".join(report(write(text))).lower()
    for machinery in (
        "pydantic",
        "discriminator",
        "union",
        "literal",
        "_type",
        "validat",
        "input",
        "error",
        "tag:",
    ):
        assert machinery not in said


def test_missing_key_has_the_line_of_its_section(write: Write) -> None:
    assert report(write("seed: 1\n\ndata:\n  name: folder\n")) == [
        "run.yaml:3: data.root: missing. Write for example images.",
        "1 fault in run.yaml; nothing was run.",
    ]
    assert report(write("\nseed: 1\n"))[0] == "run.yaml:1: data: missing. Write for example {name: fashion-mnist-10k}."


def test_two_values_that_do_not_go_together_are_placed_at_the_one_to_change(write: Write) -> None:
    sentence = "optim.momentum: 0 does not go with train.batch_size: 7. Leave one out."
    path = write("data: {name: fashion-mnist-10k}\ntrain: {batch_size: 7}\noptim:\n  lr: 1\n  momentum: 0\n")
    assert report(path)[0] == f"run.yaml:5: {sentence}"
    path = write("data: {name: fashion-mnist-10k}\ntrain: {batch_size: 7}\n")
    assert report(path, "optim.momentum=0")[0] == f"--set optim.momentum=0: {sentence}"


def test_missing_key_without_a_file_has_no_line() -> None:
    assert report(None) == [
        "command line: data: missing. Write for example {name: fashion-mnist-10k}.",
        "1 fault in command line; nothing was run.",
    ]


def test_faults_of_text_values_and_overrides_come_together(write: Write) -> None:
    path = write("seed: x\nseed: 2\noptim: {lr: .inf}\ntrain:\n  epochs: 0\ndata: {name: folder, root: a}\n")
    assert report(path, "train.lr=abc", "train.batch_size=0", "seed.a=1", "out", "=1", "a..b=1", "label=[x") == [
        "--set out: expected key=value, for example optim.lr=0.1.",
        "--set =1: the key before = is empty or has an empty part.",
        "--set a..b=1: the key before = is empty or has an empty part.",
        "--set label=[x: label: a bracket opens here and is never closed by ']'.",
        "--set seed.a=1: seed.a: seed is 'x', which has no keys. Set it as a whole.",
        "--set train.batch_size=0: train.batch_size: must be at least 1, got 0.",
        "--set train.lr=abc: train.lr: unknown key. Did you mean optim.lr?",
        "run.yaml:1: seed: expected a whole number, got 'x'. Write for example 0.",
        "run.yaml:2: seed: already set in line 1. Keep one of the two.",
        "run.yaml:3: optim.lr: .inf is not a finite number. Put it in quotes if it is text.",
        "run.yaml:5: train.epochs: must be at least 1, got 0.",
        "11 faults in run.yaml; nothing was run.",
    ]


def test_fault_inside_an_override_is_placed_there(write: Write) -> None:
    path = write("data: {name: fashion-mnist-10k}\nmodel:\n  name: resnet18\n  in_channels: 0\n")
    assert report(path, "model={name: resnet50, in_channels: 9}", "optim.momentum=2", "train.warmup.steps=x")[:-1] == [
        "--set model={name: resnet50, in_channels: 9}: model.in_channels: must be at most 4, got 9.",
        "--set optim.momentum=2: optim.momentum: must be less than 1, got 2.",
        "--set train.warmup.steps=x: train.warmup.steps: expected a whole number, got 'x'. Write for example 1000.",
    ]
    assert (
        report(None, "data.name=folder")[0] == "--set data.name=folder: data.root: missing. Write for example images."
    )


def test_every_fault_of_the_text_of_an_override_is_told_with_its_key() -> None:
    twice, two = "train={steps: 2, steps: 3}", "data={classes: [.inf], root: *a}"
    assert report(None, "data.name=fashion-mnist-10k", twice, two, "seed={a: [}", "optim.lr=.inf")[:-1] == [
        f"--set {two}: data.classes[0]: .inf is not a finite number. Put it in quotes if it is text.",
        f"--set {two}: data.root: aliases (*a) are not supported. Write the value again.",
        "--set optim.lr=.inf: optim.lr: .inf is not a finite number. Put it in quotes if it is text.",
        "--set seed={a: [}: seed: a value is missing here.",
        f"--set {twice}: train.steps: there twice. Keep one of the two.",
    ]


def test_override_of_a_name_leaves_faults_of_the_old_keys_in_the_file(write: Write) -> None:
    path = write("data: {name: fashion-mnist-10k}\nmodel:\n  name: small-cnn\n  widths: [3]\n")
    assert report(path, "model.name=resnet18")[:-1] == [
        "run.yaml:4: model.widths: unknown key. Known here: name, in_channels, small_stem."
    ]


def test_override_can_repair_a_fault_of_the_file(write: Write) -> None:
    path = write("data: {name: fashion-mnist-10k}\nseed: x\n")
    assert load(path, PretrainConfig, ["seed=4"]).seed == 4


def test_override_nested_too_deep_is_refused() -> None:
    assert "nested deeper than 20 levels" in report(None, ".".join("a" * 21) + "=1")[0]


def test_hundreds_of_faults_are_counted_after_the_first_fifty(write: Write) -> None:
    keys = "\n".join(f"zzz{number}: 1" for number in range(500))
    lines = report(write(f"data: {{name: fashion-mnist-10k}}\n{keys}\n"))
    assert len(lines) == 52
    assert "run.yaml:1: and 450 more faults." in lines
