"""What a task has no use for is refused before anything is read, in a sentence; nothing is passed over."""

from pathlib import Path
from typing import Any

import pytest
from making import Ptft, make_images
from making_tasks import MULTI, NUMBERS, Shapes, write

from ptft.config.load import load
from ptft.errors import ConfigError
from ptft.settings import FinetuneConfig, PretrainConfig

BOTH = [
    ("data.labels_per_class=5", "counts images of one class each"),
    ("data.validation_per_class=5", "counts images of one class each"),
    ("train.sampling=balanced", "belongs to task.name: single-label"),
    ("data={name: folder, root: photos}", "has one class for each image. Write data.name: csv"),
]
SEVERAL = [("task.columns=[red, red]", "named more than once: red")]
REGRESSION = [
    ("data.classes=[light, half]", "the numbers are named by task.targets"),
    ("objective.label_smoothing=0.1", "is about classes, and a regression has none"),
    ("objective.class_weights=balanced", "is about classes, and a regression has none"),
    ("objective.mixup=0.2", "blends the labels of classes"),
    ("objective.cutmix=0.2", "blends the labels of classes"),
    ("task.targets=[light, light]", "named more than once: light"),
    ("task.targets=[light, light_low]", "'light_low' is what an end of the interval of 'light' is called"),
    ("task.targets=[light, light_high]", "'light_high' is what an end of the interval of 'light' is called"),
]


@pytest.mark.parametrize(
    ("sections", "setting", "told"),
    [(MULTI, *row) for row in BOTH + SEVERAL] + [(NUMBERS, *row) for row in BOTH + REGRESSION],
    ids=lambda value: value if isinstance(value, str) else value["task"]["name"],
)
def test_a_key_that_the_task_has_no_use_for_is_refused(
    tmp_path: Path, sections: dict[str, Any], setting: str, told: str
) -> None:
    config = write(tmp_path / "run.yaml", sections)
    load(config, FinetuneConfig)
    with pytest.raises(ConfigError) as raised:
        load(config, FinetuneConfig, [setting])
    assert told in str(raised.value)
    assert setting.split("=")[0] in str(raised.value)


def test_what_the_tasks_can_use_is_accepted(tmp_path: Path) -> None:
    config = write(tmp_path / "run.yaml", MULTI)
    settings = ["objective.label_smoothing=0.1", "objective.class_weights=balanced", "objective.mixup=0.2"]
    found = load(config, PretrainConfig, [*settings, "objective.cutmix=0.2", "data.classes=[red, blue]"])
    kept = found.objective
    assert (kept.label_smoothing, kept.class_weights, kept.mixup, kept.cutmix) == (0.1, "balanced", 0.2, 0.2)
    assert found.data.classes == ("red", "blue")


@pytest.mark.parametrize("sections", [MULTI, NUMBERS], ids=["multi-label", "regression"])
def test_compare_and_score_need_one_class_an_image(
    ptft: Ptft, shapes: Shapes, tmp_path: Path, sections: dict[str, Any]
) -> None:
    make_images(tmp_path / "photos", {"blue": (40, 60, 200), "red": (210, 50, 40)}, 6)
    single = ptft("pretrain", write(tmp_path / "single.yaml", {"data": {"name": "folder", "root": "photos"}})).path
    config = write(tmp_path / "run.yaml", sections)
    compared = ptft("compare", config, "--from", single)
    assert compared.code == 2
    assert "a comparison needs single-label" in compared.err
    scored = ptft("score", single, "--data", config)
    assert scored.code == 2
    assert "score needs a single-label task" in scored.err


def test_predict_has_no_top_of_a_set_or_of_numbers(ptft: Ptft, shapes: Shapes, tmp_path: Path) -> None:
    trained = ptft("pretrain", write(tmp_path / "run.yaml", MULTI), "--set", "train.steps=2").path
    result = ptft("predict", trained, "shapes/images", "--format", "jsonl", "--top", "2")
    assert result.code == 2
    assert "--top: belongs to single-label checkpoints" in result.err


def test_the_tasks_are_listed_in_a_line_each(ptft: Ptft) -> None:
    assert list(ptft("list", "tasks", "--json").json) == ["single-label", "multi-label", "regression"]
