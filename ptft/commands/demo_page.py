"""The page of the demo: did pretraining help, draw by draw."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ptft.proof.paired import OF_ACCURACY, Difference, mean_interval
from ptft.report.figures import COLOURS, INK, blank, picture
from ptft.report.measure import ACCURACY
from ptft.report.page import Cell, Code, Fact, Page, Picture, Prose, Section, Table, count, percent


def page_of_demo(
    out: Path,
    source: dict[str, Any],
    draws: Sequence[tuple[dict[str, Any], dict[str, Any]]],
    difference: Difference,
    sentences: tuple[str, str],
) -> Page:
    """What `ptft demo` found, as a page.

    Args:
        out: folder of the runs.
        source: scores of the pretraining on its own test images, as in summary.json.
        draws: of each draw of the labels the scores of random and of pretrained weights, likewise.
        difference: of the accuracies, pretrained less random, draw by draw.
        sentences: the verdict, and what was done.
    """
    random_arm, pretrained_arm = ([draw[arm]["top1"] for draw in draws] for arm in (0, 1))
    num_test = draws[0][0]["num_examples"]
    verdict, done = sentences
    return Page(
        title="ptft demo",
        verdict=f"{verdict[:1].upper()}{verdict[1:].rpartition(' (')[0]}",
        lead=f"95 % interval {100 * difference.low:+.1f} to {100 * difference.high:+.1f} points. {done}",
        facts=[
            _arm("random weights", random_arm, num_test),
            _arm("pretrained weights", pretrained_arm, num_test),
            Fact("the pretraining itself", f"{100 * source['top1']:.1f} %", ACCURACY.interval(source)),
        ],
        notes=[
            "Each arm has the best learning rate of a few, chosen on other draws but the same test images. The test to "
            "rely on is `ptft compare`, which chooses on validation images."
        ],
        sections=[
            Section("Draw by draw", [_slopes(random_arm, pretrained_arm), _table(draws)]),
            Section(
                "Go on",
                [
                    Prose("With a folder of images of your own, one folder for each class:"),
                    Code(f"ptft finetune --from {out}/source/checkpoints/best.pt --data YOUR_FOLDER"),
                    Prose("Every run of the demo has a folder and a page of its own:"),
                    Code("\n".join(f"{out}/{name}/report.html" for name in ("source", "pretrained-0", "random-0"))),
                ],
            ),
        ],
    )


def _arm(label: str, arm: Sequence[float], num_test: int) -> Fact:
    mean, low, high = (100 * share for share in mean_interval(arm, bounds=OF_ACCURACY))
    return Fact(label, f"{mean:.1f} %", f"{low:.1f} to {high:.1f} %, {len(arm)} draws × n = {num_test:,}")


def _slopes(random_arm: Sequence[float], pretrained_arm: Sequence[float]) -> Picture:
    figure, axes = blank()
    for before, after in zip(random_arm, pretrained_arm, strict=True):
        colour = COLOURS[0] if after >= before else COLOURS[1]
        axes.plot([0, 1], [100 * before, 100 * after], color=colour, marker="o", markersize=4, linewidth=1.4)
    means = [100 * sum(arm) / len(arm) for arm in (random_arm, pretrained_arm)]
    axes.plot([0, 1], means, color=INK, linewidth=3, linestyle=(0, (3, 2)))
    axes.set_xticks([0, 1], ["random weights", "pretrained weights"])
    axes.set_xlim(-0.25, 1.25)
    axes.set(ylabel="test accuracy (%)")
    num_better = sum(after > before for before, after in zip(random_arm, pretrained_arm, strict=True))
    return picture(
        figure,
        f"Slope chart: each draw's test accuracy from random and from pretrained weights; {num_better} of "
        f"{len(random_arm)} rise.",
        f"A line for each draw of the labels, {num_better} of {len(random_arm)} rise; the dashed line is the mean.",
    )


def _table(draws: Sequence[tuple[dict[str, Any], dict[str, Any]]]) -> Table:
    rows: list[list[str | Cell]] = [
        [
            count(draw),
            _gain(before, after),
            *(cell for arm in (before, after) for cell in (percent(arm["top1"]), ACCURACY.interval(arm))),
        ]
        for draw, (before, after) in enumerate(draws)
    ]
    columns = ["draw", "points", "random", "95 % interval", "pretrained", "95 % interval"]
    return Table(columns, rows, "Test accuracy of each draw of the labels; both arms were given the same.")


def _gain(before: dict[str, Any], after: dict[str, Any]) -> Cell:
    gain = after["top1"] - before["top1"]
    return Cell(f"{100 * gain:+.1f}", gain)
