"""Export: a file that other programs run, and that gives the checkpoint's answers."""

import contextlib
import copy
import csv
import io
import json
import logging
import os
import re
import shutil
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from making import Ptft, Result, write_config
from making_tasks import Shapes
from PIL import Image, ImageOps

from ptft import checkpoint

onnxruntime = pytest.importorskip("onnxruntime", reason="pip install 'ptft[onnx]'")
safetensors = pytest.importorskip("safetensors", reason="pip install 'ptft[safetensors]'")
README = (Path(__file__).parent.parent / "README.md").read_text("utf-8")


@pytest.fixture
def trained(ptft: Ptft, config: Path) -> Path:
    """Blue, green and red, with an average of the weights and six views of each image."""
    settings = ("train.steps=6", "train.ema=0.5", "data.num_views=6")
    return ptft("pretrain", config, *(word for setting in settings for word in ("--set", setting))).path


def predicted(ptft: Ptft, trained: Path, *paths: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(ptft("predict", trained, *paths).out)))


def pixels_of(path: Path, size: int) -> np.ndarray:
    image = ImageOps.fit(Image.open(path).convert("RGB"), (size, size), Image.Resampling.BILINEAR)
    return np.asarray(image).transpose(2, 0, 1)


def answers(file: Path, images: list[Path], size: int = 12) -> np.ndarray:
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    found: np.ndarray = session.run(None, {"images": np.stack([pixels_of(path, size) for path in images])})[0]
    return found


def facts_of(file: Path) -> dict[str, str]:
    if file.suffix == ".onnx":
        facts: dict[str, str] = onnxruntime.InferenceSession(file).get_modelmeta().custom_metadata_map
        return facts
    with safetensors.safe_open(file, framework="pt") as opened:
        return dict(opened.metadata())


def test_the_program_in_the_readme_says_what_predict_says(ptft: Ptft, trained: Path, photos: Path) -> None:
    assert ptft("export", trained, "--out", "photos.onnx").out == "photos.onnx\n"
    (program,) = re.findall(r"```python\n(.*?)```", README, re.S)
    for kind in ("wide", "turned", "see-through", "palette", "grey"):
        make_photo(photos / "red" / "000.jpg", kind)
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            exec(program, {})
        label, probability = out.getvalue().split()
        (row,) = predicted(ptft, trained, Path("photo.jpg"))
        assert label == row["label"], kind
        assert float(probability) == pytest.approx(float(row["probability"]), abs=1e-4), kind


def make_photo(origin: Path, kind: str) -> None:
    """`photo.jpg`, whatever is in it; ptft and Pillow look at the content alone."""
    image = Image.open(origin).resize((40, 29))
    if kind == "turned":
        image.paste((255, 255, 255), (0, 0, 40, 9))
        exif = Image.Exif()
        exif[0x0112] = 6
        image.save("photo.jpg", format="PNG", exif=exif)
    elif kind in ("see-through", "palette"):
        image.putalpha(Image.linear_gradient("L").resize(image.size))
        image = image.quantize(32) if kind == "palette" else image
        image.save("photo.jpg", format="PNG")
    else:
        (image.convert("L") if kind == "grey" else image).save("photo.jpg", quality=95)


def test_onnx_takes_any_number_of_images_and_answers_as_predict(ptft: Ptft, trained: Path, photos: Path) -> None:
    result = ptft("export", trained, "--out", "a.onnx")
    size = Path("a.onnx").stat().st_size / 1e3
    assert result.err.startswith(f"ONNX: {size:.1f} kB, images uint8 (batch, 3, 12, 12) to probabilities (batch, 3)\n")
    assert f"proof: on 4 fixed images ONNX Runtime gives the logits of {trained}, largest difference " in result.err
    images = sorted((photos / "green").iterdir())[:7]
    rows = predicted(ptft, trained, *images)
    for some in (images, images[:1]):
        found = answers(Path("a.onnx"), some)
        assert found.dtype == np.float32
        assert found.shape == (len(some), 3)
        assert np.allclose(found.sum(1), 1)
        for row, shares in zip(rows, found, strict=False):
            assert sorted(["blue", "green", "red"])[shares.argmax()] == row["label"]
            assert shares.max() == pytest.approx(float(row["probability"]), abs=1e-5)


