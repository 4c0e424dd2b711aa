"""The page of a comparison: verdict, accuracy against labels, learning curves, every number behind them."""

from collections.abc import Sequence

from ptft.compare.comparison import ArmResult, Comparison, Point, as_good_at, per_class
from ptft.compare.design import ARM_NAMES, Arm, told_seeds
from ptft.compare.verdict import Verdict
from ptft.config.yaml_text import to_yaml
from ptft.proof.spread import Spread
from ptft.report.figures import INK, along_steps, blank, curve, legend_below, picture
from ptft.report.leak_sections import leak_sections
from ptft.report.page import Block, Cell, Code, Fact, Fold, Page, Picture, Prose, Section, Table, count, percent

_VERDICTS: dict[Verdict, str] = {
    "helped": "Pretraining helped",
    "hurt": "Pretraining hurt: negative transfer",
    "mixed": "Pretraining helped here and hurt there",
    "within noise": "Within noise: no difference that can be told",
    "too few seeds to tell": "Too few seeds to tell",
}


def page_of_comparison(comparison: Comparison) -> Page:
    """What `ptft compare` found, as a page."""
    points = comparison.points
    return Page(
        title=f"compare {comparison.sources[0]}",
        verdict=_VERDICTS[comparison.verdict],
        lead=f"{comparison.clauses()}. On {comparison.data}.",
        facts=[_fact(point) for point in points],
        notes=_notes(comparison),
        sections=[
            Section("Accuracy", [_against_labels(comparison), *map(_curves, points), _accuracies(comparison)]),
            Section("Against random weights", _gains(comparison)),
            Section("Learning rates", _learning_rates(points)),
            *leak_sections(comparison.leak.as_dict() if comparison.leak else None),
            Section("To do it again", [Code(comparison.command), _config(comparison)]),
        ],
    )


def _fact(point: Point) -> Fact:
    difference = point.gain.difference
    interval = difference.interval("+.1f")
    note = f"{interval}, {point.verdict}" if interval else point.verdict
    return Fact(per_class(point.labels), f"{100 * difference.mean:+.1f} points", note)


def _notes(comparison: Comparison) -> list[str]:
    num_seeds = len(comparison.points[0].gain.mcnemar)
    notes = [
        f"{told_seeds(num_seeds)}, each with its own draw of the labels, random weights and order, the same for all "
        f"arms; n = {comparison.num_test:,} test images. Every arm had the same steps, batch size and augmentation.",
        f"Each arm's learning rate was chosen on {comparison.num_validation:,} validation images, which are no test "
        "images and are not counted as labels.",
    ]
    if caution := comparison.caution():
        notes.append(caution)
    notes.append(_scope(comparison))
    if len(comparison.points) > 1:
        notes.append(f"The verdict allows for {len(comparison.points)} looks at once (Holm 1979).")
    if comparison.charged_steps:
        notes.append(f"Random weights had the {comparison.charged_steps:,} steps of the pretraining in addition.")
    return notes


def _scope(comparison: Comparison) -> str:
    """For which pretrainings the verdict holds."""
    count = len(comparison.sources)
    if count == 1:
        return "The verdict is on this checkpoint; give several --from, of other seeds, for one on their pretraining."
    return (
        f"{count} checkpoints, taken for {count} draws of one pretraining: the intervals are for other such draws too; "
        f"seeds that share a checkpoint count once. All: {', '.join(comparison.sources)}."
    )


def _against_labels(comparison: Comparison) -> Picture:
    figure, axes = blank()
    labels = [point.num_labels / len(comparison.classes) for point in comparison.points]
    for index, name in enumerate(comparison.points[0].arms):
        spreads = [point.arms[name].top1 for point in comparison.points]
        ends = [(spread.low, spread.high) for spread in spreads]
        band = [[100 * end for end in side if end is not None] for side in zip(*ends, strict=True)]
        means = [100 * spread.mean for spread in spreads]
        curve(axes, labels, means, index, ARM_NAMES[name], band if len(band[0]) == len(labels) else None)
    axes.set_xscale("log")
    axes.set_xticks(labels, [f"{number:,.0f}" for number in labels])
    axes.minorticks_off()
    axes.set(xlabel="labels of each class", ylabel="test accuracy (%)")
    legend_below(axes, 2)
    return picture(
        figure,
        "Line chart: test accuracy of each arm against the number of labels, with its 95 % interval.",
        f"Mean test accuracy with its 95 % interval, over seeds and n = {comparison.num_test:,} images.",
    )


