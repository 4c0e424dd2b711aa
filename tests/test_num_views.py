"""Judging several views of an image: the same average everywhere, and nothing else changes."""

import csv
import io
from pathlib import Path

import pytest
import torch
from making import Ptft
from torch import nn

from ptft import checkpoint
from ptft.data.images import ResidentImages
from ptft.data.task import Examples, Format
from ptft.data.views import NumViews
from ptft.inference import held_out_examples, load_classifier
from ptft.train.evaluate import logits_of
from ptft.transfer.source import format_of


class Pixels(nn.Module):
    """Has every pixel as an output."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.flatten(1)


def judged(images: torch.Tensor, num_views: NumViews) -> torch.Tensor:
    examples = Examples(ResidentImages(images), torch.zeros(len(images)).long(), ["image"] * len(images))
    format_ = Format(images.shape[-1], 1, (0.0,), (1 / 255,), num_views)
    ((_, logits),) = logits_of(Pixels(), examples, format_, torch.device("cpu"))
    return logits.view(images.shape)


def expected(image: list[list[float]], num_views: NumViews) -> list[list[float]]:
    """The average by naive loops over pixels."""
    side = range(len(image))
    inside = [1, *side, len(image) - 2]  # reflected by one at each end
    shifts = {0: 1.0} if num_views < 6 else {0: 0.5, -1: 0.25, 1: 0.25}
    flips = (False,) if num_views == 1 else (False, True)
    total = [[0.0] * len(image) for _ in side]
    for shift, weight in shifts.items():
        for flip in flips:
            for y in side:
                for x in side:
                    column = len(image) - 1 - x if flip else x
                    row, column = inside[y + shift + 1], inside[column + shift + 1]
                    total[y][x] += weight / len(flips) * image[row][column]
    return total


@pytest.mark.parametrize("num_views", [1, 2, 6])
def test_views_are_weighed_as_their_definition_says(num_views: NumViews) -> None:
    images = torch.randint(0, 256, (3, 1, 9, 9), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    found = judged(images, num_views)
    for image, own in zip(images, found, strict=True):
        torch.testing.assert_close(own[0], torch.tensor(expected(image[0].tolist(), num_views)), rtol=1e-6, atol=1e-4)


def test_an_image_and_its_mirror_image_are_judged_alike() -> None:
    torch.manual_seed(0)
    images = torch.randint(0, 256, (2, 1, 8, 8), dtype=torch.uint8)
    classifier = nn.Sequential(nn.Flatten(), nn.Linear(64, 3))

    def logits(images: torch.Tensor, views: NumViews) -> torch.Tensor:
        examples = Examples(ResidentImages(images), torch.zeros(2).long(), ["image"] * 2)
        format_ = Format(8, 1, (0.5,), (0.2,), views)
        ((_, found),) = logits_of(classifier, examples, format_, torch.device("cpu"))
        return found

    torch.testing.assert_close(logits(images, 2), logits(images.flip(-1), 2))
    assert not torch.allclose(logits(images, 1), logits(images.flip(-1), 1), atol=1e-3)


def test_run_evaluate_and_predict_judge_the_same_views_of_the_same_weights(
    ptft: Ptft, config: Path, photos: Path
) -> None:
    plain = checkpoint.read(ptft("pretrain", config, "--out", "plain", "--set", "data.validation=0").path)
    result = ptft(
        "pretrain", config, "--out", "views", "--json", "--set", "data.validation=0", "--set", "data.num_views=6"
    )
    views = checkpoint.read(Path(result.json["checkpoint"]))
    assert all(torch.equal(tensor, plain.weights()[name]) for name, tensor in views.weights().items())
    assert (plain.metadata.num_views, views.metadata.num_views) == (1, 6)
    assert "6 views" in ptft("inspect", views.path).err + ptft("inspect", views.path).out
    assert "view" not in ptft("inspect", plain.path).out

    again = ptft("evaluate", views.path, "--json").json
    assert again["loss"] == result.json["test"]["loss"] != ptft("evaluate", plain.path, "--json").json["loss"]

    classifier, test = load_classifier(views), held_out_examples(views, None)["test"]
    normal = format_of(plain).normalize(test.images.take(torch.arange(len(test))))
    padded = nn.functional.pad(normal, (1, 1, 1, 1), mode="reflect")
    with torch.no_grad():
        centred, down, up = (
            (classifier(view) + classifier(view.flip(-1))) / 2
            for view in (normal, padded[..., :-2, :-2], padded[..., 2:, 2:])
        )
    probabilities = (0.5 * centred + 0.25 * down + 0.25 * up).softmax(dim=1).amax(dim=1)
    told = csv.DictReader(io.StringIO(ptft("predict", views.path, *[photos / name for name in test.names]).out))
    assert [float(row["probability"]) for row in told] == pytest.approx(probabilities.tolist(), abs=1e-5)


def test_a_target_does_not_inherit_the_views_of_its_source(ptft: Ptft, config: Path) -> None:
    source = ptft("pretrain", config, "--set", "data.num_views=2").path
    target = ptft("finetune", config, "--from", source, "--out", "target", "--set", "transfer.recipe=full").path
    assert checkpoint.read(target).metadata.num_views == 1


def test_a_probe_is_solved_on_the_images_as_they_are_and_judged_by_all_views(ptft: Ptft, source: Path) -> None:
    found = {}
    for views in (1, 6):
        arguments = ("--out", f"probe-{views}", "--set", f"data.num_views={views}", "--set", "transfer.recipe=probe")
        result = ptft("finetune", "run.yaml", "--from", source, "--json", *arguments, page=True)
        found[views] = result.json
        assert (
            result.json["num_views"] == views == ptft("evaluate", result.json["checkpoint"], "--json").json["num_views"]
        )
    weights = [checkpoint.read(Path(one["checkpoint"])).weights() for one in found.values()]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert found[1]["test"]["loss"] != found[6]["test"]["loss"]
    page = [Path(f"probe-{views}/report.html").read_text() for views in (1, 6)]
    assert "judged by 6 views" in page[1]
    assert "judged by" not in page[0]


def test_a_score_does_not_depend_on_the_views_a_source_was_judged_by(ptft: Ptft, config: Path) -> None:
    sources = [
        ptft("pretrain", config, "--out", f"source-{views}", "--set", f"data.num_views={views}").path
        for views in (1, 6)
    ]
    rankings = [ptft("score", source, "--data", "photos", "--json").json["ranking"] for source in sources]
    kept = [[{**place, "checkpoint": "", "digest": ""} for place in ranking] for ranking in rankings]
    assert kept[0] == kept[1]


def test_other_numbers_of_views_are_refused(ptft: Ptft, config: Path) -> None:
    result = ptft("pretrain", config, "--set", "data.num_views=3")
    assert (result.code, result.out) == (2, "")
    assert "data.num_views" in result.err