def test_the_file_says_what_a_program_must_know(ptft: Ptft, trained: Path) -> None:
    told = ptft("export", trained, "--out", "a.onnx", "--json").json
    ptft("export", trained, "--out", "a.safetensors")
    found = checkpoint.read(trained)
    onnx, weights = facts_of(Path("a.onnx")), facts_of(Path("a.safetensors"))
    for facts in (onnx, weights):
        assert json.loads(facts["classes"]) == ["blue", "green", "red"]
        assert (facts["task"], facts["model"], facts["image_size"], facts["in_channels"]) == (
            "single-label",
            "small-cnn",
            "12",
            "3",
        )
        assert facts["digest"] == found.digest
        assert "centred square" in facts["preparation"]
    assert "mean" not in onnx, "normalised inside: who reads it would do it twice"
    assert json.loads(weights["mean"]) == pytest.approx(found.metadata.mean)
    assert json.loads(weights["std"]) == pytest.approx(found.metadata.std)
    assert weights["num_views"] == "6"
    assert weights["format"] == "pt"
    assert told["classes"] == ["blue", "green", "red"]
    assert told["bytes"] == Path("a.onnx").stat().st_size
    assert 0 <= told["largest_difference"] <= 1e-5
    assert (told["format"], told["file"], told["checkpoint"]) == ("ONNX", "a.onnx", str(trained))
    assert "mean" not in told
    assert ptft("export", trained, "--out", "a.safetensors", "--json").json["std"] == pytest.approx(found.metadata.std)


def test_several_labels_and_numbers_are_answered_in_their_own_terms(ptft: Ptft, tmp_path: Path) -> None:
    shapes = Shapes(tmp_path / "shapes")
    images = shapes.files_to_test()[:5]
    tasks: dict[str, dict[str, Any]] = {
        "labels.csv": {"name": "multi-label", "threshold": 0.3},
        "numbers.csv": {"name": "regression", "targets": ["light", "half"]},
    }
    for table, task in tasks.items():
        config = tmp_path / f"{task['name']}.yaml"
        config.write_text(
            json.dumps(
                {
                    "data": {"name": "csv", "path": str(shapes.folder / table)},
                    "task": task,
                    "model": {"name": "small-cnn", "width": 4},
                    "train": {"steps": 8, "batch_size": 8, "precision": "fp32"},
                }
            )
        )
        run = ptft("pretrain", config, "--out", task["name"]).path
        file = Path(f"{task['name']}.onnx")
        told = ptft("export", run, "--out", file)
        assert told.code == 0, told.err
        rows = predicted(ptft, run, *images)
        names = json.loads(facts_of(file)["classes"])
        expected = [[float(row[name]) for name in names] for row in rows]
        assert answers(file, images) == pytest.approx(np.array(expected), rel=1e-4, abs=1e-5)
        output, logits = onnxruntime.InferenceSession(file).get_outputs()
        assert logits.name == "logits"
        assert output.name == ("targets" if task["name"] == "regression" else "probabilities")
        assert facts_of(file).get("threshold") == (json.dumps(0.3) if task["name"] == "multi-label" else None)


def a_regression(ptft: Ptft, folder: Path, first: int) -> tuple[Path, list[Path]]:
    """A checkpoint of one number for each image, some twenty from `first` on, and the images to test."""
    shapes = Shapes(folder / "shapes")
    rows = [[path, first + 20 * light, part] for path, part, _, light in shapes.rows]
    config = write_config(
        folder / "number.yaml",
        data={"name": "csv", "path": str(shapes.write("number.csv", ["path", "age", "split"], rows)), "root": None},
        task={"name": "regression", "targets": ["age"]},
    )
    return ptft("pretrain", config, "--out", "number").path, shapes.files_to_test()[:5]


def test_numbers_with_more_digits_than_float32_are_those_of_predict(ptft: Ptft, tmp_path: Path) -> None:
    run, images = a_regression(ptft, tmp_path, 1_700_000_000)
    assert ptft("export", run, "--out", "a.onnx").code == 0
    said = ptft("predict", run, *images, "--format", "jsonl").out.splitlines()
    expected = [json.loads(line)["targets"]["age"] for line in said]
    assert max(expected) - min(expected) > 0.1
    assert answers(Path("a.onnx"), images)[:, 0] == pytest.approx(expected, abs=1e-3)


