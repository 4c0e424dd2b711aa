"""`ptft score`: which checkpoint to start from, on real images, from the command line."""

import json
import re
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from making import COLOURS, Ptft, make_images

from ptft import checkpoint
from ptft.data.sources import Folder
from ptft.models import SmallCnn, TorchvisionCnn
from ptft.proof import score as score_module
from ptft.proof.scores.worth import Worth, measure
from ptft.proof.start import Start, fingerprint_of

CLOTHES = ("T-shirt/top", "Trouser", "Dress", "Sandal", "Sneaker", "Bag")
TARGET = "data: {name: fashion-mnist-10k, labels_per_class: 60}\n"


def pretrained(folder: Path) -> Path:
    """A checkpoint of a narrow model that has seen some clothes."""
    from ptft.data.sources import EmbeddedFashionMnist
    from ptft.report.console import silent
    from ptft.run.session import run_in_folder
    from ptft.run.training import pretrain
    from ptft.run_folder import RunFolder
    from ptft.settings import PretrainConfig, TrainConfig
    from ptft.train.optim import Sgd

    config = PretrainConfig(
        device="cpu",
        data=EmbeddedFashionMnist(name="fashion-mnist-10k", classes=CLOTHES, labels_per_class=400),
        model=SmallCnn(width=4),
        optim=Sgd(lr=0.1),
        train=TrainConfig(steps=100, batch_size=64, precision="fp32", memory_format="channels_last"),
    )
    with silent() as console:
        found = run_in_folder(
            RunFolder(folder), config, pretrain, source=None, resume=False, console=console, command=""
        )
    return Path(found["checkpoint"])


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One that learnt, and two of the same kind with weights as random as at the start."""
    folder = tmp_path_factory.mktemp("sources")
    learnt = pretrained(folder / "learnt")
    metadata = checkpoint.read(learnt).metadata
    paths = {"learnt": learnt, "random": folder / "random.pt", "other": folder / "other.pt"}
    for seed, name in enumerate(("random", "other")):
        torch.manual_seed(seed)
        classifier = SmallCnn(width=4).build(len(CLOTHES), metadata.in_channels)
        checkpoint.write(paths[name], metadata, classifier.state_dict())
    return paths


@pytest.fixture
def target(tmp_path: Path) -> Path:
    path = tmp_path / "target.yaml"
    path.write_text(TARGET)
    return path


def test_the_one_that_learnt_is_to_be_used_and_its_path_is_all_of_stdout(
    ptft: Ptft, sources: dict[str, Path], target: Path
) -> None:
    result = ptft("score", sources["random"], sources["learnt"], "--data", target)
    assert result.path == sources["learnt"]
    assert f"use {sources['learnt']}" in result.err
    assert "random weights, small-cnn" in result.err
    assert "540 training images; 10 classes" in result.err


def test_json_has_scores_with_intervals_of_each_and_of_random_weights(
    ptft: Ptft, sources: dict[str, Path], target: Path
) -> None:
    found = ptft("score", *sources.values(), "--data", target, "--json").json
    assert (found["checkpoint"], found["verdict"]) == (str(sources["learnt"]), "use")
    assert found["ranking"][0]["checkpoint"] == str(sources["learnt"])
    assert sorted(place["checkpoint"] for place in found["ranking"]) == sorted(map(str, sources.values()))
    assert (found["num_images"], found["num_available"], len(found["classes"])) == (540, 540, 10)
    first, *others = found["ranking"]
    assert first["behind"] is None
    assert all(place["behind"]["low"] > 0.02 for place in others)
    assert [place["is_better_than_random"] for place in found["ranking"]] == [True, False, False]
    for place in found["ranking"]:
        for accuracy in (place["probe"], place["neighbours"], place["random"]["probe"]):
            assert 0 < accuracy["top1_low"] < accuracy["top1"] < accuracy["top1_high"] < 1
        assert np.isfinite([place["logme"], place["h_score"]]).all()
    again = ptft("score", *sources.values(), "--data", target, "--json").json
    assert again == found


def test_the_page_has_the_verdict_the_drawing_and_every_score(
    ptft: Ptft, sources: dict[str, Path], target: Path
) -> None:
    result = ptft("score", *sources.values(), "--data", target, "--json", "--page", "score.html")
    page = Path("score.html").read_text()
    assert "Start from the first" in page
    assert page.count("<svg viewBox") == 1
    for place in result.json["ranking"]:
        assert f">{place['checkpoint']}</" in page
        assert f">{place['probe']['error']:.3f}</td>" in page
    assert "random weights, small-cnn at 28 px" in page
    assert "ptft score" in page
    assert f"Use {sources['learnt']}: " in page
    assert {"learnt", "random.pt", "other.pt"} <= set(re.findall(r"<text[^>]*>([^<]*)</text>", page))
    folder = ptft("score", sources["learnt"], "--data", target, "--page", ".")
    assert (folder.code, folder.out) == (2, "")
    assert "--page .: a folder. Name a file" in folder.err


def test_the_page_tells_two_checkpoints_of_one_run_apart(ptft: Ptft, sources: dict[str, Path], target: Path) -> None:
    Path("run/checkpoints").mkdir(parents=True)
    for source, name in (("learnt", "best.pt"), ("random", "last.pt")):
        shutil.copy(sources[source], Path("run/checkpoints", name))
    ptft("score", "run/checkpoints/best.pt", "run/checkpoints/last.pt", "--data", target, "--page", "score.html")
    named = re.findall(r"<text[^>]*>([^<]*)</text>", Path("score.html").read_text())
    assert {"best.pt", "last.pt"} <= set(named)
    Path("exp1").mkdir()
    shutil.move("run", "exp1/a-run-of-a-rather-long-name")
    shutil.copytree("exp1", "exp2")
    shutil.copy(sources["other"], "exp2/a-run-of-a-rather-long-name/checkpoints/best.pt")
    twins = [f"{folder}/a-run-of-a-rather-long-name/checkpoints/best.pt" for folder in ("exp1", "exp2")]
    ptft("score", *twins, "--data", target, "--page", "score.html")
    assert {"exp1", "exp2"} <= set(re.findall(r"<text[^>]*>([^<]*)</text>", Path("score.html").read_text()))


def test_random_weights_are_not_better_than_random_weights(ptft: Ptft, sources: dict[str, Path], target: Path) -> None:
    result = ptft("score", sources["random"], sources["other"], "--data", target, "--json")
    assert result.json["verdict"] == "none"
    assert result.json["checkpoint"] in (str(sources["random"]), str(sources["other"]))
    assert "better than random weights: on features of the first" in result.err


def test_equally_good_checkpoints_cannot_be_told_apart(
    ptft: Ptft, sources: dict[str, Path], target: Path, tmp_path: Path
) -> None:
    found = checkpoint.read(sources["learnt"])
    generator = torch.Generator().manual_seed(1)
    nearly = {
        name: tensor + 0.02 * tensor.std() * torch.randn(tensor.shape, generator=generator)
        if "conv" in name
        else tensor
        for name, tensor in found.tensors.items()
    }
    checkpoint.write(tmp_path / "nearly.pt", found.metadata, nearly)
    result = ptft("score", sources["learnt"], "nearly.pt", "--data", target, "--json")
    assert result.json["verdict"] == "cannot tell"
    assert "cannot tell" in result.err
    assert "nearly.pt" in result.json["sentence"]


def test_the_same_weights_are_scored_once(ptft: Ptft, sources: dict[str, Path], target: Path) -> None:
    shutil.copy(sources["learnt"], "copy.pt")
    result = ptft("score", "copy.pt", sources["learnt"], "--data", target, "--json")
    assert [place["checkpoint"] for place in result.json["ranking"]] == ["copy.pt"]
    assert f"{sources['learnt']} has the weights of copy.pt: left out" in result.err


def test_only_training_images_are_looked_at_in_each_checkpoints_own_size_and_channels(
    ptft: Ptft, sources: dict[str, Path], config: Path, tmp_path: Path
) -> None:
    colour = ptft("pretrain", config).path
    whole = make_images(tmp_path / "whole" / "train", COLOURS, 15, size=20).parent
    make_images(whole / "test", COLOURS, 5)
    found = ptft("score", colour, sources["learnt"], "--data", whole, "--json").json
    for path in whole.glob("test/*/*"):
        path.write_bytes(b"no image")
    again = ptft("score", colour, sources["learnt"], "--data", whole, "--json")
    assert again.json == found
    assert "39 training images" in again.err
    assert sorted(place["image_size"] for place in found["ranking"]) == [12, 28]
    (alone,) = ptft("score", sources["learnt"], "--data", whole, "--json").json["ranking"]
    (beside,) = (place for place in found["ranking"] if place["image_size"] == 28)
    assert alone["random"] == beside["random"]


def test_random_weights_are_others_for_each_seed_and_draw(sources: dict[str, Path]) -> None:
    start = Start.read(sources["learnt"], None)
    drawn = [fingerprint_of(start.random(CLOTHES, *which).state_dict()) for which in ((0, 0), (0, 1), (1, 0), (1, 1))]
    assert len(set(drawn)) == 4
    assert fingerprint_of(start.random(CLOTHES, 1, 1).state_dict()) == drawn[-1]


def test_the_zero_is_the_same_whatever_statistics_the_sources_had(
    ptft: Ptft, sources: dict[str, Path], target: Path
) -> None:
    found = checkpoint.read(sources["learnt"])
    other = found.metadata.model_copy(update={"mean": (0.1,), "std": (0.9,)})
    checkpoint.write(Path("other.pt"), other, found.tensors)
    one, two = (
        ptft("score", *paths, "--data", target, "--json").json["ranking"]
        for paths in ((sources["learnt"], "other.pt"), ("other.pt", sources["learnt"]))
    )
    assert one == two
    assert one[0]["random"] == one[1]["random"]


def test_random_weights_are_those_of_each_model_whatever_else_is_scored(
    ptft: Ptft, sources: dict[str, Path], photos: Path
) -> None:
    metadata = checkpoint.read(sources["random"]).metadata
    wide = SmallCnn(width=8)
    config = metadata.config | {"model": wide.model_dump()}
    weights = wide.build(len(CLOTHES), metadata.in_channels).state_dict()
    checkpoint.write(Path("wide.pt"), metadata.model_copy(update={"config": config}), weights)
    alone = {
        str(path): ptft("score", path, "--data", photos, "--json").json["ranking"][0]["random"]
        for path in (sources["random"], "wide.pt")
    }
    together = ptft("score", *alone, "--data", photos, "--json").json["ranking"]
    assert {place["checkpoint"]: place["random"] for place in together} == alone
    assert len({random["probe"]["error"] for random in alone.values()}) == 2


Measuring = tuple[np.ndarray, int]
"""The features of all stages, and the seed of the folds, that a score was asked for."""


@pytest.fixture
def measurings(monkeypatch: pytest.MonkeyPatch) -> list[Measuring]:
    """Each of a run; the probe of each errs by a number of its own, the second one least."""
    asked: list[Measuring] = []

    def recorded(features: np.ndarray, stages: np.ndarray, labels: np.ndarray, *, seed: int) -> Worth:
        asked.append((stages, seed))
        worth = measure(features, stages, labels, seed=seed)
        errors = np.full(len(labels), (0.5, 0.3, 0.4, 0.2)[len(asked) - 1])
        return replace(worth, probe=replace(worth.probe, errors=errors))

    monkeypatch.setattr(score_module, "measure", recorded)
    return asked


def test_the_best_of_three_draws_of_random_weights_is_the_zero(
    ptft: Ptft, sources: dict[str, Path], photos: Path, measurings: list[Measuring]
) -> None:
    (place,) = ptft("score", sources["random"], "--data", photos, "--json").json["ranking"]
    assert (place["random"]["probe"]["error"], place["probe"]["error"]) == pytest.approx((0.3, 0.2))
    assert len(measurings) == 4


def test_folds_and_random_weights_are_others_for_each_seed(
    ptft: Ptft, sources: dict[str, Path], photos: Path, measurings: list[Measuring]
) -> None:
    found = []
    for seed in (0, 1):
        document = {"seed": seed, "data": {"name": "folder", "root": str(photos), "test": 0.0, "validation": 0.0}}
        Path("target.yaml").write_text(json.dumps(document))
        assert ptft("score", sources["random"], "--data", "target.yaml").code == 0
        found.append(measurings.copy())
        measurings.clear()
    for place, ((stages, folds), (other_stages, other_folds)) in enumerate(zip(*found, strict=True)):
        assert folds != other_folds
        assert np.array_equal(stages, other_stages) == (place == 3)


def test_the_digest_told_is_that_of_the_checkpoint_not_of_its_source(
    ptft: Ptft, sources: dict[str, Path], photos: Path
) -> None:
    found = checkpoint.read(sources["learnt"])
    (own,) = found.metadata.lineage
    ancestor = own.model_copy(update={"digest": found.digest})
    checkpoint.write(Path("child.pt"), found.metadata.model_copy(update={"lineage": (ancestor, own)}), found.tensors)
    (place,) = ptft("score", "child.pt", "--data", photos, "--json").json["ranking"]
    assert place["digest"] == checkpoint.read(Path("child.pt")).digest != found.digest


def test_the_scores_are_those_of_the_features_of_the_finetuning_to_come(
    ptft: Ptft, sources: dict[str, Path], photos: Path
) -> None:
    from ptft.data.task import prepare
    from ptft.inference import load_classifier
    from ptft.proof.scores.evidence import logme
    from ptft.proof.scores.h_score import h_score
    from ptft.proof.scores.neighbours import neighbours_right
    from ptft.proof.scores.probe import probe
    from ptft.runtime import derive_seed
    from ptft.transfer.source import format_of

    found = checkpoint.read(sources["learnt"])
    data = Folder(name="folder", root=str(photos))
    task = prepare(data.open(), data, seed=0, known=format_of(found))
    images = task.format.normalize(task.train.images.take(torch.arange(len(task.train))))
    backbone = load_classifier(found).backbone
    with torch.inference_mode():  # by hand what the hooks gather
        first = backbone.stage1(images)
        second = backbone.stage2(first)
        stages = torch.cat([first.mean(dim=(2, 3)), second.mean(dim=(2, 3)), backbone(images)], dim=1)
    expected = probe(stages.numpy(), task.train.labels.numpy(), seed=derive_seed("folds", 0))
    place = ptft("score", sources["learnt"], "--data", photos, "--json").json["ranking"][0]
    assert place["probe"]["top1"] == pytest.approx(expected.top1)
    assert place["probe"]["error"] == pytest.approx(expected.error, rel=1e-3)
    last, labels = stages[:, -backbone.feature_dim :].numpy(), task.train.labels.numpy()
    last_alone = probe(last, labels, seed=derive_seed("folds", 0))
    assert place["probe"]["error"] != pytest.approx(last_alone.error, rel=1e-2)
    others = (place["neighbours"]["top1"], place["logme"], place["h_score"])
    assert others == pytest.approx(
        (neighbours_right(last, labels).mean(), logme(last, labels), h_score(last, labels)), rel=1e-3
    )


def test_of_many_images_a_part_is_looked_at_and_said_so(
    ptft: Ptft, sources: dict[str, Path], photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(score_module, "MOST_IMAGES", 30)
    result = ptft("score", sources["learnt"], "--data", photos, "--json")
    assert "30 of 42 training images" in result.err
    assert (result.json["num_images"], result.json["num_available"]) == (30, 42)
    target = score_module.Target.open(Folder(name="folder", root=str(photos)), 0)
    assert Counter(record.label for record in target.records) == dict.fromkeys(COLOURS, 10)


def test_images_that_the_checkpoint_was_trained_on_are_said_so(
    ptft: Ptft, sources: dict[str, Path], config: Path, photos: Path
) -> None:
    trained = ptft("pretrain", config).path
    assert f"{trained} was trained on these images" in ptft("score", trained, "--data", photos).err
    assert "was trained on" not in ptft("score", sources["learnt"], "--data", photos).err
    found = checkpoint.read(sources["learnt"])
    ancestors = (*checkpoint.read(trained).metadata.lineage, *found.metadata.lineage)
    checkpoint.write(Path("child.pt"), found.metadata.model_copy(update={"lineage": ancestors}), found.tensors)
    assert "child.pt was trained on these images" in ptft("score", "child.pt", "--data", photos).err


def test_unreadable_images_are_named_once_and_left_out(ptft: Ptft, sources: dict[str, Path], photos: Path) -> None:
    shutil.rmtree(photos / "blue")
    bad = make_images(photos.parent / "more", {"blue": COLOURS["blue"]}, 20) / "blue"
    shutil.move(bad, photos / "blue")
    for path in sorted((photos / "blue").iterdir())[:10]:
        path.write_bytes(b"no image")
    result = ptft("score", sources["learnt"], sources["random"], "--data", photos)
    assert result.code == 0
    named = [line for line in result.err.splitlines() if line.startswith("left out: blue/")]
    assert 0 < len(named) == len(set(named)) <= 10


@pytest.mark.parametrize(
    ("spoil", "data", "code", "words"),
    [
        ("missing", "photos", 4, "no such checkpoint file"),
        ("folder", "photos", 4, "is a folder. Name a file in it"),
        ("damaged", "photos", 4, "is damaged"),
        ("bare", "photos", 4, "does not say which model it is of"),
        ("nan", "photos", 4, "the source's values are not finite"),
        ("", "nowhere", 3, "nowhere"),
        ("", "photos/red/000.jpg", 3, "photos/red/000.jpg"),
        ("", "nowhere.csv", 3, "nowhere.csv"),
        ("", "nowhere.yaml", 2, "nowhere.yaml"),
        ("", "wrong.yaml", 2, "wrong.yaml:1: data.labels_per_clas: unknown key"),
        ("vgg11", "photos", 4, "its weights are not those of its model: vgg11"),
        (
            "squeezenet1_1",
            "small.yaml",
            2,
            "is a squeezenet1_1, which needs images of at least 17 pixels, these have 12",
        ),
        ("", "lone", 3, "class 'red' has 1"),
        ("", "photos/red", 3, "photos/red"),
    ],
)
def test_what_cannot_be_scored_is_said(
    ptft: Ptft, sources: dict[str, Path], photos: Path, spoil: str, data: str, code: int, words: str
) -> None:
    shutil.copytree(photos, "lone")
    for path in sorted(Path("lone/red").iterdir())[1:]:
        path.unlink()
    Path("small.yaml").write_text("data: {name: folder, root: photos, image_size: 12}\n")
    Path("wrong.yaml").write_text("data: {name: folder, root: photos, labels_per_clas: 3}\n")
    result = ptft("score", spoilt(sources["learnt"], spoil), "--data", data)
    assert (result.code, result.out) == (code, "")
    assert words in result.err
    assert "Traceback" not in result.err


def spoilt(path: Path, how: str) -> Path:
    """A checkpoint with something wrong with it."""
    found = checkpoint.read(path)
    place = Path("spoilt.pt")
    if how == "damaged":
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 255
        place.write_bytes(content)
    elif how == "bare":
        torch.save(dict(found.weights()), place)
    elif how == "nan":
        tensors = {name: tensor * float("nan") if "conv" in name else tensor for name, tensor in found.tensors.items()}
        checkpoint.write(place, found.metadata, tensors)
    elif how == "vgg11":
        config = found.metadata.config | {"model": {"name": how}}
        checkpoint.write(place, found.metadata.model_copy(update={"config": config}), found.tensors)
    elif how == "squeezenet1_1":
        config = found.metadata.config | {"model": {"name": how}}
        classifier = TorchvisionCnn(name=how).build(len(found.metadata.classes), found.metadata.in_channels)
        checkpoint.write(place, found.metadata.model_copy(update={"config": config}), classifier.state_dict())
    elif how == "folder":
        place.mkdir()
    return path if how == "" else place


def test_without_checkpoints_or_data_the_usage_is_told(ptft: Ptft, photos: Path) -> None:
    assert ptft("score", "--data", photos).code == 2
    assert ptft("score", "a.pt").code == 2
