"""`ptft report`: the page of a run, and of several, made from their folders."""

import json
import re
import shutil
from pathlib import Path

import pytest
from making import COLOURS, Ptft, make_images, write_config
from matplotlib.figure import Figure


@pytest.fixture
def run(ptft: Ptft, config: Path) -> Path:
    """A finished run of a few steps, not right about all images."""
    return ptft("pretrain", config, "--set", "train.steps=6").path.parent.parent


def page_text(path: Path) -> str:
    """The page without its tags, spaces made one."""
    body = re.sub(r"<(style|script).*?</\1>", "", path.read_text("utf-8"), flags=re.S)
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", body))


def test_the_page_leads_with_accuracy_interval_n_and_the_most_common_class(run: Path) -> None:
    told = page_text(run / "report.html")
    test = json.loads((run / "summary.json").read_text())["test"]
    n = sum(map(sum, test["confusion"]))
    low, high = (f"{100 * test[f'top1_{end}']:.1f}" for end in ("low", "high"))
    lead = f"{100 * test['top1']:.1f} % right Of {n} test images; 95 % interval {low} to {high} %."
    assert told.index(lead) < 200
    assert f"the {100 * max(map(sum, test['confusion'])) / n:.1f} % that naming the most common class" in told


def test_no_accuracy_on_the_page_is_without_n_and_interval(run: Path) -> None:
    html = (run / "report.html").read_text("utf-8")
    tiles = re.findall(r"<dt>(.*?)</dt><dd class=\"value\">(.*?)</dd>(?:<dd class=\"note\">(.*?)</dd>)?", html)
    notes = {label: note for label, _, note in tiles}
    assert re.fullmatch(r"[\d.]+ to [\d.]+ %, n = \d+", notes["accuracy"].replace("\u00a0", " "))
    assert "n\u00a0=\u00a0" in notes["calibration error"]


def test_the_page_of_a_finished_run_is_made_anew_to_the_byte(ptft: Ptft, run: Path) -> None:
    before = (run / "report.html").read_bytes()
    (run / "report.html").unlink()
    result = ptft("report", run)
    assert result.path == run / "report.html"
    assert result.err == ""
    assert result.path.read_bytes() == before


def test_every_promised_section_is_there_after_finetuning(ptft: Ptft, run: Path, tmp_path: Path) -> None:
    make_images(tmp_path / "target", {"red": (210, 50, 40), "grey": (120, 120, 120)}, 12)
    (tmp_path / "target" / "red" / "bad.png").write_bytes(b"no image")
    sets = ["--set", "train.steps=3", "--set", "data.on_bad_image=skip"]
    checkpoint = ptft("finetune", "--from", run / "checkpoints" / "best.pt", "--data", "target", *sets).path
    html = (checkpoint.parent.parent / "report.html").read_text("utf-8")
    headings = re.findall(r"<h2[^>]*>(.*?)</h2>", html)
    assert headings[:4] == ["Learning curves", "Classes", "Confusion", "Confidence"]
    assert headings[-7:-4] == ["Where it looked", "Features", "Is the test set clean?"]
    assert headings[-4:] == ["Transfer", "Lineage", "Images left out", "Reproduce"]
    told = page_text(checkpoint.parent.parent / "report.html")
    assert "bad.png" in told
    assert "1 image could not be read and was left out" in told
    assert "pretrain small-cnn" in told
    assert "finetune small-cnn" in told
    assert f"ptft finetune --from {run}" in told


def test_where_the_images_are_gone_the_page_says_so_and_keeps_the_numbers(ptft: Ptft, run: Path, photos: Path) -> None:
    shutil.rmtree(photos)
    result = ptft("report", run)
    assert result.code == 0
    assert "the page has no pictures of images" in result.err
    assert "photos" in result.err
    told = page_text(run / "report.html")
    assert "No pictures of images" in told
    assert "Confidence" in told
    assert "Mistakes" not in told


def test_changed_images_are_not_shown_as_those_of_the_run(ptft: Ptft, run: Path, photos: Path) -> None:
    shutil.copy(photos / "red" / "000.jpg", photos / "red" / "zzz.jpg")
    result = ptft("report", run)
    assert "other images than when the checkpoint was trained" in result.err
    assert "data:image/png" not in (run / "report.html").read_text("utf-8")


def test_a_run_that_was_stopped_has_a_page_too(ptft: Ptft, run: Path) -> None:
    (run / "summary.json").unlink()
    status = {"command": "pretrain", "state": "stopped", "step": 3, "num_steps": 6, "reason": "stopped by SIGINT."}
    (run / "status.json").write_text(json.dumps(status))
    told = page_text(ptft("report", run).path)
    assert "Stopped at step 3 of 6" in told
    assert "stopped by SIGINT." in told
    assert "validation accuracy" in told
    assert "optimistic" in told


def test_without_a_test_part_the_accuracy_is_called_optimistic(ptft: Ptft, config: Path) -> None:
    path = ptft("pretrain", config, "--set", "data.test=0", "--set", "train.steps=3").path
    told = page_text(path.parent.parent / "report.html")
    assert "There is no test part" in told
    assert "also chose the checkpoint" in told


@pytest.mark.parametrize("share", [0, 0.1])
def test_only_what_was_measured_is_in_the_legend_of_the_loss(ptft: Ptft, config: Path, share: float) -> None:
    path = ptft("pretrain", config, "--set", f"data.validation={share}", "--set", "train.steps=6").path
    html = (path.parent.parent / "report.html").read_text("utf-8")
    (loss,) = (drawing for drawing in re.findall(r"<svg.*?</svg>", html, flags=re.S) if ">training<" in drawing)
    assert (">validation<" in loss) is bool(share)