def test_a_regressions_unit_comes_back_with_the_weights(ptft: Ptft, tmp_path: Path) -> None:
    run, images = a_regression(ptft, tmp_path, 40)
    ptft("export", run, "--out", "a.safetensors")
    words = ("transfer.recipe=full", "transfer.bn=frozen", "train.steps=1", "optim.lr=1e-9")
    quick = [part for word in words for part in ("--set", word)]
    again = ptft("finetune", "number.yaml", "--from", "a.safetensors", "--out", "again", *quick)
    assert again.code == 0, again.err
    before, after = (
        [float(row["age"]) for row in predicted(ptft, checkpoint_, *images)] for checkpoint_ in (run, again.path)
    )
    assert after == pytest.approx(before, rel=1e-3)
    for lacking in ("target_mean", "target_std"):
        refused = ptft("inspect", rewritten(Path("a.safetensors"), **{lacking: None}))
        assert refused.code == 4
        assert "target_mean and target_std need each other" in refused.err
    neither = ptft("inspect", rewritten(Path("a.safetensors"), target_mean=None, target_std=None))
    assert neither.code == 4


@pytest.fixture
def resnet(ptft: Ptft, photos: Path, config: Path) -> Callable[..., Path]:
    """Trains a network of torchvision for a step."""

    def train(name: str, *settings: str) -> Path:
        words = ["train.steps=2", "optim.lr=0.001", f"model={{name: {name}}}", "data.image_size=32", *settings]
        return ptft("pretrain", config, "--out", name, *(part for word in words for part in ("--set", word))).path

    return train


@pytest.mark.parametrize("name", ["resnet18", "googlenet", "mobilenet_v3_small", "shufflenet_v2_x0_5"])
def test_safetensors_are_what_torchvisions_own_network_takes(
    ptft: Ptft, resnet: Callable[..., Path], photos: Path, name: str
) -> None:
    from safetensors.torch import load_file
    from torchvision.models import get_model

    trained = resnet(name)
    told = ptft("export", trained, "--out", "a.safetensors")
    (call,) = re.findall(r"the tensors of torchvision\.models\.(get_model\(.*\))\n", told.err)
    assert f"torchvision's own {name} gives the logits of {trained}" in told.err
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torchvision's own, of slow initialisation
        net = eval(call, {"get_model": get_model}).eval()
    net.load_state_dict(load_file("a.safetensors"))
    facts = facts_of(Path("a.safetensors"))
    mean, std = (torch.tensor(json.loads(facts[key])).view(-1, 1, 1) for key in ("mean", "std"))
    images = sorted((photos / "red").iterdir())[:3]
    pixels = torch.tensor(np.stack([pixels_of(path, 32) for path in images])) / 255
    with torch.no_grad():
        shares = net((pixels - mean) / std).softmax(1)
    rows = predicted(ptft, trained, *images)
    assert [f"{share:.3f}" for share in shares.amax(1)] == pytest.approx(
        [f"{float(row['probability']):.3f}" for row in rows]
    )


def test_what_torchvisions_network_needs_beside_its_name_is_told(ptft: Ptft, resnet: Callable[..., Path]) -> None:
    trained = resnet("resnet18", "model.small_stem=true", "model.in_channels=1")
    told = ptft("export", trained, "--out", "a.safetensors").err
    assert (
        "get_model('resnet18', num_classes=3) with conv1 = Conv2d(1, 64, kernel_size=(3, 3), stride=(1, 1), "
        "padding=(1, 1), bias=False) and maxpool = Identity()\n"
    ) in told


def test_names_and_statistics_come_back_with_the_weights(ptft: Ptft, trained: Path, photos: Path) -> None:
    ptft("export", trained, "--out", "a.safetensors")
    told = ptft("inspect", "a.safetensors").out
    assert (
        f"Class names, image size, mean and std are those of checkpoint {checkpoint.read(trained).digest[:12]}" in told
    )
    settings = ("--set", "transfer.recipe=full", "--set", "train.steps=1", "--set", "optim.lr=1e-9")
    runs = [
        checkpoint.read(ptft("finetune", "--from", source, "--data", photos, "--out", f"run-{index}", *settings).path)
        for index, source in enumerate((trained, "a.safetensors"))
    ]
    whole, again = (run.metadata for run in runs)
    assert (again.mean, again.std, again.image_size) == (whole.mean, whole.std, whole.image_size)
    assert again.num_views == whole.num_views
    assert [entry for entry in again.transfer if entry["name"].startswith("head")] == [
        entry for entry in whole.transfer if entry["name"].startswith("head")
    ]
    assert all(entry["outcome"] == "loaded" for entry in again.transfer)


def rewritten(file: Path, **facts: str | None) -> Path:
    """The same tensors with other metadata."""
    from safetensors.torch import load_file, save_file

    changed = {key: fact for key, fact in (facts_of(file) | facts).items() if fact is not None}
    save_file(load_file(file), "changed.safetensors", changed)
    return Path("changed.safetensors")


