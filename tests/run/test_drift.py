"""A run goes on only as what it is: every kind of drift has its exit code and its sentence."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from making import Ptft, write_config
from PIL import Image
from test_numbers import differing

from ptft import checkpoint
from ptft.checkpoint import Metadata
from ptft.data.records import Part
from ptft.data.sources import Folder
from ptft.data.splits import split
from ptft.data.task import Task, prepare
from ptft.errors import CheckpointError, DataError
from ptft.run.drift import MAY_CHANGE, check_listing, compare_data
from ptft.run.identity import Identity
from ptft.settings import PretrainConfig

README = (Path(__file__).parents[2] / "README.md").read_text("utf-8")


@pytest.fixture
def short(tmp_path: Path, photos: Path) -> Path:
    """Config of a run of 12 steps with a checkpoint every 4, and some keys that are not at their defaults."""
    return write_config(
        tmp_path / "run.yaml",
        augment={"name": "photo", "hue": 0.1},
        objective={"label_smoothing": 0.1},
        train={"clip_norm": 1.0, "patience": 50},
        checkpoint={"every": {"steps": 4}, "keep": 3},
    )


def unfinished(ptft: Ptft, config: Path) -> Path:
    """The folder of a run of which 8 of 12 steps are done."""
    assert ptft("pretrain", config, "--set", "train.on_nonfinite=stop").code == 0
    folder = Path("runs/run")
    for path in (folder / "status.json", folder / "checkpoints" / "last.pt", folder / "checkpoints/step-000000012.pt"):
        path.unlink()
    return folder


def without(path: Path, section: str, key: str) -> None:
    """Rewrites a checkpoint as a ptft would have written it that did not know the key yet."""
    found = checkpoint.read(path)
    config = {name: dict(part) if isinstance(part, dict) else part for name, part in found.metadata.config.items()}
    del config[section][key]
    checkpoint.write(path, found.metadata.model_copy(update={"config": config}), found.tensors)


def test_a_run_from_before_a_key_was_there_goes_on_with_its_default(ptft: Ptft, short: Path) -> None:
    folder = unfinished(ptft, short)
    for path in (folder / "checkpoints").glob("*.pt"):
        without(path, "train", "resize")
    result = ptft("pretrain", short, "--resume")
    assert result.code == 0, result.err
    assert "resumed at step 8" in result.err


def test_a_run_from_before_a_period_of_0_was_refused_goes_on(ptft: Ptft, short: Path) -> None:
    folder = unfinished(ptft, short)
    stored = folder / "config.yaml"
    stored.write_text(stored.read_text().replace("every:\n    steps: 4", "every:\n    steps: 0"))
    assert "steps: 0" in stored.read_text()
    for path in folder.glob("checkpoints/*.pt"):
        found = checkpoint.read(path)
        config = {**found.metadata.config, "checkpoint": {"every": {"steps": 0}, "keep": 3}}
        checkpoint.write(path, found.metadata.model_copy(update={"config": config}), found.tensors)
    assert "checkpoint.every: must be more than 0" in ptft("pretrain", short, "--set", "checkpoint.every.steps=0").err
    for _ in range(2):  # to its end, and once it is there
        assert ptft("pretrain", short, "--resume").path == folder / "checkpoints" / "best.pt"


def test_control_a_value_that_is_no_default_is_another_run(ptft: Ptft, short: Path) -> None:
    folder = unfinished(ptft, short)
    for path in (folder / "checkpoints").glob("*.pt"):
        without(path, "objective", "label_smoothing")
    result = ptft("pretrain", short, "--resume")
    assert result.code == 4
    assert "objective.label_smoothing is 0.0 there and 0.1 here" in result.err


DRIFTS = [
    ("seed=3", "seed: the run has 0, now 3"),
    ("data.classes=[red, green]", "data.classes: the run has null, now [red, green]"),
    ("data.validation=0.2", "data.validation: the run has 0.1, now 0.2"),
    ("data.split_seed=1", "data.split_seed: the run has 0, now 1"),
    ("data.image_size=16", "data.image_size: the run has 12, now 16"),
    ("data.store_size=24", "data.store_size: the run has null, now 24"),
    ("data={name: fashion-mnist-10k}", "data.name: the run has folder, now fashion-mnist-10k"),
    ("augment.hue=0.2", "augment.hue: the run has 0.1, now 0.2"),
    ("augment={name: none}", "augment.name: the run has photo, now none"),
    ("model.width=8", "model.width: the run has 4, now 8"),
    ("model={name: small-resnet}", "model.name: the run has small-cnn, now small-resnet"),
    ("objective.label_smoothing=0.0", "objective.label_smoothing: the run has 0.1, now 0.0"),
    ("optim.lr=0.5", "optim.lr: the run has 0.1, now 0.5"),
    ("optim={name: adamw}", "optim.name: the run has sgd, now adamw"),
    ("schedule={name: linear}", "schedule.name: the run has cosine, now linear"),
    ("schedule.warmup={steps: 3}", "schedule.warmup: the run has null, now {steps: 3}"),
    ("train.batch_size=4", "train.batch_size: the run has 8, now 4"),
    ("train.precision=bf16", "train.precision: the run has fp32, now bf16"),
    ("train.memory_format=channels_last", "train.memory_format: the run has contiguous, now channels_last"),
    ("train.sampling=balanced", "train.sampling: the run has uniform, now balanced"),
    ("train.clip_norm=null", "train.clip_norm: the run has 1.0, now null"),
    ("train.ema=0.9", "train.ema: the run has null, now 0.9"),
]


def test_each_kind_of_drift_in_the_config_is_refused_by_its_key(ptft: Ptft, short: Path) -> None:
    folder = unfinished(ptft, short)
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.name != ".lock"}
    for setting, sentence in DRIFTS:
        result = ptft("pretrain", short, "--resume", "--set", setting)
        assert (result.code, result.out) == (2, ""), setting
        assert result.err.splitlines()[1:2] == [f"  {sentence}"], setting
        assert len(result.err.splitlines()) == 3, setting
    after = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.name != ".lock"}
    assert before == after


def test_all_drifts_are_told_at_once(ptft: Ptft, short: Path) -> None:
    unfinished(ptft, short)
    result = ptft("pretrain", short, "--resume", "--set", "seed=1", "--set", "optim.lr=1.0", "--set", "device=auto")
    assert [line.split(":")[0].strip() for line in result.err.splitlines()[1:-1]] == ["seed", "optim.lr"]
    assert "Resume it with its own config, or choose another folder with --out. What may change: " in result.err


def test_the_drift_of_a_finetuning_is_refused_by_its_key(ptft: Ptft, short: Path) -> None:
    source = ptft("pretrain", short, "--out", "source").path
    command = ["finetune", "--from", source, "--data", "photos", "--set", "train.steps=2", "--out", "b", "--resume"]
    assert ptft(*command).code == 0
    assert ptft(*command).out == "b/checkpoints/best.pt\n"
    result = ptft(*command, "--set", "transfer.recipe=probe")
    assert result.code == 2
    assert "transfer.recipe: the run has full, now probe" in result.err
    result = ptft(
        "finetune", "--from", source.with_name("last.pt"), *command[3:], "--set", "model={name: small-resnet}"
    )
    assert "model.name: the run has small-cnn, now small-resnet" in result.err


def repaint(photos: Path) -> None:
    Image.fromarray(np.full((12, 12, 3), 7, np.uint8)).save(an_image(photos, "train"))


def an_image(photos: Path, part: Part) -> Path:
    """One of a part."""
    config = Folder(name="folder", root=str(photos))
    return photos / split(config.open(), config, seed=0)[1][part][0].name


def repaint_held_out(photos: Path) -> None:
    Image.fromarray(np.full((12, 12, 3), 7, np.uint8)).save(an_image(photos, "validation"))


def add(photos: Path) -> None:
    shutil.copy(photos / "red" / "000.jpg", photos / "red" / "zzz.jpg")
    shutil.copy(photos / "red" / "000.jpg", photos / "red" / "yyy.jpg")


def remove(photos: Path) -> None:
    an_image(photos, "train").unlink()


def relabel(photos: Path) -> None:
    """Two images change places: the numbers stay."""
    red, blue = photos / "red" / "000.jpg", photos / "blue" / "zzz.jpg"
    red.replace(blue)
    (photos / "blue" / "000.jpg").replace(photos / "red" / "zzz.jpg")


def rename_class(photos: Path) -> None:
    (photos / "red").replace(photos / "rouge")


def rename_image(photos: Path) -> None:
    image = an_image(photos, "train")
    image.replace(image.with_name("another" + image.suffix))


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (repaint, "the content of a training image is another"),
        (repaint_held_out, "the content of a validation or test image is another"),
        (add, "training images then, "),
        (remove, "42 training images then, 41 now"),
        (relabel, "an image has another name or class, or was added to or removed from another part"),
        (rename_image, "an image has another name or class, or was added to or removed from another part"),
        (rename_class, "class 'red' is gone; class 'rouge' is new"),
    ],
)
def test_each_kind_of_drift_in_the_data_is_refused_by_what_changed(
    ptft: Ptft, short: Path, photos: Path, change: Callable[[Path], None], sentence: str
) -> None:
    unfinished(ptft, short)
    change(photos)
    result = ptft("pretrain", short, "--resume")
    assert result.code == 3, result.err
    told = result.err.splitlines()[-1]
    assert told.startswith("ptft: folder photos changed since this run began: ")
    assert sentence in told
    assert told.endswith("Restore it, or start a new run with --out.")


def test_images_in_another_place_are_the_same_images(ptft: Ptft, short: Path, photos: Path) -> None:
    whole = ptft("pretrain", short, "--out", "whole").path.parent.parent
    unfinished(ptft, short)
    photos.replace(photos.with_name("elsewhere"))
    result = ptft("pretrain", short, "--resume", "--set", "data.root=elsewhere")
    assert result.code == 0, result.err
    assert "data.root: was photos, is now elsewhere; the images themselves are compared." in result.err
    assert differing(whole, Path("runs/run")) == []


@pytest.mark.parametrize("finished", [True, False])
def test_a_run_goes_on_for_longer_and_says_what_becomes_of_the_learning_rate(
    ptft: Ptft, short: Path, finished: bool
) -> None:
    folder = ptft("pretrain", short).path.parent.parent if finished else unfinished(ptft, short)
    step = 12 if finished else 8
    result = ptft("pretrain", short, "--resume", "--json", "--set", "train.steps=20")
    assert result.code == 0, result.err
    assert f"resumed at step {step} of 20" in result.err
    assert f"20 steps instead of 12: from step {step} on the learning rate follows the cosine schedule" in result.err
    assert (result.json["steps"], result.json["reason"]) == (20, "all steps done")
    metadata = checkpoint.read(folder / "checkpoints" / "last.pt").metadata
    assert (metadata.step, metadata.num_steps) == (20, 20)
    assert "steps: 20" in (folder / "config.yaml").read_text()
    log = (folder / "log.txt").read_text()
    assert "config.yaml until now:" in log
    assert "  steps: 12" in log
    assert ptft("pretrain", short, "--resume", "--set", "train.steps=20").out == "runs/run/checkpoints/best.pt\n"


def test_the_learning_rate_after_it_is_that_of_the_longer_run(ptft: Ptft, short: Path) -> None:
    from ptft.report.journal import read_metrics
    from ptft.run_folder import RunFolder

    ptft("pretrain", short, "--set", "train.steps=20", "--out", "long")
    ptft("pretrain", short)
    ptft("pretrain", short, "--resume", "--set", "train.steps=20")
    rates = [
        {line["step"]: line["lr"] for line in read_metrics(RunFolder(Path(out))) if "lr" in line}
        for out in ("long", "runs/run")
    ]
    assert rates[0].keys() == rates[1].keys() == set(range(1, 21))
    assert {step for step in rates[0] if rates[0][step] == rates[1][step]} >= set(range(13, 21))
    assert rates[0][12] != rates[1][12]


def test_epochs_can_become_steps_and_the_other_way_round(ptft: Ptft, short: Path) -> None:
    short.write_text(short.read_text().replace('"steps": 12, "batch', '"epochs": 2, "batch'))
    assert ptft("pretrain", short).code == 0
    result = ptft("pretrain", short, "--resume", "--json", "--set", "train.epochs=null", "--set", "train.steps=15")
    assert (result.code, result.json["steps"]) == (0, 15)


def test_shortening_below_what_is_done_is_refused_and_a_finished_run_stays_finished(ptft: Ptft, short: Path) -> None:
    path = ptft("pretrain", short).path
    result = ptft("pretrain", short, "--resume", "--set", "train.steps=7")
    assert result.code == 2
    assert "7 steps are fewer than the 12 that are done" in result.err
    assert ptft("pretrain", short, "--resume").path == path


def test_a_run_may_end_earlier_than_planned_when_that_is_still_ahead(ptft: Ptft, short: Path) -> None:
    unfinished(ptft, short)
    assert ptft("pretrain", short, "--resume", "--json", "--set", "train.steps=10").json["steps"] == 10


def test_what_is_allowed_is_in_the_readme_and_goes_through(ptft: Ptft, short: Path) -> None:
    table = README.partition("What may change when a run goes on")[2].partition("\n## ")[0]
    assert {key for key in MAY_CHANGE if f"`{key}`" not in table} == set()
    unfinished(ptft, short)
    settings = [
        "device=auto",
        "data.on_bad_image=skip",
        "data.max_bad_images=3",
        "data.max_pixels=1000000",
        "train.accumulate=2",
        "train.evaluate_every={steps: 3}",
        "train.patience=null",
        "train.max_minutes=60.0",
        "train.on_nonfinite=skip",
        "train.max_nonfinite=9",
        "checkpoint.every={steps: 2}",
        "checkpoint.keep=1",
    ]
    result = ptft("pretrain", short, "--resume", *(part for text in settings for part in ("--set", text)))
    assert result.code == 0, result.err
    said = result.err.partition("goes on with another config:")[2]
    assert all(f"  {setting.partition('=')[0]}: was " in said for setting in settings)
    assert "train.patience: was 50, is now null; training may end at another step." in said


def test_a_change_that_contradicts_the_rest_of_the_run_is_told(ptft: Ptft, short: Path) -> None:
    short.write_text(short.read_text().replace('"batch_size": 8, ', ""))
    assert ptft("pretrain", short, "--set", "train.batch_size=8").code == 0
    result = ptft("pretrain", short, "--resume", "--set", "train.accumulate=50")
    assert (result.code, "accumulate is 50, more than batch_size 8" in result.err) == (2, True)


@pytest.mark.parametrize("setting", ["train.patience=400", "train.max_minutes=60.0"])
def test_a_run_that_ended_early_goes_on_when_its_limit_is_raised(ptft: Ptft, short: Path, setting: str) -> None:
    limits = ["train.patience=1", "optim.lr=1.0e-9", "train.evaluate_every={steps: 2}", "train.steps=16"]
    if "minutes" in setting:
        limits = ["train.max_minutes=0.0001", "train.steps=16"]
    flags = [part for text in limits for part in ("--set", text)]
    assert ptft("pretrain", short, *flags, "--json").json["steps"] < 16
    assert ptft("pretrain", short, *flags, "--resume", "--set", setting, "--json").json["steps"] == 16


def begun(task: Task, **changes: object) -> Metadata:
    """Of a run that began with these images; `changes` in what it remembers of them."""
    counts = {"num_validation": changes.pop("num_validation", len(task.parts.get("validation", ())))}
    seen = {"fingerprint": task.fingerprint, "listing": task.listing, "held_out": task.held_out}
    data = {"origin": task.origin, "num_examples": len(task.train), "classes": task.classes} | seen | changes
    own = {"command": "pretrain", "digest": None, "data": data, "model": "small-cnn", "steps": 1} | counts
    format_ = {"image_size": 12, "in_channels": 3, "mean": task.format.mean, "std": task.format.std}
    run = {"command": "pretrain", "step": 1, "num_steps": 1, "config": {}, "classes": task.classes, "lineage": (own,)}
    return Metadata.model_validate(run | format_)


def test_a_run_from_before_held_out_images_were_remembered_goes_on(photos: Path) -> None:
    data = Folder(name="folder", root=str(photos))
    task = prepare(data.open(), data, seed=0)
    assert compare_data(begun(task), task) == compare_data(begun(task, held_out=""), task) == []
    held_out = ["the content of a validation or test image is another"]
    assert compare_data(begun(task, held_out="0"), task) == held_out
    assert compare_data(begun(task, num_validation=1), task) == ["1 validation images then, 6 now"]


def test_the_few_labels_of_a_finished_run_are_those_of_its_seed(photos: Path) -> None:
    section = {"name": "folder", "root": str(photos), "labels_per_class": 5}
    config = PretrainConfig.model_validate({"seed": 1, "data": section})
    task = prepare(config.data.open(), config.data, seed=1)
    check_listing(begun(task), config)
    with pytest.raises(DataError, match="has other images than those that the finished run was trained on"):
        check_listing(begun(task), config.model_copy(update={"seed": 2}))


def test_a_key_that_only_one_of_two_runs_has_tells_their_checkpoints_apart(ptft: Ptft, config: Path) -> None:
    found = checkpoint.read(ptft("pretrain", config).path)
    plain = PretrainConfig.model_validate(found.metadata.config)
    clipped = plain.model_copy(update={"train": plain.train.model_copy(update={"clip_norm": 1.0})})
    for theirs, ours in ((plain, clipped), (clipped, plain)):
        metadata = found.metadata.model_copy(update={"config": theirs.model_dump(mode="json")})
        other = replace(found, metadata=metadata)
        Identity.of(theirs).check(other)
        with pytest.raises(CheckpointError, match=r"train\.clip_norm is"):
            Identity.of(ours).check(other)


def test_of_a_line_of_runs_the_one_before_is_the_parent(ptft: Ptft, config: Path) -> None:
    found = checkpoint.read(ptft("pretrain", config).path)
    (own,) = found.metadata.lineage
    lineage = (*(own.model_copy(update={"digest": digest}) for digest in ("first", "second")), own)
    child = replace(found, metadata=found.metadata.model_copy(update={"lineage": lineage}))
    identity = Identity.of(PretrainConfig.model_validate(found.metadata.config))
    replace(identity, parent="second").check(child)
    with pytest.raises(CheckpointError, match="it started from another checkpoint"):
        replace(identity, parent="first").check(child)