def _curves(point: Point) -> Picture:
    figure, axes = blank()
    for index, (name, arm) in enumerate(point.arms.items()):
        steps = [float(step) for step, _ in arm.curve]
        curve(axes, steps, [100 * top1 for _, top1 in arm.curve], index, ARM_NAMES[name])
    end = 100 * point.arms["random"].curve[-1][1]
    axes.axhline(end, color=INK, linewidth=1, linestyle=(0, (3, 3)))
    along_steps(axes, "validation accuracy (%)")
    legend_below(axes, 2)
    return picture(
        figure,
        f"Line chart: validation accuracy of each arm against the step, {per_class(point.labels)}.",
        f"{per_class(point.labels)}: mean of the seeds on validation. The dashed line is where random weights end.",
    )


def _accuracies(comparison: Comparison) -> Table:
    rows: list[list[str | Cell]] = [
        [str(point.labels), ARM_NAMES[name], percent(arm.top1.mean), _interval(arm.top1, ".1f"), *_ends(arm)]
        for point in comparison.points
        for name, arm in point.arms.items()
    ]
    columns = ["labels a class", "arm", "mean accuracy", "95 % interval", "lowest seed", "highest", "steps"]
    return Table(columns, rows, f"Test accuracy, n = {comparison.num_test:,} images for each seed.")


def _ends(arm: ArmResult) -> list[Cell]:
    return [percent(min(arm.top1_of_seeds)), percent(max(arm.top1_of_seeds)), count(arm.num_steps)]


def _interval(spread: Spread, format_: str) -> Cell:
    return Cell(spread.interval(format_) or "–", spread.low)


def _gains(comparison: Comparison) -> list[Block]:
    rows = [
        _gain(point, name, arm)
        for point in comparison.points
        for name, arm in point.arms.items()
        if arm.gain is not None
    ]
    columns = ["labels a class", "arm", "points", "95 % interval", "alone", "McNemar p", "as good at", "worth"]
    return [
        Table(columns, rows, "Differences of test accuracy, paired by seed and by image."),
        Prose(
            "The interval is for other seeds and other images: Student's t over seeds and the bootstrap over images, "
            "added. McNemar's exact test asks whether these very networks differ on these images: twice the median "
            "over the seeds. Alone: the verdict without allowing for the other looks. As good at: the step at which "
            "validation accuracy reaches that of random weights at their end. Worth: labels of each class with which "
            "random weights would be as accurate.",
            soft=True,
        ),
    ]


def _gain(point: Point, name: Arm, arm: ArmResult) -> list[str | Cell]:
    gain = arm.gain
    assert gain is not None
    mean, step = gain.difference.mean, gain.steps_to_baseline
    return [
        str(point.labels),
        ARM_NAMES[name],
        Cell(f"{100 * mean:+.1f}", mean),
        _interval(gain.difference, "+.1f"),
        gain.verdict,
        Cell(f"{gain.p_value:.2g}", gain.p_value),
        Cell(as_good_at(name, arm, gain), step),
        Cell("–", None) if gain.worth is None else Cell(f"{gain.worth} labels", gain.worth.labels),
    ]


def _learning_rates(points: Sequence[Point]) -> list[Block]:
    rows: list[list[str | Cell]] = [
        [
            str(point.labels),
            ARM_NAMES[name],
            Cell(f"{lr:g}", lr),
            percent(top1),
            "chosen" + (", at the edge of those tried" if arm.choice.is_at_edge else "") if lr == arm.choice.lr else "",
        ]
        for point in points
        for name, arm in point.arms.items()
        if name != "probe"
        for lr, top1 in arm.choice.tried.items()
    ]
    columns = ["labels a class", "arm", "learning rate", "validation accuracy", ""]
    table = Table(columns, rows, "Mean over the seeds the learning rates were tried on; 0 % where training diverged.")
    return [Fold(f"All {len(rows)} that were tried", [table])]


def _config(comparison: Comparison) -> Fold:
    return Fold("Config", [Code(to_yaml(dict(comparison.config)))])