def test_metadata_that_do_not_fit_are_refused(ptft: Ptft, trained: Path) -> None:
    ptft("export", trained, "--out", "a.safetensors")
    cases: list[tuple[dict[str, str | None], str]] = [
        ({"std": "[0.1, 0.2]"}, "mean and std need a number for each channel"),
        ({"std": "[0.1, 0.2, 0]"}, "std is at least 1e-06"),
        ({"mean": "[0.1, 0.2, 1e308]"}, "mean.2: Input should be less than or equal to 1"),
        ({"std": None}, "mean and std need each other"),
        ({"std": None, "mean": None}, "mean and std are not there"),
        ({"target_mean": "[1, 2, 3]", "target_std": "[1, 2, 3]"}, "target_mean belongs to a regression"),
        ({"classes": '["blue", "red"]'}, "say 2 classes, its weights 3"),
        ({"classes": '["blue", "red", "red"]'}, "named more than once: red"),
        ({"model": "resnet50"}, "say resnet50 as the model, its weights small-cnn"),
        ({"task": "foo"}, "task: String should match"),
        ({"digest": "x.\nOK: ver"}, "digest: String should match"),
        ({"threshold": "7"}, "threshold: Input should be less than 1"),
        ({"num_views": "3"}, "num_views: Input should be 1, 2 or 6"),
        ({"classes": "blue"}, "Expecting value"),
        ({"shape": '"round"'}, "shape: Extra inputs are not permitted"),
        ({"in_channels": "1", "mean": "[0.5]", "std": "[0.5]"}, "say 1 input channels, its weights 3"),
    ]
    for facts, reason in cases:
        refused = ptft("inspect", rewritten(Path("a.safetensors"), **facts))
        assert refused.code == 4
        assert reason in refused.err
        assert "changed.safetensors" in refused.err
    assert "class names are not recorded" in ptft("inspect", rewritten(Path("a.safetensors"), ptft=None)).out


def refusal(ptft: Ptft, *arguments: str | Path) -> Result:
    refused = ptft("export", *arguments)
    assert refused.out == ""
    assert "Traceback" not in refused.err
    return refused


