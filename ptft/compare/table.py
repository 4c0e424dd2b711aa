"""A comparison as tables on the console."""

from ptft.compare.comparison import ArmResult, Comparison, Point, as_good_at, per_class
from ptft.compare.design import ARM_NAMES, Arm, told_seeds
from ptft.report.console import Console


def print_comparison(console: Console, comparison: Comparison) -> None:
    """Accuracy of every arm, then what each gained, a row for each number of labels."""
    points = comparison.points
    names = list(points[0].arms)
    num_seeds = len(points[0].gain.mcnemar)
    console.say(
        f"\nmean test accuracy with its 95 % interval: {told_seeds(num_seeds)}, n = "
        f"{comparison.num_test:,} images; learning rate chosen on {comparison.num_validation:,} validation images:"
    )
    console.table(
        ["labels a class", *(ARM_NAMES[name] for name in names)],
        [[str(point.labels), *(_accuracy(name, point.arms[name]) for name in names)] for point in points],
    )
    console.say("\nagainst random weights, paired by seed and image:")
    console.table(
        ["labels a class", "arm", "points", "95 % interval", "alone", "McNemar p", "as good at step", "worth labels"],
        [_gain(point, name, point.arms[name]) for point in points for name in names if name != "random"],
    )
    for point in points:
        for name, arm in point.arms.items():
            if arm.choice.is_at_edge:
                console.say(
                    f"  {ARM_NAMES[name]}, {per_class(point.labels)}: the best learning rate, {arm.choice.lr:g}, is "
                    f"at the edge of those tried. Give others in compare.lrs.{name}."
                )
    if len(points) > 1:
        console.say(f"  The verdict below allows for {len(points)} looks at once (Holm); `alone` does not.")


def _accuracy(name: Arm, arm: ArmResult) -> str:
    interval = arm.top1.interval(".1f")
    lr = "" if name == "probe" else f", lr {arm.choice.lr:g}"
    return f"{100 * arm.top1.mean:.1f} %" + (f" ({interval})" if interval else "") + lr


def _gain(point: Point, name: Arm, arm: ArmResult) -> list[str]:
    gain = arm.gain
    assert gain is not None
    return [
        str(point.labels),
        ARM_NAMES[name],
        f"{100 * gain.difference.mean:+.1f}",
        gain.difference.interval("+.1f") or "–",
        gain.verdict,
        f"{gain.p_value:.2g}",
        as_good_at(name, arm, gain),
        "–" if gain.worth is None else str(gain.worth),
    ]
