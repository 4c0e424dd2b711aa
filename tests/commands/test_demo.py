"""What `ptft demo` says, and what it refuses before it computes; its whole story is in test_shipped.py."""

from pathlib import Path
from typing import Any

import pytest
from making import Ptft

from ptft.commands.demo import _verdict
from ptft.commands.demo_page import page_of_demo
from ptft.proof.paired import OF_DIFFERENCE, paired_difference

SOURCE = {"top1": 0.9, "top1_low": 0.8, "top1_high": 0.95, "num_examples": 100}


def draw(random: float, pretrained: float) -> tuple[dict[str, Any], dict[str, Any]]:
    return SOURCE | {"top1": random}, SOURCE | {"top1": pretrained}


@pytest.mark.parametrize(
    ("pretrained", "heading"),
    [
        ([0.80, 0.81], "Pretraining helped: +10.5 points"),
        ([0.60, 0.59], "Pretraining hurt (negative transfer): -10.5 points"),
        ([0.65, 0.76], "The difference is within noise: +0.5 points"),
    ],
)
def test_the_verdict_is_a_sentence_and_heads_the_page(pretrained: list[float], heading: str) -> None:
    difference = paired_difference([0.7, 0.7], pretrained, bounds=OF_DIFFERENCE)
    sentence = _verdict(difference)
    assert sentence.startswith(f"{heading[0].lower()}{heading[1:]} (95 % interval ")
    page = page_of_demo(
        Path("runs/demo"), SOURCE, [draw(0.7, share) for share in pretrained], difference, (sentence, "Done.")
    )
    assert page.verdict == heading


def test_a_page_that_is_not_ours_is_left_alone(ptft: Ptft, tmp_path: Path) -> None:
    page = tmp_path / "mine" / "report.html"
    page.parent.mkdir()
    page.write_text("<p>my thesis</p>")
    refused = ptft("demo", "--out", "mine")
    assert (refused.code, refused.out) == (2, "")
    assert "mine/report.html is there and is not a page of ptft. Choose another with --out." in refused.err
    assert page.read_text() == "<p>my thesis</p>"
    assert list(page.parent.iterdir()) == [page]


def test_a_file_in_place_of_the_folder_is_a_fault_of_usage(ptft: Ptft, tmp_path: Path) -> None:
    (tmp_path / "notes").write_text("mine")
    refused = ptft("demo", "--out", "notes")
    assert (refused.code, refused.out) == (2, "")
    assert "notes is a file, not a folder. Choose another --out." in refused.err