def test_what_cannot_be_written_is_refused_and_nothing_is_lost(ptft: Ptft, trained: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.onnx"
    other.write_bytes(b"a network of somebody else")
    shutil.copy(trained, "renamed.safetensors")
    os.mkfifo("pipe.onnx")
    cases: list[tuple[str, int, str]] = [
        ("a.pt", 2, "--out a.pt: the name must end in .onnx or .safetensors, which is the format."),
        ("no/a.onnx", 2, "--out no/a.onnx: there is no folder no."),
        ("other.onnx", 2, "other.onnx is there and is not ONNX by ptft. Choose another with --out."),
        (
            "renamed.safetensors",
            2,
            "renamed.safetensors is there and is not safetensors by ptft. Choose another with --out.",
        ),
        ("pipe.onnx", 2, "--out pipe.onnx: not a regular file."),
    ]
    for out, code, reason in cases:
        refused = refusal(ptft, trained, "--out", out)
        assert (refused.code, refused.err) == (code, f"ptft: {reason}\n")
    assert other.read_bytes() == b"a network of somebody else"
    assert Path("renamed.safetensors").read_bytes() == trained.read_bytes()
    shutil.copy(trained, "spoilt.pt")
    with Path("spoilt.pt").open("r+b") as file:
        file.seek(trained.stat().st_size // 2)
        file.write(b"spoilt")
    refused = refusal(ptft, "spoilt.pt", "--out", "b.onnx")
    assert refused.code == 4
    assert "damaged" in refused.err
    assert not Path("b.onnx").exists()


@pytest.mark.parametrize("suffix", [".onnx", ".safetensors"])
def test_a_file_of_ours_is_replaced(ptft: Ptft, trained: Path, suffix: str) -> None:
    out = f"a{suffix}"
    for _ in range(2):
        assert ptft("export", trained, "--out", out).code == 0


@pytest.mark.parametrize(
    ("package", "out", "extra"),
    [
        ("onnxscript", "a.onnx", "onnx"),
        ("onnxruntime", "a.onnx", "onnx"),
        ("safetensors.torch", "a.safetensors", "safetensors"),
    ],
)
def test_a_missing_package_is_named_with_what_installs_it(
    ptft: Ptft, trained: Path, monkeypatch: pytest.MonkeyPatch, package: str, out: str, extra: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    refused = refusal(ptft, trained, "--out", out)
    assert refused.code == 2
    assert refused.err.endswith(f"needs {package.split('.')[0]}. pip install 'ptft[{extra}]'\n")
    assert not Path(out).exists()


@pytest.mark.parametrize("name", ["squeezenet1_1", "mnasnet0_5"])
def test_what_torchvisions_own_network_could_not_use_goes_to_onnx_only(
    ptft: Ptft, resnet: Callable[..., Path], name: str
) -> None:
    trained = resnet(name)
    refused = refusal(ptft, trained, "--out", "a.safetensors")
    assert refused.code == 2
    assert "Write .onnx." in refused.err
    assert ptft("export", trained, "--out", "a.onnx").code == 0


def surer(trained: Path) -> Path:
    """The same classifier with logits a thousand times as large, whose probabilities are 0 and 1 on any image."""
    found = checkpoint.read(trained)
    tensors = {name: tensor * (1000 if "head" in name else 1) for name, tensor in found.tensors.items()}
    checkpoint.write(Path("sure.pt"), found.metadata, tensors)
    return Path("sure.pt")


@pytest.mark.parametrize("is_sure", [False, True])
@pytest.mark.parametrize("spoil", ["mean", "classifier.head.bias"])
def test_a_file_with_other_answers_is_not_written(
    ptft: Ptft, trained: Path, monkeypatch: pytest.MonkeyPatch, spoil: str, is_sure: bool
) -> None:
    """The negative control of the proof: an exporter that changes a number by a thousandth."""
    exporter = torch.onnx.export

    def wrong(network: torch.nn.Module, *arguments: Any, **options: Any) -> Any:
        changed = copy.deepcopy(network)
        (tensor,) = (tensor for name, tensor in changed.state_dict().items() if name == spoil)
        tensor *= 1.001
        return exporter(changed, *arguments, **options)

    if is_sure:
        trained = surer(trained)
    monkeypatch.setattr(torch.onnx, "export", wrong)
    refused = refusal(ptft, trained, "--out", "a.onnx")
    assert refused.code == 4
    assert f"a.onnx would not give the logits of {trained} in ONNX Runtime" in refused.err
    assert not Path("a.onnx").exists()


def test_a_file_whose_probabilities_are_not_those_of_its_logits_is_not_written(
    ptft: Ptft, trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exporter = torch.onnx.export

    def wrong(network: Any, *arguments: Any, **options: Any) -> Any:
        changed = copy.deepcopy(network)
        changed.answers = SimpleNamespace(values=lambda logits: logits.sigmoid())
        return exporter(changed, *arguments, **options)

    monkeypatch.setattr(torch.onnx, "export", wrong)
    assert refusal(ptft, trained, "--out", "a.onnx").code == 4


def test_logits_that_are_not_finite_are_not_written(ptft: Ptft, trained: Path) -> None:
    found = checkpoint.read(trained)
    tensors = {name: tensor * float("nan") if "head.bias" in name else tensor for name, tensor in found.tensors.items()}
    checkpoint.write(Path("nan.pt"), found.metadata, tensors)
    assert refusal(ptft, "nan.pt", "--out", "a.onnx").code == 4
    assert refusal(ptft, "nan.pt", "--out", "a.safetensors").code == 4
    assert not list(Path().glob("a.*"))


def test_a_model_beyond_what_onnx_holds_is_refused(ptft: Ptft, trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ptft.export.onnx_file._LARGEST", 1000)
    refused = refusal(ptft, trained, "--out", "a.onnx")
    assert refused.code == 2
    assert (
        refused.err == "ptft: --out: an ONNX file holds 2 GB of weights, and the model has more. Write .safetensors.\n"
    )


def test_nobody_elses_log_is_silent_afterwards(ptft: Ptft, trained: Path) -> None:
    before = logging.root.manager.disable
    assert ptft("export", trained, "--out", "a.onnx").code == 0
    assert logging.root.manager.disable == before


def test_an_export_given_where_a_checkpoint_is_needed_is_called_what_it_is(ptft: Ptft, trained: Path) -> None:
    for suffix, words in ((".onnx", "is an export, for other programs."), (".safetensors", "holds weights alone.")):
        ptft("export", trained, "--out", f"a{suffix}")
        for command in (("evaluate",), ("export", "--out", "b.onnx"), ("predict", "photo.jpg")):
            refused = ptft(command[0], f"a{suffix}", *command[1:])
            assert (refused.code, refused.out) == (4, "")
            assert f"a{suffix} {words} Give the checkpoint" in refused.err