def test_nothing_held_out_is_said_and_drawn_without(ptft: Ptft, config: Path) -> None:
    path = ptft(
        "pretrain", config, *(f"--set={key}" for key in ("data.test=0", "data.validation=0", "train.steps=3"))
    ).path
    assert "3 steps, no images held out to judge by" in page_text(path.parent.parent / "report.html")
    assert ptft("report", path.parent.parent).code == 0


def test_a_page_that_cannot_be_drawn_does_not_fail_a_finished_run(
    ptft: Ptft, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ValueError("no such font")

    monkeypatch.setattr(Figure, "savefig", broken)
    result = ptft("pretrain", config, "--set", "train.steps=3")
    folder = result.path.parent.parent
    assert "report.html could not be made" in result.err
    assert "no such font" in result.err
    assert json.loads((folder / "status.json").read_text())["state"] == "done"
    assert (folder / "summary.json").is_file()


def test_a_hundred_classes_have_tables_instead_of_a_matrix(ptft: Ptft, tmp_path: Path) -> None:
    colours = {f"class {index:03d}": (index * 2, 255 - index * 2, index % 10 * 25) for index in range(100)}
    make_images(tmp_path / "photos", colours, 5, size=8)
    config = write_config(tmp_path / "run.yaml", train={"steps": 2}, data={"validation": 0})
    html = (ptft("pretrain", config).path.parent.parent / "report.html").read_text("utf-8")
    assert 'class="matrix' not in html
    assert "All 100 classes" in html
    assert "The ten classes of lowest recall" in html
    assert "with the most mistakes are coloured" in html
    assert len(html) < 600_000


def test_several_runs_are_laid_side_by_side(ptft: Ptft, run: Path, config: Path) -> None:
    sets = ("train.steps=3", "optim.lr=0.02", "augment.flip=false")
    other = ptft("pretrain", config, *(word for text in sets for word in ("--set", text)), "--out", "slow").path
    result = ptft("report", run, "slow", "--out", "both.html")
    assert result.path == Path("both.html")
    told = page_text(result.path)
    assert "How the configs differ" in told
    assert re.search(r"optim\.lr 0\.1 0\.02", told)
    assert "augment.flip true false" in told
    assert "optim.momentum" not in told
    for folder in (run, other.parent.parent):
        scores = json.loads((folder / "summary.json").read_text())["test"]
        assert (
            f"{100 * scores['top1_low']:.1f} to {100 * scores['top1_high']:.1f} %, n = {scores['num_examples']}" in told
        )
    assert ptft("report", run, "slow").path == Path("report.html")
    assert ptft("report", run, "slow").code == 0, "a page of ours may be replaced"


def test_runs_tested_on_other_images_are_not_ranked(ptft: Ptft, run: Path, config: Path) -> None:
    ptft("pretrain", config, "--set", "train.steps=3", "--set", "data.split_seed=1", "--out", "b")
    assert "cannot be compared" in page_text(ptft("report", run, "b", "--out", "c.html").path)
    ptft("pretrain", config, "--set", "train.steps=3", "--set", "seed=1", "--out", "d")
    assert "cannot be compared" not in page_text(ptft("report", run, "d", "--out", "e.html").path)


def test_a_run_that_never_began_is_told_with_its_reason(ptft: Ptft, config: Path, photos: Path) -> None:
    (photos / "empty").mkdir()
    assert ptft("pretrain", config, "--out", "early").code == 3
    refused = ptft("report", "early")
    assert refused.code == 2
    assert "early: the run in it ended before it began" in refused.err
    assert "1 class folder without an image: empty" in refused.err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nowhere"], "nowhere: no such folder. Name the folder of a run"),
        (["runs"], "runs is not a run folder: no config.yaml in it. Runs are in it: runs/run."),
        (["photos"], "photos is not a run folder: no config.yaml in it. Name the folder"),
        (["runs/run/checkpoints/best.pt"], "best.pt is a file. Name the run's folder: runs/run."),
        (["run.yaml"], "run.yaml is a file. Name the folder of a run."),
        (["runs/run", "runs/../runs/run"], "runs/run is named twice."),
        (
            ["runs/run", "--out", "thesis.html"],
            "thesis.html is there and is not a page of ptft. Choose another with --out",
        ),
        (["runs/run", "--out", "photos"], "--out photos: a folder. Name a file, for example photos/report.html."),
        (["runs/run", "--out", "no/page.html"], "--out no/page.html: there is no folder no."),
        ([], "Missing argument"),
    ],
)
def test_what_is_no_run_is_told_with_what_to_do(ptft: Ptft, run: Path, arguments: list[str], said: str) -> None:
    Path("thesis.html").write_text("my work")
    result = ptft("report", *arguments)
    assert (result.code, result.out) == (2, "")
    assert said in result.err
    assert "Traceback" not in result.err
    assert Path("thesis.html").read_text() == "my work"


@pytest.mark.parametrize("text", ["{", "[]", ""])
def test_a_damaged_summary_exits_5_and_says_how_to_get_it_back(ptft: Ptft, run: Path, text: str) -> None:
    (run / "summary.json").write_text(text)
    result = ptft("report", run)
    assert result.code == 5
    assert "summary.json is damaged" in result.err
    assert "--resume" in result.err


def test_images_of_the_embedded_set_are_named(ptft: Ptft, tmp_path: Path) -> None:
    assert COLOURS
    config = write_config(tmp_path / "a.yaml", train={"steps": 2})
    sections = json.loads(config.read_text()) | {"data": {"name": "fashion-mnist-10k", "labels_per_class": 4}}
    config.write_text(json.dumps(sections))
    told = page_text(ptft("pretrain", config).path.parent.parent / "report.html")
    assert "named" in told
    assert "T-shirt/top" in told
